"""Pictures of validation matches: what is drawn, in which colour, and what is written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.training.tracking.pictures import (
    BAD,
    FAIR,
    GOOD,
    LEGEND_HEIGHT,
    LEGEND_WIDTH,
    draw_by_error,
    match_picture,
)

GREY = np.full((240, 620), 128, np.uint8)


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(colour)).all(axis=-1).any())


def scattered(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.tile(rng.uniform([5, 5], [610, 230], (count, 2)), 2)


@pytest.mark.parametrize(
    ("error", "colour"),
    [(0, GOOD), (3, GOOD), (3.01, FAIR), (10, FAIR), (10.01, BAD), (500, BAD)],
)
def test_a_match_has_the_colour_of_its_error(error: float, colour: tuple[int, int, int]) -> None:
    picture = draw_by_error(GREY, GREY, scattered(5), np.full(5, error))
    assert [one for one in (GOOD, FAIR, BAD) if has(picture, one)] == [colour]


def test_one_threshold_parts_right_from_wrong() -> None:
    error_N = np.array([0, 4.9, 5, 5.1, 90])
    picture = draw_by_error(GREY, GREY, scattered(5), error_N, [5.0])
    assert has(picture, GOOD)
    assert has(picture, BAD)
    assert not has(picture, FAIR)


def test_few_lines_are_drawn_and_spread_over_the_image() -> None:
    matches_N4 = scattered(4000)
    # Without lines between: image 1's ends are those of image 0.
    picture = draw_by_error(GREY, GREY, matches_N4, np.zeros(4000), max_matches=60)
    top = (picture[: GREY.shape[0]] == np.array(GOOD)).all(axis=-1)
    covered = [top[:, x : x + 62].any() for x in range(0, 620, 62)]
    assert all(covered)
    # A line of one pixel and a dot of some fifty each.
    assert top.sum() < 60 * 60


def test_right_matches_lie_over_wrong_ones() -> None:
    spot = np.array([[300.0, 100.0, 300.0, 100.0]])
    both = np.repeat(spot, 2, axis=0)
    picture = draw_by_error(GREY, GREY, both, np.array([0.0, 99.0]))
    assert has(picture, GOOD)
    assert not has(picture, BAD)


@pytest.mark.parametrize(
    ("shape0", "shape1", "stacked"),
    [((240, 620), (200, 500), True), ((300, 260), (280, 240), False)],
)
def test_landscape_images_are_stacked(
    shape0: tuple[int, int], shape1: tuple[int, int], stacked: bool
) -> None:
    images = np.zeros(shape0, np.uint8), np.zeros((*shape1, 3), np.uint8)
    points_N2 = np.array([[10.0, 10.0], [50.0, 60.0]])
    picture = match_picture(*images, points_N2, points_N2, points_N2, "pair")
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    height = picture.shape[0] - LEGEND_HEIGHT
    assert height == (shape0[0] + 6 + shape1[0] if stacked else max(shape0[0], shape1[0]))
    width = max(shape0[1], shape1[1]) if stacked else shape0[1] + 6 + shape1[1]
    assert picture.shape[1] == width


def test_the_scores_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "ucn.training.tracking.pictures.cv2.putText", lambda _, text, *__: written.append(text)
    )
    points_N2 = np.zeros((8, 2))
    truth_N2 = points_N2 + np.array(
        [[3, 0], [0, -3], [4, 0], [6, 8], [0, 10.1], [99, 0], [1, 1], [0, 0]]
    )
    match_picture(GREY, GREY, points_N2, points_N2, truth_N2, "drive-0001, step 200")
    assert written == ["> 10 px 25.0 %", "PCK@10 75.0 %", "PCK@3 50.0 %", "drive-0001, step 200"]


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 90),
    shapes=st.tuples(*[st.tuples(st.integers(1, 90), st.integers(1, 90))] * 2),
    seed=st.integers(0, 1000),
    caption=st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=200),
)
def test_any_pair_can_be_drawn(
    count: int, shapes: tuple[tuple[int, int], tuple[int, int]], seed: int, caption: str
) -> None:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    before = [image.copy() for image in images]
    points0, found, truth = rng.uniform(0, 90, (3, count, 2)).astype(np.float32)
    picture = match_picture(*images, points0, found, truth, caption)
    assert picture.shape[1] >= LEGEND_WIDTH
    assert picture.dtype == np.uint8
    assert all(np.array_equal(a, b) for a, b in zip(images, before, strict=True))
