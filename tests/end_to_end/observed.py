"""What runs have left in MLflow and in a bucket. Also a script, for hosts that alone reach them."""

import hashlib
import json
import sys
from typing import Any

Metrics = dict[str, dict[str, list[tuple[int, float]]]]


def metrics(uri: str, experiment: str = "ucn") -> Metrics:
    """Every metric of every finished run, as (step, value), by the run's name and its own."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None, f"{uri}: no experiment {experiment}"
    runs: Metrics = {}
    for run in client.search_runs([found.experiment_id]):
        assert run.info.status == "FINISHED", run.info.run_name
        assert run.info.run_name not in runs, f"two runs {run.info.run_name}"
        runs[run.info.run_name] = {
            name: sorted(
                (one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
    return runs


def objects(uri: str) -> dict[str, str]:
    """SHA-256 of every object below ``s3://BUCKET/PREFIX``, by the rest of its name."""
    import boto3

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    listed: Any = boto3.resource("s3").Bucket(bucket).objects.filter(Prefix=f"{prefix}/")
    return {
        one.key[len(prefix) + 1 :]: hashlib.sha256(one.get()["Body"].read()).hexdigest()
        for one in listed
    }


if __name__ == "__main__":
    what, uri = sys.argv[1:]
    json.dump(metrics(uri) if what == "metrics" else objects(uri), sys.stdout)
