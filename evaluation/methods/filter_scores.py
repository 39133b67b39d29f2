"""Scores that match filters assign to dense matches; larger is better."""

from collections.abc import Mapping

import numpy as np
import torch

from ucn.evaluation.config import MatchingConfig
from ucn.evaluation.methods.dense import (
    DescribedPair,
    PointMatches,
    search_back,
    second_similarities,
)
from ucn.matching.descriptors import Describe, Floats, Pixels
from ucn.matching.filters import forward_backward_error, shift_positions, unit_distances
from ucn.matching.scales import describe_at_levels

FILTERS = ("similarity", "ratio", "reciprocity", "stability")
"""Names of the filters, in the order of their curves."""


def filter_scores(
    pair: DescribedPair,
    found: PointMatches,
    image1: Pixels,
    describe: Describe,
    config: MatchingConfig,
    rng: np.random.Generator,
) -> Mapping[str, Floats]:
    """Computes the score of each match by every filter.

    Args:
        pair: described pair; reciprocity and stability need its search back.
        found: its matches.
        image1: image 1, described at shifted positions for stability.
        describe: descriptor of points.
        config: matching options.
        rng: source of the random shifts.

    Returns:
        ``similarity``: cosine similarity. ``ratio``: negative ratio of the distances to the nearest
        and the second nearest. ``reciprocity``, ``stability``: negative forward-backward error,
        pixels.
    """
    nearest_N = unit_distances(found.similarity_N)
    second_N = unit_distances(second_similarities(pair, found.positions_N2, config))
    scores = {"similarity": found.similarity_N, "ratio": -_ratios(nearest_N, second_N)}
    if config.reciprocity_px > 0:
        size1 = (image1.shape[1], image1.shape[0])
        shifted_N2 = shift_positions(found.positions_N2, size1, rng)
        described = describe_at_levels(describe, config.scales)(image1, shifted_N2)
        described_ND = torch.from_numpy(described).to(pair.queries_ND.device)
        back_N2 = search_back(pair, described_ND, config)
        scores["reciprocity"] = -found.way_back_N
        scores["stability"] = -forward_backward_error(pair.queries_N2, back_N2)
    return scores


def _ratios(nearest_N: Floats, second_N: Floats) -> Floats:
    """Ratios in [0, 1]; 1 for equal distances, 0 without a second candidate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios_N = np.where(nearest_N == second_N, 1, nearest_N / second_N)
    return ratios_N.astype(np.float32)
