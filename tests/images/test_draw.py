import numpy as np
import pytest

from ucn.images.draw import (
    contact_sheet,
    displacement_colours,
    distinct_colours,
    draw_legend,
    draw_matches,
    to_rgb,
    value_colours,
)


def black(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width), np.uint8)


def test_wide_images_are_stacked_and_others_stand_side_by_side() -> None:
    none = np.zeros((0, 4), np.float32)
    assert draw_matches(black(50, 160), black(40, 150), none).shape == (96, 160, 3)
    assert draw_matches(black(60, 80), black(70, 50), none).shape == (70, 136, 3)


def test_ends_are_drawn_where_they_are() -> None:
    matches = np.float32([[20, 10, 30, 40]])
    picture = draw_matches(
        black(50, 60), black(50, 60), matches, np.uint8([[0, 255, 0]]), lines=False
    )
    assert picture[10, 20].tolist() == picture[40, 66 + 30].tolist() == [0, 255, 0]
    lit = np.argwhere((picture[:, :60] != 0).any(axis=2))
    assert np.abs(lit - [10, 20]).max() <= 7


def test_line_joins_the_ends() -> None:
    matches = np.float32([[30, 10, 30, 10]])
    picture = draw_matches(black(20, 80), black(20, 80), matches, np.uint8([[255, 0, 0]]))
    assert (picture[16:30, 30, 0] > 100).all()


def test_large_images_are_reduced_and_inputs_left_alone() -> None:
    image = black(100, 400)
    matches = np.float32([[200, 50, 200, 50]])
    picture = draw_matches(image, image, matches, np.uint8([[0, 0, 255]]), max_side=200)
    assert picture.shape == (103, 200, 3)
    assert picture[25, 100].tolist() == [0, 0, 255]
    assert not image.any()


@pytest.mark.parametrize("count", [2, 0])
def test_colours_must_fit_the_matches(count: int) -> None:
    with pytest.raises(ValueError, match="matches with"):
        draw_matches(black(9, 9), black(9, 9), np.zeros((1, 4)), np.zeros((count, 3), np.uint8))


def test_only_uint8_images_are_shown() -> None:
    with pytest.raises(ValueError, match="uint8"):
        to_rgb(np.zeros((4, 4), np.float32))


def test_values_are_coloured_from_blue_to_red() -> None:
    low, _, high = value_colours(np.array([-5.0, 0.5, 9.0]), 0, 1).tolist()
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert displacement_colours(np.zeros((0, 4))).shape == (0, 3)
    assert displacement_colours(np.zeros((3, 4))).shape == (3, 3)


def test_sheet_lays_out_rows_and_cuts_long_captions() -> None:
    pictures = [np.full((40, 80, 3), shade, np.uint8) for shade in (10, 20, 30)]
    sheet = contact_sheet(pictures, ["one", "two", "three " * 50], columns=2, cell_width=100)
    assert sheet.shape == (2 * (24 + 50 + 12), 2 * 112, 3)
    assert sheet[60, 50].tolist() == [10, 10, 10]
    assert sheet[60, 112 + 50].tolist() == [20, 20, 20]
    assert sheet[86 + 60, 50].tolist() == [30, 30, 30]
    assert contact_sheet(pictures, ["", "", ""]).shape[2] == 3


def test_rows_of_a_sheet_are_as_high_as_their_tallest_picture() -> None:
    pictures = [np.zeros((height, 100, 3), np.uint8) for height in (30, 50, 20)]
    sheet = contact_sheet(pictures, ["", "", ""], columns=2, cell_width=100)
    assert sheet.shape == ((24 + 50 + 12) + (24 + 20 + 12), 2 * 112, 3)


def test_few_matches_are_drawn_larger_than_many() -> None:
    def covered(count: int) -> int:
        matches = np.repeat(np.float32([[30, 30, 30, 30]]), count, axis=0)
        picture = draw_matches(black(60, 60), black(60, 60), matches, max_matches=count)
        return int((picture[:, :60] != 0).any(axis=2).sum())

    assert covered(15) > 1.5 * covered(100)


def test_colours_are_distinct() -> None:
    for count in (0, 1, 2, 15, 40):
        assert len({tuple(colour) for colour in distinct_colours(count).tolist()}) == count


def test_legend_wraps_and_shows_every_colour() -> None:
    colours = {f"entry {number}": (0, 10 * number, 200) for number in range(9)}
    legend = draw_legend(colours, 300)
    assert legend.shape[1:] == (300, 3)
    assert legend.shape[0] > 24
    drawn = {tuple(pixel) for pixel in legend.reshape(-1, 3).tolist()}
    assert set(colours.values()) <= drawn
    assert draw_legend({}, 300).shape == (0, 300, 3)


def test_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="pictures"):
        contact_sheet([], [])
