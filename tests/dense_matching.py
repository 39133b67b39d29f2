"""Dense matching by a descriptor of points."""

import numpy as np

from ucn.evaluation.config import MatchingConfig
from ucn.evaluation.methods.dense import PointMatches, dense_descriptor, match_features
from ucn.matching.descriptors import Describe
from ucn.matching.features import Features
from ucn.matching.scales import extract


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
    return match_features(*describe_pair((image0, image1), describe, config), queries_N2, config)
