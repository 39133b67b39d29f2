"""Matches made elsewhere, in one file for each pair: ``KEY.flo`` or ``KEY.npz``.

A flow file is sampled bilinearly at the queries. An .npz file holds ``matches``, float [N, 4] with
rows x0, y0, x1, y1 in pixels; rows that are not finite are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ucn.errors import SkippedPair, UserError
from ucn.evaluation.methods.baselines.optical_flow import follow_flow
from ucn.evaluation.methods.build import Method
from ucn.images.flow_files import read_flow
from ucn.matching.descriptors import Floats
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.format import digest
from ucn.preprocessing.shards.read import ShardDataset
from ucn.storage.array_files import read_npz
from ucn.storage.files import file_sha256


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
    found = [_check_files(name, folder, dataset, indices) for dataset, indices in sets]
    if sets and all(
        files.missing == len(indices) for files, (_, indices) in zip(found, sets, strict=True)
    ):
        dataset, indices = sets[0]
        raise UserError(
            f"{folder}: no file for any pair; name them KEY.flo or KEY.npz, such as "
            f"{dataset.key_of(indices[0])}.npz"
        )
    return found


def external_method(name: str, folder: Path, sample: Sample) -> Method:
    """The method that answers with the matches of one pair; with no matches if it has no file."""
    path = _find(folder, sample.key)
    if path is not None and path.suffix == ".flo":
        flow_HW2 = _read_flow(path, sample)
        return Method(
            name, match=lambda image0, image1, points_N2: follow_flow(flow_HW2, points_N2)
        )
    own_K4 = np.zeros((0, 4), np.float32) if path is None else _read_matches(path)
    return Method(name, match_pair=lambda sample: own_K4)


def _find(folder: Path, key: str) -> Path | None:
    paths = (folder / f"{key}{suffix}" for suffix in (".flo", ".npz"))
    return next((path for path in paths if path.is_file()), None)


def _check_files(
    name: str, folder: Path, dataset: ShardDataset, indices: Sequence[int]
) -> ExternalFiles:
    files = []
    for index in tqdm(indices, desc=name, unit="file", delay=2.0):
        path = _find(folder, dataset.key_of(index))
        if path is not None:
            if path.suffix == ".flo":
                _read_flow(path, dataset[index])
            else:
                _read_matches(path)
            files.append((path.name, path.stat().st_size, file_sha256(path)))
    return ExternalFiles(digest(files), len(indices) - len(files))


def _read_flow(path: Path, sample: Sample) -> Floats:
    """Flow of the pixels of image 0: float32 [H, W, 2], NaN where unknown."""
    try:
        flow_HW2 = read_flow(path, path.parent)
    except SkippedPair as error:
        raise UserError(f"{path}: {error}; write the flow again") from None
    height, width = sample.image0.shape[:2]
    if flow_HW2.shape[:2] != (height, width):
        raise UserError(
            f"{path}: a flow of {flow_HW2.shape[1]}x{flow_HW2.shape[0]} pixels; image 0 has "
            f"{width}x{height}; write the flow of every pixel of image 0"
        )
    return flow_HW2


def _read_matches(path: Path) -> Floats:
    """Finite matches: float32 [N, 4]."""
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
