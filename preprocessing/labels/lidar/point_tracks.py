"""Tracks points from one image to another by pyramidal Lucas-Kanade."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ucn.arrays import Array, Bools, Floats
from ucn.images.read import to_grey

# Width of the images used for tracking, about, pixels. Errors of 3 px at KITTI's full width are
# still detected.
_TRACKED_WIDTH = 640
_WINDOW, _LEVELS = 9, 3
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.1)
# Minimum root-mean-square gradient of a window in every direction, grey levels per pixel.
_SLOPE = 2.0
# Largest forward-backward error of a reliable track, pixels of the shrunk image.
_ROUND_TRIP = 0.5


@dataclass(frozen=True)
class TrackedImage:
    """An image prepared for tracking. Derived images are cached for further pairs.

    Attributes:
        image: uint8, grey or RGB.
    """

    image: Array

    @property
    def step(self) -> int:
        """Pixels of the image per pixel of the shrunk one."""
        width: int = self.image.shape[1]
        return max(1, round(width / _TRACKED_WIDTH))

    @property
    def window_side(self) -> int:
        """Side of the tracking window at the finest level, pixels of the image."""
        return _WINDOW * self.step

    @cached_property
    def shrunk(self) -> Array:
        """Grey image, shrunk to about the tracking width."""
        image, step = self.image, self.step
        grey = to_grey(image)
        if step == 1:
            return grey
        height, width = (side // step for side in grey.shape)
        whole = grey[: height * step, : width * step]
        return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))

    @cached_property
    def texture(self) -> Array:
        """Smaller eigenvalue of the gradient matrix around each pixel of the shrunk image."""
        return np.asarray(cv2.cornerMinEigenVal(self.shrunk, _WINDOW))

    def to_shrunk(self, pixels_2N: Floats) -> Floats:
        """Converts pixels of the image to pixels of the shrunk image."""
        return (pixels_2N + 0.5) / self.step - 0.5


def textured_points(image: TrackedImage, pixels_2N: Floats) -> Bools:
    """Whether each pixel has enough texture around it, in both directions, to be tracked."""
    x_N, y_N = ((pixels_2N + 0.5) * (1 / image.step)).astype(np.intp)
    height, width = image.texture.shape
    strength_N = image.texture[np.minimum(y_N, height - 1), np.minimum(x_N, width - 1)]
    # cornerMinEigenVal divides by 255, and its Sobel kernel doubles gradients.
    return np.asarray(strength_N > (2 * _SLOPE / 255) ** 2)


def track_points(
    images: tuple[TrackedImage, TrackedImage], starts_2M: Floats, guesses_2M: Floats
) -> tuple[Floats, Bools]:
    """Tracks points by pyramidal Lucas-Kanade (Bouguet 2001), starting from guesses.

    Args:
        images: two images of one size.
        starts_2M: points in image 0, pixels.
        guesses_2M: initial positions in image 1, pixels.

    Returns:
        Positions [2, M] in image 1, pixels, and whether each point was found.
    """
    if not starts_2M.size:
        return starts_2M, np.zeros(0, bool)
    image0, image1 = images
    starts_M12, guesses_M12 = (
        image0.to_shrunk(pixels_2M).T.astype(np.float32, order="C").reshape(-1, 1, 2)
        for pixels_2M in (starts_2M, guesses_2M)
    )
    ends_M12, found_M1, _ = cv2.calcOpticalFlowPyrLK(
        image0.shrunk,
        image1.shrunk,
        starts_M12,
        guesses_M12,
        winSize=(_WINDOW, _WINDOW),
        maxLevel=_LEVELS,
        criteria=_STEPS,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    ends_2M = (ends_M12[:, 0].T.astype(np.float64) + 0.5) * image0.step - 0.5
    return ends_2M, found_M1.ravel() > 0


def tracked_back(
    images: tuple[TrackedImage, TrackedImage],
    starts_2M: Floats,
    guesses_2M: Floats,
    ends_2M: Floats,
) -> Bools:
    """Whether each track passes the forward-backward check.

    Args:
        images, starts_2M, guesses_2M: as in :func:`track_points`.
        ends_2M: the positions that it found in image 1.
    """
    # The backward search starts from the guessed motion, not from the known start.
    returns_2M, returned_M = track_points(images[::-1], ends_2M, ends_2M - (guesses_2M - starts_2M))
    miss_M = np.linalg.norm(returns_2M - starts_2M, axis=0) / images[0].step
    return np.asarray(returned_M & (miss_M <= _ROUND_TRIP))
