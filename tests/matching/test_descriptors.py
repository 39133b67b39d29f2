import numpy as np
import pytest

from ucn.matching.descriptors import unit_rows


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_unit_rows_have_unit_length_and_zero_rows_stay_zero(kind: type) -> None:
    rows = np.random.default_rng(0).gamma(1, 1, (2000, 324)).astype(kind)
    rows[5] = 0
    exact = rows.astype(np.float64)
    exact[rows.any(axis=1)] /= np.linalg.norm(exact[rows.any(axis=1)], axis=1, keepdims=True)
    found = unit_rows(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-7)
    assert not found[5].any()
    assert unit_rows(rows[:0]).shape == (0, 324)
