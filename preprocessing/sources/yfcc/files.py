"""Files of OANet's layout: image lists, calibrations and visibility of one phase of a scene.

``ROOT/SCENE/PHASE/{images,calibration,visibility}.txt`` name one file per line, relative to their
folder. Line N of each list belongs to image N. A calibration is an HDF5 file with ``K``, ``R``,
``T`` and ``imsize``. A visibility file has a number for each image of the phase: the number of 3D
points that both images share. See OANet's ``dump_match/sequence.py`` and ``dump_match/geom.py``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Floats
from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sources.input_files import read_lines, read_words
from ucn.storage.array_files import read_hdf5

_IMAGES, _CALIBRATION, _VISIBILITY = "images.txt", "calibration.txt", "visibility.txt"
_SHAPES = {"K": (3, 3), "R": (3, 3), "T": (3,), "imsize": (2,)}
_NOT_A_ROTATION = 1e-4
_REMEDY = "extract the scene again, or leave it out with --scenes"


@dataclass(frozen=True)
class Camera:
    """Camera of an image.

    Attributes:
        K: 3x3, pixels; the centre of the top-left pixel is (0, 0).
        T_cam_world: 4x4, in the unit of the scene's model.
        size: (width, height) of the image.
    """

    K: Floats
    T_cam_world: Floats
    size: tuple[int, int]


@dataclass(frozen=True)
class SceneLists:
    """Files of one phase of a scene, relative to ``folder``: one of each kind per image."""

    folder: Path
    images: tuple[str, ...]
    calibrations: tuple[str, ...]
    visibility: tuple[str, ...]


def read_scene_lists(folder: Path) -> SceneLists:
    """Read the three lists of a phase.

    Raises:
        UserError: a list is missing, or their lengths differ.
    """
    lists = {name: _read_list(folder / name) for name in (_IMAGES, _CALIBRATION, _VISIBILITY)}
    lengths = {name: len(names) for name, names in lists.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count} in {name}" for name, count in lengths.items())
        raise UserError(f"{folder}: lists of different lengths ({found}); {_REMEDY}")
    return SceneLists(folder, *lists.values())


def visible_pairs(scene: SceneLists, more_than: int) -> NDArray[np.intp]:
    """Image pairs [P, 2], i < j, that share more than `more_than` 3D points.

    They are sorted by i, then j.

    Raises:
        UserError: a visibility file is missing, or does not have one number per image.
    """
    rows = [
        np.flatnonzero(shared_N[index + 1 :] > more_than) + index + 1
        for index, shared_N in enumerate(_visibility(scene))
    ]
    first = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return np.stack([first, np.concatenate([*rows, np.zeros(0, np.intp)])], axis=1).astype(np.intp)


def read_camera(path: Path, root: Path) -> Camera:
    """Read a calibration file.

    The principal point in the file is relative to the image centre, ((w - 1) / 2, (h - 1) / 2).

    Args:
        path: the file.
        root: folder of the dataset; messages name the file relative to it.

    Raises:
        SkippedPair: the file is missing, damaged, or has invalid values.
    """
    name = path.relative_to(root).as_posix()
    values = _read_arrays(path, name)
    K, R = values["K"].copy(), values["R"]
    width, height = (round(float(side)) for side in values["imsize"])
    if width < 1 or height < 1:
        raise SkippedPair("damaged calibration", f"{name}: imsize is {width}x{height}")
    focal = np.diag(K)[:2]
    if (focal <= 0).any() or (K[[1, 2, 2], [0, 0, 1]] != 0).any() or K[2, 2] != 1:
        raise SkippedPair("damaged calibration", f"{name}: K is not a camera matrix")
    if (np.abs(K[:2, 2]) > np.array([width, height]) / 4).any():
        raise SkippedPair(
            "damaged calibration", f"{name}: K's principal point is not relative to the centre"
        )
    if np.abs(R @ R.T - np.eye(3)).max() > _NOT_A_ROTATION or np.linalg.det(R) < 0:
        raise SkippedPair("damaged calibration", f"{name}: R is not a rotation")
    K[:2, 2] += [(width - 1) / 2, (height - 1) / 2]
    T_cam_world = np.eye(4)
    U, _, Vt = np.linalg.svd(R)
    T_cam_world[:3, :3] = U @ Vt
    T_cam_world[:3, 3] = values["T"]
    return Camera(K, T_cam_world, (width, height))


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise UserError(f"{path}: {reason}; {_REMEDY}") from None
    for number, line in enumerate(lines, 1):
        place = PurePosixPath(line.strip())
        if place.is_absolute() or ".." in place.parts:
            raise UserError(f"{path}: line {number} names no file below its folder; {_REMEDY}")
    return tuple(line.strip() for line in lines if line.strip())


def _visibility(scene: SceneLists) -> Iterator[Floats]:
    count = len(scene.images)
    for name in scene.visibility:
        path = scene.folder / name
        try:
            shared_N = np.array(read_words(path), np.float64)
        except OSError:
            raise UserError(f"{path}: no such file; {_REMEDY}") from None
        except ValueError:
            raise UserError(f"{path}: not a list of numbers; {_REMEDY}") from None
        if len(shared_N) != count or not (shared_N >= 0).all():
            found = f"{len(shared_N)} values" if len(shared_N) != count else "a negative one or NaN"
            raise UserError(
                f"{path}: {found}, where each of {count} images needs its count; {_REMEDY}"
            )
        yield shared_N


def _read_arrays(path: Path, name: str) -> dict[str, Floats]:
    try:
        data = path.read_bytes()
    except OSError:
        raise SkippedPair("missing calibration", name) from None
    try:
        found = read_hdf5(data, {key: math.prod(shape) for key, shape in _SHAPES.items()})
    except ValueError as error:
        raise SkippedPair("damaged calibration", f"{name}: {error}") from None
    values: dict[str, Floats] = {}
    for key, shape in _SHAPES.items():
        if found[key].size != math.prod(shape):
            raise SkippedPair("damaged calibration", f"{name}: no {key} of shape {shape}")
        values[key] = found[key].astype(np.float64).reshape(shape)
    for key, array in values.items():
        if not np.isfinite(array).all():
            raise SkippedPair("damaged calibration", f"{name}: {key} is not finite")
    return values
