"""Signed errors of matches on known warps: a matcher must not shift its matches.

    python benchmarks/subpixel.py [--models shipped ...] [--steps 1 2 4]

A photo of skimage is warped by homographies. Corners of the photo are matched to each warped
image. A row shows, over all warps: the mean signed error in x and in y of the matches within 3 px
(with its standard error), their RMS error, and PCK. The identity is a row of its own.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import skimage.data

from ucn.evaluation.export.match import corner_points
from ucn.evaluation.methods.baselines.base import PointDescriber
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.matching.descriptors import Floats, Pixels
from ucn.matching.features import Features
from ucn.matching.matcher import find
from ucn.matching.scales import dense_descriptor, extract
from ucn.training.model import load_model

CORNERS = 800
MARGIN = 24
CLOSE_PX = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["shipped"])
    parser.add_argument("--baselines", nargs="*", default=["sift", "daisy"])
    parser.add_argument("--steps", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    photos: Any = skimage.data
    image0, image1 = photos.rocket()[:, :480], photos.astronaut()
    warps = random_warps(np.random.default_rng(options.seed), 4)
    print("| method | step | same x, y | warps x, y | RMS | PCK@0.5 | PCK@1 | PCK@3 |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    for name in [*options.models, *options.baselines]:
        for step in options.steps:
            describe = extractor(name, step)
            parts = [
                errors(image, describe, step, warps_S33)
                for warps_S33 in ([np.eye(3)], warps)
                for image in (image0, image1)
            ]
            same_N2, warped_N2 = np.concatenate(parts[:2]), np.concatenate(parts[2:])
            print(row(name, step, same_N2, warped_N2), flush=True)


def random_warps(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Homographies near the identity: rotation to 10 degrees, scale to 12 %, shift to 12 px."""
    warps = []
    for _ in range(count):
        angle, scale = np.radians(rng.uniform(-10, 10)), rng.uniform(0.9, 1.12)
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        x, y = rng.uniform(-12, 12, 2)
        H = np.array([[cosine, -sine, x], [sine, cosine, y], [*rng.uniform(-4e-5, 4e-5, 2), 1]])
        centre = np.array([[1, 0, 240], [0, 1, 240], [0, 0, 1]])
        warps.append(centre @ H @ np.linalg.inv(centre))
    return warps


def extractor(name: str, step: int) -> Callable[[Pixels], Features]:
    """Dense descriptors of a baseline, or of a model folder."""
    if name in BASELINES.builtin:
        kind = BASELINES.load(name)
        assert issubclass(kind, PointDescriber)
        return partial(extract, describe=dense_descriptor(kind().describe, step))
    return load_model(name).extract


def errors(
    image0: Pixels, describe: Callable[[Pixels], Features], step: int, warps: list[np.ndarray]
) -> Floats:
    """Signed errors [N, 2] of matched corners, pixels."""
    height, width = image0.shape[:2]
    points_N2 = corner_points(image0, CORNERS)
    features0 = describe(image0)
    found = []
    for H in warps:
        image1 = cv2.warpPerspective(image0, H, (width, height), flags=cv2.INTER_CUBIC)
        mapped_N3 = np.column_stack([points_N2, np.ones(len(points_N2))]) @ H.T
        truth_N2 = mapped_N3[:, :2] / mapped_N3[:, 2:]
        ends_N4 = np.hstack([points_N2, truth_N2])
        inside_N = ((ends_N4 > MARGIN) & (ends_N4 < np.tile([width, height], 2) - MARGIN)).all(1)
        features1 = describe(np.asarray(image1, np.uint8))
        matched_N2, _ = find(features0, points_N2[inside_N], features1, step_px=step)
        found.append(matched_N2 - truth_N2[inside_N])
    return np.concatenate(found).astype(np.float32)


def row(name: str, step: int, same_N2: Floats, warped_N2: Floats) -> str:
    """A row of the table."""
    cells = [name, str(step)]
    for errors_N2 in (same_N2, warped_N2):
        near_N2 = errors_N2[np.linalg.norm(errors_N2, axis=1) < CLOSE_PX]
        x, y = near_N2.mean(axis=0)
        cells.append(f"{x:+.3f}, {y:+.3f} ± {near_N2.std() / len(near_N2) ** 0.5:.3f}")
    near_N2 = warped_N2[np.linalg.norm(warped_N2, axis=1) < CLOSE_PX]
    cells.append(f"{np.sqrt((near_N2**2).mean()):.2f}")
    length_N = np.linalg.norm(warped_N2, axis=1)
    cells += [f"{100 * (length_N <= threshold).mean():.1f}" for threshold in (0.5, 1, 3)]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
