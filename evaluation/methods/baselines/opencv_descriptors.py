"""Dense description by OpenCV's keypoint descriptors: upright, one size and level, any points.

Sizes were chosen on two real KITTI pairs.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ucn.errors import UserError
from ucn.images.read import to_grey
from ucn.matching.descriptors import Floats, Pixels, unit_rows


def describe_sift(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by RootSIFT [N, 128], all with one size and orientation.

    SIFT of Lowe (IJCV 2004) under the Hellinger kernel of Arandjelovic and Zisserman (CVPR 2012),
    which gains 3 points of PCK@10 over plain SIFT. OpenCV rounds the points to whole pixels.
    """
    # Descriptors reach 27 px. Octave 0 pins the scale space to the image itself.
    rows_N128 = describe_keypoints(image, points_N2, cv2.SIFT.create(), size=5.0, margin=32)
    return unit_rows(np.sqrt(rows_N128 / np.maximum(rows_N128.sum(axis=1, keepdims=True), 1e-12)))


def describe_daisy(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by DAISY [N, 200]; the histograms are normalised one by one.

    Tola, Lepetit and Fua (PAMI 2010), with the sizes of the paper: from radius 12 to 18 px PCK@10
    changes by 1.4 points, with PCK@3 falling as PCK@10 rises.
    """
    radius, rings, sectors, orientations = 15, 3, 8, 8
    norm = cv2.xfeatures2d.DAISY_NRM_PARTIAL
    daisy = cv2.xfeatures2d.DAISY.create(
        radius, rings, sectors, orientations, norm, None, True, False
    )
    # OpenCV refuses points beyond the border.
    return unit_rows(describe_keypoints(image, points_N2, daisy, size=1.0, margin=2 * radius))


def describe_surf(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright SURF [N, 64] (Bay et al., CVIU 2008).

    Raises:
        UserError: the installed OpenCV is built without SURF, as most builds are.
    """
    reason = why_no_surf()
    if reason:
        raise UserError(
            f"SURF: {reason}; build OpenCV with OPENCV_ENABLE_NONFREE, or leave out `surf`"
        )
    surf = cv2.xfeatures2d.SURF.create(extended=False, upright=True)
    # Scale 1.6 of SURF, whose smallest filter is of 9 px at scale 1.2; patches reach 23 px.
    return unit_rows(describe_keypoints(image, points_N2, surf, size=12.0, margin=64))


@cache
def why_no_surf() -> str | None:
    """The reason why the installed OpenCV has no SURF, in one line; None where it has."""
    try:
        cv2.xfeatures2d.SURF.create()
    except (AttributeError, cv2.error):
        return "compiled out of this OpenCV"
    return None


def describe_kaze(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright KAZE [N, 64]; zeros where there is no structure.

    Alcantarilla, Bartoli and Davison (ECCV 2012): M-SURF descriptors, which reach six times the
    size. From size 5 to 8 px PCK@10 changes by 0.5 points; the level hardly matters.
    """
    kaze = cv2.xfeatures2d.KAZE.create(extended=False, upright=True, nOctaves=1, nOctaveLayers=4)
    # OpenCV describes no point of level 0, whose derivatives it leaves zero. The margin keeps the
    # border's effect on the diffusion away from the image.
    rows_N64 = describe_keypoints(image, points_N2, kaze, size=6.0, level=1, margin=64)
    # OpenCV divides by the length of rows of zeros.
    return unit_rows(np.nan_to_num(rows_N64, nan=0.0))


def describe_akaze(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright AKAZE [N, 486], +-1 / sqrt(486).

    Alcantarilla, Nuevo and Bartoli (BMVC 2013): M-LDB descriptors, which reach five times the size.
    From size 5 to 8 px PCK@10 falls by 1.6 points, 6 px gives the best PCK@3; the level hardly
    matters.
    """
    akaze = cv2.xfeatures2d.AKAZE.create(
        cv2.xfeatures2d.AKAZE_DESCRIPTOR_MLDB_UPRIGHT, nOctaves=1, nOctaveLayers=4
    )
    return signed_bits(
        describe_keypoints(image, points_N2, akaze, size=6.0, level=1, margin=64), 486
    )


def describe_orb(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright ORB [N, 256], +-1 / sqrt(256) (Rublee et al., ICCV 2011).

    OpenCV rounds the points to whole pixels of the octave, 1.7 px of the image. From octave 0 to 3
    PCK@10 gains 12 points, from 3 to 5 one more while PCK@1 and PCK@3 fall.
    """
    # The learnt tests are of a patch of 31 px, which covers 54 px of the image at octave 3.
    patch, octave = 31, 3
    orb = cv2.ORB.create(scaleFactor=1.2, nlevels=octave + 1, patchSize=patch)
    # OpenCV drops points whose patch reaches over the border.
    return signed_bits(
        describe_keypoints(image, points_N2, orb, size=float(patch), octave=octave, margin=96), 256
    )


def describe_brisk(image: Pixels, points_N2: Floats) -> Floats:
    """Describe points by upright BRISK [N, 512], +-1 / sqrt(512).

    Leutenegger, Chli and Siegwart (ICCV 2011). From size 12 to 24 px PCK@10 gains 20 points, from
    24 to 34 px one more while PCK@3 falls.
    """
    brisk = cv2.xfeatures2d.BRISK.create()
    # OpenCV drops points whose rings reach over the border.
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
    """Describe every point as an upright keypoint of one size.

    Args:
        extractor: must keep the order of the keypoints.
        size: diameter of the keypoints, pixels.
        margin: pixels by which the image is extended, see :func:`extend_border`; large enough that
            the extractor drops no point.
        octave: of the pyramid that the extractor reads (ORB).
        level: of the scale space that the extractor reads (KAZE, AKAZE), given as class id.

    Returns:
        the extractor's rows, [N, D].
    """
    extended, moved_N2 = extend_border(image, points_N2, margin)
    keypoints = [
        cv2.KeyPoint(float(x), float(y), size, 0.0, 0.0, octave, level) for x, y in moved_N2
    ]
    if not keypoints:  # OpenCV gives no array
        kind = np.float32 if extractor.descriptorType() == cv2.CV_32F else np.uint8
        return np.zeros((0, extractor.descriptorSize()), kind)
    _, rows_ND = extractor.compute(extended, keypoints)
    return np.asarray(rows_ND)


def extend_border(image: Pixels, points_N2: Floats, margin: int) -> tuple[Pixels, Floats]:
    """Mirror an image's content ``margin`` px beyond its borders, and move the points along.

    This gains dense SIFT up to a point of PCK over an empty border.

    Returns:
        the grey image, 2 * margin larger each way, and the same points in it.
    """
    extended = cv2.copyMakeBorder(
        to_grey(image), margin, margin, margin, margin, cv2.BORDER_REFLECT_101
    )
    return np.asarray(extended, np.uint8), points_N2 + np.float32(margin)


def signed_bits(bytes_NK: NDArray[np.uint8], bits: int) -> Floats:
    """Turn D bits a row into unit rows of +-1 / sqrt(D), whose inner product is 1 - 2 Hamming / D.

    Args:
        bits: D, the bits in use; the last byte may have spare ones.
    """
    ones_ND = np.unpackbits(bytes_NK, axis=1, count=bits)
    level = np.float32(bits**-0.5)
    return np.where(ones_ND, level, -level)
