import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from ucn.evaluation.scores.bins import (
    displacements,
    mean_over_parts,
    pck_by_bin,
    pck_by_label,
    triangulated_depths,
)
from ucn.evaluation.scores.pck import pck

VALUES = arrays(np.float64, 25, elements=st.floats(-5, 40) | st.just(np.nan))
EDGES = st.lists(st.integers(-5, 40), min_size=2, max_size=6, unique=True).map(sorted)


@given(VALUES, EDGES, st.integers(0, 99))
def test_bins_against_a_plain_loop(values: np.ndarray, edges: list[int], seed: int) -> None:
    errors = np.random.default_rng(seed).uniform(0, 20, len(values))
    found = pck_by_bin(errors, values, edges, [5, 10])
    expected = {}
    for low, high in itertools.pairwise(edges):
        last = high == edges[-1]
        chosen = [
            e
            for e, v in zip(errors, values, strict=True)
            if low <= v < high or (last and v == high)
        ]
        if chosen:
            expected[(low, high)] = (len(chosen), tuple(pck(np.array(chosen), [5, 10])))
    assert {bin: (part.points, part.percent) for bin, part in found.items()} == expected


def test_only_the_last_bin_has_its_upper_edge() -> None:
    found = pck_by_bin(np.ones(4), np.array([0.0, 10, 20, 20]), [0, 10, 20], [1])
    assert {bin: part.points for bin, part in found.items()} == {(0, 10): 1, (10, 20): 3}


def test_infinite_edges_take_all_and_empty_bins_are_absent() -> None:
    found = pck_by_bin(np.ones(3), np.array([1.0, 2.0, 1e9]), [0, 10, 20, np.inf], [1])
    assert {bin: part.points for bin, part in found.items()} == {(0, 10): 2, (20, np.inf): 1}


@pytest.mark.parametrize("edges", [[1], [2, 1], [1, 1], [0, float("nan")]])
def test_edges_must_increase(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="increase"):
        pck_by_bin(np.ones(2), np.ones(2), edges, [1])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="points"):
        pck_by_bin(np.ones(2), np.ones(3), [0, 1], [1])
    with pytest.raises(ValueError, match="labels"):
        pck_by_label(np.ones(2), ["a"], [1])


def test_classes_count_alike_in_their_mean() -> None:
    parts = pck_by_label(np.array([0.0, 9, 9, 9, 0]), ["cat", "dog", "dog", "dog", "cat"], [1])
    assert list(parts) == ["cat", "dog"]
    assert (parts["cat"].points, parts["cat"].percent) == (2, (100.0,))
    assert mean_over_parts(list(parts.values())) == (50,)
    with pytest.raises(ValueError, match="no classes"):
        mean_over_parts([])


def test_displacement_is_the_length_of_the_flow() -> None:
    assert displacements(np.float32([[1, 2, 4, 6], [5, 5, 5, 5]])).tolist() == [5, 0]


@given(st.integers(0, 2**32 - 1))
def test_depths_of_exact_matches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points0 = np.column_stack([rng.uniform(-3, 3, (30, 2)), rng.uniform(4, 60, 30)])
    T_1_0 = np.eye(4)
    T_1_0[:3, :3] = Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3)).as_matrix()
    T_1_0[:3, 3] = rng.choice([-1, 1], 3) * rng.uniform(0.5, 1, 3)
    points1 = points0 @ T_1_0[:3, :3].T + T_1_0[:3, 3]
    rays0, rays1 = (p[:, :2] / p[:, 2:] for p in (points0, points1))
    depths = triangulated_depths(rays0, rays1, T_1_0)
    # A ray along the baseline has no depth; beside it the depth is exact.
    sine = np.linalg.norm(np.cross(points1, points0 @ T_1_0[:3, :3].T), axis=1)
    seen = sine > 1e-3 * np.linalg.norm(points1, axis=1) * np.linalg.norm(points0, axis=1)
    np.testing.assert_allclose(depths[seen], points0[seen, 2], rtol=1e-6)


def test_depth_is_unknown_without_parallax_and_behind_the_camera() -> None:
    T_1_0 = np.eye(4)
    T_1_0[0, 3] = -1.0
    rays0 = np.array([[0.1, 0.2], [0.0, 0.0]])
    # The second match moves against the baseline: its point would lie behind both cameras.
    rays1 = np.array([[0.1, 0.2], [0.1, 0.0]])
    assert np.isnan(triangulated_depths(rays0, rays1, T_1_0)).all()
    assert triangulated_depths(rays0, rays1 - [[0.1, 0], [0.2, 0]], T_1_0).tolist() == [
        pytest.approx(10),
        pytest.approx(10),
    ]
