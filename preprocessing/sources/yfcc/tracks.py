"""Matches from the tracks of a COLMAP model in a scene's folder of OANet's layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair
from ucn.geometry.rigid import invert_rigid
from ucn.geometry.sfm_model import SfmCamera, SfmImage, SfmModel, Size
from ucn.geometry.undistortion import undistort_image
from ucn.images.read import to_grey
from ucn.preprocessing.labels.tracks import match_tracks
from ucn.preprocessing.sample import PairGeometry
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.yfcc.frames import (
    FrameId,
    ListedImages,
    SampleParts,
    cache_recent,
    reduce_image,
)

_PLACES = ("sparse", "sparse/0", "colmap", "colmap/0")
_PARTS = ("images.bin", "images.txt")


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


@dataclass(frozen=True)
class TrackReader:
    """Makes matches from models, and caches the most recent images.

    Picklable until the first pair is read.

    Attributes:
        files: files of the images.
        models: by sequence, the part of the model that the pairs need.
        posed: name in the model of each image that the model has.
        max_side: larger images are reduced to this longer side, pixels.
        max_error: maximum reprojection error of a match in either image, pixels.
        colour: keep the colour of colour images.
    """

    files: ListedImages
    models: Mapping[str, SfmModel]
    posed: Mapping[FrameId, str]
    max_side: int
    max_error: float
    colour: bool

    def read(self, pair: PairRef) -> SampleParts:
        """Read images, matches and geometry of a pair, with the model's cameras and poses.

        Raises:
            SkippedPair: an image is missing, damaged, or not in the model.
        """
        sequence = pair.sequence
        for frame in pair[1:]:
            if (sequence, frame) not in self.posed:
                raise SkippedPair("not in the model", self.files.names[sequence, frame])
        images = self._image(sequence, pair.frame0), self._image(sequence, pair.frame1)
        photo0, photo1 = (self._photo(sequence, frame) for frame in pair[1:])
        found = match_tracks(
            self.models[sequence],
            images,
            (photo0.camera, photo1.camera),
            (photo0.size, photo1.size),
            self.max_error,
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

    @cached_property
    def _photo(self) -> Callable[[str, str], _Photo]:
        return cache_recent(self._read_photo, lambda photo: photo.image.nbytes)

    def _image(self, sequence: str, frame: str) -> SfmImage:
        return self._images[sequence, self.posed[sequence, frame]]

    @cached_property
    def _images(self) -> dict[tuple[str, str], SfmImage]:
        return {
            (sequence, image.name): image
            for sequence, model in self.models.items()
            for image in model.images
        }

    def _read_photo(self, sequence: str, frame: str) -> _Photo:
        photo = self.files.read((sequence, frame))
        size = photo.shape[1], photo.shape[0]
        camera = self._image(sequence, frame).camera.fitted(size)
        if camera is None:
            name = self.files.names[sequence, frame]
            raise SkippedPair("image size differs", f"{name}: not of the size in the model")
        straight = undistort_image(photo if self.colour else to_grey(photo), camera)
        image, S = reduce_image(straight, self.max_side)
        return _Photo(image, camera, size, S)
