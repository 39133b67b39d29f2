"""Dense description by OpenCV's keypoint descriptors: upright, at a fixed size and level.

The sizes were chosen on two real KITTI pairs.
"""

from functools import cache
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.evaluation.methods.baselines.base import PointDescriber
from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels, unit_rows


class Daisy(PointDescriber):
    """Describes points by DAISY [N, 200]; each histogram is normalised separately.

    Tola, Lepetit and Fua (PAMI 2010), with the sizes of the paper. From a radius of 12 px to 18 px
    PCK@10 changes by 1.4 points; PCK@3 falls when PCK@10 rises.
    """

    title: ClassVar = "dense DAISY"

    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        radius, rings, sectors, orientations = 15, 3, 8, 8
        norm = cv2.xfeatures2d.DAISY_NRM_PARTIAL
        daisy = cv2.xfeatures2d.DAISY.create(
            radius, rings, sectors, orientations, norm, None, True, False
        )
        # OpenCV rejects points beyond the border.
        return unit_rows(describe_keypoints(image, points_N2, daisy, size=1.0, margin=2 * radius))


class Surf(PointDescriber):
    """Describes points by upright SURF [N, 64] (Bay et al., CVIU 2008)."""

    title: ClassVar = "dense SURF"

    @classmethod
    def unavailable(cls) -> str:
        return why_no_surf()

    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        surf = cv2.xfeatures2d.SURF.create(extended=False, upright=True)
        # SURF's scale 1.6: its smallest filter has 9 px at scale 1.2. Patches reach 23 px.
        return unit_rows(describe_keypoints(image, points_N2, surf, size=12.0, margin=64))


@cache
def why_no_surf() -> str:
    """The reason why the installed OpenCV has no SURF, in one line; empty if it has."""
    try:
        cv2.xfeatures2d.SURF.create()
    except (AttributeError, cv2.error):
        return "compiled out of this OpenCV (OPENCV_ENABLE_NONFREE)"
    return ""


class Kaze(PointDescriber):
    """Describes points by upright KAZE [N, 64]; zeros where there is no texture.

    Alcantarilla, Bartoli and Davison (ECCV 2012): M-SURF descriptors, which reach six times the
    size. From size 5 px to 8 px PCK@10 changes by 0.5 points. The level has little effect.
    """

    title: ClassVar = "dense KAZE"

    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        kaze = cv2.xfeatures2d.KAZE.create(
            extended=False, upright=True, nOctaves=1, nOctaveLayers=4
        )
        # Level 1, since OpenCV leaves the derivatives of level 0 at zero. The margin keeps the
        # effect of the border on the diffusion away from the image.
        rows_N64 = describe_keypoints(image, points_N2, kaze, size=6.0, level=1, margin=64)
        # OpenCV normalises rows of zeros to NaN.
        return unit_rows(np.nan_to_num(rows_N64, nan=0.0))


class Akaze(PointDescriber):
    """Describes points by upright AKAZE [N, 486], +-1 / sqrt(486).

    Alcantarilla, Nuevo and Bartoli (BMVC 2013): M-LDB descriptors, which reach five times the size.
    From size 5 px to 8 px PCK@10 falls by 1.6 points; 6 px gives the best PCK@3. The level has
    little effect.
    """

    title: ClassVar = "dense AKAZE"

    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        akaze = cv2.xfeatures2d.AKAZE.create(
            cv2.xfeatures2d.AKAZE_DESCRIPTOR_MLDB_UPRIGHT, nOctaves=1, nOctaveLayers=4
        )
        return signed_bits(
            describe_keypoints(image, points_N2, akaze, size=6.0, level=1, margin=64), 486
        )


class Orb(PointDescriber):
    """Describes points by upright ORB [N, 256], +-1 / sqrt(256) (Rublee et al., ICCV 2011).

    OpenCV rounds the points to whole pixels of the octave, 1.7 px of the image. From octave 0 to 3
    PCK@10 gains 12 points. From octave 3 to 5 it gains one more, but PCK@1 and PCK@3 fall.
    """

    title: ClassVar = "dense ORB"

    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        # The learned tests use a patch of 31 px, which covers 54 px of the image at octave 3.
        patch, octave = 31, 3
        orb = cv2.ORB.create(scaleFactor=1.2, nlevels=octave + 1, patchSize=patch)
        # OpenCV drops points whose patch extends beyond the border.
        return signed_bits(
            describe_keypoints(image, points_N2, orb, size=float(patch), octave=octave, margin=96),
            256,
        )


class Brisk(PointDescriber):
    """Describes points by upright BRISK [N, 512], +-1 / sqrt(512).

    Leutenegger, Chli and Siegwart (ICCV 2011). From size 12 px to 24 px PCK@10 gains 20 points.
    From 24 px to 34 px it gains one more, but PCK@3 falls.
    """

    title: ClassVar = "dense BRISK"

    def describe(self, image: Pixels, points_N2: Floats) -> Floats:
        brisk = cv2.xfeatures2d.BRISK.create()
        # OpenCV drops points whose rings extend beyond the border.
        return signed_bits(describe_keypoints(image, points_N2, brisk, size=24.0, margin=128), 512)


def describe_keypoints(
    image: Pixels,
    points_N2: Floats,
    extractor: cv2.Feature2D,
    *,
    size: float,
    margin: int,
    octave: int = 0,
    level: int = 0,
) -> NDArray[Any]:
    """Describes every point as an upright keypoint of one size.

    Args:
        image: uint8 [H, W] or [H, W, 3] RGB.
        points_N2: pixels.
        extractor: must keep the order of the keypoints.
        size: diameter of the keypoints, pixels.
        margin: padding of the image, pixels (see :func:`extend_border`). It must be large enough
            that the extractor drops no point.
        octave: pyramid octave of the keypoints (ORB).
        level: scale-space level of the keypoints, passed as class id (KAZE, AKAZE).

    Returns:
        Rows of the extractor, [N, D].
    """
    keypoints = [
        cv2.KeyPoint(x, y, size, 0.0, 0.0, octave, level)
        for x, y in (points_N2 + np.float32(margin)).tolist()
    ]
    if not keypoints:  # OpenCV returns None
        kind = np.float32 if extractor.descriptorType() == cv2.CV_32F else np.uint8
        return np.zeros((0, extractor.descriptorSize()), kind)
    _, rows_ND = extractor.compute(extend_border(image, margin), keypoints)
    return np.asarray(rows_ND)


def extend_border(image: Pixels, margin: int) -> Pixels:
    """The grey image, padded by ``margin`` px of reflection on each side.

    Compared with an empty border, this gains up to one point of PCK with dense SIFT.
    """
    extended = cv2.copyMakeBorder(
        to_grey(image), margin, margin, margin, margin, cv2.BORDER_REFLECT_101
    )
    return np.asarray(extended, np.uint8)


def signed_bits(bytes_NK: NDArray[np.uint8], bits: int) -> Floats:
    """Converts D bits per row to unit rows of +-1 / sqrt(D), with inner product 1 - 2 Hamming / D.

    Args:
        bytes_NK: packed bits.
        bits: D, the number of bits used; the last byte may have unused bits.
    """
    ones_ND = np.unpackbits(bytes_NK, axis=1, count=bits)
    level = np.float32(bits**-0.5)
    return np.where(ones_ND, level, -level)
