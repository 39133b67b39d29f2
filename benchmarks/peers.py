"""R2D2 on the same points as the shipped model and SIFT, dense and at its own keypoints.

    git clone https://github.com/naver/r2d2 R2D2
    python benchmarks/peers.py --r2d2 R2D2 --shards SHARDS --out FOLDER

R2D2 (Revaud et al., NeurIPS 2019) runs unmodified, with the weights of its checkout
(`models/r2d2_WASF_N16.pt`). Its licence excludes commercial use. It is evaluated in two ways:

- dense: its descriptors at full resolution, one size, matched as those of every other method;
- sparse: the keypoints and scales of its `extract.py` with default thresholds, mutual nearest
  neighbours. It scales positions about the centre of the first pixel, which is left as it is.

ALIKED (Zhao et al., TIM 2023) is left out: its network needs `torchvision.ops.deform_conv2d`, and
its `forward` a CUDA device.
"""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr

from ucn.cluster.session import ray_session
from ucn.errors import UserError
from ucn.evaluation.config import EvaluateConfig
from ucn.evaluation.job import evaluate
from ucn.evaluation.methods.baselines.base import Baseline, KeypointMatcher, PointDescriber
from ucn.evaluation.methods.baselines.sparse_keypoints import (
    Keypoints,
    match_keypoints,
    strongest,
)
from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.features import sample_features
from ucn.training.config import TrackingConfig

WEIGHTS = "models/r2d2_WASF_N16.pt"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB from 0 to 1, as in R2D2's `tools/dataloader.py`."""


class R2D2(Baseline):
    """R2D2's network."""

    folder: Path
    """Checkout of R2D2."""

    _network: Any = PrivateAttr()

    def model_post_init(self, context: object) -> None:
        self._network = load_r2d2(self.folder)


class R2D2Dense(R2D2, PointDescriber):
    """Describes points by bilinear samples of R2D2's descriptors [N, 128]."""

    title: ClassVar = "R2D2, dense"

    @torch.no_grad()
    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        features_BDHW = self._network(imgs=[rgb_tensor(image)])["descriptors"][0]
        described: Floats = sample_features(
            features_BDHW[0], torch.from_numpy(points_N2), stride=1, offset=0
        ).numpy()
        return described


class R2D2Keypoints(R2D2, KeypointMatcher):
    """Mutual nearest neighbours among R2D2's keypoints at all its scales."""

    title: ClassVar = "R2D2, own keypoints"

    keypoints: int = Field(default=2000, ge=1)
    """Maximum number of keypoints per image, the strongest."""

    def match_pair(self, image0: Pixels, image1: Pixels) -> Floats:
        return match_keypoints(self._extract(image0), self._extract(image1), ratio=None)

    def _extract(self, image: Pixels) -> Keypoints:
        extract = import_extract(self.folder)
        found_M3, described_MD, strength_M = extract.extract_multiscale(
            self._network, rgb_tensor(image), extract.NonMaxSuppression()
        )
        return strongest(
            found_M3[:, :2].numpy(), described_MD.numpy(), strength_M.numpy(), self.keypoints
        )


def load_r2d2(folder: Path) -> Any:
    """R2D2's network with its published weights.

    Raises:
        UserError: the folder is no checkout of R2D2.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise UserError(f"{path}: no such file; give --r2d2 a checkout of github.com/naver/r2d2")
    weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    network = import_extract(folder).Quad_L2Net_ConfCFS()
    network.load_state_dict({name.removeprefix("module."): one for name, one in weights.items()})
    return network.eval()


def import_extract(folder: Path) -> Any:
    """R2D2's `extract.py`, without the module that it takes only `norm_RGB` from.

    That module needs torchvision. `rgb_tensor` does the same.
    """
    loader = ModuleType("tools.dataloader")
    loader.__dict__["norm_RGB"] = rgb_tensor
    sys.modules["tools.dataloader"] = loader
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module("extract")


def rgb_tensor(image: Pixels) -> torch.Tensor:
    """Normalised RGB [1, 3, H, W] of an image, uint8 [H, W] or [H, W, 3]."""
    pixels = torch.from_numpy(image).float() / 255
    rgb_HW3 = pixels if pixels.dim() == 3 else pixels[:, :, None].expand(-1, -1, 3)
    normalised_HW3 = (rgb_HW3 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return normalised_HW3.permute(2, 0, 1)[None].contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--r2d2", type=Path, required=True, help="checkout of R2D2")
    parser.add_argument("--shards", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", nargs="*", default=["shipped"])
    parser.add_argument("--pairs", type=int, default=6, help="at most so many of each set")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--keypoints", type=int, default=2000, help="of the sparse methods")
    options = parser.parse_args()
    peer = {"folder": options.r2d2.resolve()}
    config = EvaluateConfig(
        shards=tuple(options.shards),
        model=tuple(options.model),
        baselines=("sift", "sparse-sift", "peers:R2D2Dense", "peers:R2D2Keypoints"),
        baseline_options={
            "peers:R2D2Dense": peer,
            "peers:R2D2Keypoints": peer | {"keypoints": options.keypoints},
        },
        keypoints=options.keypoints,
        points=options.points,
        pairs=options.pairs,
        thresholds=(1, 3, 10),
        pictures=0,
        output=options.out,
        tracking=TrackingConfig(enabled=False),
    )
    with ray_session(None):
        print(evaluate(config).markdown)


if __name__ == "__main__":
    main()
