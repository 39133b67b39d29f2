"""Depth maps of dense workspaces: COLMAP's, and MegaDepth's (Li and Snavely, CVPR 2018).

COLMAP writes ``stereo/depth_maps/NAME.geometric.bin``: ``width&height&channels&``, then float32 row
by row (``Mat::Read``). MegaDepth has ``depths/STEM.h5`` with a dataset ``depth``.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ucn.errors import SkippedPair
from ucn.images.read import MAX_PIXELS
from ucn.storage.array_files import read_hdf5

DepthMap = NDArray[np.float32]
"""Depths [H, W]; 0 or less where unknown."""

# Three numbers of up to ten digits, each with its ampersand.
_LONGEST_HEADER = 33


def depth_folder(workspace: Path) -> Path | None:
    """The folder of a workspace's depth maps; None where there is none."""
    # COLMAP makes its own while it undistorts, before there is anything to put into it.
    places = workspace / "depths", workspace / "stereo" / "depth_maps"
    return next((place for place in places if place.is_dir()), None)


def depth_file(folder: Path, image: str) -> Path:
    """The depth map of an image in one of :func:`depth_folder`'s."""
    if folder.name == "depths":
        return (folder / image).with_suffix(".h5")
    return folder / f"{image}.geometric.bin"


def read_depth_map(path: Path, root: Path) -> DepthMap:
    """Read a depth map: ``.h5`` as MegaDepth's, any other as COLMAP's.

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
    return _from_hdf5(data, name) if path.suffix == ".h5" else _from_colmap(data, name)


def _from_hdf5(data: bytes, name: str) -> DepthMap:
    try:
        depth_HW = read_hdf5(data, {"depth": MAX_PIXELS})["depth"].astype(np.float32)
    except ValueError as error:
        raise SkippedPair("damaged depth map", f"{name}: {error}") from None
    if depth_HW.ndim != 2:
        raise SkippedPair("damaged depth map", f"{name}: depth of shape {depth_HW.shape}")
    return depth_HW


def _from_colmap(data: bytes, name: str) -> DepthMap:
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
