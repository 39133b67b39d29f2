"""Renders views of a photo under homographies, without aliasing."""

from dataclasses import dataclass

import cv2
import numpy as np

from ucn.arrays import Array, Bools, Floats
from ucn.geometry.homographies import Size, apply_homography, invert_homography, view_corners
from ucn.geometry.rigid import inside_image

# Samples per pixel in x and y. Samples are at most one pixel of their pyramid level apart.
_SAMPLES = 2
_SMALLEST_SIDE = 8


@dataclass(frozen=True)
class Pyramid:
    """Image pyramid of a photo.

    Attributes:
        levels: uint8 [H, W] or [H, W, 3]. The first is the photo; each next one has half the size.
    """

    levels: tuple[Array, ...]

    @property
    def size(self) -> Size:
        """(width, height) of the photo."""
        height, width = self.levels[0].shape[:2]
        return width, height


def build_pyramid(photo: Array) -> Pyramid:
    """Build an image pyramid down to a few pixels, with area averages."""
    levels = [photo]
    while min(levels[-1].shape[:2]) >= 2 * _SMALLEST_SIDE:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half))
    return Pyramid(tuple(levels))


def render_view(pyramid: Pyramid, H_v_p: Floats, size: Size) -> Array:
    """Render a view of a photo under a homography.

    Each pixel is the mean of 2x2 bilinear samples from one level of the pyramid. At that level,
    samples are at most one pixel apart in any direction, even where the view shrinks the photo
    most.

    Args:
        pyramid: pyramid of the photo.
        H_v_p: pixels of the photo to pixels of the view; see ``homographies.is_viewable``.
        size: (width, height) of the view.

    Returns:
        uint8 [height, width] or [height, width, 3], black outside the photo.
    """
    H_p_v = invert_homography(H_v_p)
    level = min(int(np.log2(max(_largest_step(H_p_v, size), 1))), len(pyramid.levels) - 1)
    image = pyramid.levels[level]
    H_l_p = resizing(pyramid.size, (image.shape[1], image.shape[0]))
    fine_size = (size[0] * _SAMPLES, size[1] * _SAMPLES)
    H_f_v = resizing(size, fine_size)
    fine = cv2.warpPerspective(
        image,
        H_l_p @ H_p_v @ invert_homography(H_f_v),
        fine_size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    view = np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA))
    view[~_reached(H_p_v, size, pyramid.size)] = 0
    return view


def resizing(size_a: Size, size_b: Size) -> Floats:
    """Homography ``H_b_a`` that maps pixel coordinates when an image is resized.

    Args:
        size_a: original (width, height).
        size_b: new (width, height).
    """
    scale_x, scale_y = size_b[0] / size_a[0], size_b[1] / size_a[1]
    return np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]])


def _reached(H_p_v: Floats, size: Size, photo: Size) -> Bools:
    """Mask [H, W] of the view's pixels whose centre lies inside the photo."""
    if inside_image(apply_homography(H_p_v, view_corners(size)), photo).all():
        return np.ones(size[::-1], bool)
    x_W, y_H1 = np.arange(size[0]), np.arange(size[1])[:, None]
    mapped = [row[0] * x_W + (row[1] * y_H1 + row[2]) for row in H_p_v]
    reached_HW = np.ones(size[::-1], bool)
    for along_HW, extent in zip(mapped, photo, strict=False):
        place_HW = along_HW / mapped[2]
        reached_HW &= (place_HW >= -0.5) & (place_HW <= extent - 0.5)
    return reached_HW


def _largest_step(H_p_v: Floats, size: Size) -> float:
    """Largest step in the photo, in pixels, for a step of one pixel of the view."""
    x, y = np.meshgrid(np.linspace(0, size[0] - 1, 5), np.linspace(0, size[1] - 1, 5))
    points_N3 = np.column_stack([x.ravel(), y.ravel(), np.ones(x.size)])
    mapped_N3 = points_N3 @ H_p_v.T
    depth_N1 = mapped_N3[:, 2:]
    # Quotient rule for the derivatives by x and y.
    jacobian_N22 = np.stack(
        [
            (H_p_v[:2, axis] - mapped_N3[:, :2] / depth_N1 * H_p_v[2, axis]) / depth_N1
            for axis in (0, 1)
        ],
        axis=-1,
    )
    return float(np.linalg.norm(jacobian_N22, 2, axis=(1, 2)).max())
