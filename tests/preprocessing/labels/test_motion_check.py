"""A long box that slides along itself beside the camera, and what must not be taken for one."""

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.preprocessing.labels.lidar.motion_check import (
    common_steps,
    judge_by_images,
    show_motion,
    spread_over_objects,
)
from ucn.preprocessing.labels.lidar.point_tracks import (
    TrackedImage,
    textured_points,
    track_points,
    tracked_back,
)

K = np.array([[720.0, 0, 620], [0, 720, 180], [0, 0, 1]])
WIDTH, HEIGHT = 1240, 376
X_SIDE, NEAR, FAR = 3.0, 4.5, 16.0  # the box's side, metres
ROAD = 1.65
BOX = 1


@cache
def noise(seed: int) -> np.ndarray:
    """A texture of 1024x1280 with grain at several scales, 0 to 1."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(1024, 1280)).astype(np.float32)
    grain = [cv2.GaussianBlur(white, (0, 0), s) * s for s in (2, 5, 12)]
    return np.clip(0.5 + 0.25 * sum(grain) / np.std(sum(grain)), 0, 1).astype(np.float32)


def surfaces(camera_z: float, slide: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each pixel sees: 1 for the box's side, 0 for the road, -1 for a far wall; two
    coordinates on that surface, metres (the box's slide along with it); the depth."""
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    a, b = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        road_z = np.where(b > 0, ROAD / b, np.inf)
        side_z = np.where(a > 0, X_SIDE / a, 1e9)
    wall_z = np.full(u.shape, 40.0 - camera_z)
    along = side_z + camera_z - slide
    height = side_z * b
    on_side = (along > NEAR) & (along < FAR) & (height > -1.5) & (height < 1.4)
    on_side &= side_z < np.minimum(road_z, wall_z)
    on_road = ~on_side & (road_z < wall_z)
    depth = np.where(on_side, side_z, np.where(on_road, road_z, wall_z))
    kind = np.where(on_side, 1, np.where(on_road, 0, -1))
    first = np.where(on_side, along, a * depth)
    second = np.where(on_road, depth + camera_z, b * depth)
    return kind, np.stack([first, second]), depth


def render(camera_z: float, slide: float, box_contrast: float = 1.0) -> np.ndarray:
    kind, places, _ = surfaces(camera_z, slide)
    image = np.zeros((HEIGHT, WIDTH), np.float32)
    for number, (which, per_metre, contrast) in enumerate(
        ((1, 120.0, box_contrast), (0, 60.0, 1.0), (-1, 25.0, 1.0))
    ):
        x, y = ((axis * per_metre + 512).astype(np.float32) for axis in places)
        seen = cv2.remap(noise(number), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        image = np.where(kind == which, 60 + 140 * (0.5 + contrast * (seen - 0.5)), image)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def samples(camera_step: float) -> tuple[np.ndarray, ...]:
    """Labels, pixels in image 0, static places in image 1 and depths there, on a scan's grid."""
    kind, _, depth = surfaces(0, 0)
    v, u = np.mgrid[5:HEIGHT:6, 5:WIDTH:5]
    u, v = u.ravel(), v.ravel()
    kind, depth = kind[v, u], depth[v, u]
    starts = np.stack([u, v]).astype(float)
    points = np.linalg.solve(K, np.vstack([starts, np.ones(len(u))])) * depth
    points[2] -= camera_step
    ahead = points[2] > 1
    static = (K @ points)[:2] / np.where(ahead, points[2], 1)
    inside = ahead & (static >= 0).all(0) & (static[0] < WIDTH - 1) & (static[1] < HEIGHT - 1)
    labels = np.where(kind == 1, BOX, np.where(kind == -1, 2, 0)).astype(np.int32)
    return labels[inside], starts[:, inside], static[:, inside], points[2][inside]


def pictures(image0: np.ndarray, image1: np.ndarray) -> tuple[TrackedImage, TrackedImage]:
    return TrackedImage(image0), TrackedImage(image1)


def judge(camera_step: float, slide: float, contrast: float = 1.0) -> tuple[float, float, float]:
    """Shares of the box and of the wall that are said to move, and of the road that is off."""
    images = pictures(render(0, 0, contrast), render(camera_step, slide, contrast))
    labels, starts, static, depth = samples(camera_step)
    verdict = judge_by_images(images, labels, starts, static, depth, K)
    assert not verdict.moves_N[labels == 0].any()
    box, wall = (float(verdict.moves_N[labels == label].mean()) for label in (BOX, 2))
    return box, wall, verdict.pose_inconsistency


@pytest.mark.parametrize(
    ("camera_step", "slide"), [(0.3, 0.5), (0, 0.3), (0.4, -0.4), (0.6, 1.2), (1.2, 1.2)]
)
def test_a_box_that_slides_along_itself_goes_as_a_whole(camera_step: float, slide: float) -> None:
    box, wall, pose_inconsistency = judge(camera_step, slide)
    assert (box, wall) == (1, 0)
    assert pose_inconsistency < 0.3


@pytest.mark.parametrize("camera_step", [0.0, 0.3, 0.6, 1.2])
def test_a_box_that_stands_stays(camera_step: float) -> None:
    box, wall, pose_inconsistency = judge(camera_step, 0.0)
    assert (box, wall) == (0, 0)
    assert pose_inconsistency < 0.3


def test_a_box_without_texture_has_no_say() -> None:
    """But for its outline, which tells as well as texture does."""
    images = pictures(render(0, 0, 0.0), render(0.3, 0.5, 0.0))
    labels, starts, static, depth = samples(0.3)
    side = (surfaces(0, 0)[0] == 1).astype(np.uint8)
    within = cv2.erode(side, np.ones((61, 61), np.uint8))[tuple(starts[::-1].astype(int))] > 0
    inside, outside = within & (labels == BOX), labels != BOX
    assert inside.sum() > 100
    assert not textured_points(images[0], starts[:, inside]).any()
    kept = inside | outside
    verdict = judge_by_images(
        images, labels[kept], starts[:, kept], static[:, kept], depth[kept], K
    )
    assert not verdict.moves_N.any()


def test_the_road_tells_of_a_wrong_pose() -> None:
    """The camera stood still, and the pose says that it rose by ten centimetres."""
    image = TrackedImage(render(0, 0))
    labels, starts, _, depth = samples(0.0)
    static = starts + np.stack([np.zeros(len(depth)), 720 * 0.1 / depth])
    near = depth < 12
    verdict = judge_by_images(
        (image, image), labels[near], starts[:, near], static[:, near], depth[near], K
    )
    assert verdict.pose_inconsistency > 0.9


def test_nothing_to_judge_is_no_fault() -> None:
    image = TrackedImage(np.zeros((HEIGHT, WIDTH), np.uint8))
    none = np.zeros((2, 0))
    verdict = judge_by_images((image, image), np.zeros(0, np.int32), none, none, np.zeros(0), K)
    assert (len(verdict.moves_N), verdict.pose_inconsistency) == (0, 0)


def test_texture_is_asked_for_in_both_directions() -> None:
    x, y = np.meshgrid(np.arange(400), np.arange(200))
    waves = [40 * np.sin(0.5 * x), 40 * np.sin(0.5 * x) + 40 * np.sin(0.5 * y)]
    middle = np.array([[200.0], [100.0]])
    found = [
        textured_points(TrackedImage((128 + wave).astype(np.uint8)), middle)[0] for wave in waves
    ]
    assert found == [False, True]
    # Slopes of 1.4 and 2.8 grey levels a pixel, root mean square.
    for amplitude, expected in ((4, False), (8, True)):
        wave = amplitude * (np.sin(0.5 * x) + np.sin(0.5 * y))
        image = TrackedImage(np.rint(128 + wave).astype(np.uint8))
        assert textured_points(image, middle)[0] == expected


def test_tracks_find_a_shift_and_do_not_depend_on_threads() -> None:
    image0 = np.rint(255 * noise(7)[:HEIGHT, :WIDTH]).astype(np.uint8)
    image1 = np.roll(image0, (6, 24), axis=(0, 1))
    starts = np.random.default_rng(0).uniform((100, 60), (1100, 300), (200, 2)).T
    threads = cv2.getNumThreads()
    try:
        found = []
        for count in (1, 3):
            cv2.setNumThreads(count)
            images = pictures(image0, image1)
            ends, tracked = track_points(images, starts, starts + 5)
            found.append((ends, tracked & tracked_back(images, starts, starts + 5, ends)))
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    ends, reliable = found[0]
    assert reliable.mean() > 0.95
    assert np.abs((ends - starts - [[24], [6]])[:, reliable]).max() < 0.3


def test_a_track_that_ends_elsewhere_does_not_lead_back() -> None:
    image = np.rint(255 * noise(7)[:HEIGHT, :WIDTH]).astype(np.uint8)
    starts = np.random.default_rng(0).uniform((100, 60), (1100, 300), (50, 2)).T
    images = pictures(image, image)
    assert tracked_back(images, starts, starts, starts).all()
    assert not tracked_back(images, starts, starts, starts + np.array([[12], [0]])).any()


@given(st.integers(0, 2**32 - 1))
def test_a_step_is_found_among_failures_and_failures_are_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform((2.5, -1, 5), (3, 1.4, 14), (40, 3)).T
    step = np.array([[rng.uniform(-0.1, 0.1)], [0], [rng.choice([-1, 1]) * rng.uniform(1, 1.5)]])
    tolerance = np.full(40, 3.0)

    def project(points: np.ndarray) -> np.ndarray:
        return (K @ points)[:2] / points[2]

    def moves_as_one(points: np.ndarray, ends: np.ndarray) -> bool:
        found = np.ones((1, 40), bool)
        steps = common_steps(points[:, None], ends[:, None], found, tolerance[None], K)
        return bool(show_motion(steps, points[:, None], found)[0])

    failures = project(points) + rng.uniform(-60, 60, (2, 40))
    ends = np.where(np.arange(40) < 12, failures, project(points + step))
    ends += rng.normal(0, 0.3, ends.shape)
    assert moves_as_one(points, ends)
    assert not moves_as_one(points, failures)
    assert not moves_as_one(points, project(points) + rng.normal(0, 0.5, (2, 40)))
    # A post would have left its place.
    post = points.copy()
    post[[0, 2]] = [[3.0], [8.0]]
    assert not moves_as_one(post, project(post + step))


@given(st.integers(0, 2**32 - 1))
def test_tracks_are_spread_over_objects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 200, 6)
    labels = rng.permutation(np.repeat(np.arange(6), sizes)).astype(np.int32)
    chosen_LM, valid_LM = spread_over_objects(labels)
    large = np.flatnonzero(sizes >= 8)
    assert (labels[chosen_LM] == large[:, None]).all()
    assert valid_LM.sum(1).tolist() == np.minimum(sizes[large], 40).tolist()
    for row, valid, label in zip(chosen_LM, valid_LM, large, strict=True):
        chosen = row[valid]
        assert len(np.unique(chosen)) == len(chosen)
        # Evenly: the ranks among the object's own differ by about the same.
        ranks = np.searchsorted(np.flatnonzero(labels == label), chosen)
        assert np.ptp(np.diff(ranks)) <= 1
