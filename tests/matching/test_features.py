"""The mapping between pixels and cells, and bilinear reading."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ucn.matching.features import cell_centres, cells_to_pixels, pixels_to_cells, sample_features


@given(st.floats(-50, 50), st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.0, 1.5, 3.5]))
def test_mapping_is_inverse(x: float, stride: int, offset: float) -> None:
    point = torch.tensor([x, 0.0], dtype=torch.float64)
    cells = pixels_to_cells(point, stride, offset)
    torch.testing.assert_close(cells_to_pixels(cells, stride, offset), point)
    assert cells_to_pixels(torch.tensor(3.0), stride, offset).item() == 3 * stride + offset


def test_cell_centres_go_row_by_row() -> None:
    assert cell_centres(2, 3, 4, 1.5).tolist() == [
        [1.5, 1.5], [5.5, 1.5], [9.5, 1.5], [1.5, 5.5], [5.5, 5.5], [9.5, 5.5],
    ]  # fmt: skip


def test_sampling_is_bilinear_clamped_and_normalised() -> None:
    rng = np.random.default_rng(4)
    features = rng.normal(size=(5, 6, 7))
    points = rng.uniform(-6, 34, (200, 2))
    found = sample_features(torch.from_numpy(features), torch.from_numpy(points), 4, 1.5)
    for (x, y), value in zip((points - 1.5) / 4, found.numpy(), strict=True):
        x, y = np.clip(x, 0, 6), np.clip(y, 0, 5)
        x0, y0 = min(int(x), 5), min(int(y), 4)
        fx, fy = x - x0, y - y0
        top = features[:, y0, x0] * (1 - fx) + features[:, y0, x0 + 1] * fx
        bottom = features[:, y0 + 1, x0] * (1 - fx) + features[:, y0 + 1, x0 + 1] * fx
        expected = top * (1 - fy) + bottom * fy
        np.testing.assert_allclose(value, expected / np.linalg.norm(expected), atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_a_map_of_one_cell_can_be_read(shape: tuple[int, int]) -> None:
    features = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = sample_features(features, torch.tensor([[1.5, 1.5], [90.0, 90.0]]), 4, 1.5)
    torch.testing.assert_close(found[0], features[:, 0, 0] / features[:, 0, 0].norm())
    torch.testing.assert_close(found[1], features[:, -1, -1] / features[:, -1, -1].norm())


def test_batch_agrees_with_single_maps() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 4, 5, 6, generator=generator)
    points = torch.rand(2, 9, 2, generator=generator) * 20
    both = sample_features(features, points, 4, 2.0)
    for index in range(2):
        torch.testing.assert_close(
            both[index], sample_features(features[index], points[index], 4, 2.0)
        )


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="no features"):
        sample_features(torch.zeros(3, 4, 4), torch.zeros(5, 3), 4, 0)
