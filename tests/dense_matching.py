"""Dense matching by a descriptor of points."""

from dataclasses import dataclass

import numpy as np

from ucn.evaluation.config import MatchingConfig
from ucn.matching.descriptors import Describe
from ucn.matching.features import Features
from ucn.matching.matcher import backward_errors, find
from ucn.matching.scales import dense_descriptor, extract


@dataclass(frozen=True)
class PointMatches:
    """Matches of N points: pixels in image 1, and whether the search back ends near the point."""

    positions_N2: np.ndarray
    reciprocal_N: np.ndarray


def describe_pair(
    images: tuple[np.ndarray, np.ndarray], describe: Describe, config: MatchingConfig
) -> tuple[Features, Features]:
    """Both images of a pair, described at the steps and scales of a configuration."""
    describe_map = dense_descriptor(describe, config.grid_step)
    first, second = (extract(image, describe_map, config.scales) for image in images)
    return first, second


def match_points(
    image0: np.ndarray,
    image1: np.ndarray,
    queries_N2: np.ndarray,
    describe: Describe,
    config: MatchingConfig,
) -> PointMatches:
    """Matches of points of image 0 in image 1."""
    features0, features1 = describe_pair((image0, image1), describe, config)
    step = float(config.grid_step)
    positions_N2, _ = find(features0, queries_N2, features1, step_px=step, subpixel=config.subpixel)
    back_N = backward_errors(queries_N2, features0, positions_N2, features1, step_px=step)
    return PointMatches(positions_N2, back_N <= config.reciprocity_px)
