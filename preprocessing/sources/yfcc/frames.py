"""Images of OANet's layout with their cameras and SIFT features, cached by size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from cachetools import LRUCache, cached

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair
from ucn.images.read import read_photo, to_grey
from ucn.preprocessing.labels.sift_features import detect_sift
from ucn.preprocessing.labels.verified_sift import CalibratedFeatures
from ucn.preprocessing.sources.yfcc.files import SceneLists, read_camera

CACHED_BYTES = 192 << 20

Image = TypeVar("Image")


def cache_recent(
    read: Callable[[str, int], Image], nbytes: Callable[[Image], int]
) -> Callable[[str, int], Image]:
    """Cache the most recent images that ``read`` returned, up to `CACHED_BYTES`.

    An image counts for at most half of `CACHED_BYTES`, so that the two images of a pair always fit.
    """

    def size(image: Image) -> int:
        return min(nbytes(image), CACHED_BYTES // 2)

    cached_read: Callable[[str, int], Image] = cached(LRUCache(CACHED_BYTES, size))(read)
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


class FrameReader:
    """Reads the frames of scenes, and caches the most recent ones.

    Args:
        root: folder of all files; messages name files relative to it.
        lists: returns the file lists of a sequence.
        max_side: larger images are reduced to this longer side, pixels.
        features: maximum number of SIFT features of an image.
        colour: keep the colour of colour images.
    """

    def __init__(
        self,
        root: Path,
        lists: Callable[[str], SceneLists],
        max_side: int,
        features: int,
        colour: bool,
    ) -> None:
        self._root = root
        self._lists = lists
        self._max_side = max_side
        self._features = features
        self._colour = colour
        self._read_cached = cache_recent(
            self._read, lambda frame: frame.image.nbytes + frame.view.features.nbytes
        )

    def read(self, sequence: str, index: int) -> PosedImage:
        """Read the frame at an index of the scene's lists.

        Raises:
            SkippedPair: a file of the frame is missing or damaged.
            UserError: the scene's lists are missing or damaged.
        """
        return self._read_cached(sequence, index)

    def _read(self, sequence: str, index: int) -> PosedImage:
        lists = self._lists(sequence)
        camera = read_camera(lists.folder / lists.calibrations[index], self._root)
        image = read_photo(lists.folder / lists.images[index], self._root)
        found = image.shape[1], image.shape[0]
        if found != camera.size:
            sizes = " and ".join(f"{width}x{height}" for width, height in (found, camera.size))
            raise SkippedPair(
                "image size differs", f"{lists.images[index]} and its calibration: {sizes}"
            )
        image, S = reduce_image(image, self._max_side)
        grey = to_grey(image)
        view = CalibratedFeatures(
            detect_sift(grey, self._features), S @ camera.K, (grey.shape[1], grey.shape[0])
        )
        return PosedImage(image if self._colour else grey, view, camera.T_cam_world)


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
