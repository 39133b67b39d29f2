"""Random opaque patches on an image, with exact masks."""

import cv2
import numpy as np

from ucn.arrays import Array, Bools

# Mean distance of a patch's corners from its centre, as a fraction of the view's shorter side.
_SMALLEST, _LARGEST = 0.05, 0.2
_CORNERS = 5
_TEXTURE_CELLS = 6


def add_occluders(view: Array, count: int, rng: np.random.Generator) -> tuple[Array, Bools]:
    """Draw random polygons with a smooth random texture onto a view.

    Args:
        view: uint8 [H, W] or [H, W, 3].
        count: number of polygons.
        rng: random number generator.

    Returns:
        The view with the polygons, and the mask [H, W] of the covered pixels.
    """
    height, width = view.shape[:2]
    covered_HW = np.zeros((height, width), bool)
    result = view.copy()
    for _ in range(count):
        centre_2 = rng.uniform(0, (width, height))
        radius = rng.uniform(_SMALLEST, _LARGEST) * min(width, height)
        angles_5 = np.sort(rng.uniform(0, 2 * np.pi, _CORNERS))
        reach_5 = radius * rng.uniform(0.5, 1.5, _CORNERS)
        corners_52 = centre_2 + reach_5[:, None] * np.column_stack(
            [np.cos(angles_5), np.sin(angles_5)]
        )
        patch_HW = np.zeros((height, width), np.uint8)
        cv2.fillPoly(patch_HW, [np.rint(corners_52).astype(np.int32)], 1)
        cells_shape = (_TEXTURE_CELLS, _TEXTURE_CELLS, *view.shape[2:])
        cells = rng.integers(0, 256, cells_shape, dtype=np.uint8)
        texture = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
        patch = patch_HW.astype(bool)
        result[patch] = texture[patch]
        covered_HW |= patch
    return result, covered_HW
