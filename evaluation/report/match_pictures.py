"""Pictures of one pair's matches by each method; correct ones are green, wrong ones red."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.report.summary import PairResult
from ucn.evaluation.scores.pck import (
    TABLE_ALPHA,
    Criterion,
    image_length,
    match_errors,
    pck,
    relative_errors,
    usual_length,
)
from ucn.matching.descriptors import Floats
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
        percent: percentage of all points with a correct match.
        criterion: condition of a correct match.
        jpeg: the picture.
    """

    key: str
    method: str
    percent: float
    criterion: Criterion
    jpeg: bytes


def draw_method(
    sample: Sample, method: str, matches_N4: Floats, truth_N4: Floats, config: EvaluateConfig
) -> MatchPicture:
    """Draws a sample of the matches: correct ones green, wrong ones red.

    Matches of labelled keypoints are correct within `TABLE_ALPHA` of the length that the papers on
    the dataset use, and their true positions are drawn. Others are correct within the largest
    threshold in pixels. Points without a match are not drawn, but count in the percentage.

    Args:
        sample: the pair.
        method: name of the method.
        matches_N4: x0, y0, x1, y1 as found, pixels; NaN without a match.
        truth_N4: true correspondences of the same points.
        config: configuration of the evaluation.
    """
    errors_N: NDArray[np.floating] = match_errors(matches_N4[:, 2:], truth_N4[:, 2:])
    found_N = np.isfinite(errors_N)
    criterion = Criterion(max(config.thresholds))
    labelled = sample.metadata.get("kind") == "semantic"
    if labelled:
        criterion = Criterion(TABLE_ALPHA, usual_length(sample.metadata.get("source", "")))
        height, width = sample.image1.shape[:2]
        errors_N = relative_errors(errors_N, image_length(criterion.length, (width, height)))
    picture = draw_by_error(
        sample.image0,
        sample.image1,
        matches_N4[found_N],
        errors_N[found_N],
        [criterion.threshold],
        truth_N2=truth_N4[found_N, 2:] if labelled else None,
        max_matches=MATCHES_DRAWN,
        max_side=MAX_SIDE,
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    percent = float(pck(errors_N, [criterion.threshold])[0])
    return MatchPicture(sample.key, method, percent, criterion, jpeg)


def choose_pairs(results: Sequence[PairResult], count: int, threshold: float) -> list[PairResult]:
    """Chooses pairs from best to worst, evenly spaced in rank, by PCK of the first method.

    Args:
        results: results of all pairs of the set.
        count: number of pairs to choose.
        threshold: threshold of the PCK, pixels; labelled keypoints have `TABLE_ALPHA` of max(w, h).
    """
    method = next(iter(results[0].methods))

    def percent(result: PairResult) -> float:
        labelled = bool(result.facts.lengths)
        errors_N = result.errors(method, "side" if labelled else "")
        return float(pck(errors_N, [TABLE_ALPHA if labelled else threshold])[0])

    scored = [result for result in results if len(result.methods[method].errors_N)]
    ranked = sorted(scored, key=lambda result: (-percent(result), result.index))
    if count >= len(ranked):
        return ranked
    if count == 1:
        return [ranked[len(ranked) // 2]]
    ranks = np.linspace(0, len(ranked) - 1, count).round().astype(int)
    return [ranked[rank] for rank in ranks]
