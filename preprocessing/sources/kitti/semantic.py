"""SemanticKITTI's labels of Velodyne points (Behley et al., ICCV 2019).

A label has 32 bits: the lower 16 are the class, the upper 16 the instance.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Bools
from ucn.errors import SkippedPair

# From the development kit's semantic-kitti.yaml.
CLASS_NAMES = {
    0: "unlabeled",
    1: "outlier",
    10: "car",
    11: "bicycle",
    13: "bus",
    15: "motorcycle",
    16: "on-rails",
    18: "truck",
    20: "other-vehicle",
    30: "person",
    31: "bicyclist",
    32: "motorcyclist",
    40: "road",
    44: "parking",
    48: "sidewalk",
    49: "other-ground",
    50: "building",
    51: "fence",
    52: "other-structure",
    60: "lane-marking",
    70: "vegetation",
    71: "trunk",
    72: "terrain",
    80: "pole",
    81: "traffic-sign",
    99: "other-object",
    252: "moving-car",
    253: "moving-bicyclist",
    254: "moving-person",
    255: "moving-motorcyclist",
    256: "moving-on-rails",
    257: "moving-bus",
    258: "moving-truck",
    259: "moving-other-vehicle",
}
_FIRST_MOVING = 252


def read_labels(path: Path, points: int) -> NDArray[np.uint16]:
    """Read the class of each point of a scan.

    Args:
        path: the ``.label`` file.
        points: number of points of the scan.

    Returns:
        uint16 [points].

    Raises:
        SkippedPair: the file cannot be read, or has not a label for each point.
    """
    try:
        labels_N = np.fromfile(path, np.uint32)
    except OSError as error:
        raise SkippedPair("damaged labels", f"{path.name}: {error.strerror}") from None
    if len(labels_N) != points:
        raise SkippedPair("damaged labels", f"{path.name}: {len(labels_N)} for {points} points")
    return (labels_N & 0xFFFF).astype(np.uint16)


def is_moving(classes_N: NDArray[np.uint16]) -> Bools:
    """Mask of the points whose class is a moving one."""
    return np.asarray(classes_N >= _FIRST_MOVING)
