"""Shared by the structure-from-motion sources: options, pair selection, samples from tracks."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, model_validator

from ucn.arrays import Array
from ucn.errors import SkippedPair, UserError
from ucn.geometry.rigid import invert_rigid
from ucn.geometry.sfm_model import SfmCamera, SfmImage, SfmModel, Size
from ucn.geometry.undistortion import undistort_image
from ucn.images.read import read_photo
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.labels.tracks import (
    TrackPairs,
    find_track_pairs,
    limit_per_image,
    match_tracks,
    sample_pairs,
)
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.assemble import assemble_sample
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.input_files import file_size, find_photo, readable_names

# A colour photograph of 24 megapixels takes 70 MB.
_CACHED_PHOTOS = 6

Images = tuple[SfmImage, SfmImage]
Cameras = tuple[SfmCamera, SfmCamera]
Sizes = tuple[Size, Size]


class SfmConfig(PreprocessConfig, ABC):
    """Options shared by the structure-from-motion sources."""

    min_matches: int = Field(100, ge=1)
    """Minimum number of matches of a pair; other pairs are left out."""
    undistort: bool = True
    """Undistort images to pinhole images. Otherwise, images with distortion have no K."""
    max_error: float = Field(2.0, gt=0)
    """Maximum reprojection error of a match in either image, pixels."""
    min_angle: float = Field(1.0, ge=0, le=180)
    """Minimum of the median triangulation angle of a pair, degrees."""
    max_angle: float = Field(60.0, ge=0, le=180)
    """Maximum of the median triangulation angle of a pair, degrees."""
    max_pairs_per_image: int = Field(0, ge=0)
    """Maximum number of pairs of an image, chosen at random by the seed; 0 takes all."""
    max_pairs: int = Field(0, ge=0)
    """Maximum number of pairs of a scene, chosen at random by the seed; 0 takes all."""

    @model_validator(mode="after")
    def _angles_in_order(self) -> "SfmConfig":
        if self.min_angle > self.max_angle:
            raise ValueError(
                f"min_angle {self.min_angle:g} is above max_angle {self.max_angle:g}; "
                "lower --min-angle or raise --max-angle"
            )
        return self


@dataclass(frozen=True)
class Scene:
    """Paths of one reconstruction.

    Attributes:
        name: unique in the dataset.
        photos: folder of the images.
        model: file or folder of the model.
    """

    name: str
    photos: Path
    model: Path


class SfmSource(ABC):
    """Pairs of images that share tracks. Each reconstruction is a sequence.

    An unusable image is listed once, paired with itself, so that the manifest reports it as
    skipped.

    Args:
        config: the options.
        root: folder of the dataset; messages name files relative to it.
        scenes: the reconstructions.
    """

    def __init__(self, config: SfmConfig, root: Path, scenes: Sequence[Scene]) -> None:
        self._config = config
        self._root = root
        self._scenes = {scene.name: scene for scene in scenes}
        self._scene_keys = readable_names(list(self._scenes))
        self._model = lru_cache(1)(lambda name: self._read(self._scenes[name]))
        self._images = lru_cache(1)(
            lambda name: {image.name: image for image in self._model(name).images}
        )
        self._frame_keys = cache(
            lambda name: readable_names([image.name for image in self._model(name).images])
        )
        self._model_state = cache(self._digest_model)
        self._bytes = cache(lambda path: file_size(find_photo(path)))
        self._photo = lru_cache(_CACHED_PHOTOS)(self._read_photo)

    @abstractmethod
    def _read(self, scene: Scene) -> SfmModel:
        """Read a reconstruction.

        Raises:
            UserError: the reconstruction is missing or damaged.
        """

    @abstractmethod
    def _model_files(self, scene: Scene) -> Iterable[Path]:
        """The files that a reconstruction is read from."""

    def pairs(self) -> list[PairRef]:
        pairs: list[PairRef] = []
        failures = []
        for name in self._scenes:
            images = self._model(name).images
            # Computed now: the cache holds one model, and it is another one when keys are needed.
            self._frame_keys(name)
            chosen = self._choose(name)
            if not len(chosen.first_K):
                failures.append(self._explain_none(name))
                continue
            faulty = [PairRef(name, image.name, image.name) for image in images if image.fault]
            pairs += faulty
            pairs += [
                PairRef(name, images[i].name, images[j].name)
                for i, j in zip(chosen.first_K, chosen.second_K, strict=True)
            ]
        if not pairs:
            more = f" (and {len(failures) - 1} more scenes)" if len(failures) > 1 else ""
            raise UserError(f"{failures[0]}{more}")
        return pairs

    def key(self, pair: PairRef) -> str:
        frames = self._frame_keys(pair.sequence)
        parts = self._scene_keys[pair.sequence], frames[pair.frame0], frames[pair.frame1]
        return "-".join(parts)

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        photos = self._scenes[pair.sequence].photos
        return [
            self._model_state(pair.sequence),
            *([name, self._bytes(photos / name)] for name in pair[1:]),
        ]

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
            self._config,
            self.key(pair),
            pair,
            (photo0, photo1),
            self._candidates(pair, cameras, sizes),
            self._geometry(images, cameras),
        )

    def _pair(self, pair: PairRef) -> Images:
        images = self._images(pair.sequence)
        return images[pair.frame0], images[pair.frame1]

    def _candidates(self, pair: PairRef, cameras: Cameras, sizes: Sizes) -> Candidates:
        return match_tracks(
            self._model(pair.sequence),
            self._pair(pair),
            cameras,
            sizes,
            self._config.max_error,
            self._config.undistort,
        )

    def _geometry(self, images: Images, cameras: Cameras) -> PairGeometry:
        T_1_0 = images[1].T_cam_world @ invert_rigid(images[0].T_cam_world)
        K0, K1 = (
            camera.K if self._config.undistort or camera.distort is None else None
            for camera in cameras
        )
        more = {}
        if not self._config.undistort:
            more = {f"camera{which}": _describe(camera) for which, camera in enumerate(cameras)}
        return PairGeometry("rigid", K0, K1, T_1_0, "model", more)

    def _choose(self, name: str) -> TrackPairs:
        config = self._config
        pairs = find_track_pairs(self._model(name), config.max_error, config.min_matches)
        fit_K = (pairs.angles_K >= config.min_angle) & (pairs.angles_K <= config.max_angle)
        seed = [config.seed, *hashlib.sha256(name.encode()).digest()[:8]]
        spread = limit_per_image(pairs.where(fit_K), config.max_pairs_per_image, seed)
        return sample_pairs(spread, config.max_pairs, seed)

    def _explain_none(self, name: str) -> str:
        """Message that says why a scene has no pairs, and which option to change."""
        config, model = self._config, self._model(name)
        pairs = find_track_pairs(model, config.max_error, 1)
        file = self._scenes[name].model
        if not len(pairs.first_K):
            usable = sum(not image.fault for image in model.images)
            return (
                f"{file}: no two of its {usable} images share a track with reprojection errors of "
                f"at most {config.max_error:g} px; raise --max-error, or check the model"
            )
        if pairs.shared_K.max() < config.min_matches:
            return (
                f"{file}: the best of {len(pairs.first_K)} pairs shares {pairs.shared_K.max()} "
                f"tracks of at least {config.min_matches}; lower --min-matches"
            )
        angles = pairs.angles_K[pairs.shared_K >= config.min_matches]
        return (
            f"{file}: {len(angles)} pairs share enough tracks, but at angles of {angles.min():.2f} "
            f"to {angles.max():.2f} degrees, not {config.min_angle:g} to {config.max_angle:g}; "
            "change --min-angle or --max-angle"
        )

    def _read_photo(self, sequence: str, name: str) -> tuple[Array, SfmCamera]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise SkippedPair("foreign image", f"{name}: leads out of the dataset")
        photo = read_photo(find_photo(self._scenes[sequence].photos / name), self._root)
        size = _size(photo)
        camera = self._images(sequence)[name].camera
        fitted = camera.fitted(size)
        if fitted is None:
            found, expected = ("x".join(map(str, one)) for one in (size, camera.size or ()))
            raise SkippedPair("image size differs", f"{name}: {found}, not {expected}")
        return (undistort_image(photo, fitted) if self._config.undistort else photo), fitted

    def _digest_model(self, name: str) -> str:
        digest = hashlib.sha256()
        for path in self._model_files(self._scenes[name]):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def _size(image: Array) -> Size:
    return image.shape[1], image.shape[0]


def _describe(camera: SfmCamera) -> dict[str, Any]:
    return {
        "model": camera.model,
        "parameters": list(camera.parameters),
        "size": list(camera.size or ()),
    }
