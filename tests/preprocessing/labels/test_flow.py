"""Flow to matches, on layered scenes whose motion and visibility are known exactly.

A scene is a background and two discs, each under an affine motion of its own. The discs lie apart
in image 0 and may hide each other and the background in image 1.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucn.preprocessing.labels.flow import FlowMatches, match_flow, round_trip_miss
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.flow.folder import FlowFolderConfig
from ucn.preprocessing.sources.flow.kitti import KittiFlowConfig
from ucn.preprocessing.sources.flow.pairs import FlowConfig
from ucn.preprocessing.sources.flow.sintel import SintelConfig

WIDTH, HEIGHT = 120, 80
SIZE = (WIDTH, HEIGHT)
# Bottom to top: centre and radius in image 0.
DISCS = [((60.0, 40.0), np.inf), ((35.0, 40.0), 14.0), ((80.0, 38.0), 18.0)]


@dataclass(frozen=True)
class Scene:
    """Affine motions [L, 2, 3] of the layers, bottom to top, from image 0 to image 1."""

    motions: np.ndarray

    def move(self, layer: np.ndarray, points: np.ndarray) -> np.ndarray:
        motion = self.motions[layer]
        return np.einsum("...ij,...j->...i", motion[..., :2], points) + motion[..., 2]

    def unmove(self, layer: np.ndarray, points: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(self.motions[:, :, :2])[layer]
        return np.einsum("...ij,...j->...i", inverse, points - self.motions[layer][..., 2])

    def layer0(self, points: np.ndarray) -> np.ndarray:
        """The layer that image 0 shows at each point."""
        top = np.zeros(points.shape[:-1], int)
        for number, (centre, radius) in enumerate(DISCS):
            top[np.linalg.norm(points - centre, axis=-1) < radius] = number
        return top

    def layer1(self, points: np.ndarray) -> np.ndarray:
        """The layer that image 1 shows at each point."""
        top = np.zeros(points.shape[:-1], int)
        for number, (centre, radius) in enumerate(DISCS):
            back = self.unmove(np.full(points.shape[:-1], number), points)
            top[np.linalg.norm(back - centre, axis=-1) < radius] = number
        return top

    def flow(self) -> np.ndarray:
        return self.move(self.layer0(GRID), GRID) - GRID

    def backward(self) -> np.ndarray:
        return self.unmove(self.layer1(GRID), GRID) - GRID

    def hidden(self) -> np.ndarray:
        """Pixels of image 0 that something covers in image 1."""
        layer = self.layer0(GRID)
        return self.layer1(self.move(layer, GRID)) != layer

    def inside(self) -> np.ndarray:
        x, y = np.moveaxis(GRID + self.flow(), -1, 0)
        return (x >= -0.5) & (x <= WIDTH - 0.5) & (y >= -0.5) & (y <= HEIGHT - 0.5)

    def visible(self) -> np.ndarray:
        return self.inside() & ~self.hidden()


GRID = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=2).astype(float)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    motions = []
    for (centre, _), reach in zip(DISCS, (4, 12, 12), strict=True):
        angle, scale = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(0.88, 1.15)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = np.array(centre) - turn @ centre + rng.uniform(-reach, reach, 2)
        motions.append(np.column_stack([turn, shift]))
    return Scene(np.array(motions))


def check(scene: Scene, found: np.ndarray, quantum: float = 0.001) -> tuple[np.ndarray, np.ndarray]:
    """Check matches against the scene: exact within ``quantum``, inside, none twice.

    Returns:
        Which pixels have a match, and how far from each of them, in image 0, that lies which
        covers it in image 1: 0 for visible ones, and for those that the outermost pixel of a disc
        covers, whose true outline no flow field tells.
    """
    assert len(np.unique(found, axis=0)) == len(found)
    sources, targets = found[:, :2].astype(float), found[:, 2:].astype(float)
    np.testing.assert_array_equal(sources, np.rint(sources))
    assert ((sources >= 0) & (sources <= np.array(SIZE) - 1)).all()
    assert ((targets >= -0.5) & (targets <= np.array(SIZE) - 0.5)).all()
    layer = scene.layer0(sources)
    exact = scene.move(layer, sources)
    assert np.abs(targets - exact).max(initial=0) <= quantum
    shown = scene.layer1(exact)
    cover = scene.unmove(shown, exact)
    apart = np.abs(cover - sources).max(axis=1)
    for number, (centre, radius) in enumerate(DISCS):
        apart[(shown == number) & (np.linalg.norm(cover - centre, axis=1) > radius - 1)] = 0
    pixels = tuple(sources.T[::-1].astype(int))
    has, covered = np.zeros((HEIGHT, WIDTH), bool), np.zeros((HEIGHT, WIDTH))
    has[pixels], covered[pixels] = True, np.where(shown == layer, 0, apart)
    return has, covered


def expected_loss(scene: Scene) -> float:
    """Visible pixels that contest hidden ones, and two rows of pixels along the discs' outlines."""
    hidden = (scene.hidden() & scene.inside()).sum()
    return float(1.5 * hidden + 2 * 2 * np.pi * sum(radius for _, radius in DISCS[1:]))


def match(scene: Scene, **truth: np.ndarray) -> FlowMatches:
    return match_flow(scene.flow().astype(np.float32), SIZE, **truth)


@settings(max_examples=40)
@given(scenes())
def test_with_a_mask_all_that_is_visible_is_matched(scene: Scene) -> None:
    invalid = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.1
    found = match(scene, occluded_HW=scene.hidden(), invalid_HW=invalid)
    has, covered = check(scene, found.matches_N4)
    np.testing.assert_array_equal(has, scene.visible() & ~invalid)
    assert not covered.any()
    assert found.rejected == {
        "unknown flow": 0,
        "invalid flow": invalid.sum(),
        "outside image 1": (~scene.inside() & ~invalid).sum(),
        "occluded": (scene.hidden() & scene.inside() & ~invalid).sum(),
    }


@settings(max_examples=40)
@given(scenes())
def test_without_a_mask_what_is_hidden_contests_what_hides_it(scene: Scene) -> None:
    found = match(scene)
    has, covered = check(scene, found.matches_N4)
    assert covered.max() <= 1 + 0.3  # the tolerance, and what flow changes by within 1.5 pixels
    assert (has & ~scene.visible()).mean() < 0.01
    assert (scene.visible() & ~has).sum() <= expected_loss(scene)
    assert sum(found.rejected.values()) + has.sum() == WIDTH * HEIGHT


@settings(max_examples=40)
@given(scenes())
def test_there_and_back_again_finds_what_is_visible(scene: Scene) -> None:
    found = match(scene, backward_HW2=scene.backward().astype(np.float32))
    has, covered = check(scene, found.matches_N4)
    # Between the pixels on either side of an outline the backward flow is a mixture.
    layer1 = scene.layer1(GRID).astype(np.uint8)
    outline = cv2.dilate(layer1, np.ones((3, 3))) != cv2.erode(layer1, np.ones((3, 3)))
    x, y = np.moveaxis(np.rint(GRID + scene.flow()).astype(int), -1, 0)
    mixed = outline[y.clip(0, HEIGHT - 1), x.clip(0, WIDTH - 1)]
    assert covered[~mixed].max() <= 1.001
    assert (has & ~scene.visible()).mean() < 0.01
    assert not (scene.visible() & ~has & ~mixed).any()


def test_surfaces_that_move_apart_by_more_than_a_pixel_contest_each_other() -> None:
    # The first two of five pixels move towards the others, which stand still.
    for step, expected in ((0.9, 0), (1.1, 4), (2.0, 5)):
        flow = np.zeros((1, 5, 2), np.float32)
        flow[0, :2, 0] = step
        found = match_flow(flow, (5, 1))
        assert found.rejected["contested target"] == expected, step


def test_the_way_back_is_read_bilinearly() -> None:
    """Over any B that is linear in x and y, as here, interpolation is exact."""
    backward = np.stack([0.25 * GRID[..., 0] - GRID[..., 1], 3 + 0.5 * GRID[..., 1]], axis=2)
    rng = np.random.default_rng(0)
    matches = np.hstack([rng.uniform(0, 50, (500, 2)), rng.uniform(0, (119, 79), (500, 2))])
    (x0, y0), (x1, y1) = matches[:, :2].T, matches[:, 2:].T
    expected = np.hypot(x1 + 0.25 * x1 - y1 - x0, y1 + 3 + 0.5 * y1 - y0)
    np.testing.assert_allclose(round_trip_miss(matches, backward.astype(np.float32)), expected)


def test_the_way_back_at_borders_and_beside_unknown_flow() -> None:
    backward = np.zeros((2, 2, 2), np.float32)
    backward[1, 1] = np.nan
    matches = np.array([[0.0, 0, -0.5, -0.5], [1, 0, 1.5, 0], [0, 0, 0.1, 0.1], [0, 1, 0, 1.5]])
    np.testing.assert_allclose(
        round_trip_miss(matches, backward), [np.hypot(0.5, 0.5), 0.5, np.nan, 0.5]
    )
    one = round_trip_miss(np.array([[0.0, 0, 0.25, -0.25]]), np.zeros((1, 1, 2), np.float32))
    np.testing.assert_allclose(one, np.hypot(0.25, 0.25))


def write_flo(path: Path, flow: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"PIEH" + struct.pack("<ii", flow.shape[1], flow.shape[0])
    path.write_bytes(header + flow.astype("<f4").tobytes())


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_kitti_flow(path: Path, flow: np.ndarray, valid: np.ndarray) -> None:
    """OpenCV takes channels in reverse: validity, v, u."""
    values = np.rint(flow * 64) + 2**15
    write_png(path, np.dstack([valid, values[..., 1], values[..., 0]]).astype(np.uint16))


def write_photos(*paths: Path) -> None:
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        write_png(path, rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def sintel(root: Path, scene: Scene, masks: bool) -> FlowConfig:
    frames = [root / f"training/clean/alley_1/frame_000{number}.png" for number in (1, 2)]
    write_photos(*frames)
    write_flo(root / "training/flow/alley_1/frame_0001.flo", scene.flow())
    if masks:
        for name, mask in (("occlusions", scene.hidden()), ("invalid", scene.hidden() * 0)):
            write_png(root / f"training/{name}/alley_1/frame_0001.png", mask * np.uint8(255))
    return SintelConfig(root=str(root), passes=("clean",), **ALL)


def sintel_masked(root: Path, scene: Scene) -> FlowConfig:
    return sintel(root, scene, masks=True)


def sintel_bare(root: Path, scene: Scene) -> FlowConfig:
    return sintel(root, scene, masks=False)


def kitti(root: Path, scene: Scene) -> FlowConfig:
    """``flow_noc`` holds what stays in the image, hidden or not, at three pixels of four."""
    folder = root / "training"
    write_photos(*(folder / f"image_2/000000_{frame}.png" for frame in (10, 11)))
    sampled = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.75
    write_kitti_flow(folder / "flow_noc/000000_10.png", scene.flow(), sampled & scene.inside())
    return KittiFlowConfig(root=str(root), **ALL)


def middlebury(root: Path, scene: Scene) -> FlowConfig:
    """Flow is unknown where something hides the pixel."""
    write_photos(*(root / f"other-data/Dimetrodon/frame{frame}.png" for frame in (10, 11)))
    flow = np.where(scene.hidden()[..., None], 1.666666752e9, scene.flow())
    write_flo(root / "other-gt-flow/Dimetrodon/flow10.flo", flow)
    return FlowFolderConfig(root=str(root), **ALL)


def chairs(root: Path, scene: Scene) -> FlowConfig:
    write_photos(root / "data/00001_img1.ppm", root / "data/00001_img2.ppm")
    write_flo(root / "data/00001_flow.flo", scene.flow())
    return FlowFolderConfig(root=str(root), **ALL)


def chairs2(root: Path, scene: Scene) -> FlowConfig:
    write_photos(root / "train/0000007-img_0.png", root / "train/0000007-img_1.png")
    write_flo(root / "train/0000007-flow_01.flo", scene.flow())
    write_flo(root / "train/0000007-flow_10.flo", scene.backward())
    return FlowFolderConfig(root=str(root), **ALL)


def listed(root: Path, scene: Scene) -> FlowConfig:
    write_photos(root / "left/a.png", root / "right/a.png")
    everywhere = np.ones((HEIGHT, WIDTH))
    write_kitti_flow(root / "there.png", scene.flow(), everywhere)
    write_kitti_flow(root / "back.png", scene.backward(), everywhere)
    (root / "pairs.txt").write_text("# stereo\nleft/a.png right/a.png there.png back.png\n")
    return FlowFolderConfig(root=str(root), **ALL)


ALL = {"out": "unused", "split": "all", "min_matches": 1, "max_matches": 0}


@pytest.mark.parametrize(
    ("write", "hidden", "recall"),
    [
        # Share of the matches that may be hidden; recall of what is visible and has flow.
        (sintel_masked, 0.0, 1.0),
        (sintel_bare, 0.003, None),
        (kitti, 0.006, None),
        (middlebury, 0.0, None),
        (chairs, 0.003, None),
        (chairs2, 0.003, 0.96),
        (listed, 0.003, 0.96),
    ],
)
@settings(max_examples=8)
@given(scene=scenes())
def test_official_layouts_give_exact_and_visible_matches(
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[[Path, Scene], FlowConfig],
    hidden: float,
    recall: float | None,
    scene: Scene,
) -> None:
    source = write(tmp_path_factory.mktemp("flow"), scene).open_source()
    (pair,) = source.pairs()
    sample: Sample = source.load(pair)
    assert sample.metadata["kind"] == "flow"
    assert sample.image0.shape == sample.image1.shape == (HEIGHT, WIDTH, 3)
    quantum = 0.0079 if write in (kitti, listed) else 0.001
    has, _ = check(scene, sample.matches_N4, quantum)
    assert (has & ~scene.visible()).sum() <= hidden * has.sum()
    known = WIDTH * HEIGHT - sample.metadata["rejected"]["unknown flow"]
    share = known / (WIDTH * HEIGHT)
    if recall is None:
        assert (scene.visible() & ~has).sum() <= expected_loss(scene) + (1 - share) * has.size
    else:
        assert has[scene.visible()].mean() >= recall
    assert sum(sample.metadata["rejected"].values()) + has.sum() == WIDTH * HEIGHT
