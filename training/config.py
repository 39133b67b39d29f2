"""Configuration of a training run. Light to import: the command line's help needs it."""

import math
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ucn.config import FrozenConfig
from ucn.preprocessing.shards.format import digest
from ucn.registry import is_own
from ucn.storage.addresses import redact
from ucn.storage.stores import absolute_uri
from ucn.training.registry import LOSSES, MINERS, NETWORKS, OVER_ALL

Option = bool | int | float | str

_TRACKING_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")

NOT_CONTENT = frozenset(
    {
        "output",
        "overwrite",
        "tracking",
        "max_failures",
        "threads",
        "workers",
        "min_workers",
        "device",
        "checkpoint_every",
        "mining.memory_mib",
        "data.shards",
        "data.validation_shards",
        "data.readers",
        "data.cache_gib",
        "data.shuffle",
        "data.window_gib",
        "network.weights",
    }
)
"""Options that do not decide the model that results. Shards and weights enter by their digests."""


def _text(value: object) -> object:
    """Accept a path in place of its text."""
    return str(value) if isinstance(value, Path) else value


def _tracking_uri(uri: str) -> str:
    """Refuses what MLflow cannot track to, such as the file stores that it no longer develops."""
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme.partition("+")[0] not in _TRACKING_SCHEMES:
        raise ValueError(
            f"{redact(uri)} is neither a database nor a server; set tracking.uri or "
            "MLFLOW_TRACKING_URI to sqlite:///mlflow.db or http://HOST:5000"
        )
    return uri


class TrackingConfig(FrozenConfig):
    """MLflow tracking."""

    uri: Annotated[str, AfterValidator(_tracking_uri)] = Field(
        default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
        validate_default=True,
    )
    """Tracking URI; by default MLFLOW_TRACKING_URI, else an SQLite file here."""
    experiment: str = Field(
        default_factory=lambda: os.environ.get("MLFLOW_EXPERIMENT_NAME") or "ucn"
    )
    """Name of the experiment; MLFLOW_EXPERIMENT_NAME if set."""
    enabled: bool = True
    """False turns tracking off."""
    model_name: str | None = "ucn"
    """Registered model that the trained one becomes a version of; None registers none."""
    pictures: int = Field(default=2, ge=0)
    """Validation pairs whose matches are drawn at each validation."""


class DataConfig(FrozenConfig):
    """Shards for training and validation."""

    renamed: ClassVar = {"reader_threads": "readers"}

    shards: tuple[str, ...] = ()
    """Folders or URIs of the training shards, one or several."""
    weights: tuple[float, ...] | None = None
    """Relative sampling weight of each of `shards`; None draws all pairs equally often."""
    validation_shards: str | None = None
    """Shards of held-out sequences; None turns validation off."""
    validation_pairs: int = Field(default=16, ge=1)
    """Most validation pairs, spread evenly over the validation shards."""
    validation_points: int = Field(default=500, ge=1)
    """Most points that are matched in a validation pair."""
    readers: int | None = Field(default=None, ge=0)
    """Processes of each worker that read and augment pairs; 0 reads them in the training process.
    None: its CPUs but one, at most 16, with a GPU; else one for every 8 of its CPUs."""
    cache_gib: float = Field(default=20.0, ge=0)
    """Size of the local cache of shards in object stores, GiB; 0 turns it off."""
    shuffle: Literal["global", "windows"] | None = None
    """`global`: random access to all samples. `windows`: tars in random order, copied whole and
    ahead of need, and samples mixed within a window of tars. None: `windows` for shards in an
    object store with a cache, else `global`."""
    window_gib: float | None = Field(default=None, gt=0)
    """Size of a window of tars, GiB; larger ones mix better. The cache must hold two. None: a third
    of `cache_gib`."""

    @property
    def window_bytes(self) -> int | None:
        """Most bytes of the tars of a window; None for the global order."""
        is_remote = any("://" in absolute_uri(uri) for uri in self.shards)
        by_default = "windows" if is_remote and self.cache_gib else "global"
        if (self.shuffle or by_default) == "global":
            return None
        return int((self.window_gib or self.cache_gib / 3) * 2**30)

    @model_validator(mode="after")
    def _window_has_a_size(self) -> Self:
        if self.shuffle == "windows" and not (self.window_gib or self.cache_gib):
            raise ValueError(
                "window_gib: not given, and there is no cache to derive it from; set "
                "data.window_gib, or data.shuffle to global"
            )
        return self


class NetworkConfig(FrozenConfig):
    """The network."""

    name: Annotated[str, AfterValidator(NETWORKS.check)] = "small"
    """`small`: 2.0 M parameters, for CPUs; `googlenet`: the network of the UCN paper; `resunet`:
    the networks of Open-UCN; `efficientnet`: EfficientNet-Lite0 with a feature pyramid, to start
    from ImageNet; or `package.module:Class`, a `DenseNetwork` of your own."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Options of the network. `small`: `dimension`, `width`; `googlenet`: `dimension`,
    `transformer`, `head`; `resunet`: `variant`, `dimension`, `centred`; `efficientnet`:
    `dimension`, `width`, `head`, `blocks`."""
    weights: Path | None = None
    """Local file of published weights to start from: torchvision's `googlenet` (ImageNet), or a
    checkpoint of Open-UCN for `resunet` (with the option `centred` false it gives the published
    features). For `efficientnet`, `imagenet` is the file of the extra `ucn[imagenet]`."""


class LossConfig(FrozenConfig):
    """The loss."""

    name: Annotated[str, AfterValidator(LOSSES.check)] = "infonce"
    """`contrastive`: Eq. 1 of the UCN paper; `hardest_contrastive`: as in Open-UCN; `triplet`:
    triplet margin; `infonce`: cross entropy over all positions; `dual_softmax`: cross entropy in
    both directions over the correspondences of a pair; or `package.module:function`."""
    margin: float = Field(default=1.0, gt=0, le=2)
    """Margin of the feature distance (`contrastive`, `triplet`)."""
    positive_margin: float = Field(default=0.1, ge=0, le=4)
    """Squared distance below which positives have no loss (`hardest_contrastive`)."""
    negative_margin: float = Field(default=1.4, gt=0, le=2)
    """Distance beyond which negatives have no loss (`hardest_contrastive`)."""
    temperature: float = Field(default=0.07, gt=0)
    """Softmax temperature of the cosine similarities (`infonce`, `dual_softmax`)."""


def _is_group(pool: object) -> object:
    """Convert the former option `mining.pool`: `group` is true, `pair` is false."""
    return {"group": True, "pair": False}.get(str(pool), pool)


class MiningConfig(FrozenConfig):
    """How negatives are chosen."""

    renamed: ClassVar = {
        "every": "search_stride",
        "pool": ("cross_pair_negatives", _is_group),
    }

    name: Annotated[str, AfterValidator(MINERS.check)] = "hard"
    """`hard`: the nearest feature of the other image beyond `radius`; `nearest`: the nearest of
    all, dropped if within `radius`, as in the UCN paper; `random`: any beyond `radius`; or
    `package.module:function`."""
    radius: float = Field(default=5.0, gt=0)
    """Exclusion radius around the true position, pixels; also the radius of the hit ratio. The UCN
    paper uses 16; smaller ones train finer localisation."""
    search_stride: int = Field(default=1, ge=1, le=8)
    """Stride of the search for negatives, in cells of the map; its offset changes from step to
    step. 1 searches all cells; 2 halves the time of a step of `small`."""
    memory_mib: int = Field(default=64, ge=1)
    """Most memory for similarities at a time, MiB."""
    cross_pair_negatives: bool = False
    """Negatives also come from the images of the other pairs of the group (`group_size`)."""


class AugmentationConfig(FrozenConfig):
    """Random changes of a training pair; 0 turns one off."""

    crop_width: int = Field(default=320, ge=32)
    """Width of the crops, pixels."""
    crop_height: int = Field(default=176, ge=32)
    """Height of the crops, pixels."""
    shift: int = Field(default=24, ge=0)
    """Largest random offset between the two crops, beyond the true motion, pixels."""
    mirror: float = Field(default=0.5, ge=0, le=1)
    """Probability that both images are mirrored, left to right."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Image 1 is resized by a factor from 1 / (1 + scale) to 1 + scale."""
    rotation: float = Field(default=0.0, ge=0, le=180)
    """Largest rotation of image 1, degrees."""
    brightness: float = Field(default=0.15, ge=0, le=1)
    """Largest offset of brightness, fraction of white; independent in the two images."""
    contrast: float = Field(default=0.3, ge=0, lt=1)
    """Contrast is multiplied by a factor from 1 - contrast to 1 + contrast."""
    gamma: float = Field(default=0.3, ge=0, lt=1)
    """Gamma from 1 / (1 + gamma) to 1 + gamma."""
    noise: float = Field(default=0.02, ge=0, le=1)
    """Largest standard deviation of Gaussian noise, fraction of white."""
    blur: float = Field(default=0.0, ge=0, le=5)
    """Largest standard deviation of Gaussian blur, pixels."""


class OptimiserConfig(FrozenConfig):
    """The optimiser."""

    name: Literal["adamw", "sgd"] = "adamw"
    """`adamw`, or `sgd` with Nesterov momentum."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of the convolutions' weights; decoupled for `adamw`."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`, first beta of `adamw`."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; larger ones are scaled down."""


class ScheduleConfig(FrozenConfig):
    """Learning rate schedule (linear warm-up, then decay) and EMA of the weights."""

    renamed: ClassVar = {"average": "ema_decay"}

    warmup_steps: int = Field(default=20, ge=0)
    """Steps of linear warm-up. A shorter run reaches the peak in its last step."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate of the last step, as a fraction of the peak."""
    decay: Literal["cosine", "exponential"] = "cosine"
    """Decay from the peak to `final_fraction`: half a cosine, or an equal factor each step."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of an exponential moving average (EMA) of the weights, which is then validated and
    published; 0 is off. At most (1 + step) / (10 + step), which is lower early on."""


class TrainConfig(FrozenConfig):
    """A training run."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    mining: MiningConfig = MiningConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    output: Annotated[str, BeforeValidator(_text)] = "runs/train"
    """Folder or URI of all results: model, checkpoints, state of the run."""
    steps: int = Field(default=800, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=4, ge=1)
    """Image pairs in a step, over all workers together."""
    group_size: int | None = Field(default=None, ge=1)
    """Pairs that pass the network together; batch normalisation is over a group. The groups of a
    batch are distributed over the workers. None: two, or one if the batch size is odd."""
    points: int = Field(default=512, ge=1)
    """Most correspondences of a pair in a step, chosen at random."""
    min_matches: int = Field(default=32, ge=1)
    """A crop with fewer correspondences is drawn again, up to ten times."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random choices."""
    workers: int = Field(default=1, ge=1)
    """Ray Train workers; the batch is distributed over them."""
    min_workers: int | None = Field(default=None, ge=1)
    """Fewest workers of an elastic run, which has from `min_workers` to `workers` workers as nodes
    come and go. None: always `workers`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of each worker. `cuda`: one GPU a worker; a cluster waits until it has them. `auto`:
    `cuda` if Ray has usable GPUs when the run starts, else `cpu`."""
    threads: int | None = Field(default=None, ge=1)
    """Torch threads of each worker; None: its share of the CPUs (of the container's quota)."""
    bfloat16: bool | None = None
    """Run the network in bfloat16; loss and mining stay in float32. None: on GPUs since Ampere and
    CPUs with AMX or AVX512-BF16; on others float32 is faster."""
    compile: bool = False
    """Compile the network with torch.compile, for long runs; on a CPU this needs a C++ compiler.
    The gradient of the compiled network is checked first."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    validate_every: int = Field(default=100, ge=1)
    """Steps between measurements of validation PCK."""
    best_by: Literal["pck/3", "pck/5", "pck/10"] = "pck/5"
    """Validation score that chooses the weights to publish: those with the highest score."""
    max_failures: int = Field(default=3, ge=0)
    """Most failures of workers that the run recovers from."""
    overwrite: bool = False
    """Replace another training in the output folder."""

    @model_validator(mode="after")
    def _combination_is_possible(self) -> Self:
        if self.batch_size % self.pairs_in_group:
            raise ValueError(
                f"group_size: a batch of {self.batch_size} pairs cannot be cut into groups of "
                f"{self.group_size}; set batch_size to a multiple of group_size"
            )
        if self.workers > self.groups:
            raise ValueError(
                f"workers: {self.workers} share {self.groups} groups of {self.pairs_in_group} "
                "pairs; lower workers or group_size, or raise batch_size"
            )
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers: {self.min_workers}, but workers: {self.workers} are the most; lower "
                "min_workers or raise workers"
            )
        if self.schedule.decay == "exponential" and not self.schedule.final_fraction:
            raise ValueError(
                "schedule.final_fraction: 0, which no exponential decay reaches; raise it, or set "
                "schedule.decay to cosine"
            )
        if self.loss.name in OVER_ALL and self.mining.name != "hard":
            raise ValueError(
                f"mining.name: {self.loss.name} takes all positions as negatives; set mining.name "
                "to hard"
            )
        if self.mining.cross_pair_negatives and self.pairs_in_group == 1:
            raise ValueError(
                "mining.cross_pair_negatives: there are no other pairs in a group of one; raise "
                "group_size, or set mining.cross_pair_negatives to false"
            )
        if min(self.augmentation.crop_width, self.augmentation.crop_height) <= (
            2 * self.mining.radius
        ):
            raise ValueError(
                f"mining.radius: {self.mining.radius} px leaves no negatives in a crop; lower "
                "mining.radius or raise augmentation.crop_width and augmentation.crop_height"
            )
        return self

    @model_validator(mode="after")
    def _own_code_is_there(self) -> Self:
        """Imports the user's own network, loss and miner, before anything starts."""
        if is_own(self.network.name):
            NETWORKS.load(self.network.name)
        if is_own(self.loss.name):
            LOSSES.load(self.loss.name)
        if is_own(self.mining.name):
            MINERS.load(self.mining.name)
        return self

    @property
    def pairs_in_group(self) -> int:
        """Pairs that pass the network together; `group_size` with its default."""
        return self.group_size or math.gcd(self.batch_size, 2)

    @property
    def groups(self) -> int:
        """Groups in a global batch."""
        return self.batch_size // self.pairs_in_group

    def fingerprint(self, *digests: str | None) -> str:
        """Identify what decides the model that results.

        Options at their defaults do not enter, nor do paths, tracking, failure handling, and the
        number and the device of the workers.

        Args:
            digests: of all inputs: the training and the validation shards' manifests, and the
                published weights.

        Returns:
            SHA-256, hex.
        """
        options = self.identity(exclude=NOT_CONTENT | {"group_size"})
        if self.data.window_bytes is not None:
            options["window_bytes"] = self.data.window_bytes
        return digest([options | {"group_size": self.pairs_in_group}, *digests])
