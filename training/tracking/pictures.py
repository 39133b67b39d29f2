"""Pictures of how a network matches a pair: each match in the colour of its error."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.geometry.subsample import spread_sample
from ucn.images.draw import BACKGROUND, FONT, INK, Picture, draw_matches, to_rgb

GOOD, FAIR, BAD = (46, 204, 113), (245, 176, 30), (231, 60, 60)
THRESHOLDS = (3.0, 10.0)
"""Pixels up to which a match is drawn as good, and as fair."""
LEGEND_HEIGHT = 26
LEGEND_WIDTH = 400
TEXT_SCALE = 0.45


def draw_by_error(
    image0: NDArray[Any],
    image1: NDArray[Any],
    matches_N4: NDArray[Any],
    error_N: NDArray[Any],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    truth_N2: NDArray[Any] | None = None,
    max_matches: int = 60,
    max_side: int = 1280,
) -> Picture:
    """Draw matches as found, spread evenly over image 0, in the colours of their errors.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3] RGB, of any two sizes.
        matches_N4: x0, y0, x1, y1 in pixels.
        error_N: distance of x1, y1 from the truth, in the unit of the thresholds.
        truth_N2: true positions in image 1, drawn as rings that are joined to x1, y1.
        thresholds: one: `GOOD` up to it (inclusive), and `BAD` beyond; two: with `FAIR` between.
        max_matches: at most so many are drawn.
        max_side: longest side of the picture, pixels.
    """
    chosen = spread_sample(matches_N4[:, :2], max_matches, [0])
    # Right matches are drawn over wrong ones: they are the ones that can be followed by eye.
    chosen = chosen[np.argsort(-_grade(error_N[chosen], thresholds), kind="stable")]
    colours_G3 = np.array([GOOD, *[FAIR] * (len(thresholds) - 1), BAD], np.uint8)
    colours_N3 = colours_G3[_grade(error_N[chosen], thresholds)]
    if truth_N2 is not None:
        image1 = _mark_truth(image1, matches_N4[chosen, 2:], truth_N2[chosen], colours_N3)
    return draw_matches(
        image0,
        image1,
        matches_N4[chosen],
        colours_N3,
        max_matches=max_matches,
        max_side=max_side,
    )


def match_picture(
    image0: NDArray[Any],
    image1: NDArray[Any],
    points0_N2: NDArray[Any],
    found_N2: NDArray[Any],
    truth_N2: NDArray[Any],
    caption: str = "",
) -> Picture:
    """Draw the matches of a validation pair, with their scores in a line above.

    Landscape images stand one above the other, others side by side.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3] RGB, of any two sizes.
        points0_N2: pixels (x, y) of image 0.
        found_N2, truth_N2: where they were found in image 1, and where they are.
        caption: written before the scores, as far as there is room.

    Returns:
        uint8 [H, W, 3] RGB, at least `LEGEND_WIDTH` wide.
    """
    error_N = np.linalg.norm(np.asarray(found_N2) - np.asarray(truth_N2), axis=1)
    matches_N4 = np.concatenate([points0_N2, found_N2], axis=1)
    picture = draw_by_error(image0, image1, matches_N4, error_N)
    height, width = picture.shape[:2]
    canvas: Picture = np.full(
        (LEGEND_HEIGHT + height, max(LEGEND_WIDTH, width), 3), BACKGROUND, np.uint8
    )
    canvas[LEGEND_HEIGHT:, :width] = picture
    _write_legend(canvas, error_N, caption)
    return canvas


def _mark_truth(
    image1: NDArray[Any], found_N2: NDArray[Any], truth_N2: NDArray[Any], colours_N3: NDArray[Any]
) -> Picture:
    """Draws a ring at each true position, joined to the position found."""
    marked = to_rgb(image1)
    radius = max(6, max(marked.shape) // 70)
    rows = np.rint(np.hstack([found_N2, truth_N2])).astype(int).tolist()
    for (x, y, true_x, true_y), colour in zip(rows, colours_N3.tolist(), strict=True):
        cv2.line(marked, (x, y), (true_x, true_y), colour, radius // 4, cv2.LINE_AA)
        cv2.circle(marked, (true_x, true_y), radius, INK, radius // 2, cv2.LINE_AA)
        cv2.circle(marked, (true_x, true_y), radius, colour, radius // 4, cv2.LINE_AA)
    return marked


def _grade(error_N: NDArray[Any], thresholds: Sequence[float]) -> NDArray[np.intp]:
    """How many of the thresholds are exceeded."""
    return np.searchsorted(np.asarray(thresholds), error_N, side="left")


def _write_legend(canvas: Picture, error_N: NDArray[Any], caption: str) -> None:
    """Write into the top band: the scores from the right, the caption in what is left."""
    low, high = THRESHOLDS
    percent = [
        100 * float(np.mean(wanted)) if len(error_N) else 0.0
        for wanted in (error_N <= low, error_N <= high, error_N > high)
    ]
    names = f"PCK@{low:g}", f"PCK@{high:g}", f"> {high:g} px"
    x = canvas.shape[1] - 4
    for name, share, colour in list(zip(names, percent, (GOOD, FAIR, BAD), strict=True))[::-1]:
        text = f"{name} {share:.1f} %"
        x -= _text_width(text)
        _write(canvas, text, x)
        cv2.circle(canvas, (x - 12, LEGEND_HEIGHT // 2), 5, colour, -1, cv2.LINE_AA)
        x -= 30
    while caption and _text_width(caption) > x - 4:
        caption = caption[:-1]
    _write(canvas, caption, 4)


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, FONT, TEXT_SCALE, 1)[0][0])


def _write(canvas: Picture, text: str, x: int) -> None:
    cv2.putText(canvas, text, (x, 17), FONT, TEXT_SCALE, INK, 1, cv2.LINE_AA)
