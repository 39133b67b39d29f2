"""Draws matches on image pairs, and arranges pictures in contact sheets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.errors import UserError
from ucn.geometry.subsample import spread_sample
from ucn.storage.files import write_bytes

Picture = NDArray[np.uint8]
"""uint8 [H, W, 3] RGB."""
Colours = NDArray[np.uint8]

BACKGROUND = (255, 255, 255)
INK = (40, 44, 52)
GAP = 6
SUBPIXEL_BITS = 4
FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_SCALE = 0.45
_BAND = 24  # pixels: height of a line of text
_FEW = 40
"""Up to this number, matches are drawn larger: each can be followed by eye."""


def to_rgb(image: NDArray[Any]) -> Picture:
    """Converts a uint8 image [H, W] or [H, W, 3] to RGB; always a copy."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"not a uint8 image: {image.dtype} {image.shape}")
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    return image.copy()


def value_colours(values_N: NDArray[Any], low: float, high: float) -> Colours:
    """Maps values from low (blue) over green to high (red): uint8 [N, 3] RGB. Values are clipped.

    The dark ends of the colour map are left out: they are hard to see on photographs.
    """
    unit_N = np.clip((np.asarray(values_N, np.float64) - low) / max(high - low, 1e-12), 0, 1)
    levels_N1 = np.round(30 + 200 * unit_N).astype(np.uint8)[:, None]
    if not len(levels_N1):
        return np.zeros((0, 3), np.uint8)
    bgr_N13 = cv2.applyColorMap(levels_N1, cv2.COLORMAP_TURBO)
    return np.ascontiguousarray(bgr_N13[:, 0, ::-1])


def displacement_colours(matches_N4: NDArray[Any]) -> Colours:
    """Colours matches by the length of their displacement, from 0 to the 95th percentile.

    Neighbouring matches should have similar colours; an isolated colour suggests an outlier.
    """
    if not len(matches_N4):
        return np.zeros((0, 3), np.uint8)
    length_N = np.linalg.norm(matches_N4[:, 2:] - matches_N4[:, :2], axis=1)
    return value_colours(length_N, 0.0, float(np.percentile(length_N, 95)))


def distinct_colours(count: int) -> Colours:
    """Colours that are easy to tell apart: uint8 [count, 3] RGB. Every other hue is pale."""
    hsv_13N = np.full((1, max(count, 1), 3), 255, np.uint8)
    hsv_13N[0, :, 0] = np.arange(len(hsv_13N[0])) * 180 / max(count, 1)
    hsv_13N[0, 1::2, 1] = 120
    return np.asarray(cv2.cvtColor(hsv_13N, cv2.COLOR_HSV2RGB)[0, :count], np.uint8)


def draw_matches(
    image0: NDArray[Any],
    image1: NDArray[Any],
    matches_N4: NDArray[Any],
    colours_N3: Colours | None = None,
    *,
    lines: bool = True,
    max_matches: int = 200,
    max_side: int = 1600,
) -> Picture:
    """Draws two images and the matches between them.

    Wide images are stacked vertically, others are placed side by side. Large images are reduced.

    Args:
        image0, image1: uint8 [H, W] or [H, W, 3] RGB; their sizes may differ.
        matches_N4: x0, y0, x1, y1 in pixels.
        colours_N3: uint8 RGB of each match; by default by displacement.
        lines: connect the two ends of each match by a line.
        max_matches: largest number of matches drawn, spread over image 0.
        max_side: longest side of the picture, pixels.
    """
    colours = displacement_colours(matches_N4) if colours_N3 is None else colours_N3
    if matches_N4.ndim != 2 or matches_N4.shape[1] != 4 or len(colours) != len(matches_N4):
        raise ValueError(f"{matches_N4.shape} matches with {colours.shape} colours")
    drawn = spread_sample(matches_N4[:, :2], max_matches, [0])
    stacked = image0.shape[1] + image1.shape[1] > 1.8 * (image0.shape[0] + image1.shape[0])
    (height0, width0), (height1, width1) = image0.shape[:2], image1.shape[:2]
    if stacked:
        width, height, origin1 = max(width0, width1), height0 + GAP + height1, (0, height0 + GAP)
    else:
        width, height, origin1 = width0 + GAP + width1, max(height0, height1), (width0 + GAP, 0)
    canvas: Picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    canvas[:height0, :width0] = to_rgb(image0)
    canvas[origin1[1] : origin1[1] + height1, origin1[0] : origin1[0] + width1] = to_rgb(image1)
    scale = min(1.0, max_side / max(width, height))
    if scale < 1.0:
        reduced = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas = np.asarray(reduced, np.uint8)
    ends0_N2 = _reduce(matches_N4[drawn, :2], scale)
    ends1_N2 = _reduce(matches_N4[drawn, 2:] + np.asarray(origin1), scale)
    _draw_ends(canvas, ends0_N2, ends1_N2, colours[drawn], lines=lines)
    return canvas


def contact_sheet(
    pictures: Sequence[Picture],
    captions: Sequence[str],
    columns: int | None = None,
    cell_width: int = 640,
) -> Picture:
    """Arranges captioned pictures in a grid, row by row.

    Args:
        pictures: uint8 [H, W, 3] RGB, at least one.
        captions: one line per picture, written above it and cut to its width.
        columns: number of columns; by default such that the sheet is about square.
        cell_width: width to which each picture is resized, pixels.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"{len(pictures)} pictures with {len(captions)} captions")
    cells = [
        _captioned(picture, caption, cell_width)
        for picture, caption in zip(pictures, captions, strict=True)
    ]
    if columns is None:
        mean_height = sum(cell.shape[0] for cell in cells) / len(cells)
        columns = max(1, round((len(cells) * mean_height / cell_width) ** 0.5))
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    return np.concatenate([_sheet_row(row, columns, cell_width) for row in rows])


def draw_legend(colours: Mapping[str, Sequence[int]], width: int) -> Picture:
    """Draws a line of text and a dot of its colour for each entry, in as many lines as needed.

    Args:
        colours: RGB of each entry, by its text.
        width: width of the picture, pixels.
    """
    lines: list[Picture] = []
    x = width
    for text, colour in colours.items():
        needed = _text_width(text) + 20
        if x + needed > width or not lines:
            lines.append(np.full((_BAND, width, 3), BACKGROUND, np.uint8))
            x = 12
        cv2.circle(lines[-1], (x, _BAND // 2), 6, INK, -1, cv2.LINE_AA)
        cv2.circle(lines[-1], (x, _BAND // 2), 5, tuple(map(int, colour)), -1, cv2.LINE_AA)
        _write(lines[-1], text, x + 10)
        x += needed + 12
    return np.concatenate([*lines, np.zeros((0, width, 3), np.uint8)])


def _reduce(points_N2: NDArray[Any], scale: float) -> NDArray[np.float64]:
    """Scales pixel coordinates with the image; (0, 0) is the centre of the first pixel."""
    reduced: NDArray[np.float64] = (np.asarray(points_N2, np.float64) + 0.5) * scale - 0.5
    return reduced


def _draw_ends(
    canvas: Picture,
    ends0_N2: NDArray[np.float64],
    ends1_N2: NDArray[np.float64],
    colours_N3: Colours,
    *,
    lines: bool,
) -> None:
    fixed0_N2, fixed1_N2 = (
        np.round(ends * 2**SUBPIXEL_BITS).astype(int).tolist() for ends in (ends0_N2, ends1_N2)
    )
    rows = list(zip(fixed0_N2, fixed1_N2, colours_N3.tolist(), strict=True))
    few = len(rows) <= _FEW
    if lines:
        overlay = canvas.copy()
        for end0, end1, colour in rows:
            cv2.line(overlay, end0, end1, colour, 2 if few else 1, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.addWeighted(overlay, 0.6, canvas, 0.4, 0, dst=canvas)
    radius = ((4 if max(canvas.shape) > 800 else 3) + 2 * few) * 2**SUBPIXEL_BITS
    for end0, end1, colour in rows:
        for end in (end0, end1):
            cv2.circle(canvas, end, radius, INK, -1, cv2.LINE_AA, SUBPIXEL_BITS)
            cv2.circle(canvas, end, radius * 5 // 8, colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _sheet_row(cells: Sequence[Picture], columns: int, cell_width: int) -> Picture:
    height = max(cell.shape[0] for cell in cells) + 2 * GAP
    row: Picture = np.full((height, columns * (cell_width + 2 * GAP), 3), BACKGROUND, np.uint8)
    for index, cell in enumerate(cells):
        x = index * (cell_width + 2 * GAP) + GAP
        row[GAP : GAP + cell.shape[0], x : x + cell_width] = cell
    return row


def _captioned(picture: Picture, caption: str, width: int) -> Picture:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    way = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    band: Picture = np.full((_BAND, width, 3), BACKGROUND, np.uint8)
    while len(caption) > 1 and _text_width(caption) > width - 4:
        caption = caption[:-1]
    _write(band, caption, 2)
    return np.concatenate([band, cv2.resize(picture, (width, height), interpolation=way)])


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, FONT, _TEXT_SCALE, 1)[0][0])


def _write(band: Picture, text: str, x: int) -> None:
    cv2.putText(band, text, (x, 16), FONT, _TEXT_SCALE, INK, 1, cv2.LINE_AA)


def write_picture(path: Path, picture: Picture) -> None:
    """Writes an RGB picture atomically, in the format given by the path's suffix.

    Raises:
        UserError: the suffix is not an image format, or the folder cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"{path}: pictures are written as .png or .jpg; change the ending")
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    write_bytes(path, encoded.tobytes())
