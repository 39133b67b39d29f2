"""What an evaluation can be told; light, so that the command line starts at once."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tyro
from pydantic import BeforeValidator, Field, model_validator

from ucn.config import FrozenConfig
from ucn.training.config import TrackingConfig

Baseline = Literal[
    "sift",
    "daisy",
    "hog",
    "surf",
    "kaze",
    "akaze",
    "orb",
    "brisk",
    "googlenet",
    "dis",
    "farneback",
    "tvl1",
    "ilk",
    "deepflow",
    "pcaflow",
    "simpleflow",
    "sparse_to_dense",
]
Detector = Literal["sift", "fast", "given"]
Scales = Literal[1, 3, 5]
SECOND_RADIUS_PX = 8.0
"""What lies nearer to a match looks like it, and is no second candidate in the ratio test."""
Estimator = Literal["poselib", "opencv-magsac", "opencv-ransac"]


def _as_tuple(value: Any) -> Any:
    """One value where several are possible."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def _strings(value: Any) -> Any:
    return () if value is None else _as_tuple(value)


class MatchingConfig(FrozenConfig):
    """How a point of image 0 finds its match in image 1."""

    grid_step: int = Field(default=2, ge=1)
    """Every grid_step-th pixel of the other image is searched, in x and in y."""
    reciprocity_px: float = Field(default=4.0, ge=0)
    """A match is reciprocal when the search back lands within so many pixels of its start; 0 turns
    the search back off. Pose uses reciprocal matches only; PCK never filters."""
    subpixel: bool = True
    """Move matches to the top of a parabola through the similarities at the neighbours on the grid;
    without it a match is a pixel of the grid."""
    scales: Scales = 1
    """Describe each image at so many sizes, half an octave apart around its own, and compare at all
    relative scales: slower, and far better where things grow or shrink. 1: as they are."""
    second_radius_px: float = Field(default=SECOND_RADIUS_PX, gt=0)
    """For the ratio test: the second best match lies farther than this from the best."""
    memory_mib: int = Field(default=256, ge=1)
    """Bound on the matrix of similarities that is held at once."""


class PoseConfig(FrozenConfig):
    """How the relative pose is estimated from the matches of a rigid pair."""

    estimators: tuple[Estimator, ...] = ("opencv-magsac", "poselib", "opencv-ransac")
    """Robust estimators, side by side; the first gives `pose/...`. Empty: no pose."""
    thresholds_px: Annotated[tuple[float, ...], BeforeValidator(_as_tuple)] = Field(
        default=(1.0,), min_length=1
    )
    """Largest epipolar error of an inlier, pixels. The first gives the plain figures, each further
    one `pose/ESTIMATOR/threshold_T/...`."""
    homography_threshold_px: float = Field(default=2.0, gt=0)
    """The same of a homography, for pairs where it is known; estimators and seeds are shared."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Each estimate is repeated with each seed; figures are means over the seeds."""
    min_parallax_px: float = Field(default=1.0, ge=0)
    """A pair whose true median parallax is smaller stands still: its translation has no direction
    and is not scored; its rotation is."""
    min_baseline_m: float = Field(default=0.05, ge=0)
    """So does a pair that moves less than this, where the unit is the metre: the direction of so
    small a true motion is noise (GPS and inertial positions jitter by centimetres)."""


class EvaluateConfig(FrozenConfig):
    """One evaluation: a model and baselines on the same points of one or more sets of shards."""

    shards: tuple[str, ...] = ()
    """Folders or URIs of shards. The first gives the plain metric names, each further one
    `NAME/...`, where NAME is the name of its folder."""
    model: Annotated[tuple[str, ...], BeforeValidator(_strings)] = ()
    """Folders or URIs of trained models, also as NAME=FOLDER; `shipped` is the one that comes with
    the project. The first gives the plain metric
    names, each further one `model/NAME/...`. None evaluates the baselines alone."""
    baselines: tuple[Baseline, ...] = ("sift", "daisy")
    """Methods beside it, without training: descriptors at every point (sift to googlenet) and
    optical flow (dis to sparse_to_dense)."""
    googlenet_weights: Path | None = None
    """ImageNet weights of torchvision's GoogLeNet, .pth or .safetensors, for the baseline
    `googlenet`."""
    points: int = Field(default=1000, ge=1)
    """At most so many true correspondences are asked for in a pair; the same for every method."""
    pairs: int = Field(default=0, ge=0)
    """At most so many pairs of each set, spread evenly over it; 0 for all."""
    seed: int = Field(default=0, ge=0)
    """Which points are asked for derives from this and the number of the pair."""
    thresholds: tuple[int, ...] = Field(default=(1, 3, 5, 10), min_length=1)
    """Pixels T of the reported PCK@T; from 1 to 50."""
    alphas: tuple[float, ...] = (0.025, 0.05, 0.1)
    """Pairs of labelled keypoints have PCK at alpha * L as well, L of the image and of the box."""
    displacement_bins_px: tuple[float, ...] = (10, 30, 100)
    """Where the bins by how far a point moves in the image meet; the first begins at 0, the last is
    open. None: one bin."""
    depth_bins_m: tuple[float, ...] = (10, 20, 40)
    """The same by depth, where it is known in metres."""
    sparse: tuple[Detector, ...] = ()
    """Sparse protocol beside the dense one: points that a detector sees in image 0 are matched to
    its keypoints in image 1; `given` matches the true points among each other."""
    keypoints: int = Field(default=2000, ge=1)
    """Most keypoints of an image in the sparse protocol, the strongest."""
    filters: bool = False
    """Precision and recall of reciprocity, stability, ratio and similarity: more searches."""
    patches: tuple[Path, ...] = ()
    """Folders of Brown's patches (liberty, notredame, yosemite): FPR95 of each descriptor."""
    matching: MatchingConfig = MatchingConfig()
    pose: PoseConfig = PoseConfig()
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    """What others report, as `TITLE: {METRIC: VALUE}`: shown below the figures of the first set."""
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
        if not self.shards and not self.patches:
            raise ValueError("nothing to evaluate on: give --shards or --patches")
        if not self.model and not self.baselines:
            raise ValueError("nothing to evaluate: give --model or --baselines")
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
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("a baseline is given twice; change --baselines")
        return self
