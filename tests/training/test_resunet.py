"""Open-UCN's ResUNets: against their definition, their own code, and centred where they are not."""

import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ucn.training.networks.resunet import PUBLISHED_SHIFT, VARIANTS, ResUNetUCN, Variant

PARAMETERS = {
    "BN2": 2_922_144,
    "BN2B": 2_521_376,
    "BN2C": 2_927_264,
    "BN2D": 3_333_152,
    "BN2D2": 3_683_744,
    "BN2D3": 4_901_024,
    "BN2E": 4_451_520,
    "BN2F": 1_166_000,
    "BN2G": 7_164_608,
    "BN2G2": 7_185_088,
    "BN2G3": 6_410_560,
    "BN2H": 11_740_864,
}
"""At 64-D, counted in Open-UCN's own modules."""

PATHS = {8: 7, 4: 3, 2: 1, 1: 0}
"""Pixels by which Open-UCN's features that come from this stride are off: 4 + 2 + 1, 2 + 1, 1."""


def build(variant: str = "BN2F", *, centred: bool = True, seed: int = 0) -> ResUNetUCN:
    """A float64 network in evaluation mode whose normalisation layers do something."""
    torch.manual_seed(seed)
    network = ResUNetUCN(variant, 8, centred=centred).double().eval()
    for name, value in network.state_dict().items():
        if name.endswith("running_mean") or ((".bn" in name or "norm" in name) and "bias" in name):
            value.normal_(0, 0.1)
        elif name.endswith("running_var") or (value.dim() == 1 and name.endswith("weight")):
            value.uniform_(0.5, 1.5)
    return network


def reference(state: dict[str, Tensor], images: Tensor, shift: int) -> Tensor:
    """The network from its definition, one block at each stage, by the published names.

    Args:
        shift: index on the finer grid at which the first cell of a coarse one lies: 0 where they
            are centred on each other, 1 in Open-UCN.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def stage(x: Tensor, suffix: str) -> Tensor:
        x = norm(x, f"norm{suffix}").relu()
        block = f"blocks{suffix}.0"
        y = norm(F.conv2d(x, state[f"{block}.conv1.weight"], padding=1), f"{block}.bn1").relu()
        return (
            norm(F.conv2d(y, state[f"{block}.conv2.weight"], padding=1), f"{block}.bn2") + x
        ).relu()

    def spread(x: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
        """Put the cells on every second one of a finer grid, zeros between; convolve."""
        if shift:
            height, width = 2 * x.shape[2] + 1, 2 * x.shape[3] + 1
        fine = x.new_zeros(*x.shape[:2], height, width)
        fine[:, :, shift::2, shift::2] = x
        return F.conv2d(fine, weight.transpose(0, 1).flip(2, 3), padding=1)

    x = images - 0.5
    skips = []
    for level in (1, 2, 3, 4):
        x = F.conv2d(x, state[f"conv{level}.weight"], stride=1 if level == 1 else 2, padding=1)
        x = stage(x, str(level))
        skips.append(x)
    skips.pop()
    for level in (4, 3, 2):
        skip = skips.pop()
        height, width = skip.shape[2:]
        x = stage(spread(x, state[f"conv{level}_tr.weight"], height, width), f"{level}_tr")
        x = torch.cat([x[:, :, :height, :width], skip], dim=1)
    x = F.conv2d(x, state["conv1_tr.weight"]).relu()
    x = F.conv2d(x, state["final.weight"], state["final.bias"])
    return x / x.square().sum(dim=1, keepdim=True).sqrt()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("size", [(40, 56), (21, 35), (30, 9), (1, 2)])
def test_equal_to_the_definition(centred: bool, size: tuple[int, int]) -> None:
    network = build(centred=centred, seed=sum(size))
    images = torch.rand(2, 1, *size, dtype=torch.float64)
    expected = reference(network.state_dict(), images, 0 if centred else 1)
    with torch.no_grad():
        # The network returns float32.
        torch.testing.assert_close(network(images).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_widths_are_those_of_the_variant(variant: str) -> None:
    with torch.device("meta"):
        network = ResUNetUCN(variant)
    assert sum(value.numel() for value in network.parameters()) == PARAMETERS[variant]
    assert VARIANTS.keys() == PARAMETERS.keys()


def keep_path(network: ResUNetUCN, stride: int) -> None:
    """Cut all of the network that does not come by way of this stride."""
    joined_at = {4: network.conv3_tr.weight, 2: network.conv2_tr.weight, 1: network.conv1_tr.weight}
    up = VARIANTS[network.variant].up
    with torch.no_grad():
        for level, weight in joined_at.items():
            if level == 1:
                from_below, skip = weight[:, : up[1]], weight[:, up[1] :]
            else:
                from_below, skip = (
                    weight[: up[level.bit_length()]],
                    weight[up[level.bit_length()] :],
                )
            if level == stride:
                from_below.zero_()
            elif level < stride:
                skip.zero_()


@pytest.mark.parametrize("stride", PATHS)
def test_each_path_is_centred_by_its_shift(stride: int) -> None:
    published, centred = build(centred=False), build(centred=True)
    for network in (published, centred):
        keep_path(network, stride)
    images = torch.rand(1, 1, 160, 168, dtype=torch.float64)
    shift = PATHS[stride]
    with torch.no_grad():
        here = centred(images)[..., 72:88, 72:88]
        there = published(images)[..., 72 + shift : 88 + shift, 72 + shift : 88 + shift]
    torch.testing.assert_close(here, there, atol=1e-6, rtol=0)
    assert here.std() > 0.01


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("centred", [True, False])
def test_receptive_field_is_as_wide_as_stated_and_centred(
    monkeypatch: pytest.MonkeyPatch, depth: int, centred: bool
) -> None:
    """With positive weights nothing is cut off, and the footprint is the receptive field.

    Kernels that are even in both directions make it even, on average over the cells of stride 8.
    """
    monkeypatch.setitem(VARIANTS, "tiny", Variant((2,) * 4, (2,) * 4, depth))
    network = ResUNetUCN("tiny", 2, centred=centred).double().eval()
    for value in network.parameters():
        if value.dim() == 4:
            value.data = (0.1 + torch.rand_like(value[:, :, :1, :1])).expand_as(value) / 4
    radius = network.receptive_field // 2
    size = 2 * radius + 16
    reached, mean = [], torch.zeros(2, dtype=torch.float64)
    for phase in range(8):
        pixel = radius + phase
        images = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        network(images)[0, 0, pixel, pixel].backward()
        assert images.grad is not None
        footprint = images.grad[0, 0].abs()
        reached.append(footprint.nonzero() - pixel)
        offsets = torch.arange(size, dtype=torch.float64) - pixel
        sides = torch.stack([footprint.sum(1), footprint.sum(0)])
        mean += (sides @ offsets) / (8 * footprint.sum())
    lowest, highest = (int(f(torch.cat(reached))) for f in (torch.min, torch.max))
    assert 2 * max(-lowest, highest) + 1 == network.receptive_field
    shift = 0 if centred else PUBLISHED_SHIFT
    assert (lowest + highest) / 2 == -shift
    torch.testing.assert_close(mean, torch.full_like(mean, -shift), atol=1e-5 + 0.1 * shift, rtol=0)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    network = ResUNetUCN("BN2F", 8)
    network(torch.rand(2, 1, 24, 32))[:, :, ::2].sum().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.abs().sum() > 0, name


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_are_taken_name_for_name(prefix: str) -> None:
    source, target = build(seed=1), build(seed=2)
    state = {prefix + name: value for name, value in source.state_dict().items()}
    target.load_published(state)
    images = torch.rand(1, 1, 16, 24, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(source(images), target(images))


def test_names_are_those_of_the_checkpoint() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in ResUNetUCN().state_dict().items()}
    assert shapes["conv1.weight"] == (32, 1, 3, 3)
    assert shapes["norm4.running_var"] == (256,)
    assert shapes["blocks3.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["blocks2_tr.0.bn2.num_batches_tracked"] == ()
    assert shapes["conv4_tr.weight"] == (256, 128, 3, 3)
    assert shapes["conv3_tr.weight"] == (256, 128, 3, 3)
    assert shapes["conv1_tr.weight"] == (128, 160, 1, 1)
    assert (shapes["final.weight"], shapes["final.bias"]) == ((64, 128, 1, 1), (64,))


def drop(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


def test_other_weights_are_refused_by_what_they_are() -> None:
    network = build()
    state = network.state_dict()
    other = ResUNetUCN("BN2B", 4).state_dict()
    cases: list[tuple[dict[str, Any], str]] = [
        (other, "variant BN2B, dimension 4; the network is of variant BN2F, dimension 8$"),
        ({"conv1.conv.weight": torch.zeros(64, 3, 7, 7)}, "no ResUNet of Open-UCN"),
        ({"conv1.weight": torch.zeros(())}, "no ResUNet of Open-UCN"),
        (drop(state, "norm2_tr.running_mean"), r"norm2_tr\.running_mean is missing"),
        (state | {"norm9.weight": torch.zeros(1)}, r"norm9\.weight is not of"),
        (state | {"conv1.weight": torch.zeros(16, 3, 3, 3)}, r"conv1\.weight .* shape"),
        (state | {"conv2.weight": torch.zeros(9, 1, 3, 3)}, "unknown ResUNet.*9"),
    ]
    for weights, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            network.load_published(weights)
        assert "\n" not in str(caught.value)


def test_unknown_variants_and_no_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"BN2Z.*BN2D2"):
        ResUNetUCN("BN2Z")
    with pytest.raises(ValueError, match="dimension 0"):
        ResUNetUCN("BN2F", 0)


@pytest.fixture
def open_ucn(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Open-UCN's own `model/resunet.py`, from the checkout that OPEN_UCN names."""
    checkout = os.environ.get("OPEN_UCN")
    if checkout is None:
        pytest.skip("OPEN_UCN names no checkout of Open-UCN")
    monkeypatch.syspath_prepend(checkout)
    yield importlib.import_module("model.resunet")
    for name in ("model.resunet", "model.blocks", "model"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_are_those_of_open_ucn(open_ucn: ModuleType, variant: str) -> None:
    """Same weights, same features, at any size; `PATHS` tells by how much the centred ones move."""
    theirs = getattr(open_ucn, f"ResUNet{variant}")(1, 8, normalize_feature=True).double().eval()
    images = torch.rand(1, 1, 61, 43, dtype=torch.float64)
    ours = ResUNetUCN(variant, 8, centred=False).double().eval()
    ours.load_published(theirs.state_dict())
    with torch.no_grad():
        expected = theirs(images - 0.5).float()
        torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=0)
