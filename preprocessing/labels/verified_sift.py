"""SIFT matches verified by the known geometry of two views.

An epipolar line does not reject wrong matches along it. So each match must also have the scale and
rotation that its depth predicts, and its neighbours must predict its position.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ucn.arrays import Bools, Floats
from ucn.geometry.epipolar import (
    back_project,
    correct_matches,
    epipolar_distances,
    fundamental_matrix,
    plane_induced_affinities,
    triangulate_depths,
)
from ucn.geometry.rigid import inside_image
from ucn.preprocessing.labels.sift_features import ProposedMatches, SiftFeatures

# Tolerances for scale and rotation. The prediction assumes a surface that faces both cameras; for
# correct matches on other surfaces it is off by up to 0.65 octaves and 17 degrees.
_OCTAVES = 0.8
_DEGREES = 40.0
# Features within this distance are the same point, with another orientation or scale, pixels.
_SAME_POINT = 0.5
# Largest epipolar distance after rounding to single precision, exceeded near an epipole, pixels.
_ON_LINE = 0.01
# At least _AGREEING of a match's _NEIGHBOURS nearest matches must predict its position in image 1,
# to 2 px plus a quarter of their distance.
_NEIGHBOURS = 8
_AGREEING = 2
_AGREE_PIXELS = 2.0
_AGREE_SHARE = 0.25
_ROUNDS = 2


@dataclass(frozen=True)
class CalibratedFeatures:
    """Features and intrinsics of one image.

    Attributes:
        features: features of the image.
        K: 3x3 intrinsics, pixels.
        size: (width, height).
    """

    features: SiftFeatures
    K: Floats
    size: tuple[int, int]


@dataclass(frozen=True)
class VerifiedMatches:
    """Matches that passed all checks, moved onto their epipolar lines by the least shift.

    Attributes:
        matches_N4: x0, y0, x1, y1.
        depths_N2: depths in the two cameras, in the unit of the pose.
        error_N: larger epipolar distance of the two detected points, pixels.
        shift_N: shift of the match, root of the sum of squares, pixels.
        ratio_N: ratio of descriptor distances, see :class:`ProposedMatches`.
        rejected: number of rejected mutual nearest neighbours, by reason.
    """

    matches_N4: Floats
    depths_N2: Floats
    error_N: Floats
    shift_N: Floats
    ratio_N: NDArray[np.float32]
    rejected: dict[str, int]


def verify_matches(
    view0: CalibratedFeatures,
    view1: CalibratedFeatures,
    T_1_0: Floats,
    proposed: ProposedMatches,
    max_ratio: float,
    max_error: float,
) -> VerifiedMatches:
    """Keeps the proposed matches that agree with the geometry.

    Args:
        view0, view1: the two views.
        T_1_0: relative pose.
        proposed: putative matches of the features.
        max_ratio: largest :attr:`ProposedMatches.ratio_N`.
        max_error: largest epipolar distance of either point, pixels.

    Raises:
        ValueError: both cameras have the same centre.
    """
    F = fundamental_matrix(view0.K, view1.K, T_1_0)
    points0_N2 = view0.features.points_N2[proposed.index0_N]
    points1_N2 = view1.features.points_N2[proposed.index1_N]
    detected_N4 = np.hstack([points0_N2, points1_N2])
    error_N = np.abs(epipolar_distances(F, detected_N4)).max(axis=1)
    counted = _Sieve(len(detected_N4))
    counted.keep("ambiguous descriptor", proposed.ratio_N <= max_ratio)
    counted.keep("off the epipolar line", error_N <= max_error)

    matches_N4 = correct_matches(F, detected_N4)
    # Matches are stored in single precision.
    stored_N4 = matches_N4.astype(np.float32).astype(np.float64)
    on_line_N = np.abs(epipolar_distances(F, stored_N4)).max(axis=1) < _ON_LINE
    counted.keep("next to an epipole", on_line_N)
    counted.keep(
        "outside an image",
        inside_image(stored_N4[:, :2], view0.size) & inside_image(stored_N4[:, 2:], view1.size),
    )
    depths_N2 = triangulate_depths(view0.K, view1.K, T_1_0, matches_N4)
    in_front_N2 = (depths_N2 > 0) & np.isfinite(depths_N2)
    counted.keep("behind a camera", in_front_N2[:, 0] & in_front_N2[:, 1])

    points_N3 = back_project(view0.K, matches_N4[:, :2]) * depths_N2[:, :1]
    affinities_N22 = plane_induced_affinities(view0.K, view1.K, T_1_0, points_N3)
    counted.keep(
        "other scale or rotation",
        _like_frames(view0.features, view1.features, proposed, affinities_N22),
    )
    kept = counted.kept
    counted.keep_of_kept(
        "point matched twice", _single_points(detected_N4[kept], proposed.ratio_N[kept])
    )
    kept = counted.kept
    counted.keep_of_kept(
        "neighbours disagree", _neighbours_agree(matches_N4[kept], affinities_N22[kept])
    )
    kept = counted.kept
    return VerifiedMatches(
        matches_N4=matches_N4[kept],
        depths_N2=depths_N2[kept],
        error_N=error_N[kept],
        shift_N=np.linalg.norm(matches_N4[kept] - detected_N4[kept], axis=1),
        ratio_N=proposed.ratio_N[kept],
        rejected=counted.rejected,
    )


class _Sieve:
    """Indices of the matches that passed all checks so far, and the rejections by reason."""

    def __init__(self, count: int) -> None:
        self.kept = np.arange(count)
        self.rejected: dict[str, int] = {}

    def keep(self, reason: str, good_N: Bools) -> None:
        """Applies a check; the mask covers all N matches."""
        self.keep_of_kept(reason, good_N[self.kept])

    def keep_of_kept(self, reason: str, good: Bools) -> None:
        """Applies a check; the mask covers the matches kept so far."""
        self.rejected[reason] = int((~good).sum())
        self.kept = self.kept[good]


def _like_frames(
    features0: SiftFeatures,
    features1: SiftFeatures,
    proposed: ProposedMatches,
    affinities_N22: Floats,
) -> Bools:
    """Whether scale and orientation change between the images as the geometry predicts."""
    index0, index1 = proposed.index0_N, proposed.index1_N
    (a, b), (c, d) = affinities_N22.transpose(1, 2, 0)
    octaves = np.log2(features1.scales_N[index1] / features0.scales_N[index0])
    degrees = features1.angles_N[index1] - features0.angles_N[index0]
    with np.errstate(divide="ignore", invalid="ignore"):
        octaves -= np.log2(np.abs(a * d - b * c)) / 2
        degrees -= np.degrees(np.arctan2(c - b, a + d))
    turn_N = (degrees + 180) % 360 - 180
    return np.asarray((np.abs(octaves) <= _OCTAVES) & (np.abs(turn_N) <= _DEGREES))


def _single_points(detected_N4: Floats, ratio_N: NDArray[np.float32]) -> Bools:
    """Whether each match has the best descriptor ratio of all matches at its points."""
    rank_N = np.argsort(np.argsort(ratio_N, kind="stable"), kind="stable")
    single_N = np.ones(len(ratio_N), bool)
    for ends_N2 in (detected_N4[:, :2], detected_N4[:, 2:]):
        if len(ends_N2):
            pairs_P2 = cKDTree(ends_N2).query_pairs(_SAME_POINT, output_type="ndarray")
            worse = np.where(
                rank_N[pairs_P2[:, 0]] > rank_N[pairs_P2[:, 1]], pairs_P2[:, 0], pairs_P2[:, 1]
            )
            single_N[worse] = False
    return single_N


def _neighbours_agree(matches_N4: Floats, affinities_N22: Floats) -> Bools:
    """Whether enough neighbouring matches, consistent with each other, predict each match."""
    agree_N = np.ones(len(matches_N4), bool)
    for _ in range(_ROUNDS):
        among = np.flatnonzero(agree_N)
        if len(among) <= _NEIGHBOURS:
            return np.zeros(len(matches_N4), bool)
        _, nearest_NK = cKDTree(matches_N4[among, :2]).query(matches_N4[:, :2], _NEIGHBOURS + 1)
        neighbour_NK = among[nearest_NK]
        offset_NK4 = matches_N4[:, None] - matches_N4[neighbour_NK]
        predicted_NK2 = np.einsum(
            "nkij,nkj->nki", affinities_N22[neighbour_NK], offset_NK4[..., :2]
        )
        miss_NK = np.linalg.norm(predicted_NK2 - offset_NK4[..., 2:], axis=2)
        bound_NK = _AGREE_PIXELS + _AGREE_SHARE * np.linalg.norm(predicted_NK2, axis=2)
        other_NK = neighbour_NK != np.arange(len(matches_N4))[:, None]
        agree_N = (other_NK & (miss_NK < bound_NK)).sum(axis=1) >= _AGREEING
    return agree_N
