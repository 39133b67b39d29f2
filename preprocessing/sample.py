"""One sample: an image pair, its correspondences, and what is known of its geometry."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """An image pair with verified correspondences (DESIGN: docs/formats.md).

    Attributes:
        key: unique and readable, without dots.
        image0: uint8 [H0, W0] grey or [H0, W0, 3] RGB.
        image1: uint8 [H1, W1] or [H1, W1, 3].
        matches_N4: float32 [N, 4], rows x0, y0, x1, y1 in pixels; (0, 0) is the centre of the
            top-left pixel.
        metadata: JSON-serialisable; see docs/formats.md for its fields.
        attributes: per-match arrays, each with N as its first dimension.
    """

    key: str
    image0: Array
    image1: Array
    matches_N4: NDArray[np.float32]
    metadata: dict[str, Any]
    attributes: dict[str, Array] = field(default_factory=dict)
