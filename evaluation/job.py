"""Evaluation on Ray: pairs spread over workers, then tables, pictures, report and record."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from evaluation.config import EvaluateConfig
from evaluation.finished import fingerprint, finished_run, mark_finished, unmark
from evaluation.match_pictures import MatchPicture, choose_pairs
from evaluation.output import METRICS, REPORT, TABLES, write_output
from evaluation.record import recorded_run
from evaluation.report import SetReport
from evaluation.summary import MethodSummary, PairResult, named_metrics, summarise_set
from evaluation.worker import PairWorker, build_methods
from preprocessing.cluster import ray_session
from preprocessing.errors import UserError
from preprocessing.shards.read import ShardDataset
from preprocessing.storage import write_json
from preprocessing.stores.open import absolute_uri

Task = tuple[int, int]
"""Number of the set and of the pair in it."""


@dataclass(frozen=True)
class EvaluateResult:
    """What an evaluation found.

    Attributes:
        metrics: plain names for the first set, ``SETNAME/...`` for each further one.
        markdown: the tables, to be printed.
        report_path: the HTML page.
        run_id: of the run in MLflow; None where none is kept.
    """

    metrics: dict[str, float]
    markdown: str
    report_path: Path
    run_id: str | None


def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Evaluate a model and baselines on the same points of one or more sets of shards.

    Where the output folder holds the results of the very same evaluation, those are returned.

    Raises:
        UserError: shards or model cannot be read, or a set holds no correspondences.
    """
    sets = [ShardDataset(folder) for folder in config.shards]
    names = set_names(config.shards)
    tasks = [
        (which, index)
        for which, one in enumerate(sets)
        for index in choose_indices(one, config.pairs)
    ]
    build_methods(config)  # a bad model is refused here, before anything is started
    identity = fingerprint(config, names, sets)
    done, run_id = finished_run(config.output, identity)
    if done:
        return _result(config, run_id)
    unmark(config.output)
    with recorded_run(config, names, sets) as run:
        with _workers(config, len(tasks)) as pool:
            results = _spread(pool, "evaluate", tasks)
            by_set = [
                [result for (which, _), result in zip(tasks, results, strict=True) if which == one]
                for one in range(len(sets))
            ]
            drawn = _draw(pool, by_set, config)
        reports = [
            _report(name, one, found, pictures, config)
            for name, one, found, pictures in zip(names, sets, by_set, drawn, strict=True)
        ]
        metrics = all_metrics(reports)
        write_output(reports, metrics, config)
        run.log(metrics, config.output)
    mark_finished(config.output, identity, run.run_id)
    return _result(config, run.run_id)


def _result(config: EvaluateConfig, run_id: str | None) -> EvaluateResult:
    """Read what lies in the output folder."""
    metrics = json.loads((config.output / METRICS).read_text())
    if config.json_path is not None:
        write_json(config.json_path, metrics)
    report = (config.output / REPORT).resolve()
    return EvaluateResult(metrics, (config.output / TABLES).read_text(), report, run_id)


def set_names(shards: Sequence[str]) -> list[str]:
    """Name each set after its folder; a second of one name gets ``-2``, and so on.

    What MLflow refuses in a metric name becomes ``-``.
    """
    names: list[str] = []
    for uri in shards:
        stem = re.sub(r"[^\w.-]", "-", Path(uri).resolve().name) or "shards"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def choose_indices(dataset: ShardDataset, pairs: int) -> list[int]:
    """Choose at most ``pairs`` pairs (0 for all) with correspondences, spread evenly.

    Raises:
        UserError: there is none.
    """
    usable = [index for index in range(len(dataset)) if dataset.matches_of(index)]
    if not usable:
        raise UserError(f"{dataset.uri}: holds no correspondences; see `skipped` in its manifest")
    if pairs == 0 or pairs >= len(usable):
        return usable
    return [usable[rank] for rank in np.linspace(0, len(usable) - 1, pairs).round().astype(int)]


def all_metrics(reports: Sequence[SetReport]) -> dict[str, float]:
    """Metrics of all sets: the first under plain names, the others under their set's name."""
    metrics = named_metrics(reports[0].methods)
    for report in reports[1:]:
        named = named_metrics(report.methods)
        metrics |= {f"{report.name}/{name}": value for name, value in named.items()}
    return metrics


def _report(
    name: str,
    dataset: ShardDataset,
    results: Sequence[PairResult],
    pictures: Sequence[list[MatchPicture]],
    config: EvaluateConfig,
) -> SetReport:
    whole: list[MethodSummary]
    whole, sequences = summarise_set(results, config.thresholds)
    return SetReport(name, dataset.uri, dataset.digest, whole, sequences, pictures)


@contextmanager
def _workers(config: EvaluateConfig, num_tasks: int) -> Iterator[Any]:
    """Start a pool of workers; each evaluates one pair at a time and is restarted if it dies."""
    with ray_session(config.workers or None):
        import ray
        from ray.util import ActorPool

        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        limit = int(resources.get("CPU", 1))
        if config.device == "cuda":
            limit = min(limit, int(resources.get("GPU", 0)))
            if limit == 0:
                raise UserError("--device cuda: Ray has no GPU; use --device cpu")
        remote = ray.remote(PairWorker).options(
            num_cpus=1,
            num_gpus=1 if config.device == "cuda" else 0,
            max_restarts=3,
            max_task_retries=3,
        )
        shards = [absolute_uri(uri) for uri in config.shards]
        absolute = config.model_copy(
            update={"model": config.model and str(Path(config.model).resolve())}
        )
        count = max(1, min(config.workers or limit, limit, num_tasks))
        actors = [remote.remote(absolute, shards) for _ in range(count)]
        try:
            yield ActorPool(actors)
        finally:
            for actor in actors:
                ray.kill(actor)  # type: ignore[arg-type]


def _spread(pool: Any, method: str, tasks: Sequence[Task]) -> list[Any]:
    """Run one method of the workers on every task; results in the order of the tasks."""
    from ray.exceptions import RayTaskError

    try:
        found = pool.map(lambda actor, task: getattr(actor, method).remote(*task), tasks)
        return list(tqdm(found, total=len(tasks), desc=method, unit="pair", mininterval=1.0))
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


def _draw(
    pool: Any, by_set: Sequence[Sequence[PairResult]], config: EvaluateConfig
) -> list[list[list[MatchPicture]]]:
    """Draw the chosen pairs of every set."""
    chosen = [choose_pairs(found, config.pictures, max(config.thresholds)) for found in by_set]
    tasks = [(which, one.index) for which, pairs in enumerate(chosen) for one in pairs]
    pictures = _spread(pool, "draw", tasks) if tasks else []
    return [
        [drawn for (of, _), drawn in zip(tasks, pictures, strict=True) if of == which]
        for which in range(len(by_set))
    ]
