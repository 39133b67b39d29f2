"""Samples of image pairs of a structure-from-motion model, matched by its tracks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair
from ucn.geometry.rigid import invert_rigid
from ucn.geometry.sfm_model import SfmCamera, SfmImage, SfmModel, Size
from ucn.geometry.undistortion import undistort_image
from ucn.images.read import read_photo
from ucn.preprocessing.labels.tracks import match_tracks
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.sfm.config import SfmConfig

# A colour photograph of 24 megapixels takes 70 MB.
_CACHED_PHOTOS = 6

Cameras = tuple[SfmCamera, SfmCamera]
Sizes = tuple[Size, Size]


@dataclass(frozen=True)
class SfmReader:
    """Makes the samples of some pairs. Picklable until the first pair is loaded.

    Attributes:
        config: the options.
        root: folder of the dataset; messages name files relative to it.
        keys: the pairs, with the keys of their samples.
        models: by sequence, the part of the model that the pairs need.
        photos: path of each image, by sequence and name.
    """

    config: SfmConfig
    root: Path
    keys: Mapping[PairRef, str]
    models: Mapping[str, SfmModel]
    photos: Mapping[tuple[str, str], Path]

    def key(self, pair: PairRef) -> str:
        return self.keys[pair]

    def load(self, pair: PairRef) -> Sample:
        images = self._pair(pair)
        for image in images:
            if image.fault:
                raise SkippedPair(image.fault, image.name)
        (photo0, camera0), (photo1, camera1) = (
            self._photo(pair.sequence, image.name) for image in images
        )
        cameras, sizes = (camera0, camera1), (_size(photo0), _size(photo1))
        return assemble_sample(
            self.config,
            self.key(pair),
            pair,
            (photo0, photo1),
            self._candidates(pair, cameras, sizes),
            self._geometry(pair, cameras),
        )

    def _pair(self, pair: PairRef) -> tuple[SfmImage, SfmImage]:
        return self._images[pair.sequence, pair.frame0], self._images[pair.sequence, pair.frame1]

    def _candidates(self, pair: PairRef, cameras: Cameras, sizes: Sizes) -> Candidates:
        return match_tracks(
            self.models[pair.sequence],
            self._pair(pair),
            cameras,
            sizes,
            self.config.max_error,
            self.config.undistort,
        )

    def _geometry(self, pair: PairRef, cameras: Cameras) -> PairGeometry:
        K0, K1 = (
            camera.K if self.config.undistort or camera.distort is None else None
            for camera in cameras
        )
        more = {}
        if not self.config.undistort:
            more = {f"camera{which}": _describe(camera) for which, camera in enumerate(cameras)}
        return PairGeometry("rigid", K0, K1, self._T_1_0(pair), "model", more)

    def _T_1_0(self, pair: PairRef) -> Floats:
        image0, image1 = self._pair(pair)
        return image1.T_cam_world @ invert_rigid(image0.T_cam_world)

    @cached_property
    def _images(self) -> dict[tuple[str, str], SfmImage]:
        return {
            (sequence, image.name): image
            for sequence, model in self.models.items()
            for image in model.images
        }

    @cached_property
    def _photo(self) -> Callable[[str, str], tuple[Array, SfmCamera]]:
        return lru_cache(_CACHED_PHOTOS)(self._read_photo)

    def _read_photo(self, sequence: str, name: str) -> tuple[Array, SfmCamera]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise SkippedPair("foreign image", f"{name}: leads out of the dataset")
        photo = read_photo(self.photos[sequence, name], self.root)
        size = _size(photo)
        camera = self._images[sequence, name].camera
        fitted = camera.fitted(size)
        if fitted is None:
            found, expected = ("x".join(map(str, one)) for one in (size, camera.size or ()))
            raise SkippedPair("image size differs", f"{name}: {found}, not {expected}")
        return (undistort_image(photo, fitted) if self.config.undistort else photo), fitted


def _size(image: Array) -> Size:
    return image.shape[1], image.shape[0]


def _describe(camera: SfmCamera) -> dict[str, Any]:
    return {
        "model": camera.model,
        "parameters": list(camera.parameters),
        "size": list(camera.size or ()),
    }
