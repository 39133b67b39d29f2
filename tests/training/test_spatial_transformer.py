"""Convolutional spatial transformer: against a naive float64 one, location by location."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from torch import Tensor, nn
from torch.nn import functional as F

from ucn.training.networks.local_warps import WARPS, kernel_taps, thin_plate_basis
from ucn.training.networks.spatial_transformer import (
    SpatialTransformerConv2d,
    transformed_convolution,
)


def build(
    warp: str, kernel: int = 3, channels: int = 3, spread: float = 0.5
) -> SpatialTransformerConv2d:
    """A float64 convolution whose taps are moved by about `spread` cells."""
    conv = SpatialTransformerConv2d(channels, 2, kernel, warp).double()
    nn.init.normal_(conv.localisation[-1].weight, 0, 3 * spread)
    nn.init.normal_(conv.localisation[-1].bias, 0, spread)
    return conv


def naive_tap(warp: str, parameters: Tensor, tap: tuple[int, int], kernel: int) -> list[Tensor]:
    """Where the parameters of one location put one tap, x and y."""
    x, y = tap
    if warp == "affine":
        a, b, c, d = parameters
        return [(1 + a) * x + b * y, c * x + (1 + d) * y]
    if warp == "similarity":
        scale = ((1 + parameters[0]).square() + parameters[1].square()).sqrt()
        angle = torch.atan2(parameters[1], 1 + parameters[0])
    elif warp == "rotation":
        scale, angle = torch.ones(()), parameters[0]
    else:
        reach = kernel // 2
        points = [(u * reach, v * reach) for v in (-1, 0, 1) for u in (-1, 0, 1)]
        # All nine unit displacements at once; smoothing 0 and degree 1 make it Bookstein's spline.
        spline = RBFInterpolator(np.array(points, float), np.eye(9), kernel="thin_plate_spline")
        shares = torch.from_numpy(spline(np.array([[x, y]], float))[0])
        return [x + shares @ parameters[:9], y + shares @ parameters[9:]]
    return [
        scale * (angle.cos() * x - angle.sin() * y),
        scale * (angle.sin() * x + angle.cos() * y),
    ]


def naive_convolution(conv: SpatialTransformerConv2d, x_BCHW: Tensor) -> Tensor:
    """From the definition, one location and one tap after the other, in autograd."""
    kernel = conv.weight.shape[-1]
    batch, _, height, width = x_BCHW.shape
    parameters = conv.localisation(x_BCHW)
    values = []
    for b, i, j in itertools.product(range(batch), range(height), range(width)):
        value = x_BCHW.new_zeros(len(conv.weight))
        for v, u in itertools.product(range(kernel), repeat=2):
            tap = (u - kernel // 2, v - kernel // 2)
            dx, dy = naive_tap(conv.warp, parameters[b, :, i, j], tap, kernel)
            # Bilinear interpolation is a sum of hats over the cells of the map.
            hat_y = (1 - (i + dy - torch.arange(height)).abs()).relu()
            hat_x = (1 - (j + dx - torch.arange(width)).abs()).relu()
            sampled = torch.einsum("chw,h,w->c", x_BCHW[b], hat_y, hat_x)
            value = value + conv.weight[:, :, v, u] @ sampled
        values.append(value)
    return torch.stack(values).unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("warp", WARPS)
@pytest.mark.parametrize(("kernel", "size"), [(3, (4, 5)), (5, (3, 4)), (3, (1, 2)), (5, (2, 1))])
def test_values_and_gradients_are_those_of_the_definition(
    warp: str, kernel: int, size: tuple[int, int]
) -> None:
    conv = build(warp, kernel)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    inputs = (x, *conv.parameters())
    found, expected = conv(x), naive_convolution(conv, x)
    torch.testing.assert_close(found, expected)
    towards = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, towards),
        torch.autograd.grad(expected, inputs, towards),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)
    moved = conv(x) - F.conv2d(x, conv.weight, padding=kernel // 2)
    assert moved.abs().max() > 0.01


@pytest.mark.parametrize("warp", WARPS)
def test_gradients_are_those_of_finite_differences(warp: str) -> None:
    taps = kernel_taps(3)
    basis = WARPS[warp].basis(taps)

    def function(x: Tensor, weight: Tensor, parameters: Tensor) -> Tensor:
        coefficients = WARPS[warp].coefficients(parameters)
        return transformed_convolution(x, weight, taps, basis, coefficients)

    shapes = (2, 2, 3, 2), (3, 2, 3, 3), (2, WARPS[warp].num_parameters, 3, 2)
    inputs = [torch.randn(*one, dtype=torch.float64, requires_grad=True) for one in shapes]
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("warp", WARPS)
@pytest.mark.parametrize("kernel", [3, 5])
def test_starts_as_the_plain_convolution_and_can_leave_it(warp: str, kernel: int) -> None:
    conv = SpatialTransformerConv2d(6, 4, kernel, warp)
    x = torch.randn(2, 6, 9, 7)
    found = conv(x)
    torch.testing.assert_close(found, F.conv2d(x, conv.weight, padding=kernel // 2))
    found.square().sum().backward()
    assert conv.localisation[-1].weight.grad.abs().max() > 0


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    warp=st.sampled_from(sorted(WARPS)),
    seed=st.integers(0, 1000),
)
def test_each_image_of_a_batch_is_on_its_own(height: int, width: int, warp: str, seed: int) -> None:
    torch.manual_seed(seed)
    conv = build(warp, spread=2.0)
    x = torch.randn(3, 3, height, width, dtype=torch.float64)
    torch.testing.assert_close(conv(x), torch.cat([conv(one[None]) for one in x]))


@pytest.mark.parametrize("warp", WARPS)
def test_moves_with_the_image(warp: str) -> None:
    conv = build(warp, spread=0.05)  # no tap moves as far as the border that is cut off
    x = torch.randn(1, 3, 30, 40, dtype=torch.float64)
    here = conv(x[..., 2:, :-3])[..., 8:-8, 8:-8]
    there = conv(x[..., :-2, 3:])[..., 8:-8, 8:-8]
    torch.testing.assert_close(here[..., :-2, 3:], there[..., 2:, :-3])


def test_far_taps_see_zeros_and_not_a_number_is_passed_on() -> None:
    conv = build("thin_plate")
    with torch.no_grad():
        conv.localisation[-1].weight.zero_()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    for value in (1e30, -1e30):
        nn.init.constant_(conv.localisation[-1].bias, value)
        assert torch.equal(conv(x), torch.zeros(1, 2, 4, 4, dtype=torch.float64))
    nn.init.constant_(conv.localisation[-1].bias, math.nan)
    assert conv(x).isnan().all()


def test_bfloat16_rounds_the_features_but_not_the_positions() -> None:
    """Stripes of -128 and 128 are 256 times as high as a tap is off the middle between two."""
    conv = SpatialTransformerConv2d(1, 1, 3, "affine")
    with torch.no_grad():
        conv.weight.zero_()[0, 0, 1, 2] = 1
        conv.localisation[-1].bias.copy_(torch.tensor([-0.499, 0, 0, 0]))
    x = (torch.arange(64) % 2 * 256.0 - 128).expand(1, 1, 5, 64).clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    # To the right of an odd column is an even one.
    expected = 0.256 * (1 - 2 * (torch.arange(63) % 2.0)).expand(1, 1, 5, 63)
    torch.testing.assert_close(found[..., :-1].float(), expected, atol=1e-4, rtol=2**-8)
    found.float().square().sum().backward()
    assert all(value.grad.isfinite().all() for value in (x, *conv.parameters()))


def test_channels_last_maps_give_the_same() -> None:
    conv = build("affine")
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    found = conv(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, conv(x))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_gradient_keeps_no_map_of_all_taps() -> None:
    """What waits for the backward pass is about the map's size, whatever the kernel's."""
    x = torch.randn(1, 32, 24, 24, requires_grad=True)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    conv = SpatialTransformerConv2d(32, 8, 5, "affine")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        conv(x)
    of_map = 32 * 24 * 24 * 4
    assert sum(kept.values()) < 6 * of_map


def test_thin_plate_spline_bends_least() -> None:
    """Through the control points, with affine maps kept; a 3x3 kernel's taps are free."""
    taps = kernel_taps(5)
    basis = thin_plate_basis(taps)[:9, :, 0]
    controls = kernel_taps(3) * 2
    matrix = torch.randn(2, 2, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ (controls @ matrix), taps @ matrix)
    on_control = (taps % 2 == 0).all(dim=1)
    torch.testing.assert_close(basis[:, on_control], torch.eye(9, dtype=torch.float64))
    free = torch.eye(18, dtype=torch.float64).view(2, 9, 2, 9).permute(0, 1, 3, 2).reshape(18, 9, 2)
    torch.testing.assert_close(thin_plate_basis(kernel_taps(3)), free)


def test_unknown_warps_and_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'shear'.*affine"):
        SpatialTransformerConv2d(3, 2, 3, "shear")
    for kernel in (1, 4):
        with pytest.raises(ValueError, match=f"kernel of {kernel}"):
            SpatialTransformerConv2d(3, 2, kernel, "affine")
