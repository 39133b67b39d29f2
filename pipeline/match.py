"""`ucn match`: matches photos, and writes the matches and a picture of them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ucn.errors import UserError, printable
from ucn.evaluation.export.config import MatchOptions
from ucn.evaluation.export.files import check_output, write_matches
from ucn.evaluation.export.match import ImageMatches, match_features
from ucn.evaluation.export.pairs import Names, PairMatches
from ucn.images.draw import displacement_colours, draw_matches, write_picture
from ucn.images.read import decode_any, image_size
from ucn.matching.features import Features
from ucn.notice import notice
from ucn.preprocessing.sources.input_files import read_lines, split_names
from ucn.storage.files import make_folder
from ucn.training.model import load_model

Image = NDArray[np.uint8]

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg")
MIN_SIDE = 8
"""Smallest side of a photo, pixels: two cells of stride 4."""


@dataclass(frozen=True)
class Photo:
    """A photo with its descriptors.

    Attributes:
        pixels: uint8 [H, W, 3], RGB, at its original size.
        features: descriptors of the photo at matching size.
        scale_2: matching size / original size, for x and y.
    """

    pixels: Image
    features: Features
    scale_2: NDArray[np.float64]


def match_photos(
    pairs: Sequence[Names],
    root: Path,
    model: str,
    options: MatchOptions,
    *,
    save: Path | None,
    out: Path | None,
    max_side: int,
    device: str,
) -> tuple[list[PairMatches], list[Path]]:
    """Matches pairs of photos and writes the results.

    Args:
        pairs: paths of photos, relative to ``root``.
        root: folder of the photos.
        model: folder or URI of a trained model.
        options: keypoints, search and filters.
        save: picture of the matches, for a single pair.
        out: matches, ``.npz`` (a single pair), ``.h5`` or ``.db``.
        max_side: longest side at which photos are matched, pixels; 0 never resizes.
        device: of the network.

    Returns:
        The matches of each pair, in order, and the files written.

    Raises:
        UserError: a photo or the model cannot be read, or an output cannot be written.
    """
    for name in dict.fromkeys(name for names in pairs for name in names):
        _check_photo(root / name)
    # COLMAP and hloc ignore the EXIF orientation; viewers apply it.
    upright = out is None or out.suffix == ".npz"
    for name0, name1 in [] if upright else pairs:
        if (root / name0).samefile(root / name1):
            raise UserError(
                f"{root / name1}: both photos of a pair in {out}, which needs two different photos"
            )
    pairs = unique_pairs(
        (photo_name(root, name0), photo_name(root, name1)) for name0, name1 in pairs
    )
    for name in [] if upright else [name for names in pairs for name in names]:
        if printable(name) != name:
            raise UserError(f"{name}: not UTF-8, which .h5 and .db need; rename the photo")
    if out is not None:
        check_output(out, pairs, root)
    if save is not None:
        _check_picture_path(save, len(pairs))
    extract = partial(load_model(model, device).extract, scales=options.scales)
    photos: dict[str, Photo] = {}
    found: list[PairMatches] = []
    for names in tqdm(pairs, desc="match", unit="pair", disable=len(pairs) < 2):
        photos = {name: photo for name, photo in photos.items() if name in names}
        with notice(f"matching {' and '.join(names)}") if len(pairs) < 2 else nullcontext():
            for name in names:
                if name not in photos:
                    pixels = read_rgb_photo(root / name, upright=upright)
                    photos[name] = _describe(root / name, pixels, extract, max_side)
            found.append(_match_pair(names, (photos[names[0]], photos[names[1]]), options))
    written = write_matches(out, found, options.merge_px) if out is not None else []
    if save is not None:
        (pair,) = found
        matches_N4 = pair.found.matches_N4
        image0, image1 = (photos[name].pixels for name in pair.names)
        colours_N3 = displacement_colours(matches_N4)
        write_picture(save, draw_matches(image0, image1, matches_N4, colours_N3))
        written = [save, *written]
    return found, written


def read_pairs(path: Path) -> list[Names]:
    """Reads hloc's list of pairs, two names a line. A repeated or reversed pair is read once.

    Raises:
        UserError: not a text file, a line without two different names, or no pairs.
    """
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); check the path") from None
    pairs: list[Names] = []
    for number, line in enumerate(lines, 1):
        words = split_names(line, (2,))
        if not words:
            continue
        if len(words) != 2 or words[0] == words[1]:
            raise UserError(
                f"{path}: line {number} is not two names of photos ({line.strip()[:60]!r}); fix it"
            )
        pairs.append((words[0], words[1]))
    if not pairs:
        raise UserError(f"{path}: contains no pairs; write two names of photos a line")
    return unique_pairs(pairs)


def unique_pairs(pairs: Iterable[Names]) -> list[Names]:
    """Removes repeated and reversed pairs; the first one stays."""
    unique: dict[frozenset[str], Names] = {}
    for names in pairs:
        unique.setdefault(frozenset(names), names)
    return list(unique.values())


def photo_name(root: Path, name: str) -> str:
    """The name of a photo in output files: its path relative to the root, if it lies there.

    ``3.png``, ``./3.png`` and the absolute path are one photo. Other photos keep their path.
    """
    absolute = Path(os.path.normpath(root.absolute() / name))
    for folder in (Path(os.path.normpath(root.absolute())), root.resolve()):
        for path in (absolute, absolute.parent.resolve() / absolute.name):
            # Beside a link, normpath may lead to another file.
            if path.is_relative_to(folder) and path.samefile(root / name):
                return path.relative_to(folder).as_posix()
    return name


def read_rgb_photo(path: Path, *, upright: bool = True) -> Image:
    """Reads a photo as uint8 RGB [H, W, 3].

    Args:
        path: of the photo.
        upright: apply its EXIF orientation.

    Raises:
        UserError: missing, or not an image.
    """
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    with _explained(path):
        image = decode_any(path.read_bytes(), flags)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Converts the errors of reading a photo to a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:
        raise UserError(
            f"{path}: not readable as an image ({error}); convert it to PNG or JPEG, or "
            "reduce its size"
        ) from None


def _check_picture_path(path: Path, num_pairs: int) -> None:
    """Checks the path before the matching, which can take hours."""
    if path.suffix.lower() not in PICTURE_ENDINGS:
        raise UserError(f"{path}: not a .png or .jpg; change the ending")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file")
    make_folder(path.parent)
    if num_pairs != 1:
        raise UserError(f"{path}: cannot show several pairs; leave out --save")


def _check_photo(path: Path) -> None:
    """Checks the header of a photo before the matching."""
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "no such photo"
        raise UserError(f"{path}: {reason}; check the path")
    with _explained(path):
        image_size(path)


def _describe(
    path: Path, pixels: Image, extract: Callable[[Image], Features], max_side: int
) -> Photo:
    reduced, scale = _reduce(pixels, max_side)
    height, width = reduced.shape[:2]
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{path}: {width} x {height} pixels, too small to match; the minimum is {MIN_SIDE} x "
            f"{MIN_SIDE}"
        )
    return Photo(pixels, extract(reduced), np.array(scale))


def _match_pair(names: Names, photos: tuple[Photo, Photo], options: MatchOptions) -> PairMatches:
    """Matches two photos; the matches are in pixels of the original photos."""
    found = match_features(photos[0].features, photos[1].features, options)
    scale_4 = np.concatenate([photo.scale_2 for photo in photos])
    matches_N4 = ((found.matches_N4 + 0.5) / scale_4 - 0.5).astype(np.float32)
    (height0, width0), (height1, width1) = (photo.pixels.shape[:2] for photo in photos)
    sizes = (width0, height0), (width1, height1)
    return PairMatches(names, sizes, ImageMatches(matches_N4, found.scores_N, found.counts))


def _reduce(image: Image, max_side: int) -> tuple[Image, tuple[float, float]]:
    """Resizes an image to ``max_side`` if it is larger; returns it with its scales in x and y."""
    height, width = image.shape[:2]
    factor = min(1.0, max_side / max(height, width)) if max_side else 1.0
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size == (width, height):
        return image, (1.0, 1.0)
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.uint8), (size[0] / width, size[1] / height)
