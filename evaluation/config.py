"""What an evaluation can be told; light, so that the command line starts at once."""

from pathlib import Path
from typing import Annotated, Literal, Self

import tyro
from pydantic import Field, model_validator

from preprocessing.config import Part
from training.config import TrackingConfig

Baseline = Literal["sift", "daisy"]
Estimator = Literal["poselib", "opencv-magsac", "opencv-ransac"]


class MatchingConfig(Part):
    """How a point of image 0 finds its match in image 1."""

    grid_step: int = Field(default=2, ge=1)
    """Every grid_step-th pixel of the other image is searched, in x and in y."""
    reciprocity_px: float = Field(default=4.0, ge=0)
    """A match is reciprocal when the search back lands within so many pixels of its start; 0 turns
    the search back off. Pose uses reciprocal matches only; PCK never filters."""
    memory_mib: int = Field(default=256, ge=1)
    """Bound on the matrix of similarities that is held at once."""


class PoseConfig(Part):
    """How the relative pose is estimated from the matches of a rigid pair."""

    estimators: tuple[Estimator, ...] = ("opencv-magsac", "poselib", "opencv-ransac")
    """Robust estimators, side by side; the first gives `pose/...`. Empty: no pose."""
    threshold_px: float = Field(default=1.0, gt=0)
    """Largest epipolar error of an inlier, pixels."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Each estimate is repeated with each seed; figures are means over the seeds."""
    min_parallax_px: float = Field(default=1.0, ge=0)
    """A pair whose true median parallax is smaller stands still: its translation has no direction
    and is not scored; its rotation is."""
    min_baseline_m: float = Field(default=0.05, ge=0)
    """So does a pair that moves less than this, where the unit is the metre: the direction of so
    small a true motion is noise (GPS and inertial positions jitter by centimetres)."""


class EvaluateConfig(Part):
    """One evaluation: a model and baselines on the same points of one or more sets of shards."""

    shards: tuple[str, ...] = Field(min_length=1)
    """Folders or URIs of shards. The first gives the plain metric names, each further one
    `NAME/...`, where NAME is the name of its folder."""
    model: str | None = None
    """Folder of a trained model; None evaluates the baselines alone."""
    baselines: tuple[Baseline, ...] = ("sift", "daisy")
    """Hand-made descriptors beside it: dense RootSIFT and dense DAISY."""
    points: int = Field(default=1000, ge=1)
    """At most so many true correspondences are asked for in a pair; the same for every method."""
    pairs: int = Field(default=0, ge=0)
    """At most so many pairs of each set, spread evenly over it; 0 for all."""
    seed: int = Field(default=0, ge=0)
    """Which points are asked for derives from this and the number of the pair."""
    thresholds: tuple[int, ...] = Field(default=(1, 3, 5, 10), min_length=1)
    """Pixels T of the reported PCK@T; from 1 to 50."""
    matching: MatchingConfig = MatchingConfig()
    pose: PoseConfig = PoseConfig()
    pictures: int = Field(default=3, ge=0)
    """Pairs of each set that are drawn: the best, the worst, and evenly ranked ones between."""
    workers: int = Field(default=0, ge=0)
    """Processes that evaluate pairs; 0 for one on each CPU. The figures do not depend on it."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the network runs; `cuda` takes one GPU for each worker."""
    output: Path = Path("runs/evaluate")
    """Folder of the report, its tables and its pictures."""
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the metrics here, under the same names as in MLflow."""
    tracking: TrackingConfig = TrackingConfig()
    run_name: str = "evaluate"
    """Name of the run in MLflow."""

    @model_validator(mode="after")
    def _has_a_method(self) -> Self:
        if self.model is None and not self.baselines:
            raise ValueError("nothing to evaluate: give --model or --baselines")
        if not all(1 <= threshold <= 50 for threshold in self.thresholds):
            raise ValueError("thresholds lie between 1 and 50 px; change --thresholds")
        if len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError("a threshold is given twice; change --thresholds")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("a baseline is given twice; change --baselines")
        return self
