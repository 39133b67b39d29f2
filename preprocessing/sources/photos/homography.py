"""Pairs of views of one photo under random homographies, with dense exact matches."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from ucn.arrays import Array, Bools, Floats
from ucn.errors import SkippedPair, UserError
from ucn.geometry.homographies import (
    HomographyRanges,
    Size,
    apply_homography,
    invert_homography,
    jittered_grid,
    local_scale,
    near_mask,
    random_homography,
)
from ucn.geometry.rigid import inside_image
from ucn.images.photometric import LightRanges, change_light
from ucn.images.read import read_photo, to_grey
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.photos.folder import (
    SPLITS,
    clean_name,
    find_copies,
    find_photos,
    split_of,
)
from ucn.preprocessing.sources.photos.occluders import add_occluders
from ucn.preprocessing.sources.photos.views import Pyramid, build_pyramid, render_view, resizing

_TRIALS = 20
# OpenCV's warps do not accept larger images.
_LONGEST_SIDE = 32_000
# Takes the place of frame 0 if a photo is a copy. Frame 1 then names the original.
_COPY = "copy of"

_Side = Annotated[int, Field(ge=32, le=8192)]
_Share = Annotated[int, Field(ge=0)]


class HomographyConfig(PreprocessConfig):
    """Any photos: views of each photo under random homographies, with photometric changes."""

    source: Literal["homography"] = "homography"
    root: str
    """Folder of photos, searched with all its subfolders."""
    max_matches: int = Field(10_000, ge=0)
    """Maximum number of matches of a pair, a sample spread over the image; 0 keeps all."""
    pairs_per_photo: int = Field(5, ge=1, le=10_000)
    """Number of pairs made from each photo."""
    shares: tuple[_Share, _Share, _Share] | None = None
    """Relative sizes of train, val and test, such as 90 5 5; file names decide the split of a
    photo. Default: every split has all photos."""
    size: tuple[_Side, _Side] = (640, 480)
    """Width and height of both views, pixels; swapped for photos in portrait format."""
    zoom: float = Field(2.0, ge=1, le=16)
    """Maximum zoom of view 0 into the photo; photos are never enlarged."""
    warped: Literal["one", "both"] = "one"
    """`one`: view 0 is a plain crop; `both`: each view has its own random homography."""
    rotation: float = Field(30.0, ge=0, le=180)
    """Maximum rotation, degrees."""
    scale: float = Field(1.5, ge=1, le=8)
    """Maximum change of scale, as a factor up or down."""
    shear: float = Field(0.15, ge=0, le=1)
    """Maximum shear, as the tangent of its angle."""
    perspective: float = Field(0.25, ge=0, lt=1)
    """Maximum displacement of each corner, as a fraction of half the view's sides."""
    shift: float = Field(0.15, ge=0, le=1)
    """Maximum translation, as a fraction of the view's sides."""
    min_overlap: float = Field(0.3, gt=0, le=1)
    """Minimum share of each view that the other view shows."""
    spacing: float = Field(4.0, ge=1)
    """Spacing of the candidate matches in view 0, pixels."""
    lit: Literal["none", "one", "both"] = "both"
    """Views with photometric changes: none, view 1 only, or both independently."""
    brightness: float = Field(0.15, ge=0, le=1)
    """Maximum brightness offset, as a fraction of white."""
    contrast: float = Field(0.3, ge=0, lt=1)
    """Contrast factor between 1 - contrast and 1 + contrast."""
    gamma: float = Field(0.3, ge=0, lt=1)
    """Gamma between 1 / (1 + gamma) and 1 + gamma."""
    colour: float = Field(0.1, ge=0, lt=1)
    """Gain of each channel of a colour image between 1 / (1 + colour) and 1 + colour."""
    noise: float = Field(0.02, ge=0, le=1)
    """Maximum standard deviation of Gaussian noise, as a fraction of white."""
    blur: float = Field(1.0, ge=0, le=5)
    """Maximum standard deviation of Gaussian blur, pixels."""
    occluders: int = Field(0, ge=0, le=100)
    """Number of random opaque patches on each view; covered points give no matches."""

    @field_validator("shares")
    @classmethod
    def _some_share(cls, shares: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if shares is not None and sum(shares) == 0:
            raise ValueError("shares of nothing; give such as --shares 90 5 5")
        return shares

    @model_validator(mode="after")
    def _known_split(self) -> "HomographyConfig":
        if self.shares is not None and self.split not in SPLITS:
            raise ValueError(f"split {self.split} has no share; --split {', '.join(SPLITS)}")
        return self

    def open_source(self) -> Source:
        return HomographySource(self)


@dataclass(frozen=True)
class HomographyReader:
    """Renders the views of a pair. Picklable until the first pair is loaded."""

    config: HomographyConfig

    def key(self, pair: PairRef) -> str:
        index = "copy" if pair.frame0 == _COPY else pair.frame0.partition("-")[0]
        return f"{clean_name(pair.sequence)}-{index}"

    def load(self, pair: PairRef) -> Sample:
        if pair.frame0 == _COPY:
            raise SkippedPair("duplicate photo", f"{pair.sequence}: same bytes as {pair.frame1}")
        config = self.config
        pyramid = self._pyramid(pair.sequence)
        name = hashlib.sha256(os.fsencode(pair.sequence)).digest()[:8]
        index = int(pair.frame0.partition("-")[0])
        rng = np.random.default_rng([config.seed, *name, index])
        size = view_size(pyramid.size, config.size)
        views = _draw_views(pyramid.size, size, config, rng)
        if views is None:
            raise SkippedPair(
                "too little overlap", f"{pair.sequence}: {_TRIALS} homographies tried"
            )
        H_0_p, H_1_p, points0_N2, rejected = views
        images, hidden = _show(pyramid, (H_0_p, H_1_p), size, config, rng)
        H_1_0 = H_1_p @ invert_homography(H_0_p)
        points1_N2 = apply_homography(H_1_0, points0_N2)
        free_N = ~near_mask(hidden[0], points0_N2) & ~near_mask(hidden[1], points1_N2)
        return assemble_sample(
            config,
            self.key(pair),
            pair,
            images,
            Candidates(
                np.hstack([points0_N2, points1_N2])[free_N],
                {"scale": local_scale(H_1_0, points0_N2)[free_N]},
                rejected | {"occluded": int((~free_N).sum())},
            ),
            PairGeometry("homography", more={"H_1_0": (H_1_0 / H_1_0[2, 2]).tolist()}),
        )

    def _read(self, name: str) -> Pyramid:
        root = Path(self.config.root)
        photo = read_photo(root / name, root)
        if self.config.images == "grey-png":
            photo = to_grey(photo)
        height, width = photo.shape[:2]
        size = view_size((width, height), self.config.size)
        if width < size[0] or height < size[1]:
            raise SkippedPair(
                "small photo", f"{name}: {width}x{height}, smaller than --size {size[0]} {size[1]}"
            )
        if max(width, height) > _LONGEST_SIDE:
            raise SkippedPair(
                "large photo", f"{name}: a side is longer than {_LONGEST_SIDE} pixels"
            )
        return build_pyramid(photo)

    @cached_property
    def _pyramid(self) -> Callable[[str], Pyramid]:
        # The pairs of a photo follow each other.
        return lru_cache(1)(self._read)


class HomographySource:
    """Pairs of views of the photos in a folder and its subfolders."""

    def __init__(self, config: HomographyConfig) -> None:
        self._config = config
        self._root = Path(config.root)
        self._bytes: dict[str, int] = {}
        self._reader = HomographyReader(config)

    def pairs(self) -> list[PairRef]:
        config = self._config
        self._bytes = find_photos(self._root)
        copies = find_copies(self._root, self._bytes)
        pairs: list[PairRef] = []
        for name in self._bytes:
            if config.shares and split_of(copies.get(name, name), config.shares) != config.split:
                continue
            if name in copies:
                pairs.append(PairRef(name, _COPY, copies[name]))
                continue
            pairs += [
                PairRef(name, f"{index:04d}-0", f"{index:04d}-1")
                for index in range(config.pairs_per_photo)
            ]
        if not pairs:
            raise UserError(
                f"{self._root}: none of its {len(self._bytes)} photos falls to {config.split}; "
                "choose other --shares"
            )
        return pairs

    def key(self, pair: PairRef) -> str:
        return self._reader.key(pair)

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        return [pair.sequence, self._bytes.get(pair.sequence, -1)]

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return HomographyReader(self._config)

    def load(self, pair: PairRef) -> Sample:
        return self._reader.load(pair)


def view_size(photo: Size, size: Size) -> Size:
    """(width, height) of the views, swapped if one of photo and view is portrait, the other not."""
    turned = (photo[0] < photo[1]) != (size[0] < size[1]) and photo[0] != photo[1]
    return size[::-1] if turned else size


def _draw_views(
    photo: Size, size: Size, config: HomographyConfig, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, dict[str, int]] | None:
    """Draw two overlapping views of a photo.

    Returns:
        ``H_0_p``, ``H_1_p``, the points [N, 2] of view 0 that both views show, and the numbers of
        rejected points by reason. None if no draw had enough overlap.
    """
    ranges = HomographyRanges(
        config.rotation, config.scale, config.shear, config.perspective, config.shift
    )
    for _ in range(_TRIALS):
        crop = _random_crop(photo, size, config.zoom, rng)
        warp0 = random_homography(size, ranges, rng) if config.warped == "both" else np.eye(3)
        warp1 = random_homography(size, ranges, rng)
        grid0_N2, grid1_N2 = (jittered_grid(size, config.spacing, rng) for _ in range(2))
        if warp0 is None or warp1 is None:
            continue
        H_0_p, H_1_p = warp0 @ crop, warp1 @ crop
        there_N, shown_N = _shown(H_0_p, H_1_p, grid0_N2, photo, size)
        back_N, _ = _shown(H_1_p, H_0_p, grid1_N2, photo, size)
        if min(there_N.mean(), back_N.mean()) >= config.min_overlap:
            rejected = {
                "beyond the photo": int((~shown_N).sum()),
                "outside image 1": int((shown_N & ~there_N).sum()),
            }
            return H_0_p, H_1_p, grid0_N2[there_N], rejected
    return None


def _random_crop(photo: Size, size: Size, zoom: float, rng: np.random.Generator) -> Floats:
    """Homography from a photo to a random crop, resized to the size of a view."""
    largest = min(photo[0] / size[0], photo[1] / size[1])
    step = max(largest / zoom ** rng.random(), 1.0)
    crop_2 = step * np.array(size)
    origin_2 = rng.random(2) * (np.array(photo) - crop_2)
    shift = np.eye(3)
    shift[:2, 2] = -origin_2
    return resizing((crop_2[0], crop_2[1]), size) @ shift


def _shown(
    H_a_p: Floats, H_b_p: Floats, points_a_N2: Floats, photo: Size, size: Size
) -> tuple[Bools, Bools]:
    """Masks of points inside view a: those that both views show, and those that view a shows."""
    in_photo_N = inside_image(apply_homography(invert_homography(H_a_p), points_a_N2), photo)
    points_b_N2 = apply_homography(H_b_p @ invert_homography(H_a_p), points_a_N2)
    return in_photo_N & inside_image(points_b_N2, size), in_photo_N


def _show(
    pyramid: Pyramid,
    maps: tuple[Floats, Floats],
    size: Size,
    config: HomographyConfig,
    rng: np.random.Generator,
) -> tuple[tuple[Array, Array], tuple[Bools, Bools]]:
    """Render both views with occluders and photometric changes.

    Returns:
        The views, and the masks of the pixels that occluders cover.
    """
    light = LightRanges(
        config.blur, config.gamma, config.contrast, config.brightness, config.noise, config.colour
    )
    images: list[Array] = []
    covered: list[Bools] = []
    for H_v_p, is_lit in zip(maps, (config.lit == "both", config.lit != "none"), strict=True):
        view, covered_HW = add_occluders(render_view(pyramid, H_v_p, size), config.occluders, rng)
        images.append(change_light(view, light, rng) if is_lit else view)
        covered.append(covered_HW)
    return (images[0], images[1]), (covered[0], covered[1])
