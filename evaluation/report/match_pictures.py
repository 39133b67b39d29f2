"""Pictures of one pair's matches by each method; correct ones are green, wrong ones red."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ucn.evaluation.pair import MethodOnPair
from ucn.evaluation.report.summary import PairResult
from ucn.evaluation.scores.pck import pck
from ucn.preprocessing.sample import Sample
from ucn.training.tracking.pictures import draw_by_error

MATCHES_DRAWN = 120
MAX_SIDE = 1280
JPEG_QUALITY = 88


@dataclass(frozen=True)
class MatchPicture:
    """Picture of the matches of one method on one pair.

    Attributes:
        key: key of the pair.
        method: name of the method.
        percent: percentage of all points with a match within the threshold.
        jpeg: the picture.
    """

    key: str
    method: str
    percent: float
    jpeg: bytes


def draw_method(sample: Sample, method: str, found: MethodOnPair, threshold: float) -> MatchPicture:
    """Draws a sample of the matches; those within ``threshold`` px of the truth are green.

    Points without a match are not drawn, but count in the percentage.
    """
    matched_N = np.isfinite(found.errors_N)
    picture = draw_by_error(
        sample.image0,
        sample.image1,
        found.matches_N4[matched_N],
        found.errors_N[matched_N],
        [threshold],
        max_matches=MATCHES_DRAWN,
        max_side=MAX_SIDE,
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    percent = float(pck(found.errors_N, [threshold])[0])
    return MatchPicture(sample.key, method, percent, jpeg)


def choose_pairs(results: Sequence[PairResult], count: int, threshold: float) -> list[PairResult]:
    """Chooses pairs from best to worst, evenly spaced in rank, by PCK of the first method."""
    method = next(iter(results[0].methods))
    scored = [result for result in results if len(result.methods[method].errors_N)]
    ranked = sorted(
        scored,
        key=lambda result: (
            -float(pck(result.methods[method].errors_N, [threshold])[0]),
            result.index,
        ),
    )
    if count >= len(ranked):
        return ranked
    if count == 1:
        return [ranked[len(ranked) // 2]]
    ranks = np.linspace(0, len(ranked) - 1, count).round().astype(int)
    return [ranked[rank] for rank in ranks]
