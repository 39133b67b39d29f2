"""The MLflow runs of an evaluation: one for the whole, and below it one for each set and method."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import Label, method_labels, named_models
from ucn.evaluation.report.set_report import SetReport
from ucn.evaluation.scores.pck import CURVE_THRESHOLDS
from ucn.preprocessing.shards.format import digest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.files import write_json
from ucn.training.model import WEIGHTS, model_digests, model_place
from ucn.training.tracking import TRACKING, DatasetLink, ModelLink, RunLog, Tracker

# Options that a resumed evaluation may change.
_NOT_IN_KEY = {
    *("tracking", "workers", "workers_per_gpu", "device", "output", "json_path", "shards", "model"),
    "imports",
}


@dataclass(frozen=True)
class EvaluationRun:
    """An open parent run."""

    tracker: Tracker
    parent: RunLog
    config: EvaluateConfig
    models: Mapping[str, ModelLink]
    datasets: Mapping[str, DatasetLink]

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the parent run; None until MLflow has it."""
        return self.tracker.run_id(self.parent)

    def log(
        self,
        reports: Sequence[SetReport],
        patches: Mapping[str, Mapping[str, float]],
        metrics: Mapping[str, float],
    ) -> None:
        """Log all results.

        A child run holds the metrics of one method on one set, under the same names in all of them;
        in ``pck_curve`` the step is the threshold in pixels. The parent run holds those of the
        first method on the first set, a table of all, and the files of the output folder, except
        the tables of matches.

        Args:
            reports: reports on all sets.
            patches: FPR95 by folder and method.
            metrics: all metrics, by their full names.
        """
        if not self.parent.is_active:
            return
        labels = {label.name: label for label in method_labels(self.config)}
        rows: list[dict[str, str | float]] = []
        for report in reports:
            for row in report.methods:
                child = self._child(report.name, labels[row.method])
                model, data = self.models.get(row.method), self.datasets[report.name]
                child.log_metrics(row.metrics, 0, model, data)
                for threshold, value in zip(CURVE_THRESHOLDS, row.curve, strict=True):
                    child.log_metrics({"pck_curve": value}, threshold)
                child.set_status("FINISHED")
                rows.append({"set": report.name, "method": row.method, **row.metrics})
        for folder, by_method in patches.items():
            for method, value in by_method.items():
                child = self._child(folder, labels[method])
                child.log_metrics({"fpr95": value}, 0, self.models.get(method))
                child.set_status("FINISHED")
                rows.append({"set": folder, "method": method, "fpr95": value})
        # Only those of the first model on the first set have no prefix.
        plain = {f"patches/{folder}/fpr95" for folder in patches}
        plain |= {name for report in reports[:1] for name in report.methods[0].metrics}
        self.parent.log_metrics({name: v for name, v in metrics.items() if name in plain})
        self._log_files(rows)

    def _child(self, data: str, label: Label) -> RunLog:
        child = self.tracker.start(
            f"{data} · {label.title}",
            f"{data}/{label.name}",
            params={"set": data, "method": label.name},
            tags={"stage": "evaluate", "set": data, "method": label.name},
            datasets=[self.datasets[data]] if data in self.datasets else [],
            parent=self.parent,
        )
        if label.name in self.models:
            child.log_model(self.models[label.name])
        return child

    def _log_files(self, rows: Sequence[Mapping[str, str | float]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = {"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]}
        path = self.parent.file("results.json")
        write_json(path, table)
        self.parent.log_artifact(path, table=True)
        output = self.config.output.resolve()
        for path in sorted(output.rglob("*")):
            folder = path.parent.relative_to(output)
            is_local = folder.parts[:1] == (TRACKING,) or path.suffix == ".parquet"
            if path.is_file() and not is_local:
                self.parent.log_artifact(path, str(folder) if folder.parts else "")


@contextmanager
def mlflow_run(
    config: EvaluateConfig, names: Sequence[str], sets: Sequence[ShardDataset]
) -> Iterator[EvaluationRun]:
    """Open the parent run for the block; it ends as FAILED if the block raises.

    The run is linked to the manifest of every set as a dataset input, and to the models by tags:
    ``model.folder`` and ``model.sha256`` of the first, ``model.NAME.folder`` and so on of others.

    Args:
        config: of the evaluation. The tracking URI is no parameter, and may hold a password.
        names: of the sets.
        sets: the sets.
    """
    models, tags = {}, {"stage": "evaluate"}
    for rank, (name, folder) in enumerate(named_models(config.model)):
        place, sha256 = model_place(folder), model_digests(folder)[WEIGHTS]
        models[name] = ModelLink(name, sha256, place, {})
        prefix = f"model.{name}" if rank else "model"
        tags |= {f"{prefix}.folder": place, f"{prefix}.sha256": sha256}
    datasets = {
        name: DatasetLink(name, one.digest, one.uri, "evaluation")
        for name, one in zip(names, sets, strict=True)
    }
    inputs = [[one.name, one.sha256] for one in models.values()]
    inputs += [[one.name, one.digest] for one in datasets.values()]
    with Tracker(config.output, config.tracking) as tracker:
        parent = tracker.start(
            f"{config.run_name} · {', '.join(datasets)}",
            digest([config.identity(exclude=_NOT_IN_KEY), inputs]),
            params=config.model_dump(mode="json", exclude={"tracking"}),
            tags=tags,
            datasets=list(datasets.values()),
        )
        for model in models.values():
            parent.log_model(model)
        try:
            yield EvaluationRun(tracker, parent, config, models, datasets)
        except BaseException:
            parent.set_status("FAILED")
            raise
        parent.set_status("FINISHED")
