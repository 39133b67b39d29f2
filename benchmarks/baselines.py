"""All baselines, and models if given, on the sample data: one table a dataset.

    python benchmarks/baselines.py --data SAMPLES --out FOLDER [--model NAME=FOLDER ...]

SAMPLES holds pieces of public datasets in their official layouts (the constant `SETS` names the
folders). Everything is made into shards below FOLDER and evaluated by `ucn evaluate`'s job; a rerun
does only what is missing. Photos with known poses but no correspondences have the pose errors of a
dense matching of their corners.
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np

from ucn.cluster.session import ray_session
from ucn.evaluation.config import Baseline, EvaluateConfig, MatchingConfig, PoseConfig
from ucn.evaluation.export.match import corner_points
from ucn.evaluation.job import evaluate
from ucn.evaluation.methods.build import Method, build_methods, method_labels
from ucn.evaluation.methods.dense import PointMatches, match_directly, match_points
from ucn.evaluation.scores.pose import estimate_pose, pose_error
from ucn.images.read import read_photo
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sources.registry import SOURCES
from ucn.training.config import TrackingConfig

SETS: dict[str, dict[str, Any]] = {
    "kitti": {"source": "kitti-raw", "root": "kitti_raw", "gaps": (1, 2, 5)},
    "sintel": {"source": "sintel", "root": "MPI-Sintel", "passes": ("clean",), "split": "all"},
    "rubberwhale": {"source": "flow-folder", "root": "middlebury_flow"},
    "chairs": {"source": "flow-folder", "root": "flying_chairs"},
    "graf": {"source": "oxford-affine", "root": "oxford_affine"},
    "cub": {"source": "cub", "root": "CUB_200_2011", "min_matches": 4},
}
"""Options of each set's source, its root below the sample data."""
SLOW = ("tvl1", "simpleflow")
"""Left out unless asked for: many seconds a pair."""
POSED = "pairs_with_pose/mobilebrick"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", nargs="*", default=[])
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--pairs", type=int, default=12, help="at most so many of each set")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--slow", action="store_true", help=f"also {', '.join(SLOW)}")
    options = parser.parse_args()
    left_out = {"googlenet"} | (set() if options.slow else set(SLOW))
    config = EvaluateConfig(
        shards=tuple(str(options.out / "shards" / name) for name in options.sets),
        model=tuple(options.model),
        baselines=tuple(name for name in get_args(Baseline) if name not in left_out),
        points=options.points,
        pairs=options.pairs,
        pictures=0,
        output=options.out / "evaluate",
        tracking=TrackingConfig(enabled=False),
    )
    with ray_session(None):
        for name, folder in zip(options.sets, config.shards, strict=True):
            values = SETS[name] | {"root": str(options.data / SETS[name]["root"]), "out": folder}
            model = SOURCES.load(values.pop("source"))
            preprocess(model.model_validate({"split": "test"} | values))
        print(evaluate(config).markdown)
    print_posed(options.data / POSED, config)


def print_posed(folder: Path, config: EvaluateConfig) -> None:
    """Pose errors of photos whose cameras are known, by the first estimator configured."""
    cameras = [read_camera(folder, path.stem) for path in sorted((folder / "image").iterdir())]
    labels = {label.name: label.title for label in method_labels(config)}
    print(
        f"## {folder.name}\n\nPhotos at half size; corners of image 0, mean of the pairs; pose by"
    )
    print(f"{config.pose.estimators[0]}.\n")
    print("| method | rotation | translation |\n|:--|--:|--:|")
    for method in build_methods(config):
        errors = np.mean(
            [posed_errors(method, *pair, config.pose) for pair in combinations(cameras, 2)], axis=0
        )
        print(f"| {labels[method.name]} | {errors[0]:.2f}° | {errors[1]:.2f}° |")


def read_camera(folder: Path, name: str) -> tuple[Any, Any, Any]:
    """A photo at half its size, its intrinsics, and its pose from the world into the camera."""
    image = read_photo(folder / "image" / f"{name}.jpg", folder)
    height, width = image.shape[:2]
    image = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    K = np.diag([0.5, 0.5, 1]) @ np.loadtxt(folder / "intrinsic" / f"{name}.txt")[:3, :3]
    K[:2, 2] -= 0.25  # a pixel's centre x lies at (x + 0.5) / 2 - 0.5
    T_world_camera = np.loadtxt(folder / "pose" / f"{name}.txt")
    return image, K, np.linalg.inv(T_world_camera)


def posed_errors(
    method: Method, camera0: tuple[Any, Any, Any], camera1: tuple[Any, Any, Any], pose: PoseConfig
) -> tuple[float, float]:
    """Rotation and translation error of a pair, degrees, mean over the seeds."""
    (image0, K0, T0), (image1, K1, T1) = camera0, camera1
    found = matched(method, image0, image1, corner_points(image0, 1000))
    matches_N4 = np.concatenate([*found], axis=1)
    T_1_0 = T1 @ np.linalg.inv(T0)
    errors = []
    for seed in pose.seeds:
        threshold = pose.thresholds_px[0]
        estimate = estimate_pose(matches_N4, K0, K1, pose.estimators[0], threshold, seed)
        error = pose_error(estimate, T_1_0, moves=True)
        errors.append((error.rotation_deg, error.translation_deg or 0.0))
    rotation, translation = np.mean(errors, axis=0)
    return float(rotation), float(translation)


def matched(method: Method, image0: Any, image1: Any, points_N2: Any) -> tuple[Any, Any]:
    """Points and their reciprocal matches."""
    config = MatchingConfig()
    found: PointMatches
    if method.describe is not None:
        found = match_points(image0, image1, points_N2, method.describe, config)
    else:
        assert method.match is not None
        found = match_directly(image0, image1, points_N2, method.match, config)
    return points_N2[found.reciprocal_N], found.positions_N2[found.reciprocal_N]


if __name__ == "__main__":
    main()
