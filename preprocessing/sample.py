"""A sample: an image pair, its correspondences, and its geometry if known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Array, Floats


@dataclass(frozen=True)
class Sample:
    """An image pair with verified correspondences. The format is described in docs/formats.md.

    Attributes:
        key: unique name, without dots.
        image0: uint8 [H0, W0] grey or [H0, W0, 3] RGB.
        image1: uint8 [H1, W1] or [H1, W1, 3].
        matches_N4: float32 [N, 4], rows x0, y0, x1, y1 in pixels; (0, 0) is the centre of the
            top-left pixel.
        metadata: JSON-serialisable; fields as in docs/formats.md.
        attributes: per-match arrays, each with first dimension N.
    """

    key: str
    image0: Array
    image1: Array
    matches_N4: NDArray[np.float32]
    metadata: dict[str, Any]
    attributes: dict[str, Array] = field(default_factory=dict)


Kind = Literal["rigid", "flow", "homography", "semantic"]


@dataclass(frozen=True)
class Candidates:
    """Verified matches of a source, before subsampling.

    Attributes:
        matches_N4: x0, y0, x1, y1 in pixels, visible in both images.
        attributes: per-match arrays of any type, each with first dimension N.
        rejected: number of points without a match, by reason.
    """

    matches_N4: Floats
    attributes: Mapping[str, Array] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PairGeometry:
    """Geometry and metadata of a pair.

    Attributes:
        kind: ``rigid`` (a static scene seen by two cameras), ``flow``, ``homography`` or
            ``semantic``.
        K0, K1: 3x3 intrinsics, pixels.
        T_1_0: 4x4 transform from camera 0 to camera 1.
        unit: unit of the translation of ``T_1_0`` and of depths: ``metre`` or ``model``.
        more: additional metadata, JSON-serialisable.
    """

    kind: Kind
    K0: Floats | None = None
    K1: Floats | None = None
    T_1_0: Floats | None = None
    unit: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
