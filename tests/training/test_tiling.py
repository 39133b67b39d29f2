import numpy as np
import pytest
import torch

from ucn.training.networks import build_network
from ucn.training.networks.base import DenseNetwork
from ucn.training.networks.describe import describe
from ucn.training.networks.tiling import (
    ALIGNMENT,
    activation_bytes,
    describe_in_tiles,
    describe_tiled,
    tile_core,
    tile_margin,
)

NETWORKS = {
    "small": {"dimension": 8, "width": 8},
    "resunet": {"variant": "BN2F", "dimension": 8},
    "googlenet": {"dimension": 8},
    "efficientnet": {"dimension": 8, "width": 16},
}


def random_network(name: str) -> DenseNetwork:
    """Random weights, and batch statistics that keep the features apart."""
    torch.manual_seed(3)
    network = build_network(name, NETWORKS[name])
    image = torch.rand(2, network.channels, 96, 96)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(image)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(331, 97), (203, 418)])
def test_tiles_give_the_features_of_the_whole(name: str, size: tuple[int, int]) -> None:
    network = random_network(name)
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    whole = describe(network, image, False)
    tiled = describe_in_tiles(network, image, 32, tile_margin(network))
    assert tiled.shape == whole.shape
    assert torch.isfinite(tiled).all()
    # The features differ from place to place, or agreement would say nothing.
    assert (whole[:, 1:, 1:] - whole[:, :-1, :-1]).abs().amax() > 0.01
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def test_without_the_overlap_they_differ() -> None:
    network = random_network("small")
    image = np.random.default_rng(1).integers(0, 256, (203, 231), dtype=np.uint8)
    cut = describe_in_tiles(network, image, 64, 0)
    assert (cut - describe(network, image, False)).abs().max() > 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_grow_with_the_memory_and_stay_in_it(name: str) -> None:
    network = random_network(name)
    margin = tile_margin(network)
    assert margin % ALIGNMENT == 0
    assert margin >= network.receptive_field // 2
    sizes = [tile_core(network, margin, mib) for mib in (1, 3000, 6000)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    for mib, core in zip((3000, 6000), sizes[1:], strict=True):
        assert (core + 2 * margin) ** 2 * activation_bytes(network) <= mib * 2**20
    assert not any(module._forward_hooks for module in network.modules())


def test_a_small_image_is_one_tile() -> None:
    network = random_network("small")
    image = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    assert torch.equal(describe_tiled(network, image), describe(network, image, False))


@pytest.mark.parametrize(("core", "margin"), [(0, 32), (40, 32), (64, 8), (64, -32)])
def test_tiles_off_the_alignment_are_refused(core: int, margin: int) -> None:
    with pytest.raises(ValueError, match="no multiples of 32"):
        describe_in_tiles(random_network("small"), np.zeros((9, 9), np.uint8), core, margin)
