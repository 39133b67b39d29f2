"""Verified SIFT matches of images of OANet's layout; images are cached by size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from cachetools import LRUCache, cached

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair
from ucn.geometry.rigid import invert_rigid
from ucn.images.read import read_photo, to_grey
from ucn.preprocessing.labels.sift_features import detect_sift, propose_matches
from ucn.preprocessing.labels.verified_sift import (
    CalibratedFeatures,
    VerifiedMatches,
    verify_matches,
)
from ucn.preprocessing.sample import Candidates, PairGeometry
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.yfcc.files import Camera

# Shortest baseline, in units of the model, as in OANet.
_NO_BASELINE = 1e-5
CACHED_BYTES = 192 << 20

Image = TypeVar("Image")
FrameId = tuple[str, str]
"""Sequence and frame of an image."""
SampleParts = tuple[tuple[Array, Array], Candidates, PairGeometry]
"""The two images, their matches, and the geometry of the pair."""


def cache_recent(
    read: Callable[[str, str], Image], nbytes: Callable[[Image], int]
) -> Callable[[str, str], Image]:
    """Cache the most recent images that ``read`` returned, up to `CACHED_BYTES`.

    An image counts for at most half of `CACHED_BYTES`, so that the two images of a pair always fit.
    """

    def size(image: Image) -> int:
        return min(nbytes(image), CACHED_BYTES // 2)

    cached_read: Callable[[str, str], Image] = cached(LRUCache(CACHED_BYTES, size))(read)
    return cached_read


@dataclass(frozen=True)
class PosedImage:
    """An image with features, intrinsics and pose.

    Attributes:
        image: uint8 [H, W] or RGB [H, W, 3].
        view: features and intrinsics.
        T_cam_world: 4x4, in the unit of the scene's model.
    """

    image: Array
    view: CalibratedFeatures
    T_cam_world: Floats


@dataclass(frozen=True)
class ListedImages:
    """Files of some images.

    Attributes:
        root: folder of all files; messages name files relative to it.
        folders: folder of the scene's phase, by sequence.
        names: name of each image in the scene's list, a path relative to that folder.
    """

    root: Path
    folders: Mapping[str, Path]
    names: Mapping[FrameId, str]

    def read(self, frame: FrameId) -> Array:
        return read_photo(self.folders[frame[0]] / self.names[frame], self.root)


@dataclass(frozen=True)
class FrameReader:
    """Reads frames, and caches the most recent ones. Picklable until the first frame is read.

    Attributes:
        files: files of the images.
        cameras: camera of each image, or why there is none.
        max_side: larger images are reduced to this longer side, pixels.
        features: maximum number of SIFT features of an image.
        max_ratio: maximum ratio of best to second-best descriptor distance.
        max_error: maximum distance of a matched point from its epipolar line, pixels.
        colour: keep the colour of colour images.
    """

    files: ListedImages
    cameras: Mapping[FrameId, Camera | SkippedPair]
    max_side: int
    features: int
    max_ratio: float
    max_error: float
    colour: bool

    def match(self, pair: PairRef) -> SampleParts:
        """Match the features of a pair, and verify the matches by its geometry.

        Raises:
            SkippedPair: a file of a frame is missing or damaged, or there is no baseline.
        """
        frame0, frame1 = (self.read(pair.sequence, frame) for frame in pair[1:])
        view0, view1 = frame0.view, frame1.view
        T_1_0 = frame1.T_cam_world @ invert_rigid(frame0.T_cam_world)
        if np.linalg.norm(T_1_0[:3, 3]) <= _NO_BASELINE:
            raise SkippedPair("no baseline", f"{'-'.join(pair)}: both taken from one place")
        proposed = propose_matches(view0.features, view1.features)
        found = verify_matches(view0, view1, T_1_0, proposed, self.max_ratio, self.max_error)
        attributes: dict[str, Array] = {
            "depth0": found.depths_N2[:, 0],
            "depth1": found.depths_N2[:, 1],
            "error": found.error_N,
            "ratio": found.ratio_N,
        }
        return (
            (frame0.image, frame1.image),
            Candidates(found.matches_N4, attributes, found.rejected),
            PairGeometry("rigid", view0.K, view1.K, T_1_0, "model", _describe(found)),
        )

    def read(self, sequence: str, frame: str) -> PosedImage:
        """Read a frame.

        Raises:
            SkippedPair: a file of the frame is missing or damaged.
        """
        return self._read_cached(sequence, frame)

    @cached_property
    def _read_cached(self) -> Callable[[str, str], PosedImage]:
        return cache_recent(
            self._read, lambda frame: frame.image.nbytes + frame.view.features.nbytes
        )

    def _read(self, sequence: str, frame: str) -> PosedImage:
        camera = self.cameras[sequence, frame]
        if isinstance(camera, SkippedPair):
            raise camera
        image = self.files.read((sequence, frame))
        found = image.shape[1], image.shape[0]
        if found != camera.size:
            sizes = " and ".join(f"{width}x{height}" for width, height in (found, camera.size))
            name = self.files.names[sequence, frame]
            raise SkippedPair("image size differs", f"{name} and its calibration: {sizes}")
        image, S = reduce_image(image, self.max_side)
        grey = to_grey(image)
        view = CalibratedFeatures(
            detect_sift(grey, self.features), S @ camera.K, (grey.shape[1], grey.shape[0])
        )
        return PosedImage(image if self.colour else grey, view, camera.T_cam_world)


def reduce_image(image: Array, max_side: int) -> tuple[Array, Floats]:
    """Reduce an image whose longer side exceeds ``max_side`` pixels.

    Returns:
        The image, and the map [3, 3] from original to reduced pixel coordinates.
    """
    height, width = image.shape[:2]
    factor = max_side / max(width, height)
    if factor >= 1:
        return image, np.eye(3)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    step_x, step_y = size[0] / width, size[1] / height
    S = np.array([[step_x, 0, (step_x - 1) / 2], [0, step_y, (step_y - 1) / 2], [0, 0, 1]])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), S


def _describe(found: VerifiedMatches) -> dict[str, Any]:
    """Kind of the labels, and shift of the detected points onto their epipolar lines, pixels."""
    median, most = np.percentile(found.shift_N, [50, 95]) if len(found.shift_N) else (0.0, 0.0)
    return {
        "labels": "sift",
        "shift_median": round(float(median), 3),
        "shift_95_percent": round(float(most), 3),
    }
