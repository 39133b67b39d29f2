"""The state of an evaluation on disk: what identifies it, and how far it is.

``OUTPUT/finished.json`` marks the results of a finished evaluation. Until then the results of
single pairs are kept in ``OUTPUT.unfinished``, so that a killed evaluation resumes.
"""

import dataclasses
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.methods.build import named_models
from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.scores.brown_patches import POINTS, TEST_LIST
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.scores.pose import PoseError
from ucn.evaluation.truth import PointFacts
from ucn.preprocessing.shards.format import digest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.write import file_sha256
from ucn.storage.array_files import read_npz
from ucn.storage.files import write_bytes, write_json
from ucn.training.model import model_digests

_FINISHED = "finished.json"


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished evaluation.

    Attributes:
        run_id: in MLflow; None where none is kept.
    """

    run_id: str | None


class EvaluationState:
    """Reads and writes how far an evaluation is.

    Args:
        output: folder of the evaluation.
        fingerprints: of the evaluation, see :func:`fingerprints`. The state of other evaluations is
            not read.

    Attributes:
        partial: folder of the pairs that are done; it exists while the evaluation is not finished.
    """

    def __init__(self, output: Path, fingerprints: Sequence[str]) -> None:
        self.partial = output.resolve().with_name(f"{output.resolve().name}.unfinished")
        self._mark = output / _FINISHED
        self._fingerprints = fingerprints
        folders = [self.partial / one[:16] for one in fingerprints]
        # The pairs of a driver of an earlier version are in the folder of its fingerprint.
        self._pairs = next((folder for folder in folders if folder.exists()), folders[0])

    def finished(self) -> Finished | None:
        """Read the mark; None unless the folder holds the results of this evaluation."""
        try:
            mark = json.loads(self._mark.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(mark, dict) or mark.get("fingerprint") not in self._fingerprints:
            return None
        return Finished(mark.get("run_id"))

    def begin(self) -> None:
        """Remove the mark. To be called before results in the output folder change."""
        self._mark.unlink(missing_ok=True)

    def finish(self, run_id: str | None) -> None:
        """Write the mark and remove the pairs. To be called when all results are written."""
        write_json(self._mark, {"fingerprint": self._fingerprints[0], "run_id": run_id})
        shutil.rmtree(self.partial, ignore_errors=True)

    def read_pair(self, which: int, index: int) -> PairResult | None:
        """Read the result of pair ``index`` of set ``which``; None if it is missing or damaged."""
        try:
            result = decode_result(self._path(which, index).read_bytes())
        except Exception:  # noqa: BLE001 - damage shows in any way; the pair is evaluated again
            return None
        return result if result.index == index else None

    def write_pair(self, which: int, result: PairResult) -> None:
        """Keep the result of a pair of set ``which``."""
        write_bytes(self._path(which, result.index), encode_result(result))

    def _path(self, which: int, index: int) -> Path:
        return self._pairs / f"{which}-{index}.npz"


# fmt: off
# Options that do not decide the results, or that enter by a digest of what they name.
_NOT_CONTENT = {
    "output", "json_path", "tracking", "run_name", "workers", "shards", "model",
    "googlenet_weights", "patches",
}
# The options that version 0.1.0 had and digested.
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


def fingerprints(
    config: EvaluateConfig, names: Sequence[str], sets: Sequence[ShardDataset]
) -> list[str]:
    """Fingerprints that identify an evaluation: the current one, then those of earlier versions.

    They are digests of the options, the shards, the models and the other files that are read.
    """
    models = [[name, model_digests(folder)] for name, folder in named_models(config.model)]
    weights = config.googlenet_weights and file_sha256(config.googlenet_weights)
    data = [[name, one.digest] for name, one in zip(names, sets, strict=True)]
    patches = [
        [folder.resolve().name, *(file_sha256(folder / name) for name in (POINTS, TEST_LIST))]
        for folder in config.patches
    ]
    inputs = [models, weights, data, patches]
    options = [config.identity(exclude=_NOT_CONTENT), _options_0_1_0(config)]
    return [digest([one, *inputs]) for one in options if one is not None]


def _options_0_1_0(config: EvaluateConfig) -> dict[str, Any] | None:
    """The options that version 0.1.0 digested: all, also those at their defaults.

    Options that were added since are left out at their default. None where one has another value:
    0.1.0 cannot have made these results.
    """
    known = {f"{group}.{name}" for group, names in _GROUPS_0_1_0.items() for name in names}
    if config.identity(exclude=_NOT_CONTENT | known | _OPTIONS_0_1_0):
        return None
    return config.model_dump(
        mode="json", include={**_GROUPS_0_1_0, **dict.fromkeys(_OPTIONS_0_1_0, True)}
    )


def encode_result(result: PairResult) -> bytes:
    """Encode a result as npz: its arrays, and the rest as JSON."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[f"array{len(arrays)}"] = value
            return {"__array__": f"array{len(arrays) - 1}"}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, (tuple, list)) else value

    text = json.dumps(plain(result)).encode()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, result=np.frombuffer(text, np.uint8), **arrays)
    return buffer.getvalue()


def decode_result(data: bytes) -> PairResult:
    """Read what :func:`encode_result` wrote.

    Raises:
        Exception: of any kind, where it is damaged.
    """
    arrays = read_npz(data)

    def rich(value: Any) -> Any:
        if isinstance(value, list):
            return [rich(one) for one in value]
        if isinstance(value, dict):
            name = value.get("__array__")
            return arrays[name] if name else {key: rich(one) for key, one in value.items()}
        return value

    found = rich(json.loads(arrays["result"].tobytes()))
    facts = found.pop("facts")
    return PairResult(
        **{name: found[name] for name in ("index", "key", "sequence")},
        facts=PointFacts(**facts | {"classes_N": tuple(facts["classes_N"])}),
        methods={
            name: MethodResult(**one | {"poses": _poses(one["poses"])})
            for name, one in found["methods"].items()
        },
        planar={
            name: PlanarErrors(
                one["transfer_errors_N"],
                {key: tuple(errors) for key, errors in one["corner_errors"].items()},
            )
            for name, one in found["planar"].items()
        },
    )


def _poses(poses: Mapping[str, Any]) -> dict[str, tuple[PoseError, ...]]:
    return {name: tuple(PoseError(**error) for error in errors) for name, errors in poses.items()}
