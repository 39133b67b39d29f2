"""Matches pairs in parallel on Ray, scores the matches, writes the report and the MLflow run."""

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ucn.errors import UserError, counted
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.matches import POINT, MatchTable
from ucn.evaluation.methods.build import build_methods, method_labels, named_external
from ucn.evaluation.methods.external import check_external
from ucn.evaluation.pool import spread, worker_pool
from ucn.evaluation.report.match_pictures import MatchPicture, choose_pairs
from ucn.evaluation.report.output import METRICS, REPORT, TABLES, write_output
from ucn.evaluation.report.set_report import SetReport, all_metrics, report_set
from ucn.evaluation.report.summary import PairResult
from ucn.evaluation.scores.brown_patches import PatchPairs, read_pairs
from ucn.evaluation.scores.patch_verification import patch_chunks, score_patches
from ucn.evaluation.state import (
    EvaluationState,
    Inputs,
    fingerprints,
    match_identity,
    read_inputs,
)
from ucn.evaluation.tracking import mlflow_run
from ucn.notice import notice
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.files import write_json
from ucn.storage.lock import Lock, folder_lock

Task = tuple[int, int]
"""Index of the set, and of the pair in it."""
Tables = Mapping[str, MatchTable]
"""Matches on one set, by name of the method."""


@dataclass(frozen=True)
class EvaluateResult:
    """Result of an evaluation.

    Attributes:
        metrics: metrics by name; names of sets after the first start with ``SETNAME/``.
        markdown: the tables.
        report_path: path of the HTML report.
        run_id: id of the MLflow run; None without MLflow.
    """

    metrics: dict[str, float]
    markdown: str
    report_path: Path
    run_id: str | None


def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Evaluates models and baselines on the same points of one or more sets of shards.

    If the output folder already holds the results of this evaluation, they are returned. Pairs
    whose matches it holds are not matched again: after an interruption, with other thresholds,
    estimators or pictures, or by a method that was evaluated before.

    Raises:
        UserError: shards, a model or external matches cannot be read, a set has no
            correspondences, or another run is using the output folder.
    """
    with notice("opening the shards and the models"):
        sets = [ShardDataset(folder) for folder in config.shards]
        names = set_names(config.shards)
        chosen = [choose_indices(one, config.pairs) for one in sets]
        # Fail early on an invalid model; this machine may have no GPU.
        build_methods(config.model_copy(update={"device": "cpu"}))
        patch_sets = {folder: read_pairs(folder) for folder in config.patches}
        external = {
            name: check_external(name, folder, list(zip(sets, chosen, strict=True)))
            for name, folder in named_external(config)
        }
        inputs = read_inputs(config, names, sets, external)
    state = EvaluationState(config.output, fingerprints(config, inputs))
    finished = state.finished()
    if finished is not None:
        return _result(config, finished.run_id)
    # The lock is outside the output folder, since the whole folder is logged to MLflow.
    with folder_lock(state.partial) as lock:
        finished = state.finished()  # another run may have finished in the meantime
        tasks = [(which, index) for which, indices in enumerate(chosen) for index in indices]
        run_id = (
            finished.run_id
            if finished
            else _run(config, sets, patch_sets, tasks, inputs, state, lock)
        )
    return _result(config, run_id)


def _run(
    config: EvaluateConfig,
    sets: Sequence[ShardDataset],
    patch_sets: Mapping[Path, PatchPairs],
    tasks: Sequence[Task],
    inputs: Inputs,
    state: EvaluationState,
    lock: Lock,
) -> str | None:
    """Matches the remaining pairs, scores all, writes all results; returns the MLflow run's id."""
    names = list(inputs.data)
    state.begin()
    methods = [label.name for label in method_labels(config) if not label.reason]
    tables = [
        {
            method: state.table(name, method, match_identity(config, inputs, which, method))
            for method in methods
        }
        for which, name in enumerate(names)
    ]
    num_tasks = len(tasks) + sum(len(patch_chunks(pairs)) for pairs in patch_sets.values())
    with mlflow_run(config, names, sets) as run:
        with worker_pool(config, num_tasks) as workers:
            _match(workers, tasks, tables)
            by_set = _score(workers, tasks, tables)
            drawn = _draw(workers, by_set, tables, config)
            patches = _verify_patches(workers, patch_sets)
        reports = []
        for which, (found, pictures) in enumerate(zip(by_set, drawn, strict=True)):
            published = {} if which else config.published
            report = report_set(names[which], sets[which], found, pictures, config, published)
            missing = {name: files[which].missing for name, files in inputs.external.items()}
            reports.append(_with_missing(report, missing, len(found)))
        metrics = all_metrics(reports, patches, config)
        lock.check()
        write_output(reports, patches, metrics, config)
        run.log(reports, patches, metrics)
    state.finish(run.run_id)
    return run.run_id


def _result(config: EvaluateConfig, run_id: str | None) -> EvaluateResult:
    """Reads the results from the output folder."""
    metrics = json.loads((config.output / METRICS).read_text())
    if config.json_path is not None:
        write_json(config.json_path, metrics)
    report = (config.output / REPORT).resolve()
    return EvaluateResult(metrics, (config.output / TABLES).read_text(), report, run_id)


def set_names(shards: Sequence[str]) -> list[str]:
    """Names each set after its folder; duplicates get the suffix ``-2``, ``-3`` and so on.

    Characters that MLflow does not allow in metric names become ``-``.
    """
    names: list[str] = []
    for uri in shards:
        stem = re.sub(r"[^\w.-]", "-", Path(uri).resolve().name) or "shards"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def _with_missing(report: SetReport, missing: Mapping[str, int], pairs: int) -> SetReport:
    """States in the titles of external methods for how many pairs they have no file."""
    titles = {
        name: f"{name} (no file for {count} of {counted(pairs, 'pair')})"
        for name, count in missing.items()
        if count
    }
    labels = {name: replace(report.labels[name], title=title) for name, title in titles.items()}
    return replace(report, labels={**report.labels, **labels})


def choose_indices(dataset: ShardDataset, pairs: int) -> list[int]:
    """Chooses at most ``pairs`` pairs (0 for all) with correspondences, spread evenly.

    Raises:
        UserError: no pair has correspondences.
    """
    usable = [index for index in range(len(dataset)) if dataset.matches_of(index)]
    if not usable:
        raise UserError(f"{dataset.uri}: holds no correspondences; see `skipped` in its manifest")
    if pairs == 0 or pairs >= len(usable):
        return usable
    return [usable[rank] for rank in np.linspace(0, len(usable) - 1, pairs).round().astype(int)]


def _match(workers: Sequence[Any], tasks: Sequence[Task], tables: Sequence[Tables]) -> None:
    """Matches the pairs that the tables lack. Each pair is stored as soon as it is matched."""
    missing = {
        (which, index): [method for method, table in tables[which].items() if index not in table]
        for which, index in tasks
    }
    left = [task for task in tasks if missing[task]]
    counts = Counter(method for methods in missing.values() for method in methods)
    for task, found in spread(
        workers, "match", left, lambda task: (*task, missing[task]), len(tasks)
    ):
        for method, matches in found.items():
            tables[task[0]][method].keep(task[1], matches)
    for method in tables[0] if tables else ():
        reused = len(tasks) - counts[method]
        tqdm.write(
            f"{method}: matched {counted(counts[method], 'pair')}, reused {reused}", file=sys.stderr
        )
    for of_set in tables:
        for table in of_set.values():
            table.publish()


def _score(
    workers: Sequence[Any], tasks: Sequence[Task], tables: Sequence[Tables]
) -> list[list[PairResult]]:
    """Scores all pairs of every set."""

    def arguments(task: Task) -> tuple[Any, ...]:
        which, index = task
        return which, index, {method: table[index] for method, table in tables[which].items()}

    scored = dict(spread(workers, "score", tasks, arguments, len(tasks)))
    return [[scored[task] for task in tasks if task[0] == which] for which in range(len(tables))]


def _draw(
    workers: Sequence[Any],
    by_set: Sequence[Sequence[PairResult]],
    tables: Sequence[Tables],
    config: EvaluateConfig,
) -> list[list[list[MatchPicture]]]:
    """Draws the chosen pairs of every set."""

    def arguments(task: Task) -> tuple[Any, ...]:
        which, index = task
        return (
            which,
            index,
            {method: table[index][POINT] for method, table in tables[which].items()},
        )

    chosen = [choose_pairs(found, config.pictures, max(config.thresholds)) for found in by_set]
    tasks = [(which, one.index) for which, pairs in enumerate(chosen) for one in pairs]
    drawn = dict(spread(workers, "draw", tasks, arguments, len(tasks)))
    return [[drawn[task] for task in tasks if task[0] == which] for which in range(len(by_set))]


def _verify_patches(
    workers: Sequence[Any], patch_sets: Mapping[Path, PatchPairs]
) -> dict[str, dict[str, float]]:
    """FPR95 in percent, by folder name and method."""
    chunks = {
        (folder, part): numbers_N
        for folder, pairs in patch_sets.items()
        for part, numbers_N in enumerate(patch_chunks(pairs))
    }

    def arguments(chunk: tuple[Path, int]) -> tuple[Any, ...]:
        return chunk[0].resolve(), chunks[chunk]

    found = dict(spread(workers, "describe_patches", list(chunks), arguments, len(chunks)))
    scores: dict[str, dict[str, float]] = {}
    for folder, pairs in patch_sets.items():
        parts = [found[chunk] for chunk in chunks if chunk[0] == folder]
        scores[folder.resolve().name] = {
            method: score_patches(pairs, np.concatenate([part[method] for part in parts]))
            for method in parts[0]
        }
    return scores
