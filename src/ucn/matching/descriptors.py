"""Interfaces of matching methods: a method describes points, or matches them directly."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Describe = Callable[[Pixels, Floats], Floats]
"""Maps an image (uint8 [H, W] or [H, W, 3] RGB) and points_N2 in pixels to descriptors_ND.

Row i describes point i. Rows are float32 of unit length, so the nearest descriptor has the largest
inner product. The row of a patch without texture may be zero.
"""

Match = Callable[[Pixels, Pixels, Floats], Floats]
"""Maps image 0, image 1 and points0_N2 (pixels of image 0) to points1_N2 (pixels of image 1).

For methods without descriptors, such as optical flow. Row i of the result, float32, is the match of
point i; NaN if there is none. Matches may lie outside image 1.
"""


def unit_rows(rows_ND: NDArray[np.floating]) -> Floats:
    """Scales rows to unit length; zero rows stay zero."""
    length_N = np.sqrt(np.vecdot(rows_ND, rows_ND))
    scaled_ND: Floats = np.divide(rows_ND, np.maximum(length_N, 1e-12)[:, None], dtype=np.float32)
    return scaled_ND
