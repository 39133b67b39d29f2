"""Matches all queries of one image pair by one method. Each image is described once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.export.config import MatchOptions
from ucn.evaluation.export.match import starting_points
from ucn.evaluation.matches import MUTUAL, OWN, POINT, Matches
from ucn.evaluation.methods.build import Method
from ucn.evaluation.methods.external import external_method
from ucn.evaluation.scores.planar import mutual_matches
from ucn.evaluation.truth import NEAR_PX, PairTruth, SparseTask, nearest_points
from ucn.matching.descriptors import Floats, Match
from ucn.matching.filters import forward_backward_error, shift_positions
from ucn.matching.keypoints import detect
from ucn.matching.matcher import backward_errors, find, second_similarities
from ucn.matching.scales import Extract, nearest_at_any_scale
from ucn.preprocessing.sample import Sample


@dataclass(frozen=True)
class Queries:
    """What every method is asked on a pair.

    Attributes:
        dense: float32 points [N, 2] of image 0 by kind, matched to all of image 1; `POINT` first.
        sparse: tasks of the sparse protocol by detector; they concern the queries `POINT`.
        mutual: keypoints of image 0 and of image 1; None without a known homography.
        back: whether the forward-backward error is computed.
        seed: seed of the shifts that test the stability.
    """

    dense: Mapping[str, Floats]
    sparse: Mapping[str, SparseTask]
    mutual: tuple[Floats, Floats] | None
    back: bool
    seed: tuple[int, int]


def pair_queries(sample: Sample, truth: PairTruth, index: int, config: EvaluateConfig) -> Queries:
    """Collects the queries of pair ``index``: its points, and those of detectors."""
    dense = {POINT: truth.truth_N4[:, :2].copy()}
    asks_pose = truth.geometry is not None and bool(config.matching.pose_queries)
    for name in config.matching.pose_queries if asks_pose else ():
        if name != "stored":
            options = MatchOptions(keypoints_from=name, keypoints=config.keypoints)
            dense[name] = starting_points(sample.image0, options)
    mutual = None
    if sample.metadata.get("H_1_0") is not None:
        points0_K2, points1_K2 = (
            detect(image, "sift", config.keypoints) for image in (sample.image0, sample.image1)
        )
        mutual = points0_K2, points1_K2
    return Queries(dense, truth.sparse, mutual, asks_pose or config.filters, (config.seed, index))


def match_pair(
    sample: Sample, method: Method, queries: Queries, config: EvaluateConfig
) -> dict[str, Matches]:
    """Matches all queries of a pair by one method: matches by kind of the queries."""
    if method.external is not None:
        method = external_method(method.name, method.external, sample)
        queries = replace(queries, back=False)
    if method.match_pair is not None:
        own_K4 = method.match_pair(sample)
        answers_N4 = _nearest_answers(own_K4, queries.dense[POINT])
        return {POINT: Matches.bare(answers_N4), OWN: Matches.bare(own_K4)}
    if method.extract is not None:
        return _match_densely(sample, method.extract, queries, config)
    if method.match is not None:
        return _match_directly(sample, method.match, queries)
    raise ValueError(f"{method.name} neither describes nor matches")


def _match_densely(
    sample: Sample, extract: Extract, queries: Queries, config: EvaluateConfig
) -> dict[str, Matches]:
    """All matching by descriptors. Each image is described once for all queries."""
    matching = config.matching
    features0, features1 = extract(sample.image0), extract(sample.image1)
    search = {"step_px": matching.grid_step, "memory_mib": matching.memory_mib}
    dense_N2 = np.concatenate(list(queries.dense.values()))
    positions_N2, similarity_N = find(
        features0, dense_N2, features1, subpixel=matching.subpixel, **search
    )
    matches = replace(
        Matches.bare(np.concatenate([dense_N2, positions_N2], axis=1)), similarity_N=similarity_N
    )
    if queries.back:
        back_px_N = backward_errors(dense_N2, features0, positions_N2, features1, **search)
        matches = replace(matches, back_px_N=back_px_N)
    if config.filters:
        radius_px = matching.second_radius_px
        second_N = second_similarities(
            features0, dense_N2, features1, positions_N2, radius_px, **search
        )
        rng = np.random.default_rng(queries.seed)
        shifted_N2 = shift_positions(positions_N2, features1.size, rng)
        stability_px_N = backward_errors(dense_N2, features0, shifted_N2, features1, **search)
        matches = replace(matches, second_N=second_N, stability_px_N=stability_px_N)
    by_kind = _split(matches, queries)
    for name, task in queries.sparse.items():
        asked_N2 = queries.dense[POINT][task.asked_N]
        answers_N2 = np.full_like(asked_N2, np.nan)
        if len(task.points1_K2):
            asked_ND = features0.read_sharp(asked_N2)
            keypoints_KD = features1.read(task.points1_K2)
            index_N, *_ = nearest_at_any_scale(
                asked_ND, keypoints_KD, features1.levels, matching.memory_mib
            )
            answers_N2 = task.points1_K2[index_N.cpu().numpy()]
        by_kind[f"sparse/{name}"] = Matches.bare(np.hstack([asked_N2, answers_N2]))
    if queries.mutual is not None:
        points0_K2, points1_K2 = queries.mutual
        by_kind[MUTUAL] = Matches.bare(
            mutual_matches(
                points0_K2, points1_K2, features0.at(points0_K2), features1.at(points1_K2)
            )
        )
    return by_kind


def _match_directly(sample: Sample, match: Match, queries: Queries) -> dict[str, Matches]:
    dense_N2 = np.concatenate(list(queries.dense.values()))
    positions_N2 = match(sample.image0, sample.image1, dense_N2)
    matches = Matches.bare(np.concatenate([dense_N2, positions_N2], axis=1))
    if queries.back:
        found_N = np.isfinite(positions_N2).all(axis=1)
        back_px_N = np.full(len(dense_N2), np.inf, np.float32)
        if found_N.any():
            back_N2 = match(sample.image1, sample.image0, positions_N2[found_N])
            back_px_N[found_N] = forward_backward_error(dense_N2[found_N], back_N2)
        matches = replace(
            matches, back_px_N=np.where(np.isnan(back_px_N), np.float32(np.inf), back_px_N)
        )
    return _split(matches, queries)


def _nearest_answers(own_K4: Floats, points_N2: Floats) -> Floats:
    """Answers of points: the match of the nearest x0, y0 within `NEAR_PX`, else NaN."""
    distance_N, index_N = nearest_points(own_K4[:, :2], points_N2)
    is_near_N = distance_N <= NEAR_PX
    answers_N4 = np.concatenate([points_N2, np.full_like(points_N2, np.nan)], axis=1)
    answers_N4[is_near_N, 2:] = own_K4[index_N[is_near_N], 2:]
    return answers_N4


def _split(matches: Matches, queries: Queries) -> dict[str, Matches]:
    """Matches of the concatenated dense queries, by kind."""
    by_kind, start = {}, 0
    for kind, points_N2 in queries.dense.items():
        rows = slice(start, start + len(points_N2))
        by_kind[kind] = Matches(*(column[rows] for column in vars(matches).values()))
        start = rows.stop
    return by_kind
