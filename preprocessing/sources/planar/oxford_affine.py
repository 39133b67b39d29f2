"""The Oxford affine covariant regions sequences (Mikolajczyk et al., IJCV 2005).

Scenes are folders with images ``img1`` to ``img6`` and homographies ``H1to2p`` to ``H1to6p``.
``H1toKp`` maps pixels of image 1 to pixels of image K. The published images are PPM or PGM; other
distributions often have PNG.
"""

import re
from pathlib import Path
from typing import Literal

from ucn.errors import UserError
from ucn.preprocessing.sources.input_files import find_photo
from ucn.preprocessing.sources.planar.files import PlanarPair, read_homography, scene_folders
from ucn.preprocessing.sources.planar.pairs import PlanarConfig

_NAME = re.compile(r"H1to(\d+)p")


class OxfordAffineConfig(PlanarConfig):
    """The Oxford affine sequences: image 1 of each scene with the images that have a homography."""

    source: Literal["oxford-affine"] = "oxford-affine"
    root: str
    """Folder of the scenes: bark, bikes, boat, graf, leuven, trees, ubc, wall."""

    def list_pairs(self) -> list[PlanarPair]:
        return list_oxford_affine(Path(self.root))


def list_oxford_affine(root: Path) -> list[PlanarPair]:
    """List the pair (1, K) of each homography ``H1toKp`` of all scenes, sorted by scene and K.

    Args:
        root: folder of the scenes; folders without homographies are ignored.

    Raises:
        UserError: there are no homographies, or the image of a homography is missing.
    """
    pairs = [_pair(folder, other) for folder in scene_folders(root) for other in _others_of(folder)]
    if not pairs:
        raise UserError(f"{root}: no folder with H1to2p and the like; give the root of the scenes")
    return pairs


def _others_of(folder: Path) -> list[int]:
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _pair(folder: Path, other: int) -> PlanarPair:
    H_1_0 = read_homography(folder / f"H1to{other}p")
    return PlanarPair(folder.name, _image(folder, 1), _image(folder, other), H_1_0)


def _image(folder: Path, number: int) -> Path:
    path = find_photo(folder / f"img{number}.ppm")
    if path.is_file():
        return path
    raise UserError(f"{folder}: no image img{number}; restore it, or remove its homography")
