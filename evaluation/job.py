"""Evaluates pairs in parallel on Ray, then writes tables, pictures, report and MLflow run."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import build_methods
from ucn.evaluation.pool import spread, worker_pool
from ucn.evaluation.report.match_pictures import MatchPicture, choose_pairs
from ucn.evaluation.report.output import METRICS, REPORT, TABLES, write_output
from ucn.evaluation.report.set_report import all_curves, all_metrics, report_set
from ucn.evaluation.report.summary import PairResult
from ucn.evaluation.scores.brown_patches import PatchPairs, read_pairs
from ucn.evaluation.scores.patch_verification import patch_chunks, score_patches
from ucn.evaluation.state import EvaluationState, fingerprints
from ucn.evaluation.tracking import mlflow_run
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.files import write_json
from ucn.storage.lock import Lock, folder_lock

Task = tuple[int, int]
"""Index of the set, and of the pair in it."""


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

    If the output folder already holds the results of this evaluation, they are returned. An
    interrupted evaluation resumes with the remaining pairs.

    Raises:
        UserError: shards or a model cannot be read, a set has no correspondences, or another run
            is using the output folder.
    """
    sets = [ShardDataset(folder) for folder in config.shards]
    names = set_names(config.shards)
    tasks = [
        (which, index)
        for which, one in enumerate(sets)
        for index in choose_indices(one, config.pairs)
    ]
    build_methods(config)  # fail early on an invalid model
    patch_sets = {folder: read_pairs(folder) for folder in config.patches}
    state = EvaluationState(config.output, fingerprints(config, names, sets))
    finished = state.finished()
    if finished is not None:
        return _result(config, finished.run_id)
    # The lock is outside the output folder, since the whole folder is logged to MLflow.
    with folder_lock(state.partial) as lock:
        finished = state.finished()  # another run may have finished in the meantime
        run_id = finished.run_id if finished else _run(config, sets, patch_sets, tasks, state, lock)
    return _result(config, run_id)


def _run(
    config: EvaluateConfig,
    sets: Sequence[ShardDataset],
    patch_sets: Mapping[Path, PatchPairs],
    tasks: Sequence[Task],
    state: EvaluationState,
    lock: Lock,
) -> str | None:
    """Evaluates the remaining pairs and writes all results; returns the id of the MLflow run."""
    names = set_names(config.shards)
    state.begin()
    num_tasks = len(tasks) + sum(len(patch_chunks(pairs)) for pairs in patch_sets.values())
    with mlflow_run(config, names, sets) as run:
        with worker_pool(config, num_tasks) as pool:
            results = _evaluate_pairs(pool, tasks, state)
            by_set = [
                [result for (which, _), result in zip(tasks, results, strict=True) if which == one]
                for one in range(len(sets))
            ]
            drawn = _draw(pool, by_set, config)
            patches = _verify_patches(pool, patch_sets)
        reports = [
            report_set(name, one, found, pictures, config, {} if rank else config.published)
            for rank, (name, one, found, pictures) in enumerate(
                zip(names, sets, by_set, drawn, strict=True)
            )
        ]
        metrics = all_metrics(reports, patches, config)
        lock.check()
        write_output(reports, patches, metrics, config)
        run.log(metrics, all_curves(reports), config.output)
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


def _evaluate_pairs(pool: Any, tasks: Sequence[Task], state: EvaluationState) -> list[PairResult]:
    """Evaluates the remaining pairs, and saves each result as soon as it is available."""
    done = {task: state.read_pair(*task) for task in tasks}
    left = [task for task in tasks if done[task] is None]
    for task, result in zip(left, spread(pool, "evaluate", left, len(tasks)), strict=True):
        state.write_pair(task[0], result)
        done[task] = result
    return [result for result in done.values() if result is not None]


def _draw(
    pool: Any, by_set: Sequence[Sequence[PairResult]], config: EvaluateConfig
) -> list[list[list[MatchPicture]]]:
    """Draws the chosen pairs of every set."""
    chosen = [choose_pairs(found, config.pictures, max(config.thresholds)) for found in by_set]
    tasks = [(which, one.index) for which, pairs in enumerate(chosen) for one in pairs]
    pictures = list(spread(pool, "draw", tasks, len(tasks))) if tasks else []
    return [
        [drawn for (of, _), drawn in zip(tasks, pictures, strict=True) if of == which]
        for which in range(len(by_set))
    ]


def _verify_patches(
    pool: Any, patch_sets: Mapping[Path, PatchPairs]
) -> dict[str, dict[str, float]]:
    """FPR95 in percent, by folder name and method."""
    scores: dict[str, dict[str, float]] = {}
    for folder, pairs in patch_sets.items():
        tasks = [(folder.resolve(), numbers_N) for numbers_N in patch_chunks(pairs)]
        chunks = list(spread(pool, "describe_patches", tasks, len(tasks)))
        scores[folder.resolve().name] = {
            method: score_patches(pairs, np.concatenate([chunk[method] for chunk in chunks]))
            for method in chunks[0]
        }
    return scores
