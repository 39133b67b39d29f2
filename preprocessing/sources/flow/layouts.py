"""Finds image pairs and their flow files in a folder, by name."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ucn.errors import UserError
from ucn.preprocessing.shards.format import shorten
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.input_files import (
    list_names,
    photo_names,
    read_lines,
    read_words,
    split_names,
    walk_files,
)

LIST = "pairs.txt"
CHAIRS_SPLIT = "FlyingChairs_train_val.txt"

_MIDDLEBURY_FLOW = re.compile(r"flow(\d+)\.flo", re.IGNORECASE)
_NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_-]")
# Keys are file names in a tar, which allows a hundred characters.
_LONGEST_SEQUENCE, _LONGEST_FRAME = 32, 24


class PairFiles(NamedTuple):
    """Files of a pair, relative to the root.

    ``backward`` is the flow from image 1 to image 0, or empty.
    """

    photo0: str
    photo1: str
    flow: str
    backward: str = ""


class _Naming(NamedTuple):
    """Suffixes of a pair's files after their common stem."""

    flow: str
    photo0: str
    photo1: str
    backward: str


_CHAIRS = _Naming("_flow.flo", "_img1", "_img2", "_flow_b.flo")
# The first match counts.
_NAMINGS = (
    _CHAIRS,
    _Naming("-flow_01.flo", "-img_0", "-img_1", "-flow_10.flo"),
    _Naming("-gt.flo", "-img0", "-img1", "-gt_backward.flo"),
    _Naming(".flo", "_0", "_1", "_backward.flo"),
)
_BACKWARD = tuple(naming.backward for naming in _NAMINGS)


def find_flow_pairs(root: Path, split: str) -> dict[PairRef, PairFiles]:
    """Find the pairs below a root. The first layout that is found is used.

    1. ``pairs.txt``: one pair per line, ``IMAGE0 IMAGE1 FLOW [BACKWARD_FLOW]``, relative to the
       root. Names with blanks are separated by tabs. ``#`` starts a comment.
    2. Middlebury: ``other-gt-flow/SEQ/flowNN.flo`` is the flow from ``other-data/SEQ/frameNN`` to
       the next frame.
    3. Flow files in any subfolder, in the folder of their images:

       - ``X_flow.flo`` from ``X_img1`` to ``X_img2``, backward ``X_flow_b.flo`` (FlyingChairs,
         FlyingChairsOcc)
       - ``X-flow_01.flo`` from ``X-img_0`` to ``X-img_1``, backward ``X-flow_10.flo``
         (FlyingChairs2)
       - ``X-gt.flo`` from ``X-img0`` to ``X-img1``, backward ``X-gt_backward.flo``
       - any other ``X.flo`` from ``X_0`` to ``X_1``, backward ``X_backward.flo``

    FlyingChairs is split by its official ``FlyingChairs_train_val.txt``, in the root or its parent
    folder. Other datasets are not split.

    Args:
        root: folder of the dataset.
        split: ``train``, ``val`` or ``all``; only used if there is an official split.

    Returns:
        Pair to files, in a fixed order.

    Raises:
        UserError: no pairs are found, or two of them are ambiguous.
    """
    if (root / LIST).is_file():
        named = _listed(root / LIST)
    elif (root / "other-gt-flow").is_dir():
        named = _middlebury(root)
    else:
        named = _beside(root, split)
    return _unambiguous(root, named)


def _listed(path: Path) -> Iterator[tuple[PairRef, PairFiles]]:
    try:
        lines = read_lines(path)
    except ValueError as error:
        raise UserError(f"{path}: not text ({error}); write a pair a line") from error
    for number, line in enumerate(lines, 1):
        names = split_names(line.partition("#")[0], (3, 4))
        if not names:
            continue
        if len(names) not in (3, 4) or any(map(_leads_out, names)):
            raise UserError(
                f"{path}: line {number} is not IMAGE0 IMAGE1 FLOW [BACKWARD_FLOW], relative to "
                "the folder of the list; mend the line"
            )
        photo0, photo1, flow = names[:3]
        folder = os.path.dirname(photo0)
        frames = [
            os.path.splitext(photo.removeprefix(f"{folder}/"))[0] for photo in (photo0, photo1)
        ]
        yield (
            _reference(folder or "pairs", *frames),
            PairFiles(photo0, photo1, flow, "".join(names[3:])),
        )


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")


def _middlebury(root: Path) -> Iterator[tuple[PairRef, PairFiles]]:
    for folder in sorted((root / "other-gt-flow").iterdir()):
        photos = root / "other-data" / folder.name
        names = set(list_names(photos)) if photos.is_dir() else set[str]()
        for flow in sorted(os.listdir(folder)) if folder.is_dir() else ():
            if match := _MIDDLEBURY_FLOW.fullmatch(flow):
                first, second = match[1], str(int(match[1]) + 1).zfill(len(match[1]))
                frame0, frame1 = f"frame{first}", f"frame{second}"
                yield (
                    _reference(folder.name, frame0, frame1),
                    PairFiles(
                        f"other-data/{folder.name}/{_photo(frame0, names)}",
                        f"other-data/{folder.name}/{_photo(frame1, names)}",
                        f"other-gt-flow/{folder.name}/{flow}",
                    ),
                )


def _beside(root: Path, split: str) -> Iterator[tuple[PairRef, PairFiles]]:
    chairs = _chairs_split(root, split)
    for prefix, names in walk_files(root):
        there = set(names)
        for flow in names:
            suffix = flow[-4:]
            usual = flow.removesuffix(suffix) + suffix.lower()
            if not usual.endswith(".flo") or usual.endswith(_BACKWARD):
                continue
            naming = next(one for one in _NAMINGS if usual.endswith(one.flow))
            stem = usual.removesuffix(naming.flow)
            if naming is _CHAIRS and chairs is not None and stem not in chairs:
                continue
            backward = stem + naming.backward.removesuffix(".flo") + suffix
            yield (
                _reference(prefix + stem, naming.photo0.lstrip("-_"), naming.photo1.lstrip("-_")),
                PairFiles(
                    prefix + _photo(stem + naming.photo0, there),
                    prefix + _photo(stem + naming.photo1, there),
                    prefix + flow,
                    prefix + backward if backward in there else "",
                ),
            )


def _chairs_split(root: Path, split: str) -> set[str] | None:
    """Stems of the FlyingChairs pairs of a split. Line N of the list is 1 (train) or 2 (val).

    Returns:
        The stems; None if there is no list or the split is ``all``.

    Raises:
        UserError: the list is damaged, or the split is unknown.
    """
    path = next(
        (one / CHAIRS_SPLIT for one in (root, root.parent) if (one / CHAIRS_SPLIT).is_file()), None
    )
    if path is None or split == "all":
        return None
    if split not in ("train", "val"):
        raise UserError(f"{path}: has no split {split}; choose train, val or all with --split")
    try:
        lines = read_words(path)
    except ValueError:
        lines = ["damaged"]
    if not set(lines) <= {"1", "2"}:
        raise UserError(f"{path}: not a list of 1 and 2; download it again")
    wanted = "1" if split == "train" else "2"
    return {f"{number:05d}" for number, line in enumerate(lines, 1) if line == wanted}


def _photo(stem: str, names: set[str]) -> str:
    """Name of the image with a stem; with the first suffix if no such image exists."""
    return next((name for name in photo_names(stem) if name in names), f"{stem}.png")


def _reference(sequence: str, frame0: str, frame1: str) -> PairRef:
    return PairRef(
        _short(sequence, _LONGEST_SEQUENCE),
        _short(frame0, _LONGEST_FRAME),
        _short(frame1, _LONGEST_FRAME),
    )


def _short(text: str, longest: int) -> str:
    """Makes a name valid in keys. A name that is too long is cut and gets a digest."""
    return shorten(_NOT_IN_KEYS.sub("-", text), longest, text)


def _unambiguous(
    root: Path, named: Iterator[tuple[PairRef, PairFiles]]
) -> dict[PairRef, PairFiles]:
    found: dict[PairRef, PairFiles] = {}
    photos: dict[tuple[str, str], str] = {}
    for pair, files in named:
        if pair in found:
            raise UserError(
                f"{root}: {files.flow} and {found[pair].flow} would both be the flow of "
                f"{'-'.join(pair)}; rename or remove one"
            )
        found[pair] = files
        for frame, photo in zip(pair[1:], files, strict=False):
            other = photos.setdefault((pair.sequence, frame), photo)
            if other != photo:
                raise UserError(
                    f"{root}: {photo} and {other} would both be frame {frame} of "
                    f"{pair.sequence}; rename one"
                )
    if not found:
        raise UserError(
            f"{root}: no flow files that name their images; name them as FlyingChairs does, or "
            f"list the pairs in {LIST}"
        )
    return found
