"""Matches two photos: starting points, an exact search, and a sequence of filters."""

from dataclasses import dataclass

import cv2
import numpy as np

from ucn.evaluation.config import SECOND_RADIUS_PX
from ucn.evaluation.export.config import MatchOptions
from ucn.evaluation.export.search import (
    DescribeImage,
    DescribePoints,
    refine_matches,
    search_image,
    search_second,
)
from ucn.evaluation.methods.dense import grid_points
from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.filters import (
    Mask,
    ratio_mask,
    reciprocity_mask,
    shift_positions,
    similarity_mask,
    unit_distances,
)
from ucn.matching.keypoints import detect


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


@dataclass(frozen=True)
class DescribedImage:
    """An image and a function that describes its points.

    Attributes:
        pixels: uint8 [H, W] or [H, W, 3] RGB.
        describe: describes points of this image.
    """

    pixels: Pixels
    describe: DescribePoints

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        height, width = self.pixels.shape[:2]
        return width, height


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


def match_images(
    image0: Pixels, image1: Pixels, describe: DescribeImage, options: MatchOptions | None = None
) -> ImageMatches:
    """Matches points of image 0 densely to image 1.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3] RGB; their sizes may differ.
        describe: descriptor, such as `ucn.evaluation.export.search.network_image_describer`,
            with the same number of scales as `MatchOptions.scales`.
        options: default `MatchOptions()`.

    Returns:
        As :func:`match_described_images`.
    """
    described0, described1 = (DescribedImage(image, describe(image)) for image in (image0, image1))
    return match_described_images(described0, described1, options or MatchOptions())


def match_described_images(
    image0: DescribedImage, image1: DescribedImage, options: MatchOptions
) -> ImageMatches:
    """Matches points of image 0 to the most similar positions of image 1, and filters the matches.

    Filters run in sequence, the cheap ones first. Each processes only the remaining matches.

    Returns:
        Matches in descending order of score; empty if image 0 has no starting points.
    """
    points0_N2 = starting_points(image0.pixels, options)
    if not len(points0_N2):
        nothing = np.zeros((0, 4), np.float32)
        return ImageMatches(nothing, nothing[:, 0], (("starting points", 0),))
    queries_ND = image0.describe(points0_N2)
    scales = options.scales
    points1_N2, similarity_N = search_image(queries_ND, image1.describe, image1.size, scales)
    kept = np.arange(len(points0_N2))
    counts = [("starting points", len(kept))]

    def keep(name: str, mask: Mask) -> None:
        nonlocal kept
        kept = kept[mask]
        counts.append((name, len(kept)))

    if options.min_similarity > -1:
        keep("similarity", similarity_mask(similarity_N, options.min_similarity))
    if options.ratio < 1:
        second_N = search_second(
            queries_ND[kept],
            image1.describe,
            image1.size,
            points1_N2[kept],
            SECOND_RADIUS_PX,
            scales,
        )
        nearest_N, second_N = unit_distances(similarity_N[kept]), unit_distances(second_N)
        keep("ratio", ratio_mask(np.minimum(nearest_N, second_N), second_N, options.ratio))
    if options.reciprocity_px:
        back_N2 = _search_back(image1, image0, points1_N2[kept], scales)
        keep("reciprocity", reciprocity_mask(points0_N2[kept], back_N2, options.reciprocity_px))
    if options.stability_px:
        rng = np.random.default_rng(options.seed)
        moved_N2 = shift_positions(points1_N2[kept], image1.size, rng)
        back_N2 = _search_back(image1, image0, moved_N2, scales)
        keep("stability", reciprocity_mask(points0_N2[kept], back_N2, options.stability_px))
    kept = kept[np.argsort(-similarity_N[kept], kind="stable")]
    ends_N2 = refine_matches(
        queries_ND[kept], image1.describe, image1.size, points1_N2[kept], scales
    )
    matches_N4 = np.concatenate([points0_N2[kept], ends_N2], axis=1)
    return ImageMatches(matches_N4, similarity_N[kept], tuple(counts))


def _search_back(
    image1: DescribedImage, image0: DescribedImage, points1_N2: Floats, scales: int
) -> Floats:
    """Finds the positions in image 0 that are most similar to points of image 1."""
    if not len(points1_N2):
        return points1_N2
    return search_image(image1.describe(points1_N2), image0.describe, image0.size, scales)[0]
