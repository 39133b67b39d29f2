"""The evaluated points of a pair, and what the dataset says about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ucn.evaluation.config import Detector, EvaluateConfig
from ucn.evaluation.scores.bins import displacements, triangulated_depths
from ucn.evaluation.scores.estimators import Doubles
from ucn.evaluation.scores.pck import image_diagonal, image_side
from ucn.evaluation.scores.pose import normalise_points
from ucn.matching.descriptors import Floats
from ucn.matching.keypoints import detect
from ucn.preprocessing.sample import Sample

NEAR_PX = 2.0
"""A detector or sparse method sees a point that is this close to one of its own, pixels."""


@dataclass(frozen=True)
class Geometry:
    """True geometry of a rigid pair: intrinsics, pose, and whether its unit is the metre."""

    K0: Doubles
    K1: Doubles
    T_1_0: Doubles
    metric: bool


@dataclass(frozen=True)
class SparseTask:
    """Sparse matching task of one detector.

    Attributes:
        asked_N: bool, whether the detector sees each point in image 0.
        points1_K2: keypoints in image 1.
    """

    asked_N: NDArray[np.bool_]
    points1_K2: Floats


@dataclass(frozen=True)
class PointFacts:
    """Attributes of the evaluated points of a pair.

    Attributes:
        displacement_N: displacements, pixels.
        depth_N: depths in camera 0, metres; NaN if unknown.
        classes_N: class name of each point; empty if there are no classes.
        lengths: lengths L for PCK at alpha by name, pixels; empty for pairs without labelled
            keypoints.
        bounds: by detector, the distance of the true match of each visible point to the nearest
            keypoint in image 1, float32 pixels. No method can have a smaller error.
    """

    displacement_N: Doubles
    depth_N: Doubles
    classes_N: tuple[str, ...] = ()
    lengths: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class PairTruth:
    """True correspondences of a pair to evaluate.

    Attributes:
        truth_N4: float32 x0, y0, x1, y1.
        facts: attributes of the points.
        geometry: None if unknown.
        sparse: sparse matching tasks by detector.
    """

    truth_N4: Floats
    facts: PointFacts
    geometry: Geometry | None
    sparse: Mapping[str, SparseTask]


def pair_truth(sample: Sample, index: int, config: EvaluateConfig) -> PairTruth:
    """Chooses the points to evaluate on pair ``index``, and collects their attributes."""
    chosen_N = choose_points(len(sample.matches_N4), config.points, config.seed, index)
    truth_N4 = sample.matches_N4[chosen_N]
    geometry = known_geometry(sample)
    sparse: dict[str, SparseTask] = {}
    bounds: dict[str, Floats] = {}
    for detector in config.sparse:
        sparse[detector], bounds[detector] = _sparse_task(
            sample, truth_N4, detector, config.keypoints
        )
    facts = PointFacts(
        displacement_N=displacements(truth_N4),
        depth_N=_depths(sample, chosen_N, geometry),
        classes_N=_classes(sample, chosen_N),
        lengths=_lengths(sample),
        bounds=bounds,
    )
    return PairTruth(truth_N4, facts, geometry, sparse)


def choose_points(available: int, count: int, seed: int, index: int) -> NDArray[np.intp]:
    """Randomly chooses at most ``count`` correspondences of pair ``index``, in ascending order.

    The choice depends only on the seed and the index, so all methods are evaluated on the same
    points.
    """
    if available <= count:
        return np.arange(available)
    order_N = np.random.default_rng([seed, index]).permutation(available)
    return np.sort(order_N[:count])


def nearest_points(points_K2: Floats, queries_N2: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Distance and index of the point nearest to each query; infinite if there are no points."""
    if not len(points_K2):
        return np.full(len(queries_N2), np.inf, np.float32), np.zeros(len(queries_N2), np.intp)
    distance_N, index_N = KDTree(points_K2).query(queries_N2)
    return np.asarray(distance_N, np.float32), np.asarray(index_N, np.intp)


def known_geometry(sample: Sample) -> Geometry | None:
    """Intrinsics and relative pose of a rigid pair; None if unknown."""
    known = [sample.metadata.get(name) for name in ("K0", "K1", "T_1_0")]
    if sample.metadata.get("kind") != "rigid" or any(value is None for value in known):
        return None
    K0, K1, T_1_0 = (np.asarray(value, np.float64) for value in known)
    return Geometry(K0, K1, T_1_0, sample.metadata.get("unit") == "metre")


def _depths(sample: Sample, chosen_N: NDArray[np.intp], geometry: Geometry | None) -> Doubles:
    """Stored depths, else triangulated ones; NaN without metric scale."""
    if geometry is None or not geometry.metric:
        return np.full(len(chosen_N), np.nan)
    if "depth0" in sample.attributes:
        return np.asarray(sample.attributes["depth0"][chosen_N], np.float64)
    truth_N4 = sample.matches_N4[chosen_N]
    rays0_N2 = normalise_points(truth_N4[:, :2], geometry.K0)
    rays1_N2 = normalise_points(truth_N4[:, 2:], geometry.K1)
    return triangulated_depths(rays0_N2, rays1_N2, geometry.T_1_0)


def _classes(sample: Sample, chosen_N: NDArray[np.intp]) -> tuple[str, ...]:
    """Semantic class, moving object or background, or category; empty without labels."""
    if sample.metadata.get("kind") == "semantic":
        return (str(sample.metadata.get("category", "object")),) * len(chosen_N)
    if "class" in sample.attributes:
        names: Mapping[str, str] = sample.metadata.get("class_names", {})
        numbers = sample.attributes["class"][chosen_N].tolist()
        return tuple(names.get(str(number), str(number)) for number in numbers)
    if "object" in sample.attributes:
        on_object = sample.attributes["object"][chosen_N] > 0
        return tuple("moving object" if moving else "background" for moving in on_object)
    return ()


def _lengths(sample: Sample) -> dict[str, float]:
    """Lengths L of image 1 and of its object, which is where matches are searched."""
    if sample.metadata.get("kind") != "semantic":
        return {}
    size = (float(sample.image1.shape[1]), float(sample.image1.shape[0]))
    lengths = {"side": image_side(size), "diagonal": image_diagonal(size)}
    box = sample.metadata.get("box1")
    return lengths | ({"box": image_side((float(box[2]), float(box[3])))} if box else {})


def _sparse_task(
    sample: Sample, truth_N4: Floats, detector: Detector, count: int
) -> tuple[SparseTask, Floats]:
    """The task of a detector, and its `PointFacts.bounds`."""
    if detector == "given":
        task = SparseTask(np.ones(len(truth_N4), bool), truth_N4[:, 2:].copy())
        return task, np.zeros(len(truth_N4), np.float32)
    points0_K2, points1_K2 = (
        detect(image, detector, count) for image in (sample.image0, sample.image1)
    )
    seen_N = nearest_points(points0_K2, truth_N4[:, :2])[0] <= NEAR_PX
    return SparseTask(seen_N, points1_K2), nearest_points(points1_K2, truth_N4[seen_N, 2:])[0]
