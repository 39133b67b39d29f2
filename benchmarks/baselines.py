"""All baselines, and models if given, on the sample data: one table a dataset.

    python benchmarks/baselines.py --data SAMPLES --out FOLDER [--model NAME=FOLDER ...]
    python benchmarks/baselines.py --data SAMPLES --times

SAMPLES holds pieces of public datasets in their official layouts (the constant `SETS` names the
folders). Everything is made into shards below FOLDER and evaluated by `ucn evaluate`'s job; a rerun
does only what is missing. Photos with known poses but no correspondences have the pose errors of a
dense matching of their corners, or of a method's own keypoints.

With --times, the CPU time to describe every second pixel of a KITTI image in one thread, in turns;
also of SIFT by OpenCV, keypoint by keypoint.
"""

import argparse
from itertools import combinations
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np

from ucn.cluster.session import ray_session
from ucn.evaluation.config import EvaluateConfig, PoseConfig
from ucn.evaluation.export.match import corner_points
from ucn.evaluation.job import evaluate
from ucn.evaluation.matches import POINT
from ucn.evaluation.methods.baselines.base import PointDescriber
from ucn.evaluation.methods.baselines.opencv_descriptors import describe_keypoints
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.evaluation.methods.build import Method, build_methods, method_labels
from ucn.evaluation.pair import Queries, match_pair
from ucn.evaluation.score import reciprocal
from ucn.evaluation.scores.pose import estimate_pose, pose_error
from ucn.images.read import read_photo
from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.keypoints import grid_points
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
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
    parser.add_argument("--out", type=Path)
    parser.add_argument("--times", action="store_true", help="only the time to describe")
    parser.add_argument("--model", nargs="*", default=[])
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--pairs", type=int, default=12, help="at most so many of each set")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--slow", action="store_true", help=f"also {', '.join(SLOW)}")
    options = parser.parse_args()
    if options.times or options.out is None:
        print_times(next((options.data / "kitti_raw").rglob("image_02/data/*.png")))
        return
    left_out = {"googlenet"} | (set() if options.slow else set(SLOW))
    config = EvaluateConfig(
        shards=tuple(str(options.out / "shards" / name) for name in options.sets),
        model=tuple(options.model),
        baselines=tuple(name for name in BASELINES.builtin if name not in left_out),
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


def print_times(path: Path, rounds: int = 5) -> None:
    """Median CPU time to describe every second pixel of an image, by each baseline."""
    cv2.setNumThreads(1)
    image = read_photo(path, path.parent)
    points_N2 = grid_points(image.shape[1], image.shape[0], 2)
    kinds = {name: BASELINES.load(name) for name in BASELINES.builtin if name != "googlenet"}
    describers = {
        kind.title: kind().describe
        for kind in kinds.values()
        if issubclass(kind, PointDescriber) and not kind.unavailable()
    } | {"SIFT by keypoints": sift_by_keypoints}
    times: dict[str, list[float]] = {title: [] for title in describers}
    for _ in range(rounds):
        for title, describe in describers.items():
            start = process_time()
            describe(image, points_N2)
            times[title].append(process_time() - start)
    print(f"{len(points_N2)} points of {image.shape[1]} x {image.shape[0]} px\n")
    print("| descriptor | CPU time |\n|:--|--:|")
    for title, seconds in times.items():
        print(f"| {title} | {np.median(seconds):.2f} s |")


def sift_by_keypoints(image: Pixels, points_N2: Floats) -> Floats:
    """RootSIFT by OpenCV, a keypoint for each point."""
    rows_ND: Floats = describe_keypoints(image, points_N2, cv2.SIFT.create(), size=5.0, margin=32)
    shares_ND: Floats = rows_ND / np.maximum(rows_ND.sum(axis=1, keepdims=True), 1e-12)
    return np.sqrt(shares_ND)


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
    matches_N4 = matched(method, image0, image1)
    T_1_0 = T1 @ np.linalg.inv(T0)
    errors = []
    for seed in pose.seeds:
        threshold = pose.thresholds_px[0]
        estimate = estimate_pose(matches_N4, K0, K1, pose.estimators[0], threshold, seed)
        error = pose_error(estimate, T_1_0, moves=True)
        errors.append((error.rotation_deg, error.translation_deg or 0.0))
    rotation, translation = np.mean(errors, axis=0)
    return float(rotation), float(translation)


def matched(method: Method, image0: Any, image1: Any) -> Floats:
    """Matches [K, 4] of the method's own keypoints, or the reciprocal matches of corners."""
    if method.match_pair is not None:
        return method.match_pair(Sample("photos", image0, image1, np.zeros((0, 4), np.float32), {}))
    config, points_N2 = EvaluateConfig(shards=("none",)), corner_points(image0, 1000)
    sample = Sample("photos", image0, image1, np.zeros((0, 4), np.float32), {})
    found = match_pair(sample, method, Queries({POINT: points_N2}, {}, None, True, (0, 0)), config)
    kept_N = reciprocal(found[POINT], config.matching.reciprocity_px)
    return found[POINT].matches_N4[kept_N]


if __name__ == "__main__":
    main()
