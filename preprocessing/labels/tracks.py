"""Image pairs of a reconstruction that share tracks, and their matches."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import invert_rigid, transform_points
from ucn.geometry.sfm_model import Indices, SfmCamera, SfmImage, SfmModel, Size, image_points
from ucn.preprocessing.sample import Candidates


@dataclass(frozen=True)
class TrackPairs:
    """Pairs of images i < j of a model, ordered by i, then j.

    Attributes:
        first_K, second_K: indices i and j of the images.
        shared_K: number of shared 3D points.
        angles_K: median triangulation angle of the shared points, degrees; the lower median for an
            even number.
    """

    first_K: Indices
    second_K: Indices
    shared_K: NDArray[np.int64]
    angles_K: Floats

    def where(self, chosen_K: Bools | Indices) -> "TrackPairs":
        """Selects some of the pairs."""
        return TrackPairs(
            self.first_K[chosen_K],
            self.second_K[chosen_K],
            self.shared_K[chosen_K],
            self.angles_K[chosen_K],
        )


@dataclass(frozen=True)
class _Observations:
    """All observations, grouped by point, with ascending image indices.

    Attributes:
        image_N: image of each observation.
        later_N: number of later observations of the same point, all in images of higher index.
        rays_N3: unit vectors from the point to the camera, world frame.
    """

    image_N: Indices
    later_N: NDArray[np.intp]
    rays_N3: Floats


def find_track_pairs(model: SfmModel, max_error: float, min_shared: int) -> TrackPairs:
    """Image pairs that share at least ``min_shared`` 3D points.

    Time and memory grow with the number of observations, not with the square of the images.

    Args:
        model: the reconstruction.
        max_error: largest reprojection error of an observation, pixels.
        min_shared: at least 1.
    """
    observations = _observations(model, max_error)
    by_image_N = np.argsort(observations.image_N, kind="stable")
    starts = np.searchsorted(observations.image_N[by_image_N], np.arange(len(model.images) + 1))
    found = [
        _pairs_of(first, observations, by_image_N[starts[first] : starts[first + 1]], min_shared)
        for first in range(len(model.images))
    ]
    if not found:
        none = np.zeros(0, np.intp)
        return TrackPairs(none, none, np.zeros(0, np.int64), np.zeros(0))
    return TrackPairs(
        np.concatenate([one.first_K for one in found]),
        np.concatenate([one.second_K for one in found]),
        np.concatenate([one.shared_K for one in found]),
        np.concatenate([one.angles_K for one in found]),
    )


def sample_pairs(pairs: TrackPairs, count: int, seed: list[int]) -> TrackPairs:
    """A random sample of ``count`` pairs, in their order. 0, or too large a count, keeps all."""
    total = len(pairs.first_K)
    if not 0 < count < total:
        return pairs
    chosen = np.random.default_rng(seed).choice(total, count, replace=False)
    return pairs.where(np.sort(chosen))


def limit_per_image(pairs: TrackPairs, count: int, seed: list[int]) -> TrackPairs:
    """Randomly selects pairs such that no image is in more than ``count`` of them; 0 keeps all.

    Pairs are taken in random order as long as both images have fewer than ``count`` pairs, so the
    selection is maximal.
    """
    if count == 0:
        return pairs
    total = len(pairs.first_K)
    taken = Counter[int]()
    chosen_K = np.zeros(total, bool)
    for pair in np.random.default_rng(seed).permutation(total).tolist():
        i, j = int(pairs.first_K[pair]), int(pairs.second_K[pair])
        if taken[i] < count and taken[j] < count:
            chosen_K[pair] = True
            taken[i] += 1
            taken[j] += 1
    return pairs.where(chosen_K)


def match_tracks(
    model: SfmModel,
    images: tuple[SfmImage, SfmImage],
    cameras: tuple[SfmCamera, SfmCamera],
    sizes: tuple[Size, Size],
    max_error: float,
    undistorted: bool,
) -> Candidates:
    """Matches of the points that both images observe, at their projected positions.

    Projections, unlike detections, fit the cameras and poses exactly. Detections are used only to
    bound the reprojection error.

    Args:
        model: the reconstruction.
        images: the two images.
        cameras: their cameras, fitted to the sizes.
        sizes: (width, height) of the two images.
        max_error: largest reprojection error in either image, pixels.
        undistorted: whether to match the undistorted images instead of the photographs.

    Returns:
        Matches with attributes ``depth0``, ``depth1`` (unit of the model), ``track`` (int64),
        ``error0`` and ``error1`` (pixels).
    """
    shared_N, where0_N, where1_N = np.intersect1d(
        images[0].points_M, images[1].points_M, assume_unique=True, return_indices=True
    )
    errors_N2 = np.stack([images[0].errors_M[where0_N], images[1].errors_M[where1_N]], axis=1)
    good_N = (errors_N2 <= max_error).all(axis=1)
    index_N = shared_N[good_N]
    views = [transform_points(image.T_cam_world, model.points_P3[index_N]) for image in images]
    (pixels0_N2, shown0_N), (pixels1_N2, shown1_N) = (
        image_points(camera, points_N3, size, undistorted)
        for camera, points_N3, size in zip(cameras, views, sizes, strict=True)
    )
    shown_N = shown0_N & shown1_N
    attributes = {
        "depth0": views[0][:, 2],
        "depth1": views[1][:, 2],
        "track": model.tracks_P[index_N],
        "error0": errors_N2[good_N, 0],
        "error1": errors_N2[good_N, 1],
    }
    return Candidates(
        np.hstack([pixels0_N2, pixels1_N2])[shown_N],
        {name: values[shown_N] for name, values in attributes.items()},
        {
            "reprojection error": int((~good_N).sum()),
            "outside an image": int((~shown_N).sum()),
        },
    )


def _observations(model: SfmModel, max_error: float) -> _Observations:
    """Observations of all images with a small reprojection error, grouped by point."""
    seen = [image.good_points(max_error) for image in model.images]
    rays = [
        invert_rigid(image.T_cam_world)[:3, 3] - model.points_P3[points]
        for image, points in zip(model.images, seen, strict=True)
    ]
    points_N = np.concatenate([np.zeros(0, np.intp), *seen])
    rays_N3 = np.concatenate([np.zeros((0, 3)), *rays])
    order_N = np.argsort(points_N, kind="stable")
    points_N = points_N[order_N]
    ends_N = np.searchsorted(points_N, points_N, side="right")
    rays_N3 = rays_N3[order_N]
    return _Observations(
        np.repeat(np.arange(len(seen)), [len(points) for points in seen])[order_N],
        ends_N - np.arange(len(points_N)) - 1,
        rays_N3 / np.linalg.norm(rays_N3, axis=1, keepdims=True),
    )


def _pairs_of(first: int, observations: _Observations, own: Indices, min_shared: int) -> TrackPairs:
    """Pairs of one image with later images; ``own`` are its observations."""
    later = observations.later_N[own]
    own_S = np.repeat(own, later)
    # The observations that follow each own observation in its track: 1, 2, ... places after it.
    starts_S = np.repeat(np.cumsum(later) - later, later)
    other_S = own_S + np.arange(len(own_S)) - starts_S + 1
    partner_S = observations.image_N[other_S]
    count_J = np.bincount(partner_S, minlength=first + 1)
    enough_S = count_J[partner_S] >= min_shared
    own_S, other_S, partner_S = own_S[enough_S], other_S[enough_S], partner_S[enough_S]
    second_K = np.flatnonzero(count_J >= min_shared)
    # A chord is accurate at small angles, unlike the cosine.
    chord_S = np.linalg.norm(observations.rays_N3[own_S] - observations.rays_N3[other_S], axis=1)
    # Packs the partner (integer part) and half the chord (fraction) into one number for sorting.
    sorted_S = np.sort(partner_S + np.minimum(chord_S / 2, 1) / 2)
    shared_K = count_J[second_K]
    middle_K = np.cumsum(shared_K) - shared_K + (shared_K - 1) // 2
    half_chord_K = (sorted_S[middle_K] - second_K) * 2
    return TrackPairs(
        np.full(len(second_K), first, np.intp),
        second_K,
        shared_K,
        np.degrees(2 * np.arcsin(np.clip(half_chord_K, 0, 1))),
    )
