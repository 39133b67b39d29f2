"""HPatches and Oxford-affine: what is listed, exact matches, faults, and a real scene."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucn.errors import SkippedPair, UserError
from ucn.geometry.homographies import in_front, jittered_grid
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.shards.verify import verify_dataset
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.planar.files import read_homography, read_image
from ucn.preprocessing.sources.planar.hpatches import LARGE_SCENES, HPatchesConfig
from ucn.preprocessing.sources.planar.oxford_affine import OxfordAffineConfig
from ucn.preprocessing.sources.planar.pairs import planar_matches

H_LINES = "  1.5e+00 0.0 -3.25\n 0.0 1.0 2.0\n 1e-4 0 1\n"
MATRIX = [[1.5, 0, -3.25], [0, 1, 2], [1e-4, 0, 1]]


def write_image(path: Path, value: int, size: tuple[int, int] = (60, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), (value, 0, 0), np.uint8))


def write_hpatches(root: Path, scene: str) -> Path:
    for number in range(1, 7):
        write_image(root / scene / f"{number}.ppm", number)
    for number in range(2, 7):
        (root / scene / f"H_1_{number}").write_text(H_LINES.replace("-3.25", str(number)))
    return root / scene


def write_oxford(root: Path, scene: str, others: tuple[int, ...] = (2, 3)) -> Path:
    for number in (1, *others):
        write_image(root / scene / f"img{number}.png", number)
    for number in others:
        (root / scene / f"H1to{number}p").write_text(H_LINES)
    return root / scene


def hpatches(root: Path, **options: Any) -> HPatchesConfig:
    return HPatchesConfig(**({"root": str(root), "out": "unused", "workers": 0} | options))


def oxford(root: Path, **options: Any) -> OxfordAffineConfig:
    return OxfordAffineConfig(**({"root": str(root), "out": "unused", "workers": 0} | options))


def load(config: HPatchesConfig | OxfordAffineConfig, index: int = 0) -> Sample:
    source = config.open_source()
    return source.load(source.pairs()[index])


def test_hpatches_has_five_pairs_a_scene(tmp_path: Path) -> None:
    write_hpatches(tmp_path, "v_wall")
    write_hpatches(tmp_path, "i_ajuntament")
    (tmp_path / "notes").mkdir()
    source = hpatches(tmp_path, images="rgb-png").open_source()
    pairs = source.pairs()
    assert pairs == [
        PairRef(scene, "1", str(k)) for scene in ("i_ajuntament", "v_wall") for k in range(2, 7)
    ]
    assert source.key(pairs[-1]) == "v_wall-1-6"
    sample = source.load(pairs[-1])
    # Stored as BGR, read as RGB.
    assert sample.image0[0, 0].tolist() == [0, 0, 1]
    assert sample.image1[0, 0].tolist() == [0, 0, 6]
    assert sample.metadata["H_1_0"] == [[1.5, 0, 6], *MATRIX[1:]]
    assert sample.metadata["kind"] == "homography"
    assert (sample.metadata["frame0"], sample.metadata["frame1"]) == ("1", "6")


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".PPM"])
def test_hpatches_of_another_suffix(tmp_path: Path, suffix: str) -> None:
    for path in write_hpatches(tmp_path, "v_wall").glob("*.ppm"):
        write_image(path.with_suffix(suffix), int(path.stem))
        path.unlink()
    source = hpatches(tmp_path, images="rgb-png").open_source()
    assert source.load(source.pairs()[-1]).image1[0, 0].tolist() == [0, 0, 6]


def test_large_scenes_are_left_out(tmp_path: Path) -> None:
    for scene in ("v_wall", "v_talent", "i_dc"):
        write_hpatches(tmp_path, scene)
    assert {pair.sequence for pair in hpatches(tmp_path).open_source().pairs()} >= {"v_talent"}
    small = hpatches(tmp_path, leave_out_large=True).open_source()
    assert {pair.sequence for pair in small.pairs()} == {"v_wall"}
    assert len(LARGE_SCENES) == 116 - 108


def test_oxford_has_what_has_a_homography(tmp_path: Path) -> None:
    scene = write_oxford(tmp_path, "graf", (2, 10))
    write_image(scene / "img3.png", 3)
    source = oxford(tmp_path).open_source()
    pairs = source.pairs()
    assert pairs == [PairRef("graf", "img1", "img2"), PairRef("graf", "img1", "img10")]
    sample = source.load(pairs[1])
    assert sample.image1[0, 0].tolist() == [0, 0, 10]
    assert sample.metadata["H_1_0"] == MATRIX
    assert source.key(pairs[1]) == "graf-img1-img10"


def test_keys_have_no_dots_and_stay_distinct(tmp_path: Path) -> None:
    for scene in ("a.1", "a.2", "a_1"):
        write_oxford(tmp_path, scene)
    source = oxford(tmp_path).open_source()
    keys = [source.key(pair) for pair in source.pairs()]
    assert len(set(keys)) == 6
    assert not set("".join(keys)) & set("./")


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, -2.5]))
def test_matches_are_all_points_that_land_in_image_1(seed: int, factor: float) -> None:
    """The points are mapped by OpenCV; a point counts where its depth is that of the centre."""
    rng = np.random.default_rng(seed)
    size0, size1 = rng.integers(40, 200, (2, 2)).tolist()
    points = jittered_grid((size0[0], size0[1]), 5, rng)
    # The linear part keeps its orientation; the horizon often crosses the image.
    turn = rng.uniform(-np.pi, np.pi)
    H_1_0 = np.eye(3)
    H_1_0[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    H_1_0[:2, 2] = rng.uniform(-80, 80, 2)
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-0.02, 0.02, 2)
    H_1_0 = H_1_0 @ tilt
    found = planar_matches(factor * H_1_0, points, (size1[0], size1[1]))
    mapped = cv2.perspectiveTransform(points[None], H_1_0)[0]
    front = points @ tilt[2, :2] + 1 > 0
    inside = ((mapped >= -0.5) & (mapped <= np.array(size1) - 0.5)).all(axis=1)
    np.testing.assert_allclose(
        found.matches_N4, np.hstack([points, mapped])[front & inside], rtol=1e-9, atol=1e-6
    )
    assert found.rejected == {
        "beyond the horizon": (~front).sum(),
        "outside image 1": (front & ~inside).sum(),
    }


def test_scale_is_that_of_a_small_square() -> None:
    H_1_0 = np.array([[0.9, -0.2, 40], [0.1, 1.1, -25], [2e-4, -1e-4, 1]])
    found = planar_matches(H_1_0, np.array([[100.0, 60], [300, 200]]), (1000, 1000))
    for (x, y), scale in zip(found.matches_N4[:, :2], found.attributes["scale"], strict=True):
        square = np.array([[[x, y], [x + 1e-3, y], [x, y + 1e-3]]])
        corner, right, down = cv2.perspectiveTransform(square, H_1_0)[0]
        area = np.linalg.det(np.stack([right - corner, down - corner])) / 1e-6
        assert scale == pytest.approx(np.sqrt(area), rel=1e-4)


def test_the_horizon_is_where_the_depth_changes_its_sign() -> None:
    H_1_0 = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    points = np.array([[0.0, 0], [99, 0], [100, 0], [101, 0]])
    for factor in (1, -3):
        assert in_front(factor * H_1_0, points).tolist() == [True, True, False, False]


def test_every_point_is_counted_and_a_scene_keeps_its_points(tmp_path: Path) -> None:
    write_hpatches(tmp_path, "v_wall")
    config = hpatches(tmp_path, max_matches=0)
    first, last = load(config, 0), load(config, 4)
    for sample in (first, last):
        rejected = sample.metadata["rejected"]
        assert len(sample.matches_N4) + sum(rejected.values()) == 15 * 10
        assert rejected["outside image 1"] > 0
    starts = [set(map(tuple, sample.matches_N4[:, :2].tolist())) for sample in (first, last)]
    assert len(starts[0] & starts[1]) > 0.8 * len(starts[0])
    assert len(load(hpatches(tmp_path, max_matches=20)).matches_N4) == 20
    other = load(hpatches(tmp_path, max_matches=0, seed=1))
    assert not np.array_equal(other.matches_N4, first.matches_N4)


@pytest.mark.parametrize("images", ["grey-png", "rgb-png"])
def test_shards_are_sound_and_reproducible(tmp_path: Path, images: str) -> None:
    root = tmp_path / "data"
    for scene in ("graf", "wall"):
        write_oxford(root, scene)
    outs = tmp_path / "one", tmp_path / "two"
    for out, size in zip(outs, (2, 3), strict=True):
        preprocess(oxford(root, out=str(out), images=images, pairs_per_shard=size))
        assert verify_dataset(out) == []
    assert (outs[0] / "test-000001.tar").is_file()
    one, two = (ShardDataset(out) for out in outs)
    assert len(one) == len(two) == 4
    for index in range(4):
        np.testing.assert_array_equal(one[index].matches_N4, two[index].matches_N4)
    assert one[0].image0.shape == ((40, 60) if images == "grey-png" else (40, 60, 3))


def test_inputs_follow_the_files(tmp_path: Path) -> None:
    scene = write_oxford(tmp_path, "graf")
    states = [inputs_of(tmp_path)]
    (scene / "H1to2p").write_text(H_LINES.replace("1.5", "1.4"))
    states.append(inputs_of(tmp_path))
    with (scene / "img2.png").open("ab") as file:
        file.write(b"x")
    states.append(inputs_of(tmp_path))
    (scene / "img2.png").rename(scene / "img2.ppm")
    states.append(inputs_of(tmp_path))
    assert len({json.dumps(state) for state in states}) == 4


def inputs_of(root: Path) -> list[Any]:
    source = oxford(root).open_source()
    return source.input_fingerprint(source.pairs()[0])


def test_hpatches_faults(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        hpatches(tmp_path / "absent").open_source().pairs()
    with pytest.raises(UserError, match="no folders"):
        hpatches(tmp_path).open_source().pairs()
    scene = write_hpatches(tmp_path, "v_wall")
    (scene / "4.ppm").write_bytes(b"P6 cut")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"v_wall/4\.ppm: damaged image; restore") as caught:
        preprocess(hpatches(tmp_path, out=str(out)))
    assert "\n" not in str(caught.value)
    assert not (out / "manifest.json").exists()
    (scene / "4.ppm").unlink()
    with pytest.raises(UserError, match=r"4\.ppm: missing"):
        hpatches(tmp_path).open_source().pairs()


def test_oxford_faults(tmp_path: Path) -> None:
    write_image(tmp_path / "graf" / "img1.ppm", 1)
    with pytest.raises(UserError, match="H1to2p"):
        oxford(tmp_path).open_source().pairs()
    scene = write_oxford(tmp_path, "wall")
    (scene / "img2.png").unlink()
    with pytest.raises(UserError, match="no image img2"):
        oxford(tmp_path).open_source().pairs()


def test_a_homography_that_leads_nowhere_is_a_fault(tmp_path: Path) -> None:
    scene = write_oxford(tmp_path, "graf")
    (scene / "H1to2p").write_text("1 0 5000 0 1 0 0 0 1")
    with pytest.raises(UserError, match=r"img2\.png: shows nothing of img1\.png"):
        load(oxford(tmp_path))
    (scene / "H1to2p").write_text("1 0 50 0 1 0 0 0 1")
    assert len(load(oxford(tmp_path)).matches_N4) < 40
    with pytest.raises(SkippedPair, match="too few matches"):
        load(oxford(tmp_path, min_matches=100))


@pytest.mark.parametrize(
    "text",
    ["", "1 2 3", "a b c d e f g h i", "1 0 0 0 1 0 0 0 nan", "1 0 0 0 1 0 0 0 0", "\xff"],
)
def test_damaged_homographies_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "H_1_2"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"H_1_2: .*; restore"):
        read_homography(path)
    with pytest.raises(UserError, match="absent"):
        read_homography(tmp_path / "absent")
    with pytest.raises(UserError, match=r"absent\.ppm: missing image; restore"):
        read_image(tmp_path / "absent.ppm")


def test_real_graffiti_fits_best_without_a_shift(shared_data: Path) -> None:
    """The published homography counts pixel centres from 0: from 1 would shift this by 0.75 px."""
    sample = load(oxford(shared_data / "oxford_affine", max_matches=0, spacing=6))
    assert len(sample.matches_N4) > 0.95 * (800 // 6) * (640 // 6)
    greys = [
        cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1)
        for image in (sample.image0, sample.image1)
    ]
    # A car stands before the lower part of the wall.
    ends0, ends1 = np.split(sample.matches_N4[sample.matches_N4[:, 1] < 500], 2, axis=1)
    seen = bilinear(greys[0], ends0)
    shifts = [(0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)]
    alike = [np.corrcoef(seen, bilinear(greys[1], ends1 + shift))[0, 1] for shift in shifts]
    assert alike[0] > 0.95
    assert alike[0] == max(alike)
    assert np.corrcoef(seen, bilinear(greys[1], ends0))[0, 1] < 0.3


def bilinear(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y = points.T.astype(np.float32)
    border = cv2.BORDER_REPLICATE
    return cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=border).ravel()
