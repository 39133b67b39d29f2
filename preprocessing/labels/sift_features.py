"""SIFT features of an image, and putative matches between two images.

SIFT: Lowe, IJCV 2004. Descriptors are compared under the Hellinger kernel ("RootSIFT": Arandjelovic
and Zisserman, CVPR 2012).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ucn.arrays import Array, Floats

# Below OpenCV's default of 0.04, since later checks reject bad matches.
_CONTRAST = 0.01
# Features within this distance of the best match show the same structure, pixels.
_SAME_STRUCTURE = 3.0
# Length of the compared vectors. Their entries are integers with inner products below 2^24, which
# single precision represents exactly. So results are the same on every machine.
_LENGTH = 4000


@dataclass(frozen=True)
class SiftFeatures:
    """Features of one image.

    Attributes:
        points_N2: pixels.
        scales_N: diameters of the supporting regions, pixels.
        angles_N: degrees, from the x-axis towards the y-axis.
        descriptors_ND: uint8 [N, 128].
    """

    points_N2: Floats
    scales_N: Floats
    angles_N: Floats
    descriptors_ND: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Total size of the arrays in bytes."""
        arrays = self.points_N2, self.scales_N, self.angles_N, self.descriptors_ND
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class ProposedMatches:
    """Mutual nearest neighbours.

    Attributes:
        index0_N, index1_N: indices of the features.
        ratio_N: descriptor distance divided by that to the second best, the larger of both
            directions.
    """

    index0_N: NDArray[np.intp]
    index1_N: NDArray[np.intp]
    ratio_N: NDArray[np.float32]


def detect_sift(grey_HW: Array, limit: int) -> SiftFeatures:
    """Detects the strongest features of a uint8 [H, W] image; ties may exceed ``limit``."""
    # Without precise upscaling, points are off by a quarter of a pixel.
    detector = cv2.SIFT.create(
        nfeatures=limit,
        nOctaveLayers=3,
        contrastThreshold=_CONTRAST,
        edgeThreshold=10,
        sigma=1.6,
        descriptorType=cv2.CV_8U,
        enable_precise_upscale=True,
    )
    keypoints, descriptors_ND = detector.detectAndCompute(grey_HW, None)
    rows = [(*keypoint.pt, keypoint.size, keypoint.angle) for keypoint in keypoints]
    values_N4 = np.array(rows, np.float64).reshape(-1, 4)
    return SiftFeatures(
        points_N2=values_N4[:, :2],
        scales_N=values_N4[:, 2],
        angles_N=values_N4[:, 3],
        # OpenCV returns None for an image without features.
        descriptors_ND=np.asarray(descriptors_ND if rows else np.zeros((0, 128)), np.uint8),
    )


def propose_matches(features0: SiftFeatures, features1: SiftFeatures) -> ProposedMatches:
    """Finds mutual nearest neighbours and their distance ratios.

    Allocates a matrix of N0 x N1 float32.
    """
    if not (len(features0.points_N2) and len(features1.points_N2)):
        none_0 = np.zeros(0, np.intp)
        return ProposedMatches(none_0, none_0, np.zeros(0, np.float32))
    similarity_NM = _root(features0.descriptors_ND) @ _root(features1.descriptors_ND).T
    best_N = similarity_NM.argmax(axis=1)
    score_N = similarity_NM[np.arange(len(best_N)), best_N]
    index0 = np.flatnonzero(score_N == similarity_NM.max(axis=0)[best_N])
    index1 = best_N[index0]
    next1 = _next_best(similarity_NM, index0, index1, features1.points_N2)
    next0 = _next_best(similarity_NM.T, index1, index0, features0.points_N2)
    nearest, runner_up = _distance(score_N[index0]), _distance(np.maximum(next0, next1))
    ratio = np.divide(nearest, runner_up, out=np.ones_like(nearest), where=runner_up > 0)
    return ProposedMatches(index0, index1, ratio)


def _next_best(
    similarity_NM: NDArray[np.float32],
    rows: NDArray[np.intp],
    best: NDArray[np.intp],
    points_M2: Floats,
) -> NDArray[np.float32]:
    """Largest similarity in each of ``rows``, without the columns near its best one."""
    pairs = cKDTree(points_M2[best]).sparse_distance_matrix(
        cKDTree(points_M2), _SAME_STRUCTURE, output_type="ndarray"
    )
    row, column = rows[pairs["i"]], pairs["j"]
    kept = similarity_NM[row, column]
    similarity_NM[row, column] = -1
    following = similarity_NM.max(axis=1)[rows]
    similarity_NM[row, column] = kept
    return np.asarray(following)


def _root(descriptors_ND: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RootSIFT: square roots of the L1-normalised descriptors, scaled to integers."""
    sums_N1 = np.maximum(descriptors_ND.sum(axis=1, keepdims=True, dtype=np.float32), 1)
    root: NDArray[np.float32] = np.rint(_LENGTH * np.sqrt(descriptors_ND / sums_N1))
    return root


def _distance(similarity_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances between unit vectors, from their scaled inner products."""
    cosine_N = similarity_N / np.float32(_LENGTH**2)
    return np.asarray(np.sqrt(np.maximum(2 - 2 * cosine_N, 0)))
