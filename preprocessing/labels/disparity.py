"""Correspondences from the disparity of a rectified stereo pair."""

import numpy as np

from ucn.arrays import Array, Bools
from ucn.preprocessing.labels.flow import FlowMatches, match_flow

# A pixel is hidden if another pixel lands beside the same target and has a disparity that is
# larger by this much, pixels.
_HIDDEN_BY = 1.0


def match_disparity(
    disparity_HW: Array,
    size1: tuple[int, int],
    *,
    second_HW: Array | None = None,
    visible_HW: Bools | None = None,
) -> FlowMatches:
    """Matches the pixels of the left image that are visible in the right image.

    Pixel (x, y) of the left image corresponds to (x - d, y) in the right image. Occluded pixels are
    rejected by the mask and by the forward-backward check of :func:`match_flow`, whichever are
    given. Without both, :func:`hidden_pixels` are rejected.

    Args:
        disparity_HW: disparity of the left image, NaN where unknown.
        size1: (width, height) of the right image.
        second_HW: disparity of the right image, which corresponds to (x + d, y).
        visible_HW: pixels of the left image that are visible in the right image.
    """
    if second_HW is None and visible_HW is None:
        visible_HW = ~hidden_pixels(disparity_HW, size1[0])
    found = match_flow(
        _flow(-disparity_HW),
        size1,
        backward_HW2=None if second_HW is None else _flow(second_HW),
        occluded_HW=None if visible_HW is None else ~visible_HW,
    )
    rejected = {name.replace("flow", "disparity"): n for name, n in found.rejected.items()}
    return FlowMatches(found.matches_N4, rejected)


def hidden_pixels(disparity_HW: Array, width1: int) -> Bools:
    """Mask [H, W] of the pixels that a larger disparity hides in the right image.

    A z-buffer of the right image holds the largest disparity that lands on, or next to, each pixel.
    Surfaces whose disparity is unknown hide nothing.

    Args:
        disparity_HW: disparity of the left image, NaN where unknown.
        width1: width of the right image.
    """
    targets_HW = np.arange(disparity_HW.shape[1]) - disparity_HW
    inside_HW = (targets_HW >= -0.5) & (targets_HW <= width1 - 0.5)
    targets_N, disparity_N = targets_HW[inside_HW], disparity_HW[inside_HW].astype(np.float64)
    first_N = np.nonzero(inside_HW)[0] * width1
    cells = [
        first_N + np.clip(edge(targets_N).astype(np.intp), 0, width1 - 1)
        for edge in (np.floor, np.ceil)
    ]
    nearest_P = np.full(len(disparity_HW) * width1, -np.inf)
    for cell_N in cells:
        np.maximum.at(nearest_P, cell_N, disparity_N)
    hidden_HW = np.zeros(disparity_HW.shape, bool)
    nearest_N = np.maximum(*(nearest_P[cell_N] for cell_N in cells))
    hidden_HW[inside_HW] = nearest_N > disparity_N + _HIDDEN_BY
    return hidden_HW


def _flow(shift_HW: Array) -> Array:
    return np.stack([shift_HW, np.zeros_like(shift_HW)], axis=2)
