"""`ucn match`: two photos from disk to matches, a picture and a file."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.descriptors import network_describer
from evaluation.match import ImageMatches, match_images, write_matches
from preprocessing.errors import UserError
from preprocessing.pictures import displacement_colours, draw_matches, write_picture
from training.model import load_model

Image = NDArray[np.uint8]


def match_photos(
    image0: Path,
    image1: Path,
    model: str,
    *,
    save: Path | None,
    out: Path | None,
    max_side: int,
    keypoints: int,
) -> int:
    """Match two photos and write what is asked for.

    Args:
        image0, image1: the photos.
        model: folder of a trained model.
        save: picture of the matches.
        out: matches, ``.npz`` or ``.h5``.
        max_side: larger photos are matched at this size, pixels.
        keypoints: most corners of photo 0 that are matched.

    Returns:
        Number of matches.

    Raises:
        UserError: a photo or the model cannot be read, or an output cannot be written.
    """
    if out is not None and out.suffix not in (".npz", ".h5"):
        raise UserError(f"{out}: matches are written as .npz or .h5; change the ending")
    describe = network_describer(load_model(model))
    photos = read_photo(image0), read_photo(image1)
    (reduced0, scale0), (reduced1, scale1) = (_reduce(photo, max_side) for photo in photos)
    found = match_images(reduced0, reduced1, describe, count=keypoints)
    scale_4 = np.array([*scale0, *scale1])
    matches_N4 = ((found.matches_N4 + 0.5) / scale_4 - 0.5).astype(np.float32)
    if out is not None:
        write_matches(out, ImageMatches(matches_N4, found.scores_N), image0.name, image1.name)
    if save is not None:
        write_picture(save, draw_matches(*photos, matches_N4, displacement_colours(matches_N4)))
    return len(matches_N4)


def read_photo(path: Path) -> Image:
    """Read a photo as uint8 RGB [H, W, 3].

    Raises:
        UserError: missing, or no picture.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if image is None:
        raise UserError(f"{path}: not a picture that OpenCV reads; convert it to PNG or JPEG")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _reduce(image: Image, max_side: int) -> tuple[Image, tuple[float, float]]:
    """The image with no side over ``max_side``, and the factors that brought x and y there."""
    height, width = image.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size == (width, height):
        return image, (1.0, 1.0)
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.uint8), (size[0] / width, size[1] / height)
