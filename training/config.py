"""What a training run can be told; light, so that the command line starts at once."""

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ucn.config import FrozenConfig
from ucn.preprocessing.shards.format import digest

Option = bool | int | float | str


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
        "data.reader_threads",
        "data.cache_gib",
        "network.weights",
    }
)
"""Options that do not decide the model that results. Shards and weights enter by their digests."""


def _several(value: object) -> object:
    """One folder is a list of one."""
    return (value,) if isinstance(value, str) else value


class TrackingConfig(FrozenConfig):
    """Where MLflow keeps its runs."""

    uri: str = "sqlite:///mlflow.db"
    """Tracking URI. An SQLite file has its artifacts beside it, in `mlartifacts/`."""
    experiment: str = "ucn"
    """Experiment that the runs are filed under."""
    enabled: bool = True
    """False keeps no record in MLflow."""
    model_name: str | None = "ucn"
    """The trained model becomes a new version of this registered model; None registers none."""
    pictures: int = Field(default=2, ge=0)
    """So many validation pairs are drawn with their matches at each validation."""


class DataConfig(FrozenConfig):
    """What is trained on, and what is validated on."""

    shards: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Folders or URIs of the correspondence shards to train on, one or several."""
    weights: tuple[float, ...] | None = None
    """How often each of `shards` is drawn from, relative to the others; None draws every pair of
    all of them equally often."""
    validation_shards: str | None = None
    """Shards of held-out sequences; None measures no validation PCK."""
    validation_pairs: int = Field(default=16, ge=1)
    """At most so many validation pairs, spread evenly over the validation shards."""
    validation_points: int = Field(default=500, ge=1)
    """At most so many points are matched in each validation pair."""
    reader_threads: int = Field(default=2, ge=1)
    """Threads of each worker that decode and augment ahead of the network."""
    cache_gib: float = Field(default=20.0, ge=0)
    """Bound on the local copies of shards that lie in an object store, in GiB; 0 keeps none."""


class NetworkConfig(FrozenConfig):
    """Which network describes the images."""

    name: Literal["small", "googlenet", "resunet"] = "small"
    """`small`: 2.0 M parameters for a CPU; `googlenet`: the network of the paper; `resunet`: those
    of Open-UCN."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Options of that network, such as `dimension`."""
    weights: Path | None = None
    """Published weights to start from, a local file: torchvision's `googlenet` (ImageNet), or a
    checkpoint of Open-UCN for `resunet` (to use it as it is, set the option `centred` to false)."""


class LossConfig(FrozenConfig):
    """What is minimised."""

    name: Literal["contrastive", "hardest_contrastive", "triplet", "infonce", "dual_softmax"] = (
        "infonce"
    )
    """`contrastive`: Eq. 1 of the paper; `hardest_contrastive`: Open-UCN's; `triplet`: the
    positive is nearer than the negative by a margin; `infonce`: cross entropy over all positions;
    `dual_softmax`: cross entropy both ways over the correspondences of a pair."""
    margin: float = Field(default=1.0, gt=0, le=2)
    """Distance of unit features beyond which a negative costs nothing (`contrastive`), or by which
    it is farther than the positive (`triplet`)."""
    positive_margin: float = Field(default=0.1, ge=0, le=4)
    """Squared distance below which a positive costs nothing (`hardest_contrastive`)."""
    negative_margin: float = Field(default=1.4, gt=0, le=2)
    """Distance beyond which a negative costs nothing (`hardest_contrastive`)."""
    temperature: float = Field(default=0.07, gt=0)
    """Softmax temperature of cosine similarities (`infonce`, `dual_softmax`)."""


def _is_group(pool: object) -> object:
    """Convert the former option `mining.pool`: `group` is true, `pair` is false."""
    return {"group": True, "pair": False}.get(str(pool), pool)


class MiningConfig(FrozenConfig):
    """Which wrong positions a point is pushed away from."""

    renamed: ClassVar = {
        "every": "search_stride",
        "pool": ("cross_pair_negatives", _is_group),
    }

    name: Literal["hard", "random"] = "hard"
    """`hard`: the nearest feature of the other image; `random`: any."""
    radius: float = Field(default=5.0, gt=0)
    """Pixels around the true position that never give a negative; also the hit radius. Small ones
    train fine localisation; the paper has 16."""
    search_stride: int = Field(default=1, ge=1, le=8)
    """Stride of the search for negatives, in cells of the map; its offset changes from step to
    step. 1 searches all cells; 2 halves the time of a step of `small`."""
    memory_mib: int = Field(default=64, ge=1)
    """Bound on the similarity matrix that is held at once, in MiB."""
    cross_pair_negatives: bool = False
    """Negatives also come from the images of the other pairs of the group (`group_size`)."""


class AugmentationConfig(FrozenConfig):
    """Random changes of a training pair; each is off at 0."""

    crop_width: int = Field(default=320, ge=32)
    """Width of both crops, pixels."""
    crop_height: int = Field(default=176, ge=32)
    """Height of both crops, pixels."""
    shift: int = Field(default=24, ge=0)
    """Largest shift of one crop's content against the other's beyond the true motion, pixels."""
    mirror: float = Field(default=0.5, ge=0, le=1)
    """Probability that both images are mirrored left to right."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Image 1 is resized by a factor between 1 / (1 + scale) and 1 + scale."""
    rotation: float = Field(default=0.0, ge=0, le=180)
    """Image 1 is turned by an angle up to this, degrees."""
    brightness: float = Field(default=0.15, ge=0, le=1)
    """Largest offset of brightness, as a fraction of white; independent in the two images."""
    contrast: float = Field(default=0.3, ge=0, lt=1)
    """Contrast is multiplied by 1 - contrast to 1 + contrast."""
    gamma: float = Field(default=0.3, ge=0, lt=1)
    """Gamma between 1 / (1 + gamma) and 1 + gamma."""
    noise: float = Field(default=0.02, ge=0, le=1)
    """Largest standard deviation of Gaussian noise, as a fraction of white."""
    blur: float = Field(default=0.0, ge=0, le=5)
    """Largest standard deviation of a Gaussian blur, pixels."""


class OptimiserConfig(FrozenConfig):
    """How the weights follow the gradient."""

    name: Literal["adamw", "sgd"] = "adamw"
    """`adamw`, or `sgd` with Nesterov momentum."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled for `adamw`; weights of convolutions only."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`, first beta of `adamw`."""
    clip_norm: float = Field(default=1.0, gt=0)
    """The gradient is scaled down to this norm."""


class ScheduleConfig(FrozenConfig):
    """Learning rate over time: linear warm-up, then a cosine; average of the weights."""

    renamed: ClassVar = {"average": "ema_decay"}

    warmup_steps: int = Field(default=20, ge=0)
    """Steps of linear warm-up."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """The last step's learning rate as a fraction of the peak."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of an exponential moving average (EMA) of the weights, which is then validated and
    published; 0 is off. At most (1 + step) / (10 + step), which is lower early on."""


class TrainConfig(FrozenConfig):
    """One training run."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    mining: MiningConfig = MiningConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    tracking: TrackingConfig = TrackingConfig()
    output: Path = Path("runs/train")
    """Folder of the model, the checkpoints and the record of the run."""
    steps: int = Field(default=800, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=4, ge=1)
    """Image pairs in a step, over all workers together, whatever their number."""
    group_size: int | None = Field(default=None, ge=1)
    """Pairs that pass the network together: the batch is cut into such groups, shared out among
    the workers, and each worker adds up the gradients of its own. Batch normalisation is over a
    group. None makes groups of two pairs, or of one where the batch is odd."""
    points: int = Field(default=512, ge=1)
    """Correspondences drawn from each pair in a step."""
    min_matches: int = Field(default=32, ge=1)
    """A crop is redrawn, up to ten times, while it holds fewer correspondences than this."""
    seed: int = Field(default=0, ge=0)
    """All random choices derive from it."""
    workers: int = Field(default=1, ge=1)
    """Ray Train workers; the batch is shared out among them."""
    min_workers: int | None = Field(default=None, ge=1)
    """Training starts on as many workers as there is room for, from this number to `workers`, and
    shrinks and grows between them as nodes go and come. None trains on `workers` only."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What each worker trains on. `cuda` is a GPU of its own; on a cluster, GPUs that are not there
    yet are waited for. `auto` is `cuda` if Ray has a GPU when the run starts."""
    threads: int | None = Field(default=None, ge=1)
    """Torch threads of each worker; None shares out the CPUs."""
    bfloat16: bool = True
    """The network runs in bfloat16 (loss and mining stay in float32)."""
    compile: bool = False
    """Compile the network with torch.compile (needs a C++ compiler on a CPU); pays in long runs.
    Its gradient is compared with the network's own before it is trusted."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    validate_every: int = Field(default=100, ge=1)
    """Steps between measurements of validation PCK."""
    best_by: Literal["pck/3", "pck/5", "pck/10"] = "pck/5"
    """Validation score that decides which weights are published: those of the validation where it
    is highest."""
    max_failures: int = Field(default=3, ge=0)
    """How many times dead workers are replaced."""
    overwrite: bool = False
    """Replace what another configuration left in the output folder."""

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
        if self.schedule.warmup_steps >= self.steps:
            raise ValueError(
                f"schedule.warmup_steps: {self.schedule.warmup_steps} leaves nothing of "
                f"{self.steps} steps; lower schedule.warmup_steps or raise steps"
            )
        if self.loss.name in ("infonce", "dual_softmax") and self.mining.name == "random":
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

    @property
    def pairs_in_group(self) -> int:
        """Pairs that pass the network together."""
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
        return digest([options | {"group_size": self.pairs_in_group}, *digests])
