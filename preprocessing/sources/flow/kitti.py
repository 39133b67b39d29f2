"""KITTI flow 2012 and 2015: sparse ground truth from accumulated LiDAR and, in 2015, car models.

Layout of 2012: ``training/{image_0,colored_0,flow_noc,flow_occ,calib}`` (Geiger et al., CVPR 2012).
Layout of 2015: ``training/{image_2,flow_noc,flow_occ,calib_cam_to_cam,obj_map}`` (Menze and Geiger,
CVPR 2015). Images are ``NNNNNN_10.png`` and ``NNNNNN_11.png``. See ``readme.txt`` of the
development kits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ucn.arrays import Floats
from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sample import PairGeometry, Sample
from ucn.preprocessing.sources.base import PairReader, PairRef, Source
from ucn.preprocessing.sources.flow.pairs import (
    FlowFiles,
    FlowReader,
    TrainingFlowConfig,
    digests,
    sizes,
    training_folder,
)
from ucn.preprocessing.sources.input_files import find_photo, read_lines

Year = Literal[2012, 2015]

_FLOW = re.compile(r"(\d{6})_10\.png")
# Consecutive scenes are often of one drive. The last 10 of every 50 are therefore held out
# together.
_CYCLE, _FIRST_HELD_OUT = 50, 40


@dataclass(frozen=True)
class _Layout:
    """Layout of ``training`` in one benchmark.

    Attributes:
        photos: folders of the left images; the ground truth was made for the first one.
        calibration: folder of the calibration files.
        projection: name of the left camera's 3x4 matrix in the calibration files.
    """

    photos: tuple[str, ...]
    calibration: str
    projection: str


_LAYOUTS: dict[Year, _Layout] = {
    2012: _Layout(("image_0", "colored_0"), "calib", "P0"),
    2015: _Layout(("image_2",), "calib_cam_to_cam", "P_rect_02"),
}


class KittiFlowConfig(TrainingFlowConfig):
    """KITTI flow 2012 or 2015: two frames of each scene, with true flow."""

    source: Literal["kitti-flow"] = "kitti-flow"
    root: str
    """Folder of KITTI's stereo and flow data, or the `training` folder in it."""
    year: Year | None = None
    """Year of the benchmark; default detected from the folders."""

    def open_source(self) -> Source:
        return KittiFlowSource(self)


class KittiFlowSource:
    """One pair per scene. Each scene is a sequence.

    ``flow_noc`` has the pixels whose target is inside image 1, occluded or not. ``flow_occ`` adds
    the pixels that leave the image, which give no matches. Both therefore give the same matches.
    ``flow_noc`` is preferred. Occluded pixels are found from the flow.

    Raises:
        UserError: the folders are missing, or are those of both benchmarks.
    """

    def __init__(self, config: KittiFlowConfig) -> None:
        self._config = config
        self._folder = training_folder(Path(config.root))
        self._year = config.year or _find_year(self._folder)
        layout = _LAYOUTS[self._year]
        self._projection = layout.projection
        self._photos = self._need(*layout.photos)
        self._flow = self._need("flow_noc", "flow_occ")
        self._calibrations = self._find(layout.calibration)
        self._objects = self._find("obj_map")

    def pairs(self) -> list[PairRef]:
        found = (_FLOW.fullmatch(path.name) for path in self._flow.iterdir())
        scenes = sorted(name[1] for name in found if name and self._takes(int(name[1])))
        if not scenes:
            raise UserError(
                f"{self._flow}: no NNNNNN_10.png of the split {self._config.split}; "
                "download the ground truth, or choose another --split"
            )
        return [PairRef(f"kitti{self._year}-{scene}", "10", "11") for scene in scenes]

    def key(self, pair: PairRef) -> str:
        return f"{pair.sequence}-{pair.frame0}-{pair.frame1}"

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        files = self._files(pair)
        paths = files.photo0, files.photo1, files.flow, files.objects
        return [*sizes(self._folder, paths), *digests(self._folder, [self._calibration(pair)])]

    def reader(self, pairs: Sequence[PairRef]) -> PairReader:
        return FlowReader(
            self._config,
            self._folder,
            {pair: replace(self._files(pair), geometry=self._geometry(pair)) for pair in pairs},
        )

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    def _geometry(self, pair: PairRef) -> PairGeometry | SkippedPair:
        calibration = self._calibration(pair)
        if calibration is None:
            return PairGeometry("flow")
        try:
            K = read_projection(calibration, self._projection, self._folder)[:, :3]
        except SkippedPair as damaged:
            return damaged
        return PairGeometry("flow", K, K)

    def _takes(self, scene: int) -> bool:
        return self._config.takes(is_held_out(scene))

    def _files(self, pair: PairRef) -> FlowFiles:
        first, second = (f"{_scene(pair)}_{frame}.png" for frame in pair[1:])
        photo0, photo1 = (find_photo(self._photos / name) for name in (first, second))
        objects = self._objects and self._objects / first
        return FlowFiles(self.key(pair), photo0, photo1, self._flow / first, objects=objects)

    def _calibration(self, pair: PairRef) -> Path | None:
        return self._calibrations and self._calibrations / f"{_scene(pair)}.txt"

    def _find(self, *names: str) -> Path | None:
        """The first folder that exists."""
        folders = (self._folder / name for name in names)
        return next((folder for folder in folders if folder.is_dir()), None)

    def _need(self, *names: str) -> Path:
        found = self._find(*names)
        if found is None:
            raise UserError(
                f"{self._folder / names[0]}: no such folder; pass the folder that holds KITTI's "
                f"training/{names[0]}"
            )
        return found


def is_held_out(scene: int) -> bool:
    """Whether a scene of KITTI's flow and stereo benchmarks is held out for validation."""
    return scene % _CYCLE >= _FIRST_HELD_OUT


def read_projection(path: Path, projection: str, root: Path) -> Floats:
    """Read a 3x4 matrix of a calibration file, such as ``P_rect_02: 7.2e+02 ...``.

    Args:
        path: the file.
        projection: name of the matrix.
        root: folder of the dataset; messages name the file relative to it.

    Raises:
        SkippedPair: the file is missing or damaged.
    """
    name = path.relative_to(root).as_posix()
    try:
        lines = read_lines(path)
        values = next(line.split()[1:] for line in lines if line.startswith(f"{projection}:"))
        P = np.array(values, np.float64).reshape(3, 4)
    except FileNotFoundError:
        raise SkippedPair("missing calibration", name) from None
    except (StopIteration, ValueError):
        P = np.full((3, 4), np.nan)
    if not np.isfinite(P).all():
        raise SkippedPair("damaged calibration", f"{name}: no {projection} of 12 numbers")
    return P


def _find_year(folder: Path) -> Year:
    """Year of the benchmark, from the image folders in ``training``.

    Raises:
        UserError: there are images of neither benchmark, or of both.
    """
    found: list[Year] = [
        year
        for year, layout in _LAYOUTS.items()
        if any((folder / name).is_dir() for name in layout.photos)
    ]
    if not found:
        raise UserError(
            f"{folder}: neither image_0, colored_0 nor image_2; "
            "pass the folder of KITTI flow 2012 or 2015"
        )
    if len(found) > 1:
        raise UserError(f"{folder}: images of 2012 and of 2015; choose with --year")
    return found[0]


def _scene(pair: PairRef) -> str:
    return pair.sequence.partition("-")[2]
