"""Motorcycle: a real stereo pair in scikit-image, with dense sub-pixel ground truth disparity.

Scharstein et al., "High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth", GCPR 2014,
reduced by 4. Pixel x of the left image corresponds to ``x - d`` in the right image.
"""

from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from skimage import data

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import inside_image
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef, Source

# Calibration from scikit-image's documentation, in pixels and metres.
_FOCAL = 994.978
_CENTRE = (311.193, 254.877)
_CENTRE_OFFSET = 31.086
_BASELINE = 0.193001
# A pixel is occluded in the right image if another pixel lands within one pixel of it, and has a
# disparity that is larger by this much, pixels.
_HIDDEN_BY = 1.0


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
        height, width = disparity_HW.shape
        rows, columns = np.nonzero(np.isfinite(disparity_HW))
        disparity_N = disparity_HW[rows, columns].astype(np.float64)
        targets_N2 = np.stack([columns - disparity_N, rows], axis=1)
        inside_N = inside_image(targets_N2, (width, height))
        hidden_N = np.zeros(len(rows), bool)
        hidden_N[inside_N] = _hidden(targets_N2[inside_N], disparity_N[inside_N], disparity_HW)
        visible_N = np.flatnonzero(inside_N & ~hidden_N)
        points_N2 = np.stack([columns, rows], axis=1)[visible_N]
        depth_N = _BASELINE * _FOCAL / (disparity_N[visible_N] + _CENTRE_OFFSET)
        T_1_0 = np.eye(4)
        T_1_0[0, 3] = -_BASELINE
        return assemble_sample(
            self._config,
            self.key(pair),
            pair,
            (left, right),
            Candidates(
                np.hstack([points_N2, targets_N2[visible_N]]),
                {"depth0": depth_N, "depth1": depth_N},
                {
                    "no true disparity": int(disparity_HW.size - len(rows)),
                    "outside image 1": int((~inside_N).sum()),
                    "hidden in image 1": int(hidden_N.sum()),
                },
            ),
            PairGeometry(
                "rigid",
                _intrinsics(_CENTRE[0]),
                _intrinsics(_CENTRE[0] + _CENTRE_OFFSET),
                T_1_0,
                "metre",
            ),
        )


def _hidden(targets_N2: Floats, disparity_N: Floats, disparity_HW: Floats) -> Bools:
    """Mask of the pixels that are occluded in the right image by a larger disparity."""
    rows = targets_N2[:, 1].astype(np.intp)
    nearest_HW = np.zeros(disparity_HW.shape)
    columns = [
        np.clip(edge(targets_N2[:, 0]).astype(np.intp), 0, disparity_HW.shape[1] - 1)
        for edge in (np.floor, np.ceil)
    ]
    for column in columns:
        np.maximum.at(nearest_HW, (rows, column), disparity_N)
    nearest_N = np.maximum(*(nearest_HW[rows, column] for column in columns))
    return np.asarray(nearest_N > disparity_N + _HIDDEN_BY)


def _intrinsics(centre_x: float) -> Floats:
    return np.array([[_FOCAL, 0, centre_x], [0, _FOCAL, _CENTRE[1]], [0, 0, 1]])
