"""HPatches' full image sequences (Balntas et al., CVPR 2017).

``i_NAME`` (light changes) and ``v_NAME`` (viewpoint changes) hold ``1.ppm`` to ``6.ppm`` and
``H_1_2`` to ``H_1_6``, from pixels of image 1 to pixels of image K.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from ucn.errors import UserError
from ucn.preprocessing.sources.planar.files import PlanarPair, read_homography, scene_folders
from ucn.preprocessing.sources.planar.pairs import PlanarConfig

LARGE_SCENES = frozenset(
    f"i_{name}" for name in ("contruction", "crownnight", "dc", "pencils", "whitebuilding")
) | {"v_artisans", "v_astronautis", "v_talent"}
"""Left out by D2-Net and by the tables that follow it, which have 108 of the 116 scenes."""

_LAST = 6


class HPatchesConfig(PlanarConfig):
    """HPatches' full sequences: image 1 of each scene with images 2 to 6."""

    source: Literal["hpatches"] = "hpatches"
    root: str
    """Folder of the scenes i_* and v_*."""
    leave_out_large: bool = False
    """Leave out the eight scenes that D2-Net's tables, and those that follow it, do not have."""

    def list_pairs(self) -> list[PlanarPair]:
        return list_hpatches(Path(self.root), LARGE_SCENES if self.leave_out_large else ())


def list_hpatches(root: Path, leave_out: Collection[str] = ()) -> list[PlanarPair]:
    """List the pairs (1, K), K = 2 to 6, of all scenes, sorted by scene.

    Args:
        root: folder of the scenes.
        leave_out: names of scenes, such as `LARGE_SCENES`.

    Raises:
        UserError: no scenes, or a scene without one of its files.
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
    images = folder / "1.ppm", folder / f"{other}.ppm"
    for path in images:
        if not path.is_file():
            raise UserError(f"{path}: missing; restore the scene or leave it out")
    return PlanarPair(folder.name, *images, read_homography(folder / f"H_1_{other}"))
