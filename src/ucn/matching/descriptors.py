"""Interfaces of matching methods: a method describes points, or matches them directly."""

from collections.abc import Callable
from typing import Any

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


def unit_rows(rows_ND: NDArray[Any]) -> Floats:
    """Scales rows to unit length; zero rows stay zero."""
    length_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    scaled: Floats = (rows_ND / np.maximum(length_N1, 1e-12)).astype(np.float32)
    return scaled
