"""COLMAP's depth maps: ``width&height&channels&``, then float32 row by row (``Mat::Read``)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.errors import SkippedPair

DepthMap = NDArray[np.float32]
"""Depths [H, W]; 0 or less where unknown."""

# Three numbers of up to ten digits, each with its ampersand.
_LONGEST_HEADER = 33


def read_depth_map(path: Path, root: Path) -> DepthMap:
    """Read a depth map, such as ``stereo/depth_maps/NAME.geometric.bin``.

    Args:
        path: the file.
        root: of the dataset; messages name the file below it.

    Raises:
        SkippedPair: missing or damaged.
    """
    name = path.relative_to(root).as_posix()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SkippedPair("missing depth map", name) from None
    header = data[:_LONGEST_HEADER].split(b"&", 3)
    if len(header) < 4 or not all(number.isdigit() for number in header[:3]):
        raise SkippedPair("damaged depth map", f"{name}: no width&height&channels&")
    width, height, channels = map(int, header[:3])
    start = sum(len(number) + 1 for number in header[:3])
    if channels != 1 or len(data) - start != 4 * width * height:
        raise SkippedPair(
            "damaged depth map",
            f"{name}: {len(data) - start} bytes for {width}x{height}, {channels} channels",
        )
    return np.frombuffer(data, "<f4", offset=start).reshape(height, width)
