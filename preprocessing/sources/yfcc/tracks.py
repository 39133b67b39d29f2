"""Matches from the tracks of a COLMAP model in a scene's folder of OANet's layout."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair
from ucn.geometry.rigid import invert_rigid
from ucn.geometry.sfm_model import SfmCamera, SfmImage, SfmModel, Size
from ucn.geometry.undistortion import undistort_image
from ucn.images.read import read_photo, to_grey
from ucn.preprocessing.labels.tracks import match_tracks
from ucn.preprocessing.sample import Candidates, PairGeometry
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.sfm.colmap_files import read_colmap_model
from ucn.preprocessing.sources.yfcc.files import SceneLists
from ucn.preprocessing.sources.yfcc.frames import cache_recent, reduce_image

_PLACES = ("sparse", "sparse/0", "colmap", "colmap/0")
_PARTS = ("images.bin", "images.txt")


SampleParts = tuple[tuple[Array, Array], Candidates, PairGeometry]
"""The two images, their matches, and the geometry of the pair."""


@dataclass(frozen=True)
class _Photo:
    """An undistorted and reduced image.

    Attributes:
        image: uint8 [H, W] or RGB [H, W, 3].
        camera: camera of the full-size image.
        size: (width, height) of the full-size image.
        S: map [3, 3] from pixel coordinates of the full-size image to those of ``image``.
    """

    image: Array
    camera: SfmCamera
    size: Size
    S: Floats


def find_model(folder: Path) -> Path | None:
    """Find the COLMAP model of a phase or its scene.

    Args:
        folder: folder of the phase. The model is in ``sparse``, ``sparse/0``, ``colmap`` or
            ``colmap/0``, in this folder or its parent.

    Returns:
        Folder of the model; None if there is none.
    """
    places = [above / place for above in (folder, folder.parent) for place in _PLACES]
    return next(
        (place for place in places if any((place / part).is_file() for part in _PARTS)), None
    )


class TrackReader:
    """Makes matches from models, and caches the most recent images.

    Args:
        root: folder of all files; messages name files relative to it.
        lists: returns the file lists of a sequence.
        models: folder of the model by sequence.
        max_side: larger images are reduced to this longer side, pixels.
        max_error: maximum reprojection error of a match in either image, pixels.
        colour: keep the colour of colour images.
    """

    def __init__(
        self,
        root: Path,
        lists: Callable[[str], SceneLists],
        models: dict[str, Path],
        max_side: int,
        max_error: float,
        colour: bool,
    ) -> None:
        self._root = root
        self._lists = lists
        self._models = models
        self._max_side = max_side
        self._max_error = max_error
        self._colour = colour
        self._model = lru_cache(1)(self._read_model)
        self._photo = cache_recent(self._read_photo, lambda photo: photo.image.nbytes)

    def knows(self, pair: PairRef) -> bool:
        """Whether the sequence has a model, and the model has both images.

        Raises:
            UserError: the model is damaged.
        """
        return pair.sequence in self._models and all(
            self._image(pair.sequence, int(frame)) is not None for frame in pair[1:]
        )

    def read(self, pair: PairRef) -> SampleParts:
        """Read images, matches and geometry of a pair, with the model's cameras and poses.

        Raises:
            SkippedPair: an image is missing, damaged, or not in the model.
        """
        sequence = pair.sequence
        images = self._known(sequence, int(pair.frame0)), self._known(sequence, int(pair.frame1))
        photo0, photo1 = (self._photo(sequence, int(frame)) for frame in pair[1:])
        model, _ = self._model(sequence)
        found = match_tracks(
            model,
            images,
            (photo0.camera, photo1.camera),
            (photo0.size, photo1.size),
            self._max_error,
            undistorted=True,
        )
        ends = [
            ends_N2 @ photo.S[:2, :2].T + photo.S[:2, 2]
            for photo, ends_N2 in zip((photo0, photo1), np.hsplit(found.matches_N4, 2), strict=True)
        ]
        T_1_0 = images[1].T_cam_world @ invert_rigid(images[0].T_cam_world)
        return (
            (photo0.image, photo1.image),
            replace(found, matches_N4=np.hstack(ends)),
            PairGeometry(
                "rigid",
                photo0.S @ photo0.camera.K,
                photo1.S @ photo1.camera.K,
                T_1_0,
                "model",
                {"labels": "tracks"},
            ),
        )

    def _read_model(self, sequence: str) -> tuple[SfmModel, dict[str, SfmImage]]:
        """Read the model, and map the file names (without folders) of its usable images to them."""
        model = read_colmap_model(self._models[sequence])
        usable = [image for image in model.images if not image.fault]
        return model, {PurePosixPath(image.name).name: image for image in usable}

    def _image(self, sequence: str, index: int) -> SfmImage | None:
        name = PurePosixPath(self._lists(sequence).images[index]).name
        return self._model(sequence)[1].get(name)

    def _known(self, sequence: str, index: int) -> SfmImage:
        image = self._image(sequence, index)
        if image is None:
            raise SkippedPair("not in the model", self._lists(sequence).images[index])
        return image

    def _read_photo(self, sequence: str, index: int) -> _Photo:
        lists = self._lists(sequence)
        photo = read_photo(lists.folder / lists.images[index], self._root)
        size = photo.shape[1], photo.shape[0]
        camera = self._known(sequence, index).camera.fitted(size)
        if camera is None:
            raise SkippedPair(
                "image size differs", f"{lists.images[index]}: not of the size in the model"
            )
        straight = undistort_image(photo if self._colour else to_grey(photo), camera)
        image, S = reduce_image(straight, self._max_side)
        return _Photo(image, camera, size, S)
