"""How many SIFT labels are false: the rule of `yfcc` beside Open-UCN's, on pairs of dense truth.

Pairs: the Motorcycle stereo pair as it is and with its right image seen by a turned, zoomed camera
under other light; and frames of synthetic drives. A match is false where it ends over 4 px from
the true place of the surface at, or a pixel beside, its start.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from skimage import data

from ucn.arrays import Array, Floats
from ucn.geometry.epipolar import back_project, fundamental_matrix
from ucn.geometry.rigid import invert_rigid, project_points, transform_points
from ucn.images.read import read_photo
from ucn.preprocessing.labels.sift_features import detect_sift, propose_matches
from ucn.preprocessing.labels.verified_sift import CalibratedFeatures, verify_matches
from ucn.preprocessing.sources.stereo.motorcycle import MotorcycleConfig
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.kitti_writer import truth_folder, write_world
from ucn.preprocessing.sources.yfcc.source import YfccConfig

_FALSE = 4.0  # pixels
_RULES = ("Open-UCN", "Open-UCN, ratio 0.75", "ours")
# Zoom, turn about the axis and to the side (degrees), gamma, noise of the right image.
_CHANGES = (
    (0.6, 25.0, 0.0, 1.0, 0.0),
    (1.7, -10.0, 12.0, 1.6, 5.0),
    (0.8, 70.0, -15.0, 0.6, 8.0),
    (0.45, 15.0, -25.0, 0.7, 6.0),
)
_FRAMES = ((0, 2), (0, 6), (2, 6))


@dataclass(frozen=True)
class Case:
    """Two grey images, their cameras, and where the points [N, 2] of image 0 are in image 1."""

    name: str
    images: tuple[Array, Array]
    K0: Floats
    K1: Floats
    T_1_0: Floats
    truth: Callable[[Floats], Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    errors: dict[str, list[Floats]] = {rule: [] for rule in _RULES}
    print(f"| pair | rule | matches | over {_FALSE:g} px | over 2 px | median |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for case in [*motorcycles(), *worlds(Path(folder), options.worlds)]:
            for rule, matches_N4 in labels(case).items():
                error_N = truth_error(case, matches_N4)
                errors[rule].append(error_N)
                print(table_row(case.name, rule, error_N))
    for rule, parts in errors.items():
        print(table_row("all", rule, np.concatenate(parts)))


def table_row(pair: str, rule: str, error_N: Floats) -> str:
    """Of the matches whose truth is known."""
    known = error_N[np.isfinite(error_N)]
    false, rough = (100 * float((known > bound).mean()) for bound in (_FALSE, 2.0))
    return (
        f"| {pair} | {rule} | {len(known)} | {false:.2f} % | {rough:.2f} % | "
        f"{np.median(known):.2f} px |"
    )


def labels(case: Case) -> dict[str, Floats]:
    """Matches [N, 4] by rule."""
    config = YfccConfig(root="", out="")
    views = [
        CalibratedFeatures(detect_sift(image, config.features), K, (image.shape[1], image.shape[0]))
        for image, K in zip(case.images, (case.K0, case.K1), strict=True)
    ]
    proposed = propose_matches(views[0].features, views[1].features)
    ours = verify_matches(
        views[0], views[1], case.T_1_0, proposed, config.max_ratio, config.max_error
    )
    theirs = [open_ucn(case, ratio) for ratio in (1.0, 0.75)]
    return dict(zip(_RULES, [*theirs, ours.matches_N4], strict=True))


def open_ucn(case: Case, ratio: float) -> Floats:
    """Open-UCN's labels (``lib/data_loaders.py``, ``lib/util_2d.py``, defaults of ``config.py``).

    2,000 features, the nearest neighbour one way, and a sum of the distances from both epipolar
    lines below 0.01 in normalised coordinates. Neighbours are exact here, approximate there.
    """
    detector = cv2.SIFT.create(nfeatures=2000, contrastThreshold=1e-5)
    (points0, found0), (points1, found1) = (
        (np.array([point.pt for point in points]), np.asarray(found))
        for points, found in (detector.detectAndCompute(image, None) for image in case.images)
    )
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(found0, found1, k=2)
    kept = [near for near, far in pairs if ratio == 1 or near.distance < ratio * far.distance]
    ends0 = points0[[match.queryIdx for match in kept]]
    ends1 = points1[[match.trainIdx for match in kept]]
    rays0, rays1 = back_project(case.K0, ends0), back_project(case.K1, ends1)
    # Normalised coordinates: the cameras' matrices are the identity. Scale cancels.
    E = fundamental_matrix(np.eye(3), np.eye(3), case.T_1_0)
    lines1, lines0 = rays0 @ E.T, rays1 @ E
    value = np.abs((lines1 * rays1).sum(axis=1))
    distance = sum(value / np.linalg.norm(lines[:, :2], axis=1) for lines in (lines0, lines1))
    return np.asarray(np.hstack([ends0, ends1])[distance < 0.01])


def truth_error(case: Case, matches_N4: Floats) -> Floats:
    """Distance [N] from the nearest of the places that the truth allows; NaN where it has none."""
    best_N = np.full(len(matches_N4), np.inf)
    for step in np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2):
        # The surface of the neighbouring pixel, moved along with its motion.
        target_N2 = case.truth(matches_N4[:, :2] + step) - step
        error_N = np.linalg.norm(target_N2 - matches_N4[:, 2:], axis=1)
        best_N = np.fmin(best_N, error_N)
    best_N[np.isinf(best_N)] = np.nan
    return best_N


def motorcycles() -> Iterator[Case]:
    """The real pair, then with its right image changed."""
    config = MotorcycleConfig(out="")
    source = config.open_source()
    metadata = source.load(source.pairs()[0]).metadata
    K0, K1, T_1_0 = (np.array(metadata[name]) for name in ("K0", "K1", "T_1_0"))
    left, right, disparity_HW = data.stereo_motorcycle()  # type: ignore[no-untyped-call]
    images = tuple(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (left, right))

    def disparity_truth(points_N2: Floats) -> Floats:
        shift_N = at_pixels(disparity_HW, points_N2)
        return points_N2 - np.stack([shift_N, np.zeros_like(shift_N)], axis=1)

    yield Case("motorcycle", (images[0], images[1]), K0, K1, T_1_0, disparity_truth)
    for number, (zoom, turn, side, gamma, noise) in enumerate(_CHANGES):
        K2, R = K1.copy(), Rotation.from_euler("yz", [side, turn], degrees=True).as_matrix()
        height, width = images[1].shape
        K2[[0, 1], [0, 1]] *= zoom
        K2[:2, 2] = (width - 1) / 2, (height - 1) / 2
        H = K2 @ R @ np.linalg.inv(K1)
        T_2_0 = np.eye(4)
        T_2_0[:3, :3], T_2_0[:3, 3] = R, R @ T_1_0[:3, 3]

        def truth(points_N2: Floats, H: Floats = H) -> Floats:
            right_N2 = disparity_truth(points_N2)
            return project_points(H, np.hstack([right_N2, np.ones((len(right_N2), 1))]))

        source_image = images[1] if zoom >= 1 else cv2.GaussianBlur(images[1], (0, 0), 0.5 / zoom)
        seen = cv2.warpPerspective(source_image, H, (width, height), flags=cv2.INTER_CUBIC)
        lit = 255 * (seen / 255) ** gamma
        lit += np.random.default_rng(number).normal(0, noise, lit.shape)
        changed = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
        name = f"motorcycle, zoom {zoom:g}, turned {turn:g} and {side:g} degrees"
        yield Case(name, (images[0], changed), K0, K2, T_2_0, truth)


def worlds(root: Path, count: int) -> Iterator[Case]:
    """Pairs of frames of synthetic drives without movers."""
    for seed in range(1, count + 1):
        spec = WorldSpec(seed=seed, drive=seed, frames=7, movers=0, scan_degrees=1)
        write_world(root, spec)
        photos = root / spec.date / spec.drive_name / "image_02" / "data"
        for frames in _FRAMES:
            names = [f"{frame:010d}" for frame in frames]
            colours = [read_photo(photos / f"{name}.png", root) for name in names]
            images = [cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY) for colour in colours]
            cameras = [np.load(truth_folder(root, spec) / f"{name}.npz") for name in names]
            K, depth_HW = cameras[0]["K"], cameras[0]["depth"]
            T_1_0 = invert_rigid(cameras[1]["T_world_cam"]) @ cameras[0]["T_world_cam"]

            def truth(
                points_N2: Floats, K: Floats = K, depth_HW: Array = depth_HW, T: Floats = T_1_0
            ) -> Floats:
                depth_N = at_pixels(depth_HW, points_N2)
                depth_N[~(depth_N > 0)] = np.nan
                points_N3 = back_project(K, points_N2) * depth_N[:, None]
                return project_points(K, transform_points(T, points_N3))

            name = f"drive {seed}, frames {frames[0]} and {frames[1]}"
            yield Case(name, (images[0], images[1]), K, K, T_1_0, truth)


def at_pixels(values_HW: Array, points_N2: Floats) -> Floats:
    """Values of the nearest pixels; NaN where infinite or outside."""
    height, width = values_HW.shape
    x, y = np.rint(points_N2).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    values: Floats = values_HW[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)].astype(float)
    values[~inside | ~np.isfinite(values)] = np.nan
    return values


if __name__ == "__main__":
    main()
