"""COLMAP: reconstructions from photographs (Schoenberger and Frahm, CVPR 2016).

Layout: ``images`` and ``sparse`` in the root, or in each of its folders. The model is in
``sparse``; several models are in ``sparse/0``, ``sparse/1`` and so on. Dense workspaces, made by
``colmap image_undistorter`` and ``patch_match_stereo``, also have ``stereo/depth_maps``.
MegaDepth's have ``depths``. A scene may also consist of dense workspaces only, in ``dense`` or in
``dense/0``, ``dense/1`` and so on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ucn.errors import SkippedPair, UserError
from ucn.geometry.sfm_model import SfmModel, Size
from ucn.preprocessing.labels.depth import match_depths
from ucn.preprocessing.sample import Candidates
from ucn.preprocessing.sources.base import PairRef, Source
from ucn.preprocessing.sources.input_files import file_size
from ucn.preprocessing.sources.sfm.colmap_depth import (
    DepthMap,
    depth_file,
    depth_folder,
    read_depth_map,
)
from ucn.preprocessing.sources.sfm.colmap_files import model_files, read_colmap_model
from ucn.preprocessing.sources.sfm.config import SfmConfig
from ucn.preprocessing.sources.sfm.pairs import Scene, SfmSource
from ucn.preprocessing.sources.sfm.reader import Cameras, SfmReader, Sizes

# A depth map of two megapixels takes 8 MB.
_CACHED_DEPTHS = 6


class ColmapConfig(SfmConfig):
    """COLMAP reconstructions: pairs of images that share tracks, matched by these tracks."""

    source: Literal["colmap"] = "colmap"
    root: str
    """Folder with images/ and sparse/, or a folder of such folders."""
    sequences: tuple[str, ...] = ()
    """Scenes to take, named as in the samples' metadata; default all."""
    dense: bool = False
    """Match by depth maps instead of tracks; depth maps are in dense/ or in the scene's folder."""
    dense_step: int = Field(4, ge=1)
    """With --dense: stride of the matched pixels of image 0, in x and y, pixels."""

    def open_source(self) -> Source:
        return ColmapSource(self)


@dataclass(frozen=True)
class DepthReader(SfmReader):
    """Matches the pairs by depth maps instead of tracks.

    Attributes:
        depth_maps: paths of the depth maps of each pair.
        step: stride of the matched pixels of image 0, pixels.
    """

    depth_maps: Mapping[PairRef, tuple[Path, Path]]
    step: int

    def _candidates(self, pair: PairRef, cameras: Cameras, sizes: Sizes) -> Candidates:
        depth0_HW, depth1_HW = (
            self._depth(path, size) for path, size in zip(self.depth_maps[pair], sizes, strict=True)
        )
        Ks = cameras[0].K, cameras[1].K
        return match_depths((depth0_HW, depth1_HW), Ks, self._T_1_0(pair), self.step)

    def _depth(self, path: Path, size: Size) -> DepthMap:
        depth_HW = self._depths(path)
        if depth_HW.shape[::-1] != size:
            found, expected = ("x".join(map(str, one)) for one in (depth_HW.shape[::-1], size))
            raise SkippedPair("depth map size differs", f"{path.name}: {found}, not {expected}")
        return depth_HW

    @cached_property
    def _depths(self) -> Callable[[Path], DepthMap]:
        return lru_cache(_CACHED_DEPTHS)(lambda path: read_depth_map(path, self.root))


class ColmapSource(SfmSource):
    """Pairs of COLMAP models.

    Raises:
        UserError: no model is found.
    """

    def __init__(self, config: ColmapConfig) -> None:
        root = Path(config.root)
        super().__init__(config, root, _chosen(find_scenes(root, config.dense), config))
        self._config: ColmapConfig = config

    def input_fingerprint(self, pair: PairRef) -> list[Any]:
        if not self._config.dense:
            return super().input_fingerprint(pair)
        sizes = [[path.name, file_size(path)] for path in self._depth_files(pair)]
        return [*super().input_fingerprint(pair), *sizes]

    def _read(self, scene: Scene) -> SfmModel:
        model = read_colmap_model(scene.model)
        if self._config.dense and any(image.camera.distort for image in model.images):
            raise UserError(
                f"{scene.model}: cameras with distortion, but depth maps belong to undistorted "
                "images; pass the workspace of colmap image_undistorter, or leave --dense out"
            )
        return model

    def _model_files(self, scene: Scene) -> Iterable[Path]:
        return model_files(scene.model)

    def reader(self, pairs: Sequence[PairRef]) -> SfmReader:
        reader = super().reader(pairs)
        if not self._config.dense:
            return reader
        files = {pair: self._depth_files(pair) for pair in pairs}
        return DepthReader(**vars(reader), depth_maps=files, step=self._config.dense_step)

    def _depth_files(self, pair: PairRef) -> tuple[Path, Path]:
        folder = self._depth_folder(pair.sequence)
        return depth_file(folder, pair.frame0), depth_file(folder, pair.frame1)

    def _depth_folder(self, sequence: str) -> Path:
        workspace = self._scenes[sequence].photos.parent
        folder = depth_folder(workspace)
        if folder is None:
            raise UserError(f"{workspace}: its depth maps are gone; leave --dense out")
        return folder


def find_scenes(root: Path, dense: bool) -> list[Scene]:
    """Find the reconstructions in a folder, sorted by folder name.

    Args:
        root: the folder.
        dense: find only workspaces with depth maps.

    Raises:
        UserError: there are none.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; pass a folder with images/ and sparse/")
    scenes = _scenes_of(root, dense) or [
        scene
        for folder in sorted(path for path in root.iterdir() if path.is_dir())
        for scene in _scenes_of(folder, dense)
    ]
    if not scenes:
        maps = ", and stereo/depth_maps/ or depths/" if dense else ""
        raise UserError(
            f"{root}: neither it nor a folder in it has images/ and sparse/{maps}; check --root"
        )
    return scenes


def _chosen(scenes: list[Scene], config: ColmapConfig) -> list[Scene]:
    """The scenes named by the options.

    Raises:
        UserError: a named scene does not exist.
    """
    names = [scene.name for scene in scenes]
    for name in config.sequences:
        if name not in names:
            raise UserError(f"{config.root}: no scene {name}; there are {', '.join(names[:5])}")
    return [scene for scene in scenes if scene.name in (config.sequences or names)]


def _scenes_of(folder: Path, dense: bool) -> list[Scene]:
    name = folder.absolute().name or "root"
    workspace = folder / "dense"
    several = [(one, f"{name}/{one.name}") for one in _numbered(workspace)]
    # These places hold the same images, so only one of them is used. With `dense`, workspaces are
    # tried first, because depth maps are usually there.
    places = [[(folder, name)], [(workspace, name)], several]
    for group in reversed(places) if dense else places:
        scenes = [
            scene
            for place, place_name in group
            if not dense or depth_folder(place)
            for scene in _models_of(place, place_name)
        ]
        if scenes:
            return scenes
    return []


def _models_of(folder: Path, name: str) -> list[Scene]:
    photos, sparse = folder / "images", folder / "sparse"
    if not (photos.is_dir() and sparse.is_dir()):
        return []
    models = _numbered(sparse) or [sparse]
    if len(models) == 1:
        return [Scene(name, photos, models[0])]
    return [Scene(f"{name}/{path.name}", photos, path) for path in models]


def _numbered(folder: Path) -> list[Path]:
    """Subfolders whose names are numbers, in numeric order."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=lambda path: (int(path.name), path.name))
