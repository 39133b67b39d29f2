"""HPatches' full image sequences (Balntas et al., CVPR 2017).

Scenes are folders ``i_NAME`` (illumination changes) and ``v_NAME`` (viewpoint changes) with images
``1.ppm`` to ``6.ppm`` and homographies ``H_1_2`` to ``H_1_6``. ``H_1_K`` maps pixels of image 1 to
pixels of image K.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from ucn.errors import UserError
from ucn.preprocessing.sources.input_files import find_photo
from ucn.preprocessing.sources.planar.files import PlanarPair, read_homography, scene_folders
from ucn.preprocessing.sources.planar.pairs import PlanarConfig

LARGE_SCENES = frozenset(
    f"i_{name}" for name in ("contruction", "crownnight", "dc", "pencils", "whitebuilding")
) | {"v_artisans", "v_astronautis", "v_talent"}
"""Scenes that D2-Net leaves out. Its protocol has 108 of the 116 scenes."""

_LAST = 6


class HPatchesConfig(PlanarConfig):
    """HPatches' full image sequences: image 1 of each scene with images 2 to 6."""

    source: Literal["hpatches"] = "hpatches"
    root: str
    """Folder of the scenes i_* and v_*."""
    leave_out_large: bool = False
    """Leave out the eight scenes with large images, as in the protocol of D2-Net."""

    def list_pairs(self) -> list[PlanarPair]:
        return list_hpatches(Path(self.root), LARGE_SCENES if self.leave_out_large else ())


def list_hpatches(root: Path, leave_out: Collection[str] = ()) -> list[PlanarPair]:
    """List the pairs (1, K), K = 2 to 6, of all scenes, sorted by scene.

    Args:
        root: folder of the scenes.
        leave_out: names of scenes to leave out, such as `LARGE_SCENES`.

    Raises:
        UserError: there are no scenes, or a file of a scene is missing.
    """
    scenes = [
        folder
        for folder in scene_folders(root)
        if folder.name.startswith(("i_", "v_")) and folder.name not in leave_out
    ]
    if not scenes:
        raise UserError(f"{root}: no folders i_* or v_*; give the root of HPatches' sequences")
    return [_pair(folder, other) for folder in scenes for other in range(2, _LAST + 1)]


def _pair(folder: Path, other: int) -> PlanarPair:
    images = find_photo(folder / "1.ppm"), find_photo(folder / f"{other}.ppm")
    for path in images:
        if not path.is_file():
            raise UserError(f"{path}: missing; restore the scene or leave it out")
    return PlanarPair(folder.name, *images, read_homography(folder / f"H_1_{other}"))
