"""Homographies agree with OpenCV's, views with what they show, points with their bounds."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.geometry.homographies import (
    HomographyRanges,
    apply_homography,
    homography_from_corners,
    invert_homography,
    is_viewable,
    jittered_grid,
    local_scale,
    near_mask,
    random_corners,
    random_homography,
    view_corners,
)
from ucn.preprocessing.sources.photos.occluders import add_occluders
from ucn.preprocessing.sources.photos.views import build_pyramid, render_view, resizing

RANGES = HomographyRanges(rotation=60, scale=2, shear=0.3, perspective=0.4, shift=0.3)
SIZES = st.tuples(st.integers(32, 300), st.integers(32, 300))
SEEDS = st.integers(0, 2**32 - 1)


def waves(points_N2: np.ndarray) -> np.ndarray:
    """A smooth picture, from -1 to 1, of wavelengths of 50 and more pixels."""
    x, y = points_N2.T
    return (np.sin(x / 8) + np.sin(y / 9 + 1) + np.sin((x + 2 * y) / 25)) / 3


def wave_photo(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    values = waves(np.column_stack([x.ravel(), y.ravel()])).reshape(height, width)
    return np.rint(128 + 120 * values).astype(np.uint8)


@settings(max_examples=100)
@given(SEEDS, SIZES)
def test_random_homographies_are_opencvs(seed: int, size: tuple[int, int]) -> None:
    corners0 = view_corners(size)
    corners1 = random_corners(size, RANGES, np.random.default_rng(seed))
    expected = cv2.getPerspectiveTransform(corners0.astype(np.float32), corners1.astype(np.float32))
    H_1_0 = homography_from_corners(corners0, corners1)
    np.testing.assert_allclose(apply_homography(H_1_0, corners0), corners1, atol=1e-6)
    points = np.random.default_rng(seed).uniform(-0.5, np.array(size) - 0.5, (50, 2))
    if random_homography(size, RANGES, np.random.default_rng(seed)) is None:
        return
    # OpenCV takes the corners in float32 and so is off by some 1e-5 of the picture.
    reference = cv2.perspectiveTransform(points[None], expected)[0]
    np.testing.assert_allclose(apply_homography(H_1_0, points), reference, atol=5e-3)
    back = apply_homography(invert_homography(H_1_0), apply_homography(H_1_0, points))
    np.testing.assert_allclose(back, points, atol=1e-6)


@settings(max_examples=50)
@given(SEEDS, SIZES)
def test_local_scale_is_the_growth_of_small_areas(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    H_1_0 = random_homography(size, RANGES, rng)
    if H_1_0 is None:
        return
    points = rng.uniform(-0.5, np.array(size) - 0.5, (20, 2))
    step = 1e-3
    east = apply_homography(H_1_0, points + np.array([step, 0])) - apply_homography(H_1_0, points)
    south = apply_homography(H_1_0, points + np.array([0, step])) - apply_homography(H_1_0, points)
    areas = east[:, 0] * south[:, 1] - east[:, 1] * south[:, 0]
    np.testing.assert_allclose(local_scale(H_1_0, points), np.sqrt(areas) / step, rtol=1e-3)


def test_no_ranges_give_the_identity() -> None:
    still = HomographyRanges(rotation=0, scale=1, shear=0, perspective=0, shift=0)
    H_1_0 = random_homography((64, 48), still, np.random.default_rng(0))
    assert H_1_0 is not None
    np.testing.assert_allclose(H_1_0, np.eye(3), atol=1e-10)


def test_views_across_the_horizon_are_refused() -> None:
    across = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 50, 0, 1]])
    grazing = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 105, 0, 1]])
    assert not is_viewable(across, (100, 100))
    assert not is_viewable(grazing, (100, 100))
    assert is_viewable(np.eye(3), (100, 100))
    line = HomographyRanges(rotation=0, scale=1, shear=0, perspective=0, shift=0)
    with pytest.raises(np.linalg.LinAlgError):
        homography_from_corners(np.zeros((4, 2)), random_corners((9, 9), line, _rng()))


@settings(max_examples=60)
@given(SEEDS, SIZES, st.integers(8, 320).map(lambda eighths: eighths / 8))
def test_grid_has_one_point_in_each_cell(seed: int, size: tuple[int, int], spacing: float) -> None:
    points = jittered_grid(size, spacing, np.random.default_rng(seed))
    assert (points >= -0.5).all()
    assert (points <= np.array(size) - 0.5).all()
    np.testing.assert_array_equal(points, points.astype(np.float32))
    cells = np.floor((points + 0.5) / spacing * (1 - 1e-6)).astype(int)
    expected = np.ceil(np.array(size) / spacing).prod()
    assert len(points) == expected
    assert len(np.unique(cells, axis=0)) >= 0.98 * expected


def test_near_mask_looks_at_the_four_pixels_around() -> None:
    mask = np.zeros((5, 6), bool)
    mask[2, 3] = True
    points = np.array([[3, 2], [2.01, 1.01], [3.99, 2.99], [1.9, 2], [4.0, 2], [5.5, 4.5]])
    np.testing.assert_array_equal(near_mask(mask, points), [True, True, True, False, False, False])


@settings(max_examples=25)
@given(SEEDS, st.floats(0.5, 6))
def test_views_show_the_photo_where_the_homography_says(seed: int, step: float) -> None:
    """No shift by half a pixel, neither for reduced nor for enlarged photos."""
    rng = np.random.default_rng(seed)
    size = (64, 48)
    photo_size = (int(size[0] * step * 1.5) + 40, int(size[1] * step * 1.5) + 41)
    mild = HomographyRanges(rotation=60, scale=1.3, shear=0.1, perspective=0.2, shift=0.1)
    warp = random_homography(size, mild, rng)
    assert warp is not None
    H_v_p = warp @ resizing((round(size[0] * step), round(size[1] * step)), size)
    # Waves of one length in the view, whatever the reduction.
    x, y = np.meshgrid(np.arange(photo_size[0]), np.arange(photo_size[1]))
    spots = np.column_stack([x.ravel(), y.ravel()])
    photo = np.rint(128 + 120 * waves(spots / step)).reshape(photo_size[::-1]).astype(np.uint8)
    view = render_view(build_pyramid(photo), H_v_p, size)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    origins = cv2.perspectiveTransform(
        np.column_stack([x.ravel(), y.ravel()])[None].astype(np.float64), np.linalg.inv(H_v_p)
    )[0]
    inside = ((origins >= -0.5) & (origins <= np.array(photo_size) - 0.5)).all(1)
    assert (view.ravel()[~inside] == 0).all()
    expected = (128 + 120 * waves(origins / step)).reshape(size[::-1])
    error = view - expected
    deep = ((origins >= 4 * step) & (origins <= np.array(photo_size) - 4 * step)).all(1)
    deep = deep.reshape(size[::-1])
    assert np.abs(error[deep]).mean() < 1.5
    # By how much the view would have to be shifted, and brightened, to fit best.
    slopes = np.gradient(expected)
    design = np.column_stack([slopes[1][deep], slopes[0][deep], np.ones(deep.sum())])
    shift = np.linalg.lstsq(design, error[deep], rcond=None)[0]
    assert np.abs(shift[:2]).max() < 0.05
    assert abs(shift[2]) < 1


def test_reduced_photos_do_not_alias() -> None:
    """A chessboard of single pixels turns grey, not into a pattern of its own."""
    photo = (np.indices((480, 640)).sum(0) % 2 * 255).astype(np.uint8)
    for step in (2.0, 3.3, 5.1):
        view = render_view(build_pyramid(photo), np.diag([1 / step, 1 / step, 1.0]), (80, 60))
        assert np.ptp(view[2:-2, 2:-2].astype(int)) <= 4


def test_whole_photo_as_it_is() -> None:
    photo = wave_photo(60, 50)
    view = render_view(build_pyramid(photo), np.eye(3), (60, 50))
    assert np.abs(view.astype(int) - photo).max() <= 4


def test_occluders_cover_what_they_say() -> None:
    view = wave_photo(90, 70)
    occluded, covered = add_occluders(view, 3, _rng())
    assert 0 < covered.mean() < 0.5
    np.testing.assert_array_equal(occluded[~covered], view[~covered])
    assert (occluded[covered] != view[covered]).mean() > 0.9
    same, nothing = add_occluders(view, 0, _rng())
    np.testing.assert_array_equal(same, view)
    assert not nothing.any()


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)
