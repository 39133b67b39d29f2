"""The spread sample: exact size, seeded, and even over the image."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ucn.geometry.subsample import spread_sample


@given(st.integers(0, 200), st.integers(0, 250), st.integers(0, 2**32 - 1))
def test_size_order_and_determinism(total: int, count: int, seed: int) -> None:
    points_N2 = np.random.default_rng(seed).uniform(0, 300, (total, 2))
    chosen = spread_sample(points_N2, count, [seed])
    assert len(chosen) == (min(count, total) if count else total)
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, spread_sample(points_N2, count, [seed]))


@given(st.integers(0, 2**32 - 1))
def test_no_cell_gives_more_than_it_must(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crowd = rng.uniform(0, 32, (500, 2))
    lonely = np.array([[x, y] for x in range(48, 320, 32) for y in range(48, 160, 32)], float)
    points_N2 = rng.permutation(np.vstack([crowd, lonely]))
    chosen = points_N2[spread_sample(points_N2, len(lonely) + 5, [seed])]
    assert {tuple(point) for point in lonely} <= {tuple(point) for point in chosen}
