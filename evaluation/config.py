"""Configuration of an evaluation. Fast to import, since the command line's help needs it."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tyro
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ucn.config import FrozenConfig
from ucn.evaluation.methods.baselines.registry import BASELINES, method_name
from ucn.training.config import TrackingConfig

Detector = Literal["sift", "fast", "given"]
PoseQueries = Literal["stored", "sift", "fast", "corners", "grid"]
Scales = Literal[1, 3, 5]
SECOND_RADIUS_PX = 8.0
"""Positions within this radius of the best match are not candidates for the second best."""
Estimator = Literal["poselib", "opencv-magsac", "opencv-ransac"]


def _none_as_empty(value: Any) -> Any:
    return () if value is None else value


class MatchingConfig(FrozenConfig):
    """Options for matching points of image 0 to image 1."""

    grid_step: int = Field(default=2, ge=1)
    """Step of the searched positions, in x and in y, pixels."""
    reciprocity_px: float = Field(default=4.0, ge=0)
    """Largest forward-backward error of a reciprocal match, pixels. Only reciprocal matches are
    used for pose; PCK uses all. 0 disables the check."""
    subpixel: bool = True
    """Refine matches to the maximum of the similarity between the searched positions."""
    scales: Scales = 1
    """Number of image scales, half an octave apart, for large scale changes. 1 is fastest."""
    second_radius_px: float = Field(default=SECOND_RADIUS_PX, gt=0)
    """Minimum distance from the best match to the second best in the ratio test, pixels."""
    memory_mib: int = Field(default=256, ge=1)
    """Memory bound of the similarity matrix, MiB."""
    pose_queries: tuple[PoseQueries, ...] = ("stored",)
    """Points of image 0 matched for the pose: stored, or of a detector. Empty: no pose.
    The first gives `pose/...`, further ones `pose_NAME/...`."""


class PoseConfig(FrozenConfig):
    """Options for estimating the relative pose from the matches of a rigid pair."""

    estimators: tuple[Estimator, ...] = ("opencv-magsac", "poselib", "opencv-ransac")
    """Robust estimators. The first one gives `pose/...`. Empty disables pose."""
    thresholds_px: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    """Inlier thresholds on the epipolar error, pixels. Thresholds after the first give
    `pose/ESTIMATOR/threshold_T/...`."""
    homography_threshold_px: float = Field(default=2.0, gt=0)
    """Inlier threshold for homographies, pixels in image 1."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Random seeds. Each estimate is repeated with each seed, and results are averaged."""
    min_parallax_px: float = Field(default=1.0, ge=0)
    """Minimum median parallax for a translation error, pixels. Below, only rotation is scored."""
    min_baseline_m: float = Field(default=0.05, ge=0)
    """Minimum baseline for a translation error, metres. Below, only rotation is scored."""


class EvaluateConfig(FrozenConfig):
    """Evaluation of models and baselines on the same points of one or more sets of shards."""

    shards: tuple[str, ...] = ()
    """Folders or URIs of shards. Metrics of sets after the first are named `NAME/...`, after the
    folder."""
    model: Annotated[tuple[str, ...], BeforeValidator(_none_as_empty)] = ()
    """Folders or URIs of trained models, optionally as NAME=FOLDER; `shipped` is the bundled one.
    Metrics of models after the first are named `model/NAME/...`. None evaluates baselines only."""
    imports: tuple[str, ...] = ()
    """Modules of your own to import first, such as that of a model's network."""
    baselines: tuple[Annotated[str, AfterValidator(BASELINES.check)], ...] = Field(
        default=("sift", "daisy"),
        description=f"Baselines to compare with: {', '.join(BASELINES.builtin)}; or "
        "package.module:Class of your own.",
    )
    baseline_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of baselines, as `BASELINE: {OPTION: VALUE}`."""
    external: tuple[str, ...] = ()
    """Matches made elsewhere, as NAME=DIR: DIR/KEY.flo, or DIR/KEY.npz with `matches`."""
    googlenet_weights: Path | None = None
    """Weights of torchvision's GoogLeNet for the baseline `googlenet`, .pth or .safetensors."""
    points: int = Field(default=1000, ge=1)
    """Maximum number of points evaluated per pair, the same for all methods."""
    pairs: int = Field(default=0, ge=0)
    """Maximum number of pairs per set, spread evenly. 0 uses all."""
    seed: int = Field(default=0, ge=0)
    """Random seed for the choice of points."""
    thresholds: tuple[int, ...] = Field(default=(1, 3, 5, 10), min_length=1)
    """Thresholds T of PCK@T, pixels, from 1 to 50."""
    alphas: tuple[float, ...] = (0.025, 0.05, 0.1)
    """Thresholds of PCK at alpha times the image or box size, for labelled keypoints."""
    displacement_bins_px: tuple[float, ...] = (10, 30, 100)
    """Inner edges of the displacement bins, pixels. None gives one bin."""
    depth_bins_m: tuple[float, ...] = (10, 20, 40)
    """Inner edges of the depth bins, metres."""
    sparse: tuple[Detector, ...] = ()
    """Detectors for sparse matching, in addition to dense. `given` uses the true points."""
    keypoints: int = Field(default=2000, ge=1)
    """Maximum number of keypoints of a detector in an image."""
    filters: bool = False
    """Compute precision and recall of match filters. Slower."""
    patches: tuple[Path, ...] = ()
    """Folders of Brown's patches (liberty, notredame, yosemite), for FPR95."""
    matching: MatchingConfig = MatchingConfig()
    pose: PoseConfig = PoseConfig()
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Published results to show for the first set, as `TITLE: {METRIC: VALUE}`."""
    pictures: int = Field(default=3, ge=0)
    """Number of pairs drawn per set, from the best to the worst."""
    workers: int = Field(default=0, ge=0)
    """Number of parallel processes. 0 uses all CPUs, and all GPUs with `workers_per_gpu`. Results
    do not depend on it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the networks. `cuda`: a cluster waits for GPUs. `auto`: `cuda` if Ray has usable
    GPUs when the evaluation starts, else `cpu`."""
    workers_per_gpu: int = Field(default=4, ge=1)
    """Maximum number of workers that share a GPU."""
    output: Path = Path("runs/evaluate")
    """Output folder for the report, tables and pictures."""
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Additional JSON file for the metrics."""
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    run_name: str = "evaluate"
    """Name of the MLflow run; the names of the sets are added."""

    @model_validator(mode="after")
    def _has_a_method(self) -> Self:
        if not self.shards and not self.patches:
            raise ValueError("nothing to evaluate on: give --shards or --patches")
        if not self.model and not self.baselines and not self.external:
            raise ValueError("nothing to evaluate: give --model or --baselines or --external")
        if ("googlenet" in self.baselines) != (self.googlenet_weights is not None):
            raise ValueError("--baselines googlenet and --googlenet-weights FILE go together")
        for name, edges in (
            ("displacement-bins-px", self.displacement_bins_px),
            ("depth-bins-m", self.depth_bins_m),
        ):
            if any(not low < high < math.inf for low, high in pairwise((0, *edges))):
                raise ValueError(f"bins meet at positive, increasing values; change --{name}")
        if not all(0 < alpha <= 1 for alpha in self.alphas):
            raise ValueError("alphas lie between 0 and 1; change --alphas")
        if not all(threshold > 0 for threshold in self.pose.thresholds_px):
            raise ValueError("inlier thresholds are positive; change --pose.thresholds-px")
        if not all(1 <= threshold <= 50 for threshold in self.thresholds):
            raise ValueError("thresholds lie between 1 and 50 px; change --thresholds")
        if len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError("a threshold is given twice; change --thresholds")
        if len(set(self.matching.pose_queries)) < len(self.matching.pose_queries):
            raise ValueError("queries are given twice; change --matching.pose-queries")
        if len({method_name(name) for name in self.baselines}) < len(self.baselines):
            raise ValueError("a baseline is given twice; change --baselines")
        if unused := self.baseline_options.keys() - set(self.baselines):
            raise ValueError(f"baseline_options of {min(unused)}: add it to --baselines")
        return self
