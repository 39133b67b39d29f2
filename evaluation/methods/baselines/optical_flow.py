"""Dense optical flow as a baseline, which matches without descriptors.

All methods use luma and the default settings of their library. Images of different sizes are padded
at the right and bottom to a common size by repeating the border, so pixel coordinates stay valid.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Match, Pixels

Flow = Callable[[Pixels, Pixels], NDArray[Any]]
"""Maps two grey images [H, W] of one size to the flow (dx, dy) of image 0's pixels, [H, W, 2].

NaN where there is no flow.
"""
LEAST_SIZE = 32
"""Minimum size to which images are padded, pixels: some methods fail on smaller ones."""


def follow_flow(flow_HW2: NDArray[Any], points_N2: Floats) -> Floats:
    """Moves points by a flow field, sampled bilinearly and clamped at the border.

    Results are not clipped to the image, so the error is that of the flow.
    """
    height, width = flow_HW2.shape[:2]
    x_N, y_N = np.clip(points_N2, 0, np.array([width - 1, height - 1], np.float32)).T
    left_N, top_N = np.floor(x_N).astype(int), np.floor(y_N).astype(int)
    right_N, bottom_N = np.minimum(left_N + 1, width - 1), np.minimum(top_N + 1, height - 1)
    along_N1, down_N1 = (x_N - left_N)[:, None], (y_N - top_N)[:, None]
    upper_N2 = flow_HW2[top_N, left_N] * (1 - along_N1) + flow_HW2[top_N, right_N] * along_N1
    lower_N2 = flow_HW2[bottom_N, left_N] * (1 - along_N1) + flow_HW2[bottom_N, right_N] * along_N1
    moved_N2 = points_N2 + upper_N2 * (1 - down_N1) + lower_N2 * down_N1
    return np.asarray(moved_N2, np.float32)


def flow_matcher(flow: Flow) -> Match:
    """Matches points by following a dense flow from image 0 to image 1."""

    def match(image0: Pixels, image1: Pixels, points0_N2: Floats) -> Floats:
        height = max(image0.shape[0], image1.shape[0], LEAST_SIZE)
        width = max(image0.shape[1], image1.shape[1], LEAST_SIZE)
        return follow_flow(
            flow(_padded(image0, height, width), _padded(image1, height, width)), points0_N2
        )

    return match


def dis_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """Dense inverse search (Kroeger et al., ECCV 2016) with OpenCV's MEDIUM preset."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(
        grey0, grey1, _still(grey0)
    )


def farneback_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """Polynomial expansion (Farneback, SCIA 2003) with the settings of OpenCV's sample."""
    return cv2.calcOpticalFlowFarneback(grey0, grey1, _still(grey0), 0.5, 5, 15, 3, 5, 1.2, 0)


def deep_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """Variational flow of DeepFlow (Weinzaepfel et al., ICCV 2013), without DeepMatching."""
    return cv2.optflow.createOptFlow_DeepFlow().calc(grey0, grey1, _still(grey0))


def pca_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """PCA-Flow: smooth basis flows fitted to tracked corners, after Wulff and Black (CVPR 2015).

    OpenCV uses a cosine basis, and is used here without the learned prior.
    """
    return _if_tracked(cv2.optflow.createOptFlow_PCAFlow(), grey0, grey1)


def sparse_to_dense_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """Tracked points, interpolated along edges as in EpicFlow (Revaud et al., CVPR 2015)."""
    return _if_tracked(cv2.optflow.createOptFlow_SparseToDense(), grey0, grey1)


def simple_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """SimpleFlow (Tao et al., CGF 2012): local likelihoods with edge-aware smoothing."""
    layers, radius, max_flow = 3, 2, 4
    return cv2.optflow.calcOpticalFlowSF(_three(grey0), _three(grey1), layers, radius, max_flow)


def tvl1_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """TV-L1 (Zach, Pock and Bischof, DAGM 2007), from scikit-image."""
    from skimage import registration  # slow to import

    down_HW, along_HW = registration.optical_flow_tvl1(grey0, grey1)  # type: ignore[no-untyped-call]
    return np.stack([along_HW, down_HW], axis=-1)


def ilk_flow(grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    """Iterative Lucas-Kanade (Le Besnerais and Champagnat, ICIP 2005), from scikit-image."""
    from skimage import registration  # slow to import

    down_HW, along_HW = registration.optical_flow_ilk(grey0, grey1)  # type: ignore[no-untyped-call]
    return np.stack([along_HW, down_HW], axis=-1)


def _if_tracked(method: cv2.DenseOpticalFlow, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
    try:
        return method.calc(grey0, grey1, _still(grey0))
    except cv2.error as error:
        if error.code != cv2.Error.StsAssert:
            raise
        # These two methods raise this error if no point could be tracked.
        return np.full((*grey0.shape, 2), np.nan, np.float32)


def _padded(image: Pixels, height: int, width: int) -> Pixels:
    bottom, right = height - image.shape[0], width - image.shape[1]
    padded = cv2.copyMakeBorder(to_grey(image), 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)


def _still(grey: Pixels) -> Floats:
    return np.zeros((*grey.shape, 2), np.float32)


def _three(grey: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
