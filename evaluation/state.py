"""What identifies an evaluation and its matches, and the mark of a finished evaluation.

``OUTPUT/finished.json`` marks finished results. ``OUTPUT.unfinished`` holds the matches of single
pairs until then, so that an interrupted evaluation resumes.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.matches import MatchTable
from ucn.evaluation.methods.baselines.registry import method_name
from ucn.evaluation.methods.build import named_models
from ucn.evaluation.methods.external import ExternalFiles
from ucn.evaluation.scores.brown_patches import POINTS, TEST_LIST
from ucn.preprocessing.shards.format import digest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.files import file_sha256, write_json
from ucn.training.model import model_digests

_FINISHED = "finished.json"
# To be increased when the same options give other matches.
_MATCHES_VERSION = 3


@dataclass(frozen=True)
class Finished:
    """A finished evaluation; ``run_id`` is its MLflow run, None without tracking."""

    run_id: str | None


@dataclass(frozen=True)
class Inputs:
    """Digests of everything that an evaluation reads.

    Attributes:
        models: digests of the files of each model, by its name.
        weights: SHA-256 of GoogLeNet's weights; None without them.
        data: digest of each set, by its name.
        patches: name of each patch folder, and SHA-256 of its lists.
        external: files of each external method, for every set.
    """

    models: Mapping[str, Mapping[str, str]]
    weights: str | None
    data: Mapping[str, str]
    patches: Sequence[Sequence[str]]
    external: Mapping[str, Sequence[ExternalFiles]]


class EvaluationState:
    """The state of an evaluation in its output folder.

    Args:
        output: output folder.
        fingerprints: the current fingerprint, then accepted earlier ones; see :func:`fingerprints`.

    Attributes:
        partial: folder of single pairs; exists until the evaluation is finished.
    """

    def __init__(self, output: Path, fingerprints: Sequence[str]) -> None:
        self.partial = output.resolve().with_name(f"{output.resolve().name}.unfinished")
        self._output = output.resolve()
        self._mark = output / _FINISHED
        self._fingerprints = fingerprints

    def finished(self) -> Finished | None:
        """Reads the mark; None unless the folder holds the results of this evaluation."""
        try:
            mark = json.loads(self._mark.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(mark, dict) or mark.get("fingerprint") not in self._fingerprints:
            return None
        return Finished(mark.get("run_id"))

    def begin(self) -> None:
        """Removes the mark, before results in the output folder change."""
        self._mark.unlink(missing_ok=True)

    def finish(self, run_id: str | None) -> None:
        """Writes the mark and removes the single pairs, after all results are written."""
        write_json(self._mark, {"fingerprint": self._fingerprints[0], "run_id": run_id})
        shutil.rmtree(self.partial, ignore_errors=True)

    def table(self, set_name: str, method: str, identity: str) -> MatchTable:
        """The matches of one method on one set; see :func:`match_identity`."""
        path = self._output / "matches" / set_name / f"{method}.parquet"
        return MatchTable(path, self.partial / identity[:16], identity)


# fmt: off
# Options that do not determine the results, or that are replaced by a digest of what they name.
_NOT_CONTENT = {
    "output", "json_path", "tracking", "run_name", "workers", "shards", "model",
    "googlenet_weights", "patches", "external", "imports", "device",
    "workers_per_gpu",
}
# Options that determine the matches.
_MATCH_OPTIONS = {"points", "seed", "sparse", "keypoints", "filters", "matching"}
_SCORE_OPTIONS = {"matching.reciprocity_px", "matching.memory_mib"}
# Options of version 0.1.0.
_GROUPS_0_1_0 = {
    "matching": {
        "grid_step", "reciprocity_px", "subpixel", "scales", "second_radius_px", "memory_mib",
    },
    "pose": {
        "estimators", "thresholds_px", "homography_threshold_px", "seeds", "min_parallax_px",
        "min_baseline_m",
    },
}
_OPTIONS_0_1_0 = {
    "baselines", "points", "pairs", "seed", "thresholds", "alphas", "displacement_bins_px",
    "depth_bins_m", "sparse", "keypoints", "filters", "published", "pictures", "device",
}
# fmt: on


def read_inputs(
    config: EvaluateConfig,
    names: Sequence[str],
    sets: Sequence[ShardDataset],
    external: Mapping[str, Sequence[ExternalFiles]],
) -> Inputs:
    """Computes the digests of all inputs.

    Args:
        config: configuration of the evaluation.
        names, sets: name and content of each set.
        external: files of each external method, for every set.

    Raises:
        UserError: a file of a model is missing.
    """
    return Inputs(
        {name: model_digests(folder) for name, folder in named_models(config.model)},
        None if config.googlenet_weights is None else file_sha256(config.googlenet_weights),
        {name: one.digest for name, one in zip(names, sets, strict=True)},
        [
            [folder.resolve().name, *(file_sha256(folder / name) for name in (POINTS, TEST_LIST))]
            for folder in config.patches
        ],
        external,
    )


def fingerprints(config: EvaluateConfig, inputs: Inputs) -> list[str]:
    """Fingerprints that identify an evaluation: the current one, then that of version 0.1.0."""
    content: list[Any] = [
        [list(item) for item in inputs.models.items()],
        inputs.weights,
        [list(item) for item in inputs.data.items()],
        inputs.patches,
    ]
    if inputs.external:
        content.append([[name, [f.digest for f in fs]] for name, fs in inputs.external.items()])
    options = [config.identity(exclude=_NOT_CONTENT), _options_0_1_0(config)]
    return [digest([one, *content]) for one in options if one is not None]


def match_identity(config: EvaluateConfig, inputs: Inputs, which: int, method: str) -> str:
    """Digest of everything that determines the matches of a method on set ``which``.

    Pairs are independent of each other, so their number does not matter. Neither do options of
    scores, such as thresholds and estimators, nor the order of detectors.
    """
    queries = {"pose_queries": tuple(sorted(config.matching.pose_queries))}
    ordered = config.model_copy(
        update={
            "sparse": tuple(sorted(config.sparse)),
            "matching": config.matching.model_copy(update=queries),
        }
    )
    options = ordered.identity(
        exclude=set(EvaluateConfig.model_fields) - _MATCH_OPTIONS | _SCORE_OPTIONS
    )
    if method in inputs.external:
        content: Any = inputs.external[method][which].digest
    else:
        entry = next((one for one in config.baselines if method_name(one) == method), method)
        weights = inputs.weights if entry == "googlenet" else None
        options_of = config.baseline_options.get(entry, {})
        content = inputs.models.get(method, [entry, options_of, weights])
    return digest([_MATCHES_VERSION, options, list(inputs.data.values())[which], content])


def _options_0_1_0(config: EvaluateConfig) -> dict[str, Any] | None:
    """Options as version 0.1.0 stored them: all of its options, including defaults.

    Returns:
        None if a newer option is not at its default. Version 0.1.0 cannot have these results.
    """
    known = {f"{group}.{name}" for group, names in _GROUPS_0_1_0.items() for name in names}
    if config.identity(exclude=_NOT_CONTENT | known | _OPTIONS_0_1_0):
        return None
    options = config.model_dump(
        mode="json", include={**_GROUPS_0_1_0, **dict.fromkeys(_OPTIONS_0_1_0, True)}
    )
    # Its default device, which was not called `auto`.
    return options | ({"device": "cpu"} if config.device == "auto" else {})
