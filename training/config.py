"""What a training run can be told; light, so that the command line starts at once."""

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from preprocessing.config import Part

Option = bool | int | float | str


class TrackingConfig(Part):
    """Where MLflow keeps its runs."""

    uri: str = "sqlite:///mlflow.db"
    """Tracking URI. An SQLite file has its artifacts beside it, in `mlartifacts/`."""
    experiment: str = "ucn"
    """Experiment that the runs are filed under."""
    enabled: bool = True
    """False keeps no record in MLflow."""


class DataConfig(Part):
    """What is trained on, and what is validated on."""

    shards: str = ""
    """Folder or URI of the correspondence shards to train on."""
    validation_shards: str | None = None
    """Shards of held-out sequences; None measures no validation PCK."""
    validation_pairs: int = Field(default=16, ge=1)
    """At most so many validation pairs, spread evenly over the validation shards."""
    validation_points: int = Field(default=500, ge=1)
    """At most so many points are matched in each validation pair."""
    reader_threads: int = Field(default=2, ge=1)
    """Threads of each worker that decode and augment ahead of the network."""


class NetworkConfig(Part):
    """Which network describes the images."""

    name: Literal["small", "googlenet"] = "small"
    """`small`: 1.1 M parameters for a CPU; `googlenet`: the network of the paper."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Options of that network, such as `dimension`."""


class LossConfig(Part):
    """What is minimised."""

    name: Literal["contrastive", "infonce"] = "infonce"
    """`contrastive`: Eq. 1 of the paper; `infonce`: cross entropy over all positions."""
    margin: float = Field(default=1.0, gt=0, le=2)
    """Distance of unit features beyond which a negative costs nothing (`contrastive`)."""
    temperature: float = Field(default=0.07, gt=0)
    """Softmax temperature of cosine similarities (`infonce`)."""


class MiningConfig(Part):
    """Which wrong positions a point is pushed away from."""

    name: Literal["hard", "random"] = "hard"
    """`hard`: the nearest feature of the other image; `random`: any."""
    radius: float = Field(default=5.0, gt=0)
    """Pixels around the true position that never give a negative; also the hit radius. Small ones
    train fine localisation; the paper has 16."""
    memory_mib: int = Field(default=64, ge=1)
    """Bound on the similarity matrix that is held at once, in MiB."""


class AugmentationConfig(Part):
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


class OptimiserConfig(Part):
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


class ScheduleConfig(Part):
    """Learning rate over time: linear warm-up, then a cosine."""

    warmup_steps: int = Field(default=20, ge=0)
    """Steps of linear warm-up."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """The last step's learning rate as a fraction of the peak."""


class TrainConfig(Part):
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
    """Image pairs in a step, over all workers together."""
    points: int = Field(default=512, ge=1)
    """Correspondences drawn from each pair in a step."""
    min_matches: int = Field(default=32, ge=1)
    """A crop is redrawn, up to ten times, while it holds fewer correspondences than this."""
    seed: int = Field(default=0, ge=0)
    """All random choices derive from it."""
    workers: int = Field(default=1, ge=1)
    """Ray Train workers; the batch is shared out among them."""
    threads: int | None = Field(default=None, ge=1)
    """Torch threads of each worker; None shares out the CPUs."""
    bfloat16: bool = True
    """The network runs in bfloat16 (loss and mining stay in float32)."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    validate_every: int = Field(default=100, ge=1)
    """Steps between measurements of validation PCK."""
    max_failures: int = Field(default=3, ge=0)
    """How many times dead workers are replaced."""
    overwrite: bool = False
    """Replace what another configuration left in the output folder."""

    @model_validator(mode="after")
    def _combination_is_possible(self) -> Self:
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size: {self.batch_size} pairs cannot be shared out among "
                f"{self.workers} workers; set batch_size to a multiple of workers"
            )
        if self.schedule.warmup_steps >= self.steps:
            raise ValueError(
                f"schedule.warmup_steps: {self.schedule.warmup_steps} leaves nothing of "
                f"{self.steps} steps; lower schedule.warmup_steps or raise steps"
            )
        if self.loss.name == "infonce" and self.mining.name == "random":
            raise ValueError(
                "mining.name: infonce takes all positions as negatives; set mining.name to hard"
            )
        if min(self.augmentation.crop_width, self.augmentation.crop_height) <= (
            2 * self.mining.radius
        ):
            raise ValueError(
                f"mining.radius: {self.mining.radius} px leaves no negatives in a crop; lower "
                "mining.radius or raise augmentation.crop_width and augmentation.crop_height"
            )
        return self

    def fingerprint(self, data_digests: tuple[str | None, str | None]) -> str:
        """Identify what decides the model that results.

        Args:
            data_digests: manifest digests of the training and the validation shards.

        Returns:
            SHA-256, hex. Paths, tracking, failure handling and the number of workers do not enter.
        """
        values = self.model_dump(
            mode="json",
            exclude={
                "output": True,
                "overwrite": True,
                "tracking": True,
                "max_failures": True,
                "threads": True,
                "workers": True,
                "checkpoint_every": True,
                "mining": {"memory_mib"},
                "data": {"shards", "validation_shards", "reader_threads"},
            },
        )
        text = json.dumps([values, *data_digests], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
