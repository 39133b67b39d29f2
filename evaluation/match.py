"""Matching two photographs with a descriptor, and the files that matches are kept in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from evaluation.config import MatchingConfig
from evaluation.descriptors import Describe, Floats, Pixels, to_grey
from evaluation.matching import grid_points, match_points
from preprocessing.storage import atomic_path

Keypoints = Literal["corners", "grid"]


@dataclass(frozen=True)
class ImageMatches:
    """Matches between two images.

    Attributes:
        matches_N4: float32 x0, y0, x1, y1 in pixels.
        scores_N: float32 cosine of the two descriptors, at most 1.
    """

    matches_N4: Floats
    scores_N: Floats


def corner_points(image: Pixels, count: int) -> Floats:
    """Find at most ``count`` corners spread over the image: float32 [N, 2] pixels.

    Corners of Shi and Tomasi (CVPR 1994), at least 3 px apart.
    """
    corners = cv2.goodFeaturesToTrack(to_grey(image), count, 0.001, 3.0)
    if corners is None:
        return np.zeros((0, 2), np.float32)
    return np.asarray(corners, np.float32).reshape(-1, 2)


def even_points(image: Pixels, count: int) -> Floats:
    """Lay at most ``count`` points over the image in a square grid: float32 [N, 2] pixels."""
    height, width = image.shape[:2]
    step = 1
    while -(-width // step) * -(-height // step) > count:
        step += 1
    return grid_points(width, height, step) + np.float32((step - 1) // 2)


def match_images(
    image0: Pixels,
    image1: Pixels,
    describe: Describe,
    *,
    keypoints: Keypoints = "corners",
    count: int = 2000,
    matching: MatchingConfig | None = None,
) -> ImageMatches:
    """Match points of image 0 densely into image 1 and keep those that the search back confirms.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3] RGB, of any two sizes.
        describe: a network's (`evaluation.descriptors.network_describer`) or a baseline's.
        keypoints: where to start: corners of image 0, or an even grid.
        count: at most so many starting points.

    Returns:
        matches in the order of falling score; none where image 0 has no corner.
    """
    choose: Callable[[Pixels, int], Floats] = (
        corner_points if keypoints == "corners" else even_points
    )
    points_N2 = choose(image0, count)
    points_N2 = points_N2[(points_N2 < image0.shape[1::-1]).all(axis=1)]
    if not len(points_N2):
        return ImageMatches(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    found = match_points(image0, image1, points_N2, describe, matching or MatchingConfig())
    kept = np.flatnonzero(found.reciprocal_N)
    kept = kept[np.argsort(-found.similarity_N[kept], kind="stable")]
    matches_N4 = np.concatenate([points_N2, found.positions_N2], axis=1)[kept]
    return ImageMatches(matches_N4, found.similarity_N[kept])


def write_matches(path: Path, matches: ImageMatches, name0: str, name1: str) -> None:
    """Write matches atomically, in the format that the path's ending names.

    ``.npz``: ``matches`` float32 [N, 4], ``scores`` float32 [N], ``name0``, ``name1``; read with
    ``allow_pickle=False``. ``.h5``: the datasets of hloc in a group ``NAME0/NAME1`` (slashes inside
    the names become ``-``): ``keypoints0``, ``keypoints1`` float32 [., 2], ``matches0`` int32 (rows
    of ``keypoints1``), ``matching_scores0`` float32.

    Raises:
        ValueError: another ending.
    """
    writers = {".npz": _write_npz, ".h5": _write_h5}
    if path.suffix not in writers:
        raise ValueError(f"{path}: matches are written as .npz or .h5")
    with atomic_path(path) as temporary:
        writers[path.suffix](temporary, matches, name0, name1)


def _write_npz(path: Path, matches: ImageMatches, name0: str, name1: str) -> None:
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            matches=matches.matches_N4,
            scores=matches.scores_N,
            name0=np.array(name0),
            name1=np.array(name1),
        )


def _write_h5(path: Path, matches: ImageMatches, name0: str, name1: str) -> None:
    # Several points can match one position: it is one keypoint of image 1.
    keypoints1_M2, row_N = np.unique(matches.matches_N4[:, 2:], axis=0, return_inverse=True)
    rows: NDArray[np.int32] = row_N.reshape(-1).astype(np.int32)
    with h5py.File(path, "w") as file:
        group = file.create_group(f"{name0.replace('/', '-')}/{name1.replace('/', '-')}")
        group.create_dataset("keypoints0", data=matches.matches_N4[:, :2])
        group.create_dataset("keypoints1", data=keypoints1_M2)
        group.create_dataset("matches0", data=rows)
        group.create_dataset("matching_scores0", data=matches.scores_N)
