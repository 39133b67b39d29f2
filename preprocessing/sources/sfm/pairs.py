"""Shared by the structure-from-motion sources: choice of the pairs, and reading of the models."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ucn.errors import UserError
from ucn.geometry.sfm_model import SfmModel, select_pairs
from ucn.preprocessing.labels.tracks import (
    TrackPairs,
    find_track_pairs,
    limit_per_image,
    sample_pairs,
)
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.input_files import file_size, find_photo, readable_names
from ucn.preprocessing.sources.pairs_file import find_listed_pairs
from ucn.preprocessing.sources.sfm.config import SfmConfig
from ucn.preprocessing.sources.sfm.reader import SfmReader


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
        self._frame_keys = cache(
            lambda name: readable_names([image.name for image in self._model(name).images])
        )
        self._model_state = cache(self._digest_model)
        self._photo = cache(lambda scene, name: find_photo(self._scenes[scene].photos / name))
        self._bytes = cache(lambda scene, name: file_size(self._photo(scene, name)))

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
        if self._config.pairs_file is not None:
            return find_listed_pairs(Path(self._config.pairs_file), self._places(), self._listed)
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
        return [
            self._model_state(pair.sequence),
            *([name, self._bytes(pair.sequence, name)] for name in pair[1:]),
        ]

    def reader(self, pairs: Sequence[PairRef]) -> SfmReader:
        scenes: dict[str, list[tuple[str, str]]] = {}
        for pair in pairs:
            scenes.setdefault(pair.sequence, []).append((pair.frame0, pair.frame1))
        return SfmReader(
            self._config,
            self._root,
            {pair: self.key(pair) for pair in pairs},
            {name: select_pairs(self._model(name), own) for name, own in scenes.items()},
            {
                (pair.sequence, name): self._photo(pair.sequence, name)
                for pair in pairs
                for name in pair[1:]
            },
        )

    def load(self, pair: PairRef) -> Sample:
        return self.reader([pair]).load(pair)

    def _places(self) -> list[tuple[str, str]]:
        """Beginnings of the names in a list of pairs, and the scenes that they stand for."""
        return [
            (prefix, name)
            for name, scene in self._scenes.items()
            for prefix in (name, scene.photos.relative_to(self._root).as_posix())
        ]

    def _listed(self, name: str) -> dict[str, str]:
        """Names of the images of a scene."""
        return {image: image for image in self._frame_keys(name)}

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

    def _digest_model(self, name: str) -> str:
        digest = hashlib.sha256()
        for path in self._model_files(self._scenes[name]):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()
