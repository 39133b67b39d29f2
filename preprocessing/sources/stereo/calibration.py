"""Calibration of rectified stereo pairs."""

import re
from pathlib import Path

import numpy as np

from ucn.arrays import Floats
from ucn.errors import SkippedPair
from ucn.preprocessing.sources.flow.kitti import read_projection
from ucn.preprocessing.sources.input_files import read_lines

StereoCameras = tuple[Floats, Floats, float]
"""K [3, 3] of the left and right camera; focal length times baseline, pixels times metres."""


def read_cameras(path: Path, projections: tuple[str, ...], root: Path) -> StereoCameras:
    """Read the calibration of a rectified pair.

    The disparity of a point is ``f B / Z - (K1[0, 2] - K0[0, 2])``. KITTI's projection matrices
    also differ by up to 3 mm in y. Its disparities have equal rows, so B is their distance in x.

    Args:
        path: KITTI's or Middlebury's calibration file.
        projections: names of the left and right projection matrix of KITTI; empty for Middlebury.
        root: folder of the dataset; messages name the file relative to it.

    Raises:
        SkippedPair: the file is missing or damaged.
    """
    if projections:
        P0, P1 = (read_projection(path, name, root) for name in projections)
        K0, K1, focal_baseline = P0[:, :3], P1[:, :3], float(P0[0, 3] - P1[0, 3])
    else:
        K0, K1, focal_baseline = _read_middlebury(path, root)
    if not (np.isfinite([K0, K1]).all() and K0[0, 0] > 0 and 0 < focal_baseline < np.inf):
        name = path.relative_to(root).as_posix()
        raise SkippedPair("damaged calibration", f"{name}: focal length or baseline not positive")
    return K0, K1, focal_baseline


def _read_middlebury(path: Path, root: Path) -> StereoCameras:
    """Middlebury's format, also ETH3D's: ``cam0=[f 0 cx; 0 f cy; 0 0 1]``, ``baseline=`` in mm."""
    name = path.relative_to(root).as_posix()
    try:
        entries = dict(line.split("=", 1) for line in read_lines(path) if "=" in line)
        K0, K1 = (
            np.array(re.sub(r"[\[\];,]", " ", entries[camera]).split(), np.float64).reshape(3, 3)
            for camera in ("cam0", "cam1")
        )
        return K0, K1, float(K0[0, 0] * float(entries["baseline"]) / 1000)
    except FileNotFoundError:
        raise SkippedPair("missing calibration", name) from None
    except (KeyError, ValueError):
        raise SkippedPair("damaged calibration", f"{name}: no cam0, cam1 and baseline") from None
