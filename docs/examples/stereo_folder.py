"""Rectified stereo pairs: left/NAME.png, right/NAME.png, and dense disparity/NAME.npy."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from ucn.arrays import Array
from ucn.errors import SkippedPair, UserError
from ucn.images.read import read_photo
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.labels.disparity import match_disparity
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
        found = match_disparity(disparity_HW, images[1].shape[1::-1])
        return assemble_sample(
            self._config,
            self.key(pair),
            pair,
            images,
            Candidates(found.matches_N4, rejected=found.rejected),
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
