"""The paper's network: torchvision's weights, and what its cells see."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ucn.errors import UserError
from ucn.training import job
from ucn.training.config import DataConfig, NetworkConfig, TrainConfig
from ucn.training.networks import build_network
from ucn.training.networks.googlenet import GoogLeNetUCN

TRANSFORMERS = ["affine", "similarity", "rotation", "thin_plate"]
CLASSES = 1000

INCEPTION = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels in, of 1x1, of 3x3 (reduced, full), of "5x5" (reduced, full), and after pooling."""


def torchvision_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's googlenet with its auxiliary heads."""
    convolutions = {"conv1": (64, 3, 7), "conv2": (64, 64, 1), "conv3": (192, 64, 3)}
    for block, (channels, c1, c3_reduce, c3, c5_reduce, c5, pool) in INCEPTION.items():
        convolutions |= {
            f"inception{block}.branch1": (c1, channels, 1),
            f"inception{block}.branch2.0": (c3_reduce, channels, 1),
            f"inception{block}.branch2.1": (c3, c3_reduce, 3),
            f"inception{block}.branch3.0": (c5_reduce, channels, 1),
            f"inception{block}.branch3.1": (c5, c5_reduce, 3),
            f"inception{block}.branch4.1": (pool, channels, 1),
        }
    convolutions |= {"aux1.conv": (128, 512, 1), "aux2.conv": (128, 528, 1)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (channels_out, channels_in, kernel) in convolutions.items():
        shapes[f"{name}.conv.weight"] = (channels_out, channels_in, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (channels_out,)
        shapes[f"{name}.bn.num_batches_tracked"] = ()
    linear = {"aux1.fc1": (1024, 2048), "aux2.fc1": (1024, 2048), "fc": (CLASSES, 1024)}
    linear |= {"aux1.fc2": (CLASSES, 1024), "aux2.fc2": (CLASSES, 1024)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def torchvision_state(seed: int = 0) -> dict[str, Tensor]:
    """Random weights; those after inception_4a, which nothing may read, take no memory."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in torchvision_shapes().items():
        if name.startswith(("inception4b", "inception4c", "inception4d", "inception4e")) or (
            name.startswith(("inception5", "aux", "fc"))
        ):
            state[name] = torch.empty(shape, device="meta")
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith(("running_var", "bn.weight")):
            state[name] = torch.rand(shape, generator=generator) + 0.5
        elif name.endswith("conv.weight"):
            fan_in = shape[1] * shape[2] * shape[3]
            state[name] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        else:
            state[name] = 0.1 * torch.randn(shape, generator=generator)
    return state


def reference(state: dict[str, Tensor], head: nn.Conv2d, images: Tensor) -> Tensor:
    """The paper's geometry with torchvision's layers and input, written out from their names."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"].double()
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance, scale, shift = (
            state[f"{name}.bn.{part}"].double()[:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 0.001).sqrt() * scale + shift).relu()

    def block(x: Tensor, name: str) -> Tensor:
        return torch.cat(
            [
                conv(x, f"{name}.branch1"),
                conv(conv(x, f"{name}.branch2.0"), f"{name}.branch2.1"),
                conv(conv(x, f"{name}.branch3.0"), f"{name}.branch3.1"),
                conv(F.max_pool2d(x, 3, 1, 1), f"{name}.branch4.1"),
            ],
            dim=1,
        )

    # torchvision's usual normalisation, undone by its googlenet's transform_input.
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    usual = (images.double() - mean) / std
    x = usual * (std / 0.5) + (mean - 0.5) / 0.5
    x = F.max_pool2d(conv(x, "conv1", stride=2), 3, 2, ceil_mode=True)
    x = F.max_pool2d(conv(conv(x, "conv2"), "conv3"), 3, 1, 1)
    x = block(block(x, "inception3a"), "inception3b")
    x = block(F.max_pool2d(x, 3, 1, 1), "inception4a")
    x = F.conv2d(x, head.weight.double(), head.bias.double() if head.bias is not None else None)
    return x / x.square().sum(dim=1, keepdim=True).sqrt()


def build(transformer: str = "none", seed: int = 0) -> GoogLeNetUCN:
    torch.manual_seed(seed)
    return GoogLeNetUCN(8, transformer).eval()


def move_taps(network: GoogLeNetUCN) -> None:
    """Turn the transformers from the identity to whatever the image tells them."""
    for name, value in network.named_parameters():
        if ".localisation.4." in name:
            nn.init.normal_(value, 0, 0.2)


@pytest.mark.parametrize("transformer", ["none", *TRANSFORMERS])
def test_published_weights_give_the_features_of_their_network(transformer: str) -> None:
    network, state = build(transformer), torchvision_state()
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_published(state)
    images = torch.rand(2, 3, 40, 52)
    with torch.no_grad():
        expected = reference(state, network.head, images)[..., :10, :13]
        torch.testing.assert_close(network(images).double(), expected, atol=2e-5, rtol=0)
    loaded = network.state_dict()
    new = [name for name in loaded if name not in state]
    assert all(name.startswith("head.") or ".localisation." in name for name in new)
    assert len(new) == 2 + (0 if transformer == "none" else 2 * 6)
    assert all(torch.equal(loaded[name], kept[name]) for name in new)


def test_weights_without_counts_of_steps_fit() -> None:
    state = torchvision_state()
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    network = build()
    network.load_published(old)
    loaded = network.state_dict()["conv1.bn.running_var"]
    assert torch.equal(loaded, state["conv1.bn.running_var"])


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(name)


def replaced(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("conv1.conv.weight"), "conv1.conv.weight is missing"),
        (without("inception4a.branch4.1.bn.running_var"), "branch4.1.bn.running_var is missing"),
        (replaced("inception3a.branch3.1.conv.weight", 32, 16, 5, 5), r"\(32, 16, 5, 5\) instead"),
        (replaced("conv2.bn.bias", 63), r"conv2.bn.bias has shape \(63,\) instead of \(64,\)"),
        (replaced("layer1.0.conv1.weight", 64, 64, 1, 1), "layer1.0.conv1.weight is not of"),
        (replaced("head.weight", 8, 512, 1, 1), "head.weight is not of"),
        (lambda state: state.clear(), "is missing"),
    ],
)
@pytest.mark.parametrize("transformer", ["none", "affine"])
def test_other_weights_are_refused_in_one_line(
    transformer: str, damage: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    network, state = build(transformer), torchvision_state()
    damage(state)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message) as caught:
        network.load_published(state)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("transformer", ["none", "affine"])
@pytest.mark.parametrize("cell", [(12, 11), (11, 14)])
def test_receptive_field_is_as_wide_as_stated_and_centred(
    transformer: str, cell: tuple[int, int]
) -> None:
    network = build(transformer)
    size = (97, 103)
    seen = torch.zeros(size)
    for _ in range(3):
        images = torch.rand(1, 3, *size, requires_grad=True)
        network(images)[0, :, cell[0], cell[1]].sum().backward()
        assert images.grad is not None
        seen += images.grad[0].abs().sum(dim=0)
    reach = network.receptive_field // 2
    for axis in (0, 1):
        pixels = seen.sum(dim=1 - axis).nonzero()
        centre = cell[axis] * network.stride + int(network.offset)
        assert pixels.min().item() == centre - reach
        assert pixels.max().item() == centre + reach


@pytest.mark.parametrize("transformer", ["none", *TRANSFORMERS])
@pytest.mark.parametrize("size", [(1, 1), (2, 11), (13, 6), (37, 50)])
def test_any_size(transformer: str, size: tuple[int, int]) -> None:
    network = build(transformer)
    move_taps(network)
    with torch.no_grad():
        features = network(torch.rand(1, 3, *size))
    for cells, pixels in zip(features.shape[2:], size, strict=True):
        assert abs((cells - 1) * network.stride + network.offset - (pixels - 1)) < network.stride
    torch.testing.assert_close(features.norm(dim=1), torch.ones_like(features[:, 0]))


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_a_shift_by_the_stride_is_a_shift_by_a_cell(transformer: str) -> None:
    network = build(transformer)
    move_taps(network)
    images = torch.rand(1, 3, 24, 201)
    with torch.no_grad():
        here, there = network(images[..., :-4]), network(images[..., 4:])
    torch.testing.assert_close(here[..., 16:-15], there[..., 15:-16], atol=2e-5, rtol=0)


def test_transformers_learn_from_the_identity_in_bfloat16() -> None:
    network = build("affine").train()
    with torch.autocast("cpu", torch.bfloat16):
        features = network(torch.rand(2, 3, 32, 40))
    (features * torch.randn_like(features)).sum().backward()
    last = {name: value for name, value in network.named_parameters() if "localisation.4" in name}
    assert len(last) == 4
    for value in last.values():
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert value.grad.abs().max() > 0


@pytest.mark.parametrize("network", ["googlenet", "small"])
def test_training_without_imagenet_weights_says_so(
    network: str,
    tiny_config: TrainConfig,
    write_shards: Callable[[str, int], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(job, "_run", lambda *arguments: None)
    data = DataConfig(shards=(str(write_shards("train", 4)),))
    update = {"network": NetworkConfig(name=network), "data": data}
    with caplog.at_level(logging.WARNING):
        job.train(tiny_config.model_copy(update=update))
    said = "network.weights: not given; training starts without ImageNet weights"
    assert [said in message for message in caplog.messages] == [True] * (network == "googlenet")


def test_unknown_transformers_are_refused() -> None:
    with pytest.raises(UserError, match=r"network\.options.*no transformer 'shear'.*affine"):
        build_network("googlenet", {"transformer": "shear"})
