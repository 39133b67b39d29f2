"""Depth maps of dense workspaces: COLMAP's, and MegaDepth's (Li and Snavely, CVPR 2018).

COLMAP writes ``stereo/depth_maps/NAME.geometric.bin``: the header ``width&height&channels&``, then
float32 values, row by row (``Mat::Read``). MegaDepth has ``depths/STEM.h5`` with a dataset
``depth``.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ucn.errors import SkippedPair
from ucn.images.read import MAX_PIXELS
from ucn.storage.array_files import read_hdf5

DepthMap = NDArray[np.float32]
"""Depths [H, W]; 0 or less for unknown depths."""

# Three numbers of up to ten digits, each followed by an ampersand.
_LONGEST_HEADER = 33


def depth_folder(workspace: Path) -> Path | None:
    """Folder of the depth maps of a workspace; None if there is none."""
    # `depths` first: COLMAP's image_undistorter creates an empty stereo/depth_maps.
    places = workspace / "depths", workspace / "stereo" / "depth_maps"
    return next((place for place in places if place.is_dir()), None)


def depth_file(folder: Path, image: str) -> Path:
    """Path of the depth map of an image.

    Args:
        folder: a folder found by :func:`depth_folder`.
        image: name of the image.
    """
    if folder.name == "depths":
        return (folder / image).with_suffix(".h5")
    return folder / f"{image}.geometric.bin"


def read_depth_map(path: Path, root: Path) -> DepthMap:
    """Read a depth map: MegaDepth's format for ``.h5``, else COLMAP's.

    Args:
        path: the file.
        root: folder of the dataset; messages name the file relative to it.

    Raises:
        SkippedPair: the file is missing or damaged.
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
