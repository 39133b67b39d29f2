"""Every network: stride and offset, any size, determinism."""

import math

import pytest
import torch

from ucn.errors import UserError
from ucn.training.networks import build_network
from ucn.training.networks.base import DenseNetwork
from ucn.training.registry import NETWORKS


def build(name: str) -> DenseNetwork:
    torch.manual_seed(0)
    return build_network(name, {"dimension": 8}).eval()


@pytest.mark.parametrize("name", NETWORKS.builtin)
@pytest.mark.parametrize("size", [(1, 1), (5, 9), (64, 96), (61, 83), (66, 95)])
def test_any_size_is_covered(name: str, size: tuple[int, int]) -> None:
    network = build(name)
    image = torch.rand(2, network.channels, *size)
    with torch.no_grad():
        features = network(image)
    assert features.dtype == torch.float32
    assert features.shape[:2] == (2, 8)
    torch.testing.assert_close(features.norm(dim=1), torch.ones_like(features[:, 0]))
    for cells, pixels in zip(features.shape[2:], size, strict=True):
        last = (cells - 1) * network.stride + network.offset
        assert pixels - 1 - network.stride < last < pixels - 1 + network.stride


@pytest.mark.parametrize("name", NETWORKS.builtin)
@pytest.mark.parametrize("cell", [(14, 20), (15, 23)])
def test_receptive_field_is_centred_on_the_cell(name: str, cell: tuple[int, int]) -> None:
    """The gradient of a cell, averaged over random images and weights, has its centre there."""
    weight = torch.zeros(128, 192, dtype=torch.float64)
    for seed in range(6):
        torch.manual_seed(seed)
        network = build_network(name, {"dimension": 8}).eval()
        image = torch.rand(1, network.channels, 128, 192, requires_grad=True)
        features = network(image)
        features[0, :, cell[0], cell[1]].sum().backward()
        assert image.grad is not None
        weight += image.grad.double()[0].square().sum(dim=0)
    weight /= weight.sum()
    y = (weight.sum(dim=1) * torch.arange(128)).sum().item()
    x = (weight.sum(dim=0) * torch.arange(192)).sum().item()
    assert y == pytest.approx(cell[0] * network.stride + network.offset, abs=1.0)
    assert x == pytest.approx(cell[1] * network.stride + network.offset, abs=1.0)


@pytest.mark.parametrize("name", NETWORKS.builtin)
def test_shifting_the_image_by_a_stride_shifts_the_cells(name: str) -> None:
    """Offset and stride, exactly: away from the border the map moves with the image."""
    network = build(name)
    step = 32  # the coarsest stride inside
    image = torch.rand(1, network.channels, 32, 1216)
    with torch.no_grad():
        here = network(image[..., :-step])
        there = network(image[..., step:])
    cells, first = step // network.stride, 608 // network.stride
    middle = slice(first, first + 16)
    shifted = slice(first - cells, first + 16 - cells)
    torch.testing.assert_close(here[..., middle], there[..., shifted], atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", NETWORKS.builtin)
def test_mirroring_tells_the_offset_exactly(name: str) -> None:
    """With mirrored kernels, the map of the mirrored image is the mirrored map.

    Cell j of w lies at pixel ``j * stride + offset``; its mirror image lies on cell w - 1 - j only
    where the image's width is ``2 * offset + (w - 1) * stride + 1``. At stride 1 the inner cells,
    8 pixels apart from the first pixel on, are to have mirror images as well; what the right
    border pads reaches farther then. EfficientNet sees farther, and its cells of stride 32 have
    mirror images in images of 31 pixels more than a multiple of 32.
    """
    network = build(name)
    cells, margin = {"resunet": (193, 80), "efficientnet": (327, 120)}.get(name, (40, 8))
    width = int(2 * network.offset + (cells - 1) * network.stride + 1)
    image = torch.rand(1, network.channels, 40, width)
    with torch.no_grad():
        straight = network(image)[..., :cells]
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                module.weight.copy_(module.weight.flip(-1))
        mirrored = network(image.flip(-1))[..., :cells].flip(-1)
    assert straight.shape[-1] == cells
    inner = slice(margin, -margin)
    torch.testing.assert_close(straight[..., inner], mirrored[..., inner], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NETWORKS.builtin)
def test_same_seed_same_network_same_features(name: str) -> None:
    first, second = build(name), build(name)
    image = torch.rand(1, first.channels, 48, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(first(image), second(image))


def test_context_reaches_far() -> None:
    network = build("small")
    image = torch.rand(1, 1, 160, 320, requires_grad=True)
    network(image)[0, :, 20, 40].sum().backward()
    assert image.grad is not None
    columns = image.grad[0, 0].abs().sum(dim=0).nonzero()[:, 0]
    assert columns.max() - columns.min() >= 200
    assert math.isclose(image.grad.isfinite().float().mean().item(), 1)


def test_grey_images_suit_the_colour_network() -> None:
    network = build("googlenet")
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(grey), network(grey.expand(1, 3, 32, 32)))


def test_googlenet_parameters_are_named_as_in_torchvision() -> None:
    shapes = {name: tuple(p.shape) for name, p in build("googlenet").named_parameters()}
    assert shapes["conv1.conv.weight"] == (64, 3, 7, 7)
    assert shapes["conv3.bn.bias"] == (192,)
    assert shapes["inception3a.branch1.conv.weight"] == (64, 192, 1, 1)
    assert shapes["inception3b.branch2.1.conv.weight"] == (192, 128, 3, 3)
    assert shapes["inception4a.branch3.1.conv.weight"] == (48, 16, 3, 3)
    assert shapes["inception4a.branch4.1.conv.weight"] == (64, 480, 1, 1)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(UserError, match=r"vgg: no such network; there are small"):
        build_network("vgg", {})
    with pytest.raises(UserError, match=r"network\.options: .* depth; there are dimension, width$"):
        build_network("small", {"depth": 3})
