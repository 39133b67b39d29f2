"""Image pairs of a reconstruction that share tracks, and their matches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ucn.arrays import Bools, Floats
from ucn.geometry.rigid import invert_rigid, transform_points
from ucn.geometry.sfm_model import Indices, SfmCamera, SfmImage, SfmModel, Size, image_points
from ucn.preprocessing.sample import Candidates

# Two observations of one point by two images are a co-observation. A million take 150 MB.
_BLOCK = 1 << 20
# Half a chord of 1. Together with the number of a pair, it fits into 63 bits.
_HALF_CHORD = (1 << 38) - 1


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
        by_image_N: indices of the observations, ordered by image.
        ends_I: end of each image's range in ``by_image_N``, after a leading 0.
    """

    image_N: Indices
    later_N: Indices
    rays_N3: Floats
    by_image_N: Indices
    ends_I: Indices


def find_track_pairs(model: SfmModel, max_error: float, min_shared: int) -> TrackPairs:
    """Image pairs that share at least ``min_shared`` 3D points.

    Time and memory grow with the number of observations, not with the square of the images.

    Args:
        model: the reconstruction.
        max_error: largest reprojection error of an observation, pixels.
        min_shared: at least 1.
    """
    observations = _observations(model, max_error)
    none = np.zeros(0, np.intp)
    found = [TrackPairs(none, none, np.zeros(0, np.int64), np.zeros(0))]
    found += [
        _pairs_of(first, last, observations, min_shared) for first, last in _blocks(observations)
    ]
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
    images = max(pairs.first_K.max(initial=-1), pairs.second_K.max(initial=-1)) + 1
    room_I = np.full(images, count)
    chosen_K = np.zeros(total, bool)
    open_U = np.random.default_rng(seed).permutation(total)
    while len(open_U):
        ends_U2 = np.stack([pairs.first_K[open_U], pairs.second_K[open_U]], axis=1)
        # A pair is taken if both images have room even if all their earlier pairs are taken.
        fits_U = (_ranks(ends_U2.ravel()).reshape(-1, 2) < room_I[ends_U2]).all(axis=1)
        chosen_K[open_U[fits_U]] = True
        room_I -= np.bincount(ends_U2[fits_U].ravel(), minlength=images)
        open_U = open_U[~fits_U & (room_I[ends_U2] > 0).all(axis=1)]
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


def _ranks(values_N: Indices) -> Indices:
    """Number of earlier equal values of each value."""
    order_N = np.argsort(values_N, kind="stable")
    sorted_N = values_N[order_N]
    ranks_N = np.empty(len(values_N), np.intp)
    ranks_N[order_N] = np.arange(len(values_N)) - np.searchsorted(sorted_N, sorted_N)
    return ranks_N


def _observations(model: SfmModel, max_error: float) -> _Observations:
    """Observations of all images with a small reprojection error, grouped by point."""
    seen = [image.good_points(max_error) for image in model.images]
    points_N = np.concatenate([np.zeros(0, np.intp), *seen])
    ends_I = np.cumsum([0, *(len(points) for points in seen)])
    # The transposition of a sparse matrix is a stable counting sort.
    by_image = csr_array(
        (np.arange(len(points_N)), points_N, ends_I), shape=(len(seen), len(model.points_P3))
    )
    by_point = by_image.tocsc()
    order_N, image_N = by_point.data, by_point.indices.astype(np.intp)
    lengths_P = np.diff(by_point.indptr)
    later_N = np.repeat(by_point.indptr[1:], lengths_P) - np.arange(len(points_N)) - 1
    centres_I3 = np.array([invert_rigid(image.T_cam_world)[:3, 3] for image in model.images])
    rays_N3 = centres_I3.reshape(-1, 3)[image_N]
    rays_N3 -= np.repeat(model.points_P3, lengths_P, axis=0)
    rays_N3 /= np.linalg.norm(rays_N3, axis=1, keepdims=True)
    by_image_N = np.empty(len(points_N), np.intp)
    by_image_N[order_N] = np.arange(len(points_N))
    return _Observations(image_N, later_N, rays_N3, by_image_N, ends_I)


def _blocks(observations: _Observations) -> Iterator[tuple[int, int]]:
    """Ranges of images, each with about `_BLOCK` co-observations and counters of pairs at most."""
    images = len(observations.ends_I) - 1
    later_N = observations.later_N[observations.by_image_N]
    work_I = np.concatenate([[0], np.cumsum(later_N)])[observations.ends_I]
    first = 0
    while first < images:
        last = int(np.searchsorted(work_I, work_I[first] + _BLOCK, side="right")) - 1
        last = min(max(last, first + 1), first + max(_BLOCK // images, 1))
        yield first, last
        first = last


def _pairs_of(first: int, last: int, observations: _Observations, min_shared: int) -> TrackPairs:
    """Pairs of the images ``first`` to ``last - 1`` with later images."""
    images = len(observations.ends_I) - 1
    start, end = observations.ends_I[[first, last]]
    own = observations.by_image_N[start:end]
    later = observations.later_N[own]
    own_S = np.repeat(own, later)
    # The observations that follow each own observation in its track: 1, 2, ... places after it.
    starts_S = np.repeat(np.cumsum(later) - later, later)
    other_S = own_S + np.arange(len(own_S)) - starts_S + 1
    pair_S = (observations.image_N[own_S] - first) * images + observations.image_N[other_S]
    count_J = np.bincount(pair_S)
    enough_S = count_J[pair_S] >= min_shared
    own_S, other_S, pair_S = own_S[enough_S], other_S[enough_S], pair_S[enough_S]
    pair_K = np.flatnonzero(count_J >= min_shared)
    # A chord is accurate at small angles, unlike the cosine.
    chord_S = np.linalg.norm(observations.rays_N3[own_S] - observations.rays_N3[other_S], axis=1)
    # Packs the pair (high bits) and half the chord (low bits) into one number for sorting.
    half_S = (np.minimum(chord_S / 2, 1) * _HALF_CHORD).astype(np.int64)
    sorted_S = np.sort(pair_S * (_HALF_CHORD + 1) + half_S)
    shared_K = count_J[pair_K]
    middle_K = np.cumsum(shared_K) - shared_K + (shared_K - 1) // 2
    half_chord_K = sorted_S[middle_K] % (_HALF_CHORD + 1) / _HALF_CHORD
    return TrackPairs(
        pair_K // images + first,
        pair_K % images,
        shared_K,
        np.degrees(2 * np.arcsin(half_chord_K)),
    )
