"""Trained networks as descriptors of points."""

import numpy as np
import torch

from ucn.matching.descriptors import Describe, Floats, Pixels
from ucn.matching.features import sample_features
from ucn.training.model import Model


def network_describer(model: Model) -> Describe:
    """Describes points by one forward pass of a network and bilinear sampling."""

    def describe(image: Pixels, points_N2: Floats) -> Floats:
        described_ND = read_features(model, model.describe_dense(image), points_N2)
        described: Floats = described_ND.cpu().numpy()
        return described

    return describe


@torch.no_grad()
def read_features(model: Model, features_DHW: torch.Tensor, points_N2: Floats) -> torch.Tensor:
    """Samples a model's features at points: unit rows [N, D], on the device of the features."""
    points = torch.from_numpy(np.ascontiguousarray(points_N2)).to(features_DHW.device)
    return sample_features(features_DHW, points, model.stride, model.offset)
