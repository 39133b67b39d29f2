"""Rectified stereo pairs: left/NAME.png, right/NAME.png, and dense disparity/NAME.npy."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from ucn.arrays import Array
from ucn.errors import SkippedPair, UserError
from ucn.images.read import read_photo
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef, Source


class StereoFolderConfig(PreprocessConfig):
    """Rectified stereo pairs; left pixel x corresponds to x - disparity in the right image."""

    source: Literal["stereo-folder"] = "stereo-folder"
    root: str
    """Folder with the subfolders left, right and disparity."""

    def open_source(self) -> Source:
        return StereoFolderSource(self)


class StereoFolderSource:
    """One pair for each disparity file."""

    def __init__(self, config: StereoFolderConfig) -> None:
        self._config = config
        self._root = Path(config.root)

    def pairs(self) -> list[PairRef]:
        names = sorted(path.stem for path in (self._root / "disparity").glob("*.npy"))
        if not names:
            raise UserError(f"{self._root}/disparity: holds no .npy; pass the folder above it")
        return [PairRef(name, "left", "right") for name in names]

    def key(self, pair: PairRef) -> str:
        return pair.sequence.replace(".", "_")

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        return [path.stat().st_size if path.exists() else -1 for path in self._files(pair)]

    def load(self, pair: PairRef) -> Sample:
        left, right, disparity = self._files(pair)
        images = read_photo(left, self._root), read_photo(right, self._root)
        disparity_HW = _read_disparity(disparity, images[0].shape[:2])
        rows, columns = np.nonzero(np.isfinite(disparity_HW))
        targets_N = columns - disparity_HW[rows, columns]
        inside_N = (targets_N >= -0.5) & (targets_N <= images[1].shape[1] - 0.5)
        seen_N = inside_N & ~_hidden(rows, targets_N, disparity_HW[rows, columns])
        matches_N4 = np.stack([columns, rows, targets_N, rows], axis=1)[seen_N]
        rejected = {
            "unknown disparity": disparity_HW.size - len(rows),
            "outside image 1": int((~inside_N).sum()),
            "hidden in image 1": int((inside_N & ~seen_N).sum()),
        }
        return assemble_sample(
            self._config,
            self.key(pair),
            pair,
            images,
            Candidates(matches_N4.astype(np.float64), rejected=rejected),
            PairGeometry("rigid"),
        )

    def _files(self, pair: PairRef) -> list[Path]:
        folders = (("left", ".png"), ("right", ".png"), ("disparity", ".npy"))
        return [self._root / folder / f"{pair.sequence}{suffix}" for folder, suffix in folders]


def _read_disparity(path: Path, shape: tuple[int, ...]) -> Array:
    try:
        disparity_HW = np.asarray(np.load(path, allow_pickle=False), np.float64)
    except (OSError, ValueError) as error:
        raise SkippedPair("damaged disparity", f"{path.name}: {error}") from None
    if disparity_HW.shape != shape:
        raise SkippedPair("size differs", f"{path.name}: {disparity_HW.shape}, image {shape}")
    return disparity_HW


def _hidden(rows_N: Array, targets_N: Array, disparity_N: Array) -> Array:
    """Mask of pixels occluded by a pixel that lands within 1 px and has 1 px more disparity."""
    columns_N = np.floor(targets_N).astype(int)
    columns_N -= columns_N.min(initial=0)
    nearest_HW = np.full((rows_N.max(initial=0) + 1, columns_N.max(initial=0) + 2), -np.inf)
    for beside in (0, 1):
        np.maximum.at(nearest_HW, (rows_N, columns_N + beside), disparity_N)
    nearest_N = np.maximum(nearest_HW[rows_N, columns_N], nearest_HW[rows_N, columns_N + 1])
    return np.asarray(nearest_N > disparity_N + 1)
