"""Scores that match filters assign to dense matches; larger is better."""

from collections.abc import Mapping

import numpy as np

from ucn.evaluation.config import MatchingConfig
from ucn.evaluation.methods.dense import PointMatches, search_back
from ucn.matching.descriptors import Floats
from ucn.matching.features import Features
from ucn.matching.filters import shift_positions, unit_distances
from ucn.matching.matcher import second_similarities

FILTERS = ("similarity", "ratio", "reciprocity", "stability")
"""Names of the filters, in the order of their curves."""


def filter_scores(
    features0: Features,
    features1: Features,
    queries_N2: Floats,
    found: PointMatches,
    config: MatchingConfig,
    rng: np.random.Generator,
) -> Mapping[str, Floats]:
    """Computes the score of each match by every filter.

    Args:
        features0, features1: the described images.
        queries_N2: points of image 0, pixels.
        found: their matches.
        config: matching options.
        rng: source of the random shifts.

    Returns:
        ``similarity``: cosine similarity. ``ratio``: negative ratio of the distances to the nearest
        and the second nearest. ``reciprocity``, ``stability``: negative forward-backward error,
        pixels.
    """
    nearest_N = unit_distances(found.similarity_N)
    second_N = unit_distances(
        second_similarities(
            features0.read(queries_N2),
            features1,
            found.positions_N2,
            config.second_radius_px,
            step_px=config.grid_step,
            memory_mib=config.memory_mib,
        )
    )
    scores = {"similarity": found.similarity_N, "ratio": -_ratios(nearest_N, second_N)}
    if config.reciprocity_px > 0:
        shifted_N2 = shift_positions(found.positions_N2, features1.size, rng)
        scores["reciprocity"] = -found.way_back_N
        scores["stability"] = -search_back(features0, queries_N2, features1, shifted_N2, config)
    return scores


def _ratios(nearest_N: Floats, second_N: Floats) -> Floats:
    """Ratios in [0, 1]; 1 for equal distances, 0 without a second candidate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios_N = np.where(nearest_N == second_N, 1, nearest_N / second_N)
    return ratios_N.astype(np.float32)
