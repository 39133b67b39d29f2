"""The two interfaces of a method: it describes points, or matches them directly."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Describe = Callable[[Pixels, Floats], Floats]
"""From an image, uint8 [H, W] or [H, W, 3] RGB, and points_N2 in pixels to descriptors_ND.

Every point gets a row, in order. Rows are float32 of unit length, so that the nearest descriptor is
the one of largest inner product; the row of a patch without any structure may be zero.
"""

Match = Callable[[Pixels, Pixels, Floats], Floats]
"""From image 0, image 1 and points0_N2 in pixels of image 0 to float32 points1_N2 in pixels of
image 1, in order: what matches by itself, without descriptors. A row of NaN is a point without a
match; a point may lie outside image 1.
"""


def unit_rows(rows_ND: NDArray[Any]) -> Floats:
    """Scale rows to unit length; rows of zeros stay zero."""
    length_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    scaled: Floats = (rows_ND / np.maximum(length_N1, 1e-12)).astype(np.float32)
    return scaled
