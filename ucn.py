"""The public face in Python: load a trained model, describe images, match them.

    import ucn

    model = ucn.load_model("runs/demo/train/model")
    matches, scores = ucn.match(model, image0, image1)

Nothing heavy is imported before a function is called.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.model import Model

__all__ = ["describe", "load_model", "match"]


def load_model(folder: Path | str, device: str = "cpu") -> "Model":
    """Load a model folder as `ucn train` writes it.

    Args:
        folder: holds ``model.safetensors`` and ``config.json``.
        device: where the network runs, ``cpu`` or ``cuda``.

    Raises:
        preprocessing.errors.UserError: the folder is no model.
    """
    from training.model import load_model

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

    from evaluation.descriptors import network_describer

    return network_describer(model)(image, np.asarray(points, np.float32))


def match(
    model: "Model",
    image0: "NDArray[np.uint8]",
    image1: "NDArray[np.uint8]",
    *,
    keypoints: int = 2000,
) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Match corners of image 0 densely into image 1, keeping what the way back confirms.

    Args:
        model: from :func:`load_model`.
        image0: uint8 [H, W] grey or [H, W, 3] RGB.
        image1: likewise, of any other size.
        keypoints: most corners of image 0.

    Returns:
        matches float32 [N, 4] (x0, y0, x1, y1 in pixels) and their similarities [N], best first.
    """
    from evaluation.descriptors import network_describer
    from evaluation.match import match_images

    found = match_images(image0, image1, network_describer(model), count=keypoints)
    return found.matches_N4, found.scores_N
