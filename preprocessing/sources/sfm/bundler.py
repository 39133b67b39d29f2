"""Bundler: reconstructions from photographs (Snavely, Seitz, Szeliski, SIGGRAPH 2006).

Layout, as written by Bundler's script: the photographs, their names in ``list.txt``, and
``bundle/bundle.out`` or ``bundle.out``.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ucn.errors import UserError
from ucn.geometry.sfm_model import SfmModel
from ucn.preprocessing.sources.base import Source
from ucn.preprocessing.sources.input_files import list_names, read_lines
from ucn.preprocessing.sources.sfm.bundler_files import read_bundle
from ucn.preprocessing.sources.sfm.config import SfmConfig
from ucn.preprocessing.sources.sfm.pairs import Scene, SfmSource
from ucn.storage.files import is_litter

_MODELS = ("bundle/bundle.out", "bundle.out", "*.out", "*/bundle.out")
_PHOTOS = (".jpg", ".jpeg", ".png", ".pgm", ".ppm")
# A flag and a focal length may follow a name.
_FOCAL = re.compile(r"\s+0(\s+[\d.eE+-]+)?\s*$")


class BundlerConfig(SfmConfig):
    """A Bundler reconstruction: pairs of images that share tracks, matched by these tracks."""

    source: Literal["bundler"] = "bundler"
    root: str
    """Folder of the photographs and of Bundler's output."""
    model: str | None = None
    """Bundler's file, relative to --root; default bundle/bundle.out, bundle.out or the only one."""

    def open_source(self) -> Source:
        return BundlerSource(self)


class BundlerSource(SfmSource):
    """Pairs of one Bundler model.

    Raises:
        UserError: no model is found, or several.
    """

    def __init__(self, config: BundlerConfig) -> None:
        root = Path(config.root)
        model = find_bundle(root) if config.model is None else root / config.model
        super().__init__(config, root, [Scene(root.absolute().name or "root", root, model)])

    def _read(self, scene: Scene) -> SfmModel:
        return read_bundle(scene.model, image_names(scene.photos))

    def _model_files(self, scene: Scene) -> Iterable[Path]:
        names = scene.photos / "list.txt"
        return [scene.model, *([names] if names.is_file() else [])]


def find_bundle(root: Path) -> Path:
    """Find Bundler's output file in a folder.

    Raises:
        UserError: there is none, or there are several and none has the usual name.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; pass the folder of Bundler's photographs")
    for pattern in _MODELS:
        found = sorted(p for p in root.glob(pattern) if p.is_file() and not is_litter(p.name))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.relative_to(root).as_posix() for path in found)
            raise UserError(f"{root}: {names}; choose one with --model")
    raise UserError(f"{root}: no bundle/bundle.out or bundle.out; name Bundler's file with --model")


def image_names(root: Path) -> list[str]:
    """Names of the photographs in the order of Bundler's file.

    The order is that of ``list.txt``. Without this file, it is the order by name.

    Raises:
        UserError: ``list.txt`` is not text, or has a duplicate or invalid name.
    """
    listed = root / "list.txt"
    if not listed.is_file():
        return [name for name in list_names(root) if name.lower().endswith(_PHOTOS)]
    try:
        lines = [_FOCAL.sub("", line).strip() for line in read_lines(listed)]
    except ValueError:
        raise UserError(f"{listed}: not a text file; write one image's name a line") from None
    names = [line.removeprefix("./") for line in lines if line]
    for name in names:
        if not Path(name).name or "\0" in name:
            raise UserError(f"{listed}: {name!r} is not an image's name; write one a line")
    if len(set(names)) < len(names):
        raise UserError(f"{listed}: an image stands twice; write each image's name once")
    return names
