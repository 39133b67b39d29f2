"""Random homographies, and exact matches between two views related by one.

A homography ``H_b_a`` maps pixels of view a to pixels of view b: (x, y, 1) to a multiple of
(x', y', 1). Hartley and Zisserman, "Multiple View Geometry", 2nd edition, chapters 2 and 4.
"""

from dataclasses import dataclass

import numpy as np

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import project_points

Size = tuple[int, int]

# Largest ratio between the depths of a plane's corner and centre (either way) in a valid view.
_STEEPEST = 4.0


@dataclass(frozen=True)
class HomographyRanges:
    """Ranges of a random homography. Zeros, and a scale of 1, give the identity.

    Attributes:
        rotation: largest rotation, degrees, in either direction.
        scale: scale factors range from 1 / scale to scale; at least 1.
        shear: tangent of the largest shear angle, in either direction.
        perspective: largest shift of each corner, as a fraction of half the image sides.
        shift: largest translation, as a fraction of the image sides.
    """

    rotation: float
    scale: float
    shear: float
    perspective: float
    shift: float


def view_corners(size: Size) -> Floats:
    """Outer corners [4, 2] of an image of (width, height), clockwise from the top left."""
    left, top, right, bottom = -0.5, -0.5, size[0] - 0.5, size[1] - 0.5
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def random_corners(size: Size, ranges: HomographyRanges, rng: np.random.Generator) -> Floats:
    """Maps :func:`view_corners` by a random homography: float64 [4, 2].

    The view is sheared, scaled (uniformly in the logarithm), rotated about its centre and shifted.
    Each corner also moves independently, which adds perspective.
    """
    angle = np.radians(rng.uniform(-1, 1) * ranges.rotation)
    factor = ranges.scale ** rng.uniform(-1, 1)
    shear = rng.uniform(-1, 1) * ranges.shear
    shift_2 = rng.uniform(-1, 1, 2) * ranges.shift * size
    moves_42 = rng.uniform(-1, 1, (4, 2)) * ranges.perspective * np.array(size) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = factor * turn @ np.array([[1, shear], [0, 1]])
    corners_42 = view_corners(size)
    centre_2 = corners_42.mean(0)
    return np.asarray((corners_42 + moves_42 - centre_2) @ linear.T + centre_2 + shift_2)


def homography_from_corners(corners_a_42: Floats, corners_b_42: Floats) -> Floats:
    """The homography ``H_b_a`` that maps four points to four others.

    Solves the eight linear equations of the inhomogeneous direct linear transformation (Hartley
    and Zisserman, section 4.1.2).
    Raises:
        numpy.linalg.LinAlgError: three of the points lie on a line.
    """
    x, y = corners_a_42.T
    ones, zeros = np.ones(4), np.zeros(4)
    plain_43 = np.stack([x, y, ones], axis=1)
    rows_x = np.hstack([plain_43, np.zeros((4, 3)), -corners_b_42[:, :1] * plain_43[:, :2]])
    rows_y = np.hstack(
        [np.stack([zeros, zeros, zeros], 1), plain_43, -corners_b_42[:, 1:] * plain_43[:, :2]]
    )
    solution = np.linalg.solve(np.vstack([rows_x, rows_y]), corners_b_42.T.ravel())
    return np.append(solution, 1.0).reshape(3, 3)


def apply_homography(H_b_a: Floats, points_a_N2: Floats) -> Floats:
    """Maps pixels [N, 2]. Results are valid only for points :func:`in_front` of the horizon."""
    return project_points(H_b_a, np.column_stack([points_a_N2, np.ones(len(points_a_N2))]))


def in_front(H_b_a: Floats, points_a_N2: Floats) -> Bools:
    """Whether each point lies in front of the horizon, assuming the views see the same side.

    A homography is defined up to its sign. Two views of the same side of a plane have the same
    orientation, so the determinant fixes the sign.
    """
    depth_N = points_a_N2 @ H_b_a[2, :2] + H_b_a[2, 2]
    return np.asarray(depth_N * np.sign(np.linalg.det(H_b_a)) > 0)


def invert_homography(H_b_a: Floats) -> Floats:
    """Inverse homography ``H_a_b``.

    Raises:
        numpy.linalg.LinAlgError: the matrix is singular.
    """
    return np.asarray(np.linalg.inv(H_b_a), np.float64)


def local_scale(H_b_a: Floats, points_a_N2: Floats) -> Floats:
    """Local scale factor [N] around each pixel: the square root of the area's factor."""
    # The Jacobian's determinant is det(H) / w^3.
    depth_N = points_a_N2 @ H_b_a[2, :2] + H_b_a[2, 2]
    return np.asarray(np.sqrt(np.abs(np.linalg.det(H_b_a) / depth_N**3)))


def is_viewable(H_b_a: Floats, size: Size) -> bool:
    """Whether all of view a is in front of the horizon, and none of it at a grazing angle."""
    depth_4 = view_corners(size) @ H_b_a[2, :2] + H_b_a[2, 2]
    centre = depth_4.mean()
    ratio_4 = depth_4 / centre if centre != 0 else np.zeros(4)
    return bool(ratio_4.min() * _STEEPEST >= 1 and ratio_4.max() <= _STEEPEST)


def random_homography(
    size: Size, ranges: HomographyRanges, rng: np.random.Generator
) -> Floats | None:
    """A random ``H_1_0`` between two views of one size, or None for a degenerate draw.

    Every pixel of either view maps to a point in front of the horizon.
    """
    try:
        H_1_0 = homography_from_corners(view_corners(size), random_corners(size, ranges, rng))
        viewable = is_viewable(H_1_0, size) and is_viewable(invert_homography(H_1_0), size)
    except np.linalg.LinAlgError:
        return None
    return H_1_0 if viewable and np.linalg.det(H_1_0) > 0 else None


def jittered_grid(size: Size, spacing: float, rng: np.random.Generator) -> Floats:
    """Draws one random point in each cell of a grid over an image.

    Args:
        size: (width, height) of the image.
        spacing: side of a cell, pixels. Cells of the last row and column may be smaller.
        rng: source of all randomness.

    Returns:
        float64 [N, 2], representable in float32, inside the image, in raster order of cells.
    """
    starts = [np.arange(-0.5, extent - 0.5, spacing) for extent in size]
    low_N2 = np.stack(np.meshgrid(*starts), axis=-1).reshape(-1, 2)
    high_N2 = np.minimum(low_N2 + spacing, np.array(size) - 0.5)
    points_N2 = low_N2 + rng.random(low_N2.shape) * (high_N2 - low_N2)
    return np.asarray(points_N2.astype(np.float32).astype(np.float64))


def near_mask(mask_HW: Bools, points_N2: Floats) -> Bools:
    """Whether the mask contains any of the four pixels around each of N points."""
    height, width = mask_HW.shape
    low_N2 = np.floor(points_N2).astype(np.intp)
    hit_N = np.zeros(len(points_N2), bool)
    for step_x, step_y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x = np.clip(low_N2[:, 0] + step_x, 0, width - 1)
        y = np.clip(low_N2[:, 1] + step_y, 0, height - 1)
        hit_N |= mask_HW[y, x]
    return hit_N
