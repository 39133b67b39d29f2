"""Trained networks as describers of points."""

import numpy as np
import torch

from ucn.matching.descriptors import Describe, Floats, Pixels
from ucn.matching.features import sample_features
from ucn.training.model import Model


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
