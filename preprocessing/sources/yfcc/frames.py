"""Images of OANet's layout with their cameras and SIFT features, and a cache of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair
from ucn.images.read import read_photo
from ucn.preprocessing.labels.sift_features import detect_sift
from ucn.preprocessing.labels.verified_sift import CalibratedFeatures
from ucn.preprocessing.sources.recent import Recent
from ucn.preprocessing.sources.yfcc.files import SceneLists, read_camera

CACHED_BYTES = 192 << 20


@dataclass(frozen=True)
class PosedImage:
    """One image.

    Attributes:
        image: uint8 [H, W] or RGB [H, W, 3].
        view: its features and intrinsics.
        T_cam_world: 4x4, in the unit of the scene's model.
    """

    image: Array
    view: CalibratedFeatures
    T_cam_world: Floats

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.image.nbytes + self.view.features.nbytes


class FrameReader:
    """Reads the frames of some scenes and keeps the last ones.

    Args:
        root: folder that all files lie below; messages name them from there.
        lists: of a sequence's files.
        max_side: longer images are reduced to it.
        features: most SIFT features of an image.
        colour: keep colour where there is any.
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
        self._frames = Recent(self._read, CACHED_BYTES)

    def read(self, sequence: str, index: int) -> PosedImage:
        """The frame at a place in the scene's lists.

        Raises:
            SkippedPair: a file of it is missing or damaged.
            UserError: the scene's lists are.
        """
        return self._frames.get((sequence, index))

    def _read(self, place: tuple[str, int]) -> PosedImage:
        sequence, index = place
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


def to_grey(image: Array) -> Array:
    """A uint8 image [H, W] or RGB [H, W, 3] without its colour."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image


def reduce_image(image: Array, max_side: int) -> tuple[Array, Floats]:
    """Reduce an image whose longer side is over ``max_side`` pixels.

    Returns:
        The image, and the map [3, 3] from its former pixels to those that it has now.
    """
    height, width = image.shape[:2]
    factor = max_side / max(width, height)
    if factor >= 1:
        return image, np.eye(3)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    step_x, step_y = size[0] / width, size[1] / height
    S = np.array([[step_x, 0, (step_x - 1) / 2], [0, step_y, (step_y - 1) / 2], [0, 0, 1]])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), S
