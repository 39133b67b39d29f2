"""Matches two images: starting points, the dense matcher, and a sequence of filters."""

from dataclasses import dataclass

import cv2
import numpy as np

from ucn.evaluation.config import SECOND_RADIUS_PX
from ucn.evaluation.export.config import MatchOptions
from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.features import Features
from ucn.matching.filters import (
    Mask,
    ratio_mask,
    shift_positions,
    similarity_mask,
    unit_distances,
)
from ucn.matching.keypoints import detect, grid_points
from ucn.matching.matcher import backward_errors, find, second_similarities


@dataclass(frozen=True)
class ImageMatches:
    """Matches between two images.

    Attributes:
        matches_N4: float32 x0, y0, x1, y1 in pixels.
        scores_N: float32 cosine similarity of the descriptors, at most 1.
        counts: number of ``starting points``, then of matches left by each filter, in order.
    """

    matches_N4: Floats
    scores_N: Floats
    counts: tuple[tuple[str, int], ...] = ()


def corner_points(image: Pixels, count: int) -> Floats:
    """Finds at most ``count`` corners spread over the image: float32 [N, 2] pixels.

    Corners of Shi and Tomasi (CVPR 1994), at least 3 px apart.
    """
    corners = cv2.goodFeaturesToTrack(to_grey(image), count, 0.001, 3.0)
    if corners is None:
        return np.zeros((0, 2), np.float32)
    return np.asarray(corners, np.float32).reshape(-1, 2)


def even_points(image: Pixels, count: int) -> Floats:
    """Places at most ``count`` points on a square grid over the image: float32 [N, 2] pixels."""
    height, width = image.shape[:2]
    step = 1
    while -(-width // step) * -(-height // step) > count:
        step += 1
    return stepped_points(image, step)


def stepped_points(image: Pixels, step: int) -> Floats:
    """Places a point at every ``step``-th pixel, in x and in y: float32 [N, 2] pixels."""
    height, width = image.shape[:2]
    points_N2 = grid_points(width, height, step) + np.float32((step - 1) // 2)
    return np.asarray(points_N2[(points_N2 < (width, height)).all(axis=1)], np.float32)


def starting_points(image: Pixels, options: MatchOptions) -> Floats:
    """Chooses the points of image 0 to match: float32 [N, 2] pixels, without duplicates."""
    if options.grid:
        return stepped_points(image, options.grid)
    if options.keypoints_from == "grid":
        return even_points(image, options.keypoints)
    if options.keypoints_from == "corners":
        return corner_points(image, options.keypoints)
    return detect(image, options.keypoints_from, options.keypoints)


def match_features(
    features0: Features, features1: Features, options: MatchOptions | None = None
) -> ImageMatches:
    """Matches points of image 0 to the most similar positions of image 1, and filters the matches.

    Filters run in sequence, the cheap ones first. Each processes only the remaining matches.

    Args:
        features0, features1: the described images (`ucn.training.model.Model.extract`), with equal
            numbers of scales.
        options: default `MatchOptions()`.

    Returns:
        Matches in descending order of score; empty if image 0 has no starting points.

    Raises:
        ValueError: the images are described at different numbers of scales, or in descriptors of
            different lengths.
    """
    if (features0.levels, features0.map_HWD.shape[2]) != (
        features1.levels,
        features1.map_HWD.shape[2],
    ):
        raise ValueError("the images are not described alike; use one model and number of scales")
    options = options or MatchOptions()
    points0_N2 = starting_points(features0.image, options)
    if not len(points0_N2):
        nothing = np.zeros((0, 4), np.float32)
        return ImageMatches(nothing, nothing[:, 0], (("starting points", 0),))
    points1_N2, similarity_N = find(features0, points0_N2, features1)
    kept = np.arange(len(points0_N2))
    counts = [("starting points", len(kept))]

    def keep(name: str, mask: Mask) -> None:
        nonlocal kept
        kept = kept[mask]
        counts.append((name, len(kept)))

    if options.min_similarity > -1:
        keep("similarity", similarity_mask(similarity_N, options.min_similarity))
    if options.ratio < 1:
        second_N = second_similarities(
            features0, points0_N2[kept], features1, points1_N2[kept], SECOND_RADIUS_PX
        )
        nearest_N, second_N = unit_distances(similarity_N[kept]), unit_distances(second_N)
        keep("ratio", ratio_mask(np.minimum(nearest_N, second_N), second_N, options.ratio))
    if options.reciprocity_px:
        error_N = backward_errors(points0_N2[kept], features0, points1_N2[kept], features1)
        keep("reciprocity", error_N <= options.reciprocity_px)
    if options.stability_px:
        rng = np.random.default_rng(options.seed)
        moved_N2 = shift_positions(points1_N2[kept], features1.size, rng)
        error_N = backward_errors(points0_N2[kept], features0, moved_N2, features1)
        keep("stability", error_N <= options.stability_px)
    kept = kept[np.argsort(-similarity_N[kept], kind="stable")]
    matches_N4 = np.concatenate([points0_N2[kept], points1_N2[kept]], axis=1)
    return ImageMatches(matches_N4, similarity_N[kept], tuple(counts))
