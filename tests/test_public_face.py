"""The public face: what `import ucn` offers, as the README uses it."""

import numpy as np
import pytest

import ucn
from tests.textures import textured
from ucn.errors import UserError
from ucn.training.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return ucn.load_model(device="cpu")


def images() -> tuple[np.ndarray, np.ndarray]:
    """A texture, and the same shifted by (6, 4) pixels."""
    scene = textured(120, 150, seed=3)
    return scene[10:110, 10:140].copy(), scene[6:106, 4:134].copy()


def test_features_are_matched_like_images(model: Model) -> None:
    image0, image1 = images()
    features0, features1 = model.extract(image0), model.extract(image1)
    matches, scores = ucn.match(features0, features1, keypoints=200, ratio=0.95)
    again, same_scores = ucn.match(model, image0, image1, keypoints=200, ratio=0.95)
    np.testing.assert_array_equal(matches, again)
    np.testing.assert_array_equal(scores, same_scores)
    assert 50 < len(matches) <= 200
    assert (np.diff(scores) <= 0).all()
    move = np.median(matches[:, 2:] - matches[:, :2], axis=0)
    np.testing.assert_allclose(move, [6, 4], atol=0.2)


def test_the_nearest_descriptor_is_the_match(model: Model) -> None:
    image0, image1 = images()
    features0, features1 = model.extract(image0), model.extract(image1)
    points = np.float32([[30, 40], [70.5, 60.25], [90, 20]])
    descriptors = features0.at(points)
    np.testing.assert_array_equal(ucn.describe(model, image0, points), descriptors)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-6)
    candidates = np.concatenate([points + np.float32([6, 4]), points + np.float32([20, -9])])
    nearest = (descriptors @ features1.at(candidates).T).argmax(axis=1)
    assert nearest.tolist() == [0, 1, 2]
    map_DHW, grid = features0.dense
    assert map_DHW.shape == (descriptors.shape[1], grid.height, grid.width)
    assert (grid.stride, grid.offset) == (model.stride, model.offset)


def test_an_image_matches_itself_exactly(model: Model) -> None:
    features = model.extract(images()[0])
    matches, scores = ucn.match(features, features)
    np.testing.assert_allclose(matches[:, 2:], matches[:, :2], atol=0.02)
    np.testing.assert_allclose(scores, 1, atol=1e-5)


def test_scales_are_chosen_when_an_image_is_described(model: Model) -> None:
    image0, image1 = images()
    three = [model.extract(image, scales=3) for image in (image0, image1)]
    matches, _ = ucn.match(*three, keypoints=50)
    again, _ = ucn.match(model, image0, image1, keypoints=50, scales=3)
    np.testing.assert_array_equal(matches, again)
    with pytest.raises(ValueError, match="not described alike"):
        ucn.match(three[0], model.extract(image1))


def test_other_arguments_are_refused(model: Model) -> None:
    image0, image1 = images()
    for arguments in ((image0, image1), (model, image0), (model.extract(image0),)):
        with pytest.raises(TypeError, match="takes"):
            ucn.match(*arguments)
    with pytest.raises(UserError, match="ratio"):
        ucn.match(model, image0, image1, ratio=1.5)
    with pytest.raises(UserError, match="no model"):
        ucn.load_model("/nowhere")
