"""The public face in Python: load a trained model, describe images, match them.

    import ucn

    model = ucn.load_model()
    matches, scores = ucn.match(model, image0, image1)

Nothing heavy is imported before a function is called.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ucn.training.model import Model

__all__ = ["describe", "load_model", "match"]

if "pycolmap" in sys.modules and not {"cv2", "torch"} & sys.modules.keys():
    # OpenCV corrupts memory at its first PNG in a process that has loaded pycolmap before it.
    raise ImportError("pycolmap was imported before OpenCV; import ucn, cv2 or torch first")


def load_model(folder: Path | str = "shipped", device: str = "cpu") -> "Model":
    """Load a model folder as `ucn train` writes it.

    Args:
        folder: holds ``model.safetensors`` and ``config.json``; may be a URI. By default the model
            that comes with the project.
        device: where the network runs, ``cpu`` or ``cuda``.

    Raises:
        ucn.errors.UserError: the folder is no model.
    """
    from ucn.training.model import load_model

    return load_model(folder, device)


def describe(
    model: "Model", image: "NDArray[np.uint8]", points: "NDArray[Any]"
) -> "NDArray[np.float32]":
    """Describe points of an image.

    Args:
        model: from :func:`load_model`.
        image: uint8 [H, W] grey or [H, W, 3] RGB.
        points: [N, 2] pixels (x, y); the centre of the top-left pixel is (0, 0).

    Returns:
        float32 [N, D] of unit length: the nearest descriptor is the match.
    """
    import numpy as np

    from ucn.evaluation.export.search import network_image_describer

    described = network_image_describer(model)(image)(np.asarray(points, np.float32))
    return np.asarray(described.cpu().numpy(), np.float32)


def match(
    model: "Model",
    image0: "NDArray[np.uint8]",
    image1: "NDArray[np.uint8]",
    *,
    keypoints: int = 2000,
    grid: int = 0,
    reciprocity_px: float = 4.0,
    stability_px: float = 0.0,
    ratio: float = 1.0,
    min_similarity: float = -1.0,
    scales: Literal[1, 3, 5] = 1,
) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Match corners of image 0 densely into image 1, keeping what the way back confirms.

    Args:
        model: from :func:`load_model`.
        image0: uint8 [H, W] grey or [H, W, 3] RGB.
        image1: likewise, of any other size.
        keypoints: most corners of image 0.
        grid: start from every so many pixels instead, in x and in y; 0 is off.
        reciprocity_px: the search back lands within so many pixels of the start; 0 keeps all.
        stability_px: so does it from a pixel beside the match; 0 keeps all.
        ratio: of the descriptors' distances to the best and the second best position; 1 keeps all.
        min_similarity: least cosine of the two descriptors.
        scales: sizes at which each image is described, half an octave apart; the best of all
            relative scales counts.

    Returns:
        matches float32 [N, 4] (x0, y0, x1, y1 in pixels) and their similarities [N], best first.

    Raises:
        ucn.errors.UserError: an option out of its range.
    """
    from ucn.evaluation.export.config import MatchOptions
    from ucn.evaluation.export.match import match_images
    from ucn.evaluation.export.search import network_image_describer

    options = MatchOptions(
        keypoints=keypoints,
        grid=grid,
        reciprocity_px=reciprocity_px,
        stability_px=stability_px,
        ratio=ratio,
        min_similarity=min_similarity,
        scales=scales,
    )
    found = match_images(image0, image1, network_image_describer(model, scales), options)
    return found.matches_N4, found.scores_N
