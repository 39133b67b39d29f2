"""Finds the stereo pairs of a folder, in the layouts of the benchmarks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ucn.errors import UserError
from ucn.preprocessing.shards.format import shorten
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.flow.kitti import is_held_out
from ucn.preprocessing.sources.flow.pairs import training_folder
from ucn.preprocessing.sources.input_files import list_names, readable_names, walk_files

Layout = Literal["kitti-2012", "kitti-2015", "middlebury", "sceneflow"]

_KITTI_SCENE = re.compile(r"(\d{6})_10\.png", re.IGNORECASE)
_RENDERING = re.compile(r"(?:frames|image)_(clean|final)(?:pass)?(?:_webp)?")
_SPLIT_FOLDERS = {"train", "val", "test"}
# Keys are file names in a tar, which allows a hundred characters.
_LONGEST_SEQUENCE = 40


class StereoFiles(NamedTuple):
    """Files of a pair, relative to the root; empty if there is no such file.

    ``second`` is the disparity of the right image. ``mask`` is 255 at the visible pixels of the
    left image. ``projections`` are the names of the matrices in KITTI's calibration. ``unsigned``
    means that the sign of the stored disparity is ignored.
    """

    photo0: str
    photo1: str
    disparity: str
    second: str = ""
    mask: str = ""
    calibration: str = ""
    projections: tuple[str, ...] = ()
    unsigned: bool = False


_Pairs = Iterator[tuple[PairRef, StereoFiles]]


class _Kitti(NamedTuple):
    """Folders in ``training``, the preferred one first, and names of the projection matrices."""

    left: tuple[str, ...]
    truth: tuple[str, ...]
    calibration: str
    projections: tuple[str, str]


# disp_noc has occluded pixels as well. disp_occ adds only pixels whose target is outside the image.
# The ground truth of 2012 was made for the grey images.
_KITTI: dict[Layout, _Kitti] = {
    "kitti-2012": _Kitti(("image_0", "colored_0"), ("disp_noc", "disp_occ"), "calib", ("P0", "P1")),
    "kitti-2015": _Kitti(
        ("image_2",), ("disp_noc_0", "disp_occ_0"), "calib_cam_to_cam", ("P_rect_02", "P_rect_03")
    ),
}


def find_stereo_pairs(root: Path, layout: Layout | None, split: str) -> dict[PairRef, StereoFiles]:
    """Find a pair for each disparity file of a left image.

    - ``kitti-2012``, ``kitti-2015``: scenes in ``training``. Of every 50, the last 10 are ``val``.
    - ``middlebury``: any folder with ``im0.png``, ``im1.png`` and ``disp0.pfm`` (2014, 2021) or
      ``disp0GT.pfm`` (evaluation version 3, ETH3D). Not split.
    - ``sceneflow``: ``disparity/.../left/NNNN.pfm`` with images in ``frames_cleanpass`` and
      ``frames_finalpass``, or ``image_clean`` and ``image_final``, in the root or its subfolders.
      Each render pass is a separate sequence. Folders named train, val or test are splits.

    Args:
        root: folder of the dataset.
        layout: None detects it.
        split: name of the split; ``all`` takes every pair.

    Returns:
        Pair to files, in a fixed order.

    Raises:
        UserError: there are no pairs, or the layout is ambiguous.
    """
    layout = layout or _detect(root)
    if layout in _KITTI:
        found = dict(_kitti(root, layout, split))
    else:
        found = dict(_scenes(root) if layout == "middlebury" else _rendered(root, split))
    if not found:
        raise UserError(
            f"{root}: no disparity in the layout {layout}, split {split}; pass the folder of "
            "KITTI, Middlebury, ETH3D or SceneFlow, or another --layout or --split"
        )
    names = readable_names(sorted({pair.sequence for pair in found}))
    return {
        pair._replace(sequence=shorten(names[pair.sequence], _LONGEST_SEQUENCE)): files
        for pair, files in found.items()
    }


def _detect(root: Path) -> Layout:
    folder = training_folder(root)
    found: list[Layout] = [
        layout
        for layout, kitti in _KITTI.items()
        if any((folder / name).is_dir() for name in kitti.truth)
    ]
    if any(_renderings(root)):
        found.append("sceneflow")
    if len(found) > 1:
        raise UserError(f"{root}: has the layouts {' and '.join(found)}; choose with --layout")
    return found[0] if found else "middlebury"


def _kitti(root: Path, layout: Layout, split: str) -> _Pairs:
    if split not in ("train", "val", "all"):
        raise UserError(f"split: {split} has no ground truth; choose train, val or all")
    kitti, folder = _KITTI[layout], training_folder(root)
    left = _first_folder(folder, *kitti.left)
    right = _first_folder(folder, f"{left[:-1]}{int(left[-1]) + 1}")
    truth = _first_folder(folder, *kitti.truth)
    prefix = "" if folder == root else f"{folder.name}/"
    calibrated = (folder / kitti.calibration).is_dir()
    for name in list_names(folder / truth):
        match = _KITTI_SCENE.fullmatch(name)
        if match and (split == "all" or (split == "val") == is_held_out(int(match[1]))):
            yield (
                PairRef(f"{layout}-{match[1]}", "left", "right"),
                StereoFiles(
                    f"{prefix}{left}/{name}",
                    f"{prefix}{right}/{name}",
                    f"{prefix}{truth}/{name}",
                    calibration=f"{prefix}{kitti.calibration}/{match[1]}.txt" if calibrated else "",
                    projections=kitti.projections,
                ),
            )


def _first_folder(folder: Path, *names: str) -> str:
    for name in names:
        if (folder / name).is_dir():
            return name
    raise UserError(f"{folder / names[0]}: no such folder; unpack it there")


def _scenes(root: Path) -> _Pairs:
    for prefix, names in walk_files(root):
        there = {Path(name).stem + Path(name).suffix.lower(): prefix + name for name in names}
        truth = "disp0GT.pfm" if "disp0GT.pfm" in there else "disp0.pfm"
        if truth in there:
            yield (
                PairRef(prefix.rstrip("/") or "scene", "im0", "im1"),
                StereoFiles(
                    f"{prefix}im0.png",
                    f"{prefix}im1.png",
                    there[truth],
                    there.get(truth.replace("0", "1"), ""),
                    there.get("mask0nocc.png", ""),
                    there.get("calib.txt", ""),
                ),
            )


def _rendered(root: Path, split: str) -> _Pairs:
    for base, photos, rendering in _renderings(root):
        for prefix, names in walk_files(root / base / "disparity"):
            scene = prefix.removesuffix("left/")
            splits = _SPLIT_FOLDERS & {part.lower() for part in f"{base}{scene}".split("/")}
            if scene == prefix or (splits and split not in (*splits, "all")):
                continue
            for name in (name for name in names if name.lower().endswith(".pfm")):
                frame, sides = name[:-4], ("left", "right")
                left, right = (f"{base}{photos}/{scene}{side}/{frame}.png" for side in sides)
                truth, second = (f"{base}disparity/{scene}{side}/{name}" for side in sides)
                second = second if (root / second).is_file() else ""
                yield (
                    PairRef(f"{base}{scene}{rendering}", f"{frame}_left", f"{frame}_right"),
                    # The subset of FlyingThings3D stores negative disparities of left images.
                    StereoFiles(left, right, truth, second, unsigned=True),
                )


def _renderings(root: Path) -> Iterator[tuple[str, str, str]]:
    """The parent of ``disparity``, the name of its image folder, and the render pass."""
    for base in ("", *(f"{name}/" for name in list_names(root))):
        if (root / base / "disparity").is_dir():
            for photos in list_names(root / base):
                if match := _RENDERING.fullmatch(photos):
                    yield base, photos, match[1]
