"""Rectified stereo pairs with disparity: KITTI, Middlebury, ETH3D, SceneFlow.

KITTI 2012: Geiger et al., CVPR 2012. KITTI 2015: Menze and Geiger, CVPR 2015. Middlebury:
Scharstein et al., GCPR 2014. ETH3D: Schöps et al., CVPR 2017. SceneFlow: Mayer et al., CVPR 2016.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ucn.arrays import Array, Bools
from ucn.errors import SkippedPair, UserError
from ucn.images.disparity_files import read_disparity
from ucn.images.read import read_photo
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.labels.disparity import match_disparity
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.flow.pairs import FlowConfig
from ucn.preprocessing.sources.input_files import file_digest, file_size, find_photo
from ucn.preprocessing.sources.stereo.calibration import StereoCameras, read_cameras
from ucn.preprocessing.sources.stereo.layouts import Layout, StereoFiles, find_stereo_pairs


class StereoConfig(FlowConfig):
    """Stereo pairs with true disparity: KITTI, Middlebury, ETH3D or SceneFlow."""

    source: Literal["stereo"] = "stereo"
    root: str
    """Folder of the dataset."""
    layout: Layout | None = None
    """Layout of the folder (ETH3D: middlebury); default detected from the folders."""

    def open_source(self) -> Source:
        return StereoSource(self)


class StereoReader:
    """Reads pairs from their files."""

    def __init__(self, config: StereoConfig, files: Mapping[PairRef, StereoFiles]) -> None:
        self._config = config
        self._root = Path(config.root)
        self._files = files

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def load(self, pair: PairRef) -> Sample:
        files = self._files[pair]
        image0, image1 = (
            read_photo(find_photo(self._root / name), self._root) for name in files[:2]
        )
        disparity_HW = self._disparity(files.disparity, image0)
        second_HW = self._disparity(files.second, image1) if files.second else None
        if files.unsigned:
            disparity_HW = np.abs(disparity_HW)
            second_HW = None if second_HW is None else np.abs(second_HW)
        cameras = None
        if files.calibration:
            cameras = read_cameras(self._root / files.calibration, files.projections, self._root)
        return stereo_sample(
            self._config,
            self.key(pair),
            pair,
            (image0, image1),
            disparity_HW,
            cameras,
            second_HW,
            self._visible(files.mask, image0) if files.mask else None,
        )

    def _disparity(self, name: str, image: Array) -> Array:
        disparity_HW = read_disparity(self._root / name, self._root)
        _expect(name, disparity_HW, image)
        return disparity_HW

    def _visible(self, name: str, image: Array) -> Bools:
        mask: Array = read_photo(self._root / name, self._root, reduce=False)
        _expect(name, mask, image)
        return np.asarray((mask if mask.ndim == 2 else mask.max(axis=2)) == 255)


class StereoSource(StereoReader):
    """One pair for each disparity file of a left image.

    Raises:
        UserError: the folder is missing, or has no pairs.
    """

    def __init__(self, config: StereoConfig) -> None:
        root = Path(config.root)
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; pass the folder of the stereo pairs")
        super().__init__(config, find_stereo_pairs(root, config.layout, config.split))

    def pairs(self) -> list[PairRef]:
        return list(self._files)

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return StereoReader(self._config, {pair: self._files[pair] for pair in pairs})

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        files = self._files[pair]
        paths = [find_photo(self._root / name) for name in files[:2]]
        paths += [self._root / name for name in files[2:5] if name]
        sizes = [[path.relative_to(self._root).as_posix(), file_size(path)] for path in paths]
        digest = file_digest(self._root / files.calibration) if files.calibration else None
        return [*sizes, digest]


def stereo_sample(
    config: PreprocessConfig,
    key: str,
    pair: PairRef,
    images: tuple[Array, Array],
    disparity_HW: Array,
    cameras: StereoCameras | None,
    second_HW: Array | None = None,
    visible_HW: Bools | None = None,
) -> Sample:
    """Make the sample of a rectified pair; with cameras, its depths and relative pose in metres.

    Args:
        config, key, pair, images: as for `assemble_sample`.
        disparity_HW, second_HW, visible_HW: as for `match_disparity`; infinity is unknown, too.
        cameras: None if the pair is not calibrated.

    Raises:
        SkippedPair: too few matches.
    """
    geometry, offset = PairGeometry("rigid"), np.inf
    if cameras is not None:
        K0, K1, focal_baseline = cameras
        offset = K1[0, 2] - K0[0, 2]
        T_1_0 = np.eye(4)
        T_1_0[0, 3] = -focal_baseline / K0[0, 0]
        geometry = PairGeometry("rigid", K0, K1, T_1_0, "metre")
    # A point with a smaller disparity is infinitely far, or behind the cameras.
    is_known_HW = (disparity_HW > -offset) & (disparity_HW < np.inf)
    known_HW = np.where(is_known_HW, disparity_HW, np.nan)
    size1 = images[1].shape[1], images[1].shape[0]
    found = match_disparity(known_HW, size1, second_HW=second_HW, visible_HW=visible_HW)
    attributes = {}
    if cameras is not None:
        depth_N = focal_baseline / (found.matches_N4[:, 0] - found.matches_N4[:, 2] + offset)
        attributes = {"depth0": depth_N, "depth1": depth_N}
    candidates = Candidates(found.matches_N4, attributes, found.rejected)
    return assemble_sample(config, key, pair, images, candidates, geometry)


def _expect(name: str, array: Array, image: Array) -> None:
    if array.shape[:2] != image.shape[:2]:
        found, expected = (f"{one.shape[1]}x{one.shape[0]}" for one in (array, image))
        raise SkippedPair("disparity size differs", f"{name}: {found}; the image is {expected}")
