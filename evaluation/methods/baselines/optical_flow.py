"""Dense optical flow as a baseline, which matches without descriptors.

All methods use luma and the default settings of their library. Images of different sizes are padded
at the right and bottom to a common size by repeating the border, so pixel coordinates stay valid.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.methods.baselines.base import PointMatcher
from ucn.evaluation.methods.baselines.sampling import bilinear_weights
from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels

LEAST_SIZE = 32
"""Minimum size to which images are padded, pixels: some methods fail on smaller ones."""


class DenseFlow(PointMatcher):
    """Matches points by following a dense flow from image 0 to image 1."""

    @abstractmethod
    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        """Flow (dx, dy) of image 0's pixels [H, W, 2], between grey images [H, W] of one size.

        NaN where there is no flow.
        """

    def match(self, image0: Pixels, image1: Pixels, points0_N2: Floats) -> Floats:
        height = max(image0.shape[0], image1.shape[0], LEAST_SIZE)
        width = max(image0.shape[1], image1.shape[1], LEAST_SIZE)
        flow_HW2 = self.flow(_padded(image0, height, width), _padded(image1, height, width))
        return follow_flow(flow_HW2, points0_N2)


def follow_flow(flow_HW2: NDArray[Any], points_N2: Floats) -> Floats:
    """Moves points by a flow field, sampled bilinearly and clamped at the border.

    Results are not clipped to the image, so the error is that of the flow. A result is NaN if a
    pixel that it depends on is NaN.
    """
    weights_NP = bilinear_weights(points_N2, *flow_HW2.shape[:2])
    return np.asarray(points_N2 + weights_NP @ flow_HW2.reshape(-1, 2), np.float32)


class Dis(DenseFlow):
    """Dense inverse search (Kroeger et al., ECCV 2016) with OpenCV's MEDIUM preset."""

    title: ClassVar = "DIS flow"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(
            grey0, grey1, _still(grey0)
        )


class Farneback(DenseFlow):
    """Polynomial expansion (Farneback, SCIA 2003) with the settings of OpenCV's sample."""

    title: ClassVar = "Farneback flow"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        return cv2.calcOpticalFlowFarneback(grey0, grey1, _still(grey0), 0.5, 5, 15, 3, 5, 1.2, 0)


class DeepFlow(DenseFlow):
    """Variational flow of DeepFlow (Weinzaepfel et al., ICCV 2013), without DeepMatching."""

    title: ClassVar = "DeepFlow (variational part)"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        return cv2.optflow.createOptFlow_DeepFlow().calc(grey0, grey1, _still(grey0))


class PcaFlow(DenseFlow):
    """PCA-Flow: smooth basis flows fitted to tracked corners, after Wulff and Black (CVPR 2015).

    OpenCV uses a cosine basis, and is used here without the learned prior.
    """

    title: ClassVar = "PCA-Flow"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        return _if_tracked(cv2.optflow.createOptFlow_PCAFlow(), grey0, grey1)


class SparseToDense(DenseFlow):
    """Tracked points, interpolated along edges as in EpicFlow (Revaud et al., CVPR 2015)."""

    title: ClassVar = "sparse-to-dense flow"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        return _if_tracked(cv2.optflow.createOptFlow_SparseToDense(), grey0, grey1)


class SimpleFlow(DenseFlow):
    """SimpleFlow (Tao et al., CGF 2012): local likelihoods with edge-aware smoothing."""

    title: ClassVar = "SimpleFlow"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        layers, radius, max_flow = 3, 2, 4
        return cv2.optflow.calcOpticalFlowSF(_three(grey0), _three(grey1), layers, radius, max_flow)


class TvL1(DenseFlow):
    """TV-L1 (Zach, Pock and Bischof, DAGM 2007), from scikit-image."""

    title: ClassVar = "TV-L1 flow"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
        from skimage import registration  # slow to import

        down_HW, along_HW = registration.optical_flow_tvl1(grey0, grey1)  # type: ignore[no-untyped-call]
        return np.stack([along_HW, down_HW], axis=-1)


class Ilk(DenseFlow):
    """Iterative Lucas-Kanade (Le Besnerais and Champagnat, ICIP 2005), from scikit-image."""

    title: ClassVar = "iterative Lucas-Kanade"

    def flow(self, grey0: Pixels, grey1: Pixels) -> NDArray[Any]:
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
