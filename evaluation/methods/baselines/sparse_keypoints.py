"""Sparse matching by OpenCV's keypoints, at their own scale and orientation.

Detectors and descriptors have OpenCV's defaults, which are the authors'. Matches are mutual nearest
neighbours. Float descriptors also pass the ratio test of Lowe (IJCV 2004). SIFT is compared as
published, without the square root of RootSIFT.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ucn.evaluation.methods.baselines.base import KeypointMatcher
from ucn.evaluation.methods.baselines.opencv_descriptors import why_no_surf
from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels

RATIO = 0.8
"""Largest ratio of the distances to the nearest and to the second nearest keypoint (Lowe)."""


class Keypoints(NamedTuple):
    """The keypoints of an image.

    Attributes:
        positions_K2: float32 pixels, without duplicates, the strongest first.
        rows_MD: float32 descriptors, bits as 0 and 1, ordered by position. A position has one for
            each of its orientations.
        start_K: first descriptor of each position.
    """

    positions_K2: Floats
    rows_MD: Floats
    start_K: NDArray[np.int64]


class SparseKeypoints(KeypointMatcher):
    """Base class of the sparse baselines."""

    keypoints: int = Field(default=2000, ge=1)
    """Maximum number of keypoints per image, the strongest."""
    pyramid_multiple: ClassVar[int] = 1
    """Images are padded to a multiple of this size, so that pyramid levels have whole pixels."""

    @abstractmethod
    def features(self) -> cv2.Feature2D:
        """Detector and descriptor."""

    def positions(self, found: Sequence[cv2.KeyPoint], size: tuple[int, int]) -> Floats:
        """Positions [M, 2] of keypoints of an image of this width and height, pixels."""
        return np.array([keypoint.pt for keypoint in found], np.float32)

    def match_pair(self, image0: Pixels, image1: Pixels) -> Floats:
        features = self.features()
        found0, found1 = (self._describe(features, image) for image in (image0, image1))
        is_binary = features.descriptorType() == cv2.CV_8U
        return match_keypoints(found0, found1, None if is_binary else RATIO)

    def _describe(self, features: cv2.Feature2D, image: Pixels) -> Keypoints:
        height, width = image.shape[:2]
        bottom, right = -height % self.pyramid_multiple, -width % self.pyramid_multiple
        padded = cv2.copyMakeBorder(to_grey(image), 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        found, described = features.detectAndCompute(padded, None)
        if not found:
            return Keypoints(*(np.zeros((0, 2), np.float32),) * 2, np.zeros(0, np.int64))
        rows_MD: NDArray[Any] = np.asarray(described)
        if features.descriptorType() == cv2.CV_8U:
            rows_MD = np.unpackbits(rows_MD, axis=1)
        points_M2 = self.positions(found, (width, height))
        inside_M = (points_M2 <= np.array([width - 0.5, height - 0.5])).all(axis=1)
        strength_M = np.array([keypoint.response for keypoint in found])
        return strongest(
            points_M2[inside_M],
            rows_MD[inside_M].astype(np.float32),
            strength_M[inside_M],
            self.keypoints,
        )


class SparseSift(SparseKeypoints):
    """SIFT (Lowe, IJCV 2004)."""

    title: ClassVar = "sparse SIFT"

    def features(self) -> cv2.Feature2D:
        # Without precise upscaling OpenCV shifts all points by a quarter of a pixel.
        return cv2.SIFT.create(enable_precise_upscale=True)


class SparseSurf(SparseKeypoints):
    """SURF (Bay et al., CVIU 2008), where OpenCV is built with it."""

    title: ClassVar = "sparse SURF"

    @classmethod
    def unavailable(cls) -> str:
        return why_no_surf()

    def features(self) -> cv2.Feature2D:
        return cv2.xfeatures2d.SURF.create()


class SparseKaze(SparseKeypoints):
    """KAZE (Alcantarilla, Bartoli and Davison, ECCV 2012)."""

    title: ClassVar = "sparse KAZE"

    def features(self) -> cv2.Feature2D:
        return cv2.xfeatures2d.KAZE.create()


class SparseAkaze(SparseKeypoints):
    """AKAZE (Alcantarilla, Nuevo and Bartoli, BMVC 2013)."""

    title: ClassVar = "sparse AKAZE"
    pyramid_multiple: ClassVar = 8

    def features(self) -> cv2.Feature2D:
        return cv2.xfeatures2d.AKAZE.create()


class SparseOrb(SparseKeypoints):
    """ORB (Rublee et al., ICCV 2011)."""

    title: ClassVar = "sparse ORB"

    def features(self) -> cv2.Feature2D:
        return cv2.ORB.create(nfeatures=self.keypoints)

    def positions(self, found: Sequence[cv2.KeyPoint], size: tuple[int, int]) -> Floats:
        # OpenCV multiplies cells by the nominal scale of the level, and not about the image's
        # corner. Sizes of levels are rounded in its precision.
        scale_M1 = np.array([[1.2**keypoint.octave] for keypoint in found], np.float32)
        size_2 = np.array(size, np.float32)
        true_scale_M2 = size_2 / np.rint(size_2 * (1 / scale_M1))
        cells_M2 = super().positions(found, size) / scale_M1
        return np.asarray((cells_M2 + 0.5) * true_scale_M2 - 0.5, np.float32)


class SparseBrisk(SparseKeypoints):
    """BRISK (Leutenegger, Chli and Siegwart, ICCV 2011)."""

    title: ClassVar = "sparse BRISK"
    pyramid_multiple: ClassVar = 24  # layers of scale 1, 1.5, 2, 3, 4 and 6

    def features(self) -> cv2.Feature2D:
        return cv2.xfeatures2d.BRISK.create()


def strongest(
    points_M2: Floats, rows_MD: Floats, strength_M: NDArray[Any], count: int
) -> Keypoints:
    """Groups descriptors by position, and keeps the strongest positions.

    Positions of equal strength are in the order of x, then y.
    """
    positions_K2, position_M = np.unique(points_M2, axis=0, return_inverse=True)
    strength_K = np.full(len(positions_K2), -np.inf)
    np.maximum.at(strength_K, position_M, strength_M)
    order_K = np.argsort(-strength_K, kind="stable")
    rank_M = np.argsort(order_K)[position_M]
    order_M = np.argsort(rank_M, kind="stable")
    order_M = order_M[rank_M[order_M] < count]
    _, start_K = np.unique(rank_M[order_M], return_index=True)
    return Keypoints(positions_K2[order_K[:count]], rows_MD[order_M], start_K)


def match_keypoints(keypoints0: Keypoints, keypoints1: Keypoints, ratio: float | None) -> Floats:
    """Mutual nearest keypoints of two images.

    The distance of two keypoints is that of their most similar orientations.

    Args:
        ratio: the nearest keypoint must be nearer than this times the second nearest one; None
            leaves out this test.

    Returns:
        float32 [K, 4] of x0, y0, x1, y1: a row for each keypoint of image 0 with a match.
    """
    if not len(keypoints0.start_K) or not len(keypoints1.start_K):
        return np.zeros((0, 4), np.float32)
    # Whole numbers, as those of SIFT and bits, give exact distances.
    rows0_MD, rows1_MD = (torch.from_numpy(found.rows_MD) for found in (keypoints0, keypoints1))
    between_MM = torch.cdist(rows0_MD, rows1_MD)
    of_position_KM = np.minimum.reduceat(between_MM.numpy(), keypoints0.start_K, axis=0)
    distance_KL = np.minimum.reduceat(of_position_KM, keypoints1.start_K, axis=1)
    all_K = np.arange(len(distance_KL))
    nearest_K = distance_KL.argmin(axis=1)
    matched_K = distance_KL.argmin(axis=0)[nearest_K] == all_K
    if ratio is not None:
        least_K = distance_KL[all_K, nearest_K]
        distance_KL[all_K, nearest_K] = np.inf
        matched_K &= least_K < ratio * distance_KL.min(axis=1)
    matches_K4 = np.hstack([keypoints0.positions_K2, keypoints1.positions_K2[nearest_K]])
    return np.asarray(matches_K4[matched_K], np.float32)
