"""Results of single pairs, kept until an evaluation is done, so that a killed one goes on."""

import dataclasses
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.scores.planar import PlanarErrors
from ucn.evaluation.scores.pose import PoseError
from ucn.evaluation.truth import PointFacts
from ucn.storage.array_files import read_npz
from ucn.storage.files import write_bytes


def unfinished_folder(output: Path) -> Path:
    """The folder beside that of an evaluation which is there while it is not done."""
    return output.resolve().with_name(f"{output.resolve().name}.unfinished")


class UnfinishedPairs:
    """Pairs that are done, in the folder ``OUTPUT.unfinished`` beside that of the evaluation.

    Args:
        output: folder of the evaluation.
        identity: of the evaluation (`.finished.fingerprint`); results of another one are
            not read.
    """

    def __init__(self, output: Path, identity: str) -> None:
        self._all = unfinished_folder(output)
        self._folder = self._all / identity[:16]

    def read(self, which: int, index: int) -> PairResult | None:
        """The result of pair ``index`` of set ``which``; None where there is none to be read."""
        try:
            result = decode_result(self._path(which, index).read_bytes())
        except Exception:  # noqa: BLE001 - damage shows in any way; the pair is evaluated again
            return None
        return result if result.index == index else None

    def write(self, which: int, result: PairResult) -> None:
        """Keep a result."""
        write_bytes(self._path(which, result.index), encode_result(result))

    def remove(self) -> None:
        """Once they are summed up, or of no use."""
        shutil.rmtree(self._all, ignore_errors=True)

    def _path(self, which: int, index: int) -> Path:
        return self._folder / f"{which}-{index}.npz"


def encode_result(result: PairResult) -> bytes:
    """Write a result as npz: its arrays, and the rest as JSON."""
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
