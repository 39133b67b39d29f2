"""The two shapes of every method: descriptors of points, and direct matchers."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.features import sample_features
from training.model import Model

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


def to_grey(image: NDArray[Any]) -> Pixels:
    """Luma (ITU-R BT.601) of a uint8 image [H, W, 3] RGB; [H, W] is returned as it is."""
    if image.ndim == 3:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return image


def unit_rows(rows_ND: NDArray[Any]) -> Floats:
    """Scale rows to unit length; rows of zeros stay zero."""
    length_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    scaled: Floats = (rows_ND / np.maximum(length_N1, 1e-12)).astype(np.float32)
    return scaled


def network_describer(model: Model) -> Describe:
    """Describe points with a network: one forward pass, read bilinearly at the points."""

    def describe(image: Pixels, points_N2: Floats) -> Floats:
        described_ND = read_features(model, model.describe_dense(image), points_N2)
        described: Floats = described_ND.cpu().numpy()
        return described

    return describe


@torch.no_grad()
def read_features(model: Model, features_DHW: torch.Tensor, points_N2: Floats) -> torch.Tensor:
    """Read a model's features of an image at points of it: unit rows [N, D], where they lie."""
    points = torch.from_numpy(np.ascontiguousarray(points_N2)).to(features_DHW.device)
    return sample_features(features_DHW, points, model.stride, model.offset)
