"""The public face in Python: load a trained model, describe images, match them.

    import ucn

    model = ucn.load_model()
    features0, features1 = model.extract(image0), model.extract(image1)
    matches, scores = ucn.match(features0, features1)
    descriptors = features0.at(points)

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


def load_model(folder: Path | str = "shipped", device: str = "auto") -> "Model":
    """Loads a model folder as `ucn train` writes it.

    Args:
        folder: folder or URI with ``model.safetensors`` and ``config.json``. The default is the
            model that comes with the project.
        device: device of the network: ``cpu``, ``cuda``, or ``auto`` for the GPU if there is a
            usable one.

    Raises:
        ucn.errors.UserError: the folder is no model, or the device cannot be used.
    """
    from ucn.training.model import load_model

    return load_model(folder, device)


def describe(
    model: "Model", image: "NDArray[np.uint8]", points: "NDArray[Any]"
) -> "NDArray[np.float32]":
    """Describes points of an image: ``model.extract(image).at(points)``.

    Args:
        model: from :func:`load_model`.
        image: uint8 [H, W] grey or [H, W, 3] RGB.
        points: [N, 2] pixels (x, y); the centre of the top-left pixel is (0, 0).

    Returns:
        float32 [N, D] of unit length: the nearest descriptor is the match.
    """
    return model.extract(image).at(points)


def match(
    *described: Any,
    keypoints: int = 2000,
    grid: int = 0,
    reciprocity_px: float = 4.0,
    stability_px: float = 0.0,
    ratio: float = 1.0,
    min_similarity: float = -1.0,
    scales: Literal[1, 3, 5] = 1,
) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Matches corners of image 0 densely to image 1, and keeps the reciprocal matches.

    Args:
        described: two images described by ``model.extract(image)``; or a model and two images,
            uint8 [H, W] grey or [H, W, 3] RGB of any sizes.
        keypoints: maximum number of corners of image 0.
        grid: match every ``grid``-th pixel instead, in x and in y. 0 disables it.
        reciprocity_px: maximum forward-backward error, pixels. 0 keeps all matches.
        stability_px: the same, after shifting the match by a pixel. 0 keeps all matches.
        ratio: maximum ratio of the best to the second-best descriptor distance. 1 keeps all.
        min_similarity: minimum cosine similarity of the descriptors.
        scales: number of image scales, half an octave apart, if images are given; else
            ``model.extract(image, scales)`` decides.

    Returns:
        matches float32 [N, 4] (x0, y0, x1, y1 in pixels) and their similarities [N], best first.

    Raises:
        ucn.errors.UserError: an option is out of its range.
        TypeError: other arguments were given.
        ValueError: the images are not described alike.
    """
    from ucn.evaluation.export.config import MatchOptions
    from ucn.evaluation.export.match import match_features
    from ucn.matching.features import Features
    from ucn.training.model import Model

    options = MatchOptions(
        keypoints=keypoints,
        grid=grid,
        reciprocity_px=reciprocity_px,
        stability_px=stability_px,
        ratio=ratio,
        min_similarity=min_similarity,
        scales=scales,
    )
    match described:
        case (Features() as features0, Features() as features1):
            pass
        case (Model() as model, image0, image1):
            features0, features1 = (model.extract(image, scales) for image in (image0, image1))
        case _:
            raise TypeError("ucn.match takes (features0, features1) or (model, image0, image1)")
    found = match_features(features0, features1, options)
    return found.matches_N4, found.scores_N
