"""Matches made elsewhere, in one file for each pair: ``KEY.flo`` or ``KEY.npz``.

A flow file is sampled bilinearly at the queries. An .npz file holds ``matches``, float [N, 4] with
rows x0, y0, x1, y1 in pixels; rows that are not finite are left out.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ucn.errors import SkippedPair, UserError
from ucn.evaluation.methods.baselines.optical_flow import follow_flow
from ucn.evaluation.methods.build import Method
from ucn.images.flow_files import read_flow
from ucn.matching.descriptors import Floats
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.format import digest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.array_files import read_npz


@dataclass(frozen=True)
class ExternalFiles:
    """The files of an external method for one set.

    Attributes:
        digest: digest of the names, sizes and contents of the files.
        missing: number of pairs without a file.
    """

    digest: str
    missing: int


def check_external(
    name: str, folder: Path, sets: Sequence[tuple[ShardDataset, Sequence[int]]]
) -> list[ExternalFiles]:
    """Reads all files of an external method for the evaluated pairs of each set.

    Raises:
        UserError: the folder is missing or has no file for any pair, or a file is damaged or of
            another shape.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give --external {name}=DIR")
    found = [
        ExternalFiles(digest(files), len(indices) - len(files))
        for dataset, indices in sets
        for files in [[_check(path, dataset, i) for i, path in _files(folder, dataset, indices)]]
    ]
    if sets and all(
        files.missing == len(indices) for files, (_, indices) in zip(found, sets, strict=True)
    ):
        dataset, indices = sets[0]
        raise UserError(
            f"{folder}: no file for any pair; name them KEY.flo or KEY.npz, such as "
            f"{dataset.keys[indices[0]]}.npz"
        )
    return found


def external_method(name: str, folder: Path, sample: Sample) -> Method:
    """The method that answers with the matches of one pair; with no matches if it has no file."""
    path = _find(folder, sample.key)
    if path is not None and path.suffix == ".flo":
        flow_HW2 = _read(path, sample)
        return Method(
            name, match=lambda image0, image1, points_N2: follow_flow(flow_HW2, points_N2)
        )
    nothing_04 = np.zeros((0, 4), np.float32)
    return Method(name, match_pair=lambda one: nothing_04 if path is None else _read(path, one))


def _files(folder: Path, dataset: ShardDataset, indices: Sequence[int]) -> list[tuple[int, Path]]:
    found = [(index, _find(folder, dataset.keys[index])) for index in indices]
    return [(index, path) for index, path in found if path is not None]


def _find(folder: Path, key: str) -> Path | None:
    paths = (folder / f"{key}{suffix}" for suffix in (".flo", ".npz"))
    return next((path for path in paths if path.is_file()), None)


def _check(path: Path, dataset: ShardDataset, index: int) -> tuple[str, int, str]:
    _read(path, dataset[index])
    data = path.read_bytes()
    return path.name, len(data), hashlib.sha256(data).hexdigest()


def _read(path: Path, sample: Sample) -> Floats:
    """Flow of the pixels of image 0, or finite matches [N, 4]."""
    if path.suffix == ".flo":
        try:
            flow_HW2 = read_flow(path, path.parent)
        except SkippedPair as error:
            raise UserError(f"{path}: {error}; write the flow again") from None
        if flow_HW2.shape[:2] != sample.image0.shape[:2]:
            height, width = sample.image0.shape[:2]
            raise UserError(
                f"{path}: a flow of {flow_HW2.shape[1]}x{flow_HW2.shape[0]} pixels; image 0 has "
                f"{width}x{height}; write the flow of every pixel of image 0"
            )
        return flow_HW2
    try:
        matches = read_npz(path.read_bytes())["matches"]
    except Exception as error:  # noqa: BLE001 - zip and NumPy raise many kinds for damaged files
        raise UserError(f"{path}: no `matches` can be read ({error}); write it again") from None
    if matches.dtype.kind not in "fiu" or matches.ndim != 2 or matches.shape[1] != 4:
        raise UserError(
            f"{path}: `matches` is {matches.dtype} {matches.shape}; write float [N, 4], with rows "
            "x0, y0, x1, y1"
        )
    matches_N4: Floats = matches.astype(np.float32)
    return matches_N4[np.isfinite(matches_N4).all(axis=1)]
