"""The small network: receptive field, cells that move with the image, and its definition."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ucn.training.networks.small import SmallUCN


def build(dimension: int = 8, width: int = 16, seed: int = 0) -> SmallUCN:
    """A float64 network in evaluation mode all of whose layers do something."""
    torch.manual_seed(seed)
    network = SmallUCN(dimension, width).double().eval()
    torch.nn.init.normal_(network.fine_head.weight, std=0.1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def test_receptive_field_is_as_wide_as_stated() -> None:
    """With positive weights and input nothing is cut off, and the footprint is the whole field."""
    network = SmallUCN(dimension=2, width=2).double().eval()
    for value in network.parameters():
        value.data = torch.rand_like(value) + 0.1
    size = 2 * network.receptive_field + 40
    reached = []
    middle = size // 32 * 8
    for cell in range(middle, middle + 8):
        images = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        network(images)[0, 0, cell, cell].backward()
        assert images.grad is not None
        reached.append(images.grad[0, 0].nonzero() - (cell * network.stride + network.offset))
    farthest = float(torch.cat(reached).abs().max())
    assert 2 * farthest + 1 == network.receptive_field
    # Cells left and right of the middle of one at stride 16 see it from either side.
    assert float(torch.cat(reached).min()) == -float(torch.cat(reached).max())


def test_moving_the_image_moves_the_cells() -> None:
    """By a cell of the coarsest branch, exactly."""
    network = build()
    generator = torch.Generator().manual_seed(0)
    border = network.receptive_field // 2 // network.stride + 2
    images = torch.rand(1, 1, 16, 1200, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        here, moved = (network(images[..., move : 1184 + move]) for move in (0, 16))
    torch.testing.assert_close(
        here[..., border + 8 : 592 - border], moved[..., border : 584 - border], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("size", [(24, 40), (21, 35), (3, 2)])
def test_equal_to_its_definition(size: tuple[int, int]) -> None:
    network = build(seed=sum(size))
    state = network.state_dict()
    images = torch.rand(2, 1, *size, dtype=torch.float64)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        y: Tensor = (x - mean) / (variance + 1e-5).sqrt() * weight + bias
        return y

    def down(x: Tensor, name: str) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1))
        return torch.relu(norm(F.conv2d(padded, state[f"{name}.0.weight"], stride=2), f"{name}.1"))

    def residual(x: Tensor, name: str, dilation: int) -> Tensor:
        y = x
        for layer in ("1", "2"):
            weight = state[f"{name}.conv{layer}.weight"]
            y = norm(
                F.conv2d(y.relu() if layer == "2" else y, weight, None, 1, dilation, dilation),
                f"{name}.norm{layer}",
            )
        return (x + y).relu()

    height, width = (16 * -(-side // 16) for side in size)
    rows = torch.arange(height).clamp(max=size[0] - 1)
    columns = torch.arange(width).clamp(max=size[1] - 1)
    half = down(2 * images[:, :, rows][..., columns] - 1, "down2")
    quarter = down(half, "down4")

    def chain(x: Tensor, name: str) -> Tensor:
        return residual(residual(x, f"{name}.0", 1), f"{name}.1", 2)

    def project(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def twice(x: Tensor) -> Tensor:
        """Cells lie a quarter of the way between those of twice the stride."""
        for axis in (2, 3):
            place = torch.arange(2 * x.shape[axis], dtype=torch.float64) / 2 - 0.25
            place = place.clamp(0, x.shape[axis] - 1)
            low = place.floor().long()
            high = (low + 1).clamp(max=x.shape[axis] - 1)
            shape = [-1 if each == axis else 1 for each in range(4)]
            part = (place - low).view(shape)
            x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
        return x

    eighth = chain(down(quarter, "down8"), "context")
    wide = project(chain(down(eighth, "down16"), "wide"), "wide_lateral")
    context = twice(project(residual(eighth + twice(wide), "mix", 1), "lateral"))
    fused = residual(quarter + context, "fuse", 1)
    corrected = half + twice(project(fused, "fine_lateral"))
    fine = norm(F.conv2d(corrected, state["fine.0.weight"], padding=1), "fine.1").relu()
    features = twice(project(fused, "head")) + F.conv2d(fine, state["fine_head.weight"])
    features = features[..., : -(-size[0] // 2), : -(-size[1] // 2)]
    expected = features / features.square().sum(dim=1, keepdim=True).sqrt()
    with torch.no_grad():
        # The network returns float32.
        torch.testing.assert_close(network(images).double(), expected, atol=1e-6, rtol=0)


def test_compiled_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts that torch.compile is given are the bilinear enlargement, with its gradient."""
    network = build()
    images = torch.rand(1, 1, 40, 56, dtype=torch.float64)
    outcomes = []
    for is_compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda given=is_compiling: given)
        features = network(images)
        outcomes.append(
            (features, *torch.autograd.grad(features[:, 0].sum(), list(network.parameters())))
        )
    for plain, compiled in zip(*outcomes, strict=True):
        torch.testing.assert_close(plain, compiled, atol=1e-6, rtol=1e-6)


def test_bfloat16_changes_little() -> None:
    torch.manual_seed(0)
    network = SmallUCN().eval()
    images = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            fast = network(images.contiguous(memory_format=torch.channels_last))
    assert fast.dtype == torch.float32
    assert ((exact * fast).sum(dim=1) > 0.99).all()


@pytest.mark.parametrize("options", [{"dimension": 0}, {"width": 1}, {"dimension": -3}])
def test_networks_without_channels_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="below"):
        SmallUCN(**options)
