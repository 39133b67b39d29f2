"""Motorcycle: a real stereo pair in scikit-image, with dense sub-pixel ground truth disparity.

Scharstein et al., "High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth", GCPR 2014,
reduced by 4. Pixel x of the left image corresponds to ``x - d`` in the right image.
"""

from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from skimage import data

from ucn.arrays import Floats
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.base import PairRef, Source
from ucn.preprocessing.sources.stereo.folder import stereo_sample

# Calibration from scikit-image's documentation, in pixels and metres.
_FOCAL = 994.978
_CENTRE = (311.193, 254.877)
_CENTRE_OFFSET = 31.086
_BASELINE = 0.193001


class MotorcycleConfig(PreprocessConfig):
    """The real Motorcycle stereo pair of scikit-image, with true disparity."""

    source: Literal["motorcycle"] = "motorcycle"

    def open_source(self) -> Source:
        return MotorcycleSource(self)


class MotorcycleSource:
    """A single pair: left image, right image."""

    def __init__(self, config: MotorcycleConfig) -> None:
        self._config = config

    def pairs(self) -> list[PairRef]:
        return [PairRef("motorcycle", "left", "right")]

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        return [version("scikit-image")]

    def load(self, pair: PairRef) -> Sample:
        left, right, disparity_HW = data.stereo_motorcycle()  # type: ignore[no-untyped-call]
        K0, K1 = _intrinsics(_CENTRE[0]), _intrinsics(_CENTRE[0] + _CENTRE_OFFSET)
        cameras = K0, K1, _FOCAL * _BASELINE
        return stereo_sample(
            self._config, self.key(pair), pair, (left, right), disparity_HW, cameras
        )


def _intrinsics(centre_x: float) -> Floats:
    return np.array([[_FOCAL, 0, centre_x], [0, _FOCAL, _CENTRE[1]], [0, 0, 1]])
