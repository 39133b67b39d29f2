"""The bundler source: Bundler's conventions against its own formula, layouts, damage, Kermit."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.preprocessing.sources.patch_similarity import similarities
from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.job import preprocess
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.read import ShardDataset
from ucn.preprocessing.sources.sfm.bundler import BundlerConfig

# Width and height of the photographs, one odd and one even.
W, H = 121, 90


@dataclass
class Camera:
    """As Bundler's README has it: P = R X + t, p = -P / P.z, p' = f (1 + k1 p^2 + k2 p^4) p."""

    f: float
    k1: float
    k2: float
    R: np.ndarray
    t: np.ndarray

    def project(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of [N, 3] points, pixels from the image's centre with y up, and P.z."""
        P = X @ self.R.T + self.t
        p = -P[:, :2] / P[:, 2:]
        square = (p**2).sum(axis=1, keepdims=True)
        return self.f * (1 + self.k1 * square + self.k2 * square**2) * p, P[:, 2]

    def lensless(self, X: np.ndarray) -> np.ndarray:
        P = X @ self.R.T + self.t
        return -self.f * P[:, :2] / P[:, 2:]


@dataclass
class World:
    cameras: list[Camera | None]
    X: np.ndarray
    # Of each point: image, x, y.
    views: list[list[tuple[int, float, float]]]


def ours(pixels: np.ndarray) -> np.ndarray:
    """From the centre with y up to the top-left pixel with y down."""
    return pixels * [1, -1] + [(W - 1) / 2, (H - 1) / 2]


def make_world(seed: int, images: int = 4, points: int = 150, lost: tuple[int, ...] = ()) -> World:
    rng = np.random.default_rng(seed)
    X = rng.uniform([-3, -2.2, -7], [3, 2.2, -4], (points, 3))
    cameras: list[Camera | None] = []
    for index in range(images):
        R, _ = cv2.Rodrigues(rng.uniform(-0.05, 0.05, 3))
        t = np.array([index - (images - 1) / 2, *rng.uniform(-0.2, 0.2, 2)])
        k1, k2 = rng.uniform(-0.12, 0.12), rng.uniform(-0.02, 0.02)
        camera = Camera(rng.uniform(90, 120), k1, k2, R, t)
        cameras.append(None if index in lost else camera)
    views: list[list[tuple[int, float, float]]] = [[] for _ in range(points)]
    for index, one in enumerate(cameras):
        if one is None:
            continue
        pixels, _ = one.project(X)
        inside = (np.abs(pixels) < [W / 2, H / 2]).all(axis=1)
        for point in np.flatnonzero(inside & (rng.random(points) < 0.9)):
            x, y = pixels[point] + rng.uniform(-1, 1, 2) + 5 * (rng.random() < 0.1)
            views[point].append((index, float(x), float(y)))
    return World(cameras, X, views)


def write_bundle(path: Path, world: World) -> None:
    lines = ["# Bundle file v0.3", f"{len(world.cameras)} {len(world.X)}"]
    for camera in world.cameras:
        if camera is None:
            lines += ["0 0 0"] * 5
            continue
        rows = [(camera.f, camera.k1, camera.k2), *camera.R, camera.t]
        lines += [" ".join(f"{value:.17g}" for value in row) for row in rows]
    for X, views in zip(world.X, world.views, strict=True):
        lines += [" ".join(f"{value:.17g}" for value in X), "10 20 30"]
        rest = " ".join(f"{image} {7} {x!r} {y!r}" for image, x, y in views)
        lines.append(f"{len(views)} {rest}".rstrip())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_scene(root: Path, world: World, model: str = "bundle/bundle.out") -> Path:
    write_bundle(root / model, world)
    rows, columns = np.mgrid[:H, :W].astype(np.uint8)
    photo = np.stack([np.zeros_like(rows), rows, columns], axis=-1)
    for index in range(len(world.cameras)):
        assert cv2.imwrite(str(root / f"p{index}.png"), photo)
    return root


def config(root: Path, **options: object) -> BundlerConfig:
    base = {"min_matches": 10, "images": "rgb-png", "max_angle": 180}
    return BundlerConfig(root=str(root), out="unused", **(base | options))


def check_sample(sample: Sample, world: World, undistort: bool) -> None:
    """Each track that should be there is there once, exactly, and no other."""
    ends, depths, good = [], [], np.ones(len(world.X), bool)
    for which in (0, 1):
        index = int(sample.metadata[f"frame{which}"][1])
        camera = world.cameras[index]
        assert camera is not None
        photo, z = camera.project(world.X)
        shown = camera.lensless(world.X) if undistort else photo
        good &= (np.abs(photo) <= [W / 2, H / 2]).all(axis=1) & (z < 0)
        good &= (np.abs(shown) <= [W / 2, H / 2]).all(axis=1)
        for point, views in enumerate(world.views):
            errors = [np.hypot(*(photo[point] - row[1:])) for row in views if row[0] == index]
            good[point] &= bool(errors) and min(errors) <= 2
        ends.append(ours(shown))
        depths.append(-z)
        K = [[camera.f, 0, (W - 1) / 2], [0, camera.f, (H - 1) / 2], [0, 0, 1]]
        assert sample.metadata[f"K{which}"] == (K if undistort else None)
    tracks = sample.attributes["track"]
    assert tracks.tolist() == np.flatnonzero(good).tolist()
    np.testing.assert_allclose(sample.matches_N4, np.hstack(ends)[tracks], atol=0.01)
    np.testing.assert_allclose(sample.attributes["depth0"], depths[0][tracks], rtol=1e-5)
    np.testing.assert_allclose(sample.attributes["depth1"], depths[1][tracks], rtol=1e-5)
    if undistort:
        K0, K1, T = (np.array(sample.metadata[name]) for name in ("K0", "K1", "T_1_0"))
        pixels = np.hstack([sample.matches_N4[:, :2], np.ones((len(tracks), 1))])
        points = pixels.astype(float) @ np.linalg.inv(K0).T * sample.attributes["depth0"][:, None]
        moved = (points @ T[:3, :3].T + T[:3, 3]) @ K1.T
        np.testing.assert_allclose(sample.matches_N4[:, 2:], moved[:, :2] / moved[:, 2:], atol=0.01)


@given(seed=st.integers(0, 2**32 - 1), undistort=st.booleans())
@settings(max_examples=30)
def test_random_scenes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, undistort: bool
) -> None:
    """All tracks that pass in both images are stored (recall 1), each within 0.01 px."""
    world = make_world(seed, images=3)
    root = write_scene(tmp_path_factory.mktemp("scene"), world)
    source = config(root, undistort=undistort).open_source()
    pairs = source.pairs()
    assert [pair[1:] for pair in pairs] == [
        ("p0.png", "p1.png"),
        ("p0.png", "p2.png"),
        ("p1.png", "p2.png"),
    ]
    for pair in pairs:
        check_sample(source.load(pair), world, undistort)


def test_images_are_undistorted(tmp_path: Path) -> None:
    world = make_world(4)
    source = config(write_scene(tmp_path, world)).open_source()
    picture = source.load(source.pairs()[0]).image0
    camera = world.cameras[0]
    assert camera is not None
    rows, columns = (grid.ravel() for grid in np.mgrid[:H, :W])
    up = (np.stack([columns, rows], axis=1) - [(W - 1) / 2, (H - 1) / 2]) * [1, -1] / camera.f
    # A point on the ray, one unit in front of the camera, in the world.
    P = np.hstack([up, -np.ones((len(up), 1))])
    photo = ours(camera.project((P - camera.t) @ camera.R)[0])
    # At the very border bilinear interpolation mixes in black.
    inside = ((photo >= 1 / 16) & (photo <= [W - 1 - 1 / 16, H - 1 - 1 / 16])).all(axis=1)
    assert inside.mean() > 0.8
    shown = picture[rows, columns, :2].astype(float)
    np.testing.assert_allclose(shown[inside], photo[inside], atol=0.5 + 1 / 16)


def test_without_lens_and_without_undistortion(tmp_path: Path) -> None:
    world = make_world(4, images=2)
    for camera in world.cameras:
        assert camera is not None
        camera.k1 = camera.k2 = 0
    source = config(write_scene(tmp_path, world), undistort=False, max_error=9).open_source()
    metadata = source.load(source.pairs()[0]).metadata
    assert metadata["K0"] is not None
    assert metadata["camera0"]["model"] == "BUNDLER"
    assert metadata["camera1"]["parameters"][1:] == [0, 0]


def test_images_that_are_not_registered_are_listed_once(tmp_path: Path) -> None:
    root = write_scene(tmp_path / "in", make_world(2, images=5, lost=(1, 3)))
    options = config(root).model_copy(update={"out": str(tmp_path / "out"), "workers": 0})
    manifest = preprocess(options)
    assert manifest.totals.samples == 3
    assert manifest.totals.skipped == {"not registered": 2}
    assert {ShardDataset(str(tmp_path / "out"))[i].key for i in range(3)} == {
        f"in-p{i}-p{j}" for i, j in ((0, 2), (0, 4), (2, 4))
    }
    source = options.open_source()
    details = []
    for pair in source.pairs():
        if pair.frame0 == pair.frame1:
            with pytest.raises(SkippedPair) as caught:
                source.load(pair)
            details.append(caught.value.detail)
    assert details == ["p1.png", "p3.png"]


@pytest.mark.parametrize("model", ["bundle/bundle.out", "bundle.out", "x.out", "result/bundle.out"])
def test_the_model_is_found(tmp_path: Path, model: str) -> None:
    root = write_scene(tmp_path, make_world(2), model)
    assert len(config(root).open_source().pairs()) == 6
    assert len(config(root, model=model).open_source().pairs()) == 6


def test_the_list_gives_names_and_order(tmp_path: Path) -> None:
    world = make_world(2, images=3)
    root = write_scene(tmp_path, world)
    (root / "photos").mkdir()
    for index, name in enumerate(("c", "my a", "b")):
        (root / f"p{index}.png").rename(root / "photos" / f"{name}.png")
    listed = "./photos/c.png\r\nphotos/my a.png 0 812.5\r\n\r\nphotos/b.png 0\r\n"
    (root / "list.txt").write_bytes(listed.encode("utf-8-sig"))
    source = config(root).open_source()
    pairs = source.pairs()
    assert [pair[1:] for pair in pairs] == [
        ("photos/b.png", "photos/c.png"),
        ("photos/b.png", "photos/my a.png"),
        ("photos/c.png", "photos/my a.png"),
    ]
    numbers = {"photos/c.png": "p0", "photos/my a.png": "p1", "photos/b.png": "p2"}
    for pair in pairs:
        sample = source.load(pair)
        for which in ("frame0", "frame1"):
            sample.metadata[which] = numbers[sample.metadata[which]]
        check_sample(sample, world, True)
    before = source.input_fingerprint(pairs[0])
    (root / "list.txt").write_text("photos/c.png\nphotos/b.png\nphotos/my a.png\n")
    assert config(root).open_source().input_fingerprint(pairs[0]) != before


def replace(old: str, new: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "no bundle/bundle.out"),
        (replace("v0.3", "v0.1"), "begins with '# Bundle file v0.1'"),
        (lambda path: path.write_bytes(b"\xff\xfe\0"), "not a text file"),
        (lambda path: path.write_text(""), "begins with ''"),
        (lambda path: path.write_text("# Bundle file v0.3\n"), "not a file of numbers"),
        (replace("4 150", "4 x"), "not a file of numbers"),
        (replace("4 150", "-4 150"), "cut short within its -4 cameras"),
        (replace("4 150", "4 151"), "cut short within point 150 of 151"),
        (replace("4 150", "4 100000000"), "cut short within its 100000000 points"),
        (replace("4 150", "4 1e300"), "cut short within its"),
        (replace("4 150", "4 149"), "numbers after its end"),
        (replace("4 150", "5 150"), "5 images, but there are 4 names"),
        (lambda path: path.write_text(path.read_text()[:300]), "cut short within its 4 cameras"),
        (lambda path: path.write_text(path.read_text().rpartition(" ")[0]), "point 149 of 150"),
        (replace("\n10 20 30\n", "\n10 20 30\ninf "), "point 0 of 150"),
        (replace("\n10 20 30\n", "\n10 20 30\n-"), "point 0 of 150"),
        (replace("\n10 20 30\n", "\n10 20 30\n1.5 "), "point 0 of 150"),
    ],
)
def test_damaged_models_are_one_line(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    root = write_scene(tmp_path, make_world(2))
    damage(root / "bundle/bundle.out")
    with pytest.raises(UserError, match=message) as caught:
        config(root).open_source().pairs()
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damage", ["nan", "inf", "mirrored", "scaled", "nan t"])
def test_a_damaged_pose_skips_its_image(tmp_path: Path, damage: str) -> None:
    world = make_world(2)
    camera = world.cameras[1]
    assert camera is not None
    if damage == "nan t":
        camera.t[2] = np.nan
    elif damage == "mirrored":
        camera.R[0] *= -1
    else:
        camera.R[0, 0] = {"nan": np.nan, "inf": np.inf, "scaled": 1.1}[damage]
    source = config(write_scene(tmp_path, world)).open_source()
    pairs = source.pairs()
    assert len(pairs) == 4
    with pytest.raises(SkippedPair, match=r"damaged pose: p1\.png"):
        source.load(pairs[0])
    check_sample(source.load(pairs[1]), world, True)


def test_rounded_rotations_are_made_rotations(tmp_path: Path) -> None:
    """Of three digits the matches must still obey K0, K1 and T_1_0."""
    world = make_world(2, images=2)
    for camera in world.cameras:
        assert camera is not None
        camera.R = camera.R.round(3)
    source = config(write_scene(tmp_path, world), max_error=9).open_source()
    sample = source.load(source.pairs()[0])
    K0, K1, T = (np.array(sample.metadata[name]) for name in ("K0", "K1", "T_1_0"))
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
    pixels = np.hstack([sample.matches_N4[:, :2], np.ones((len(sample.matches_N4), 1))])
    points = pixels.astype(float) @ np.linalg.inv(K0).T * sample.attributes["depth0"][:, None]
    moved = (points @ T[:3, :3].T + T[:3, 3]) @ K1.T
    np.testing.assert_allclose(sample.matches_N4[:, 2:], moved[:, :2] / moved[:, 2:], atol=0.01)


def test_what_cannot_be_chosen_is_one_line(tmp_path: Path) -> None:
    root = write_scene(tmp_path, make_world(2), "a.out")
    write_bundle(root / "b.out", make_world(2))
    with pytest.raises(UserError, match=r"a\.out, b\.out; choose one with --model"):
        config(root).open_source()
    with pytest.raises(UserError, match=r"c\.out: cannot be read"):
        config(root, model="c.out").open_source().pairs()
    (root / "list.txt").write_text("p0.png\np1.png\np2.png\np0.png\n")
    with pytest.raises(UserError, match="an image stands twice"):
        config(root, model="a.out").open_source().pairs()
    (root / "list.txt").write_text("p0.png\np1.png\n.\np3.png\n")
    with pytest.raises(UserError, match=r"list\.txt: '\.' is not an image's name"):
        config(root, model="a.out").open_source().pairs()
    with pytest.raises(UserError, match="none: no such folder"):
        config(tmp_path / "none").open_source()


def test_a_missing_image_skips_the_pair(tmp_path: Path) -> None:
    root = write_scene(tmp_path, make_world(2))
    (root / "list.txt").write_text("p0.png\np1.png\np2.png\np3.png\n")
    (root / "p0.png").unlink()
    source = config(root).open_source()
    with pytest.raises(SkippedPair, match=r"missing image: p0\.png"):
        source.load(source.pairs()[0])
    (root / "p1.png").rename(root / "p0.PNG")
    source = config(root).open_source()
    source.load(next(pair for pair in source.pairs() if pair[1:] == ("p0.png", "p2.png")))


def test_a_real_model(shared_data: Path) -> None:
    """Kermit, as Bundler ships it: detections against stored ends, and the pictures themselves."""
    root = shared_data / "bundler/kermit"
    source = config(root, undistort=False, min_matches=60, max_angle=60).open_source()
    pairs = source.pairs()
    assert [pair.frame0 for pair in pairs if pair.frame0 == pair.frame1] == [
        "kermit004.jpg",
        "kermit006.jpg",
    ]
    pair = next(pair for pair in pairs if pair.frame0 != pair.frame1)
    sample = source.load(pair)
    assert len(sample.matches_N4) > 150
    # A point's line with its views is every third after the cameras.
    lines = (root / "results.example/bundle.out").read_text().splitlines()
    count = int(lines[1].split()[0])
    numbers = [int(name[6:9]) for name in pair[1:]]
    offsets = []
    for row, track in zip(sample.matches_N4, sample.attributes["track"], strict=True):
        views = np.array(lines[2 + 5 * count + 3 * track + 2].split()[1:], float).reshape(-1, 4)
        found = {int(image): (x + 319.5, 239.5 - y) for image, _, x, y in views}
        offsets.append(row - [*found[numbers[0]], *found[numbers[1]]])
    assert np.median(np.abs(offsets)) < 0.2
    assert np.abs(np.median(offsets, axis=0)).max() < 0.05
    assert np.median(similarities((sample.image0, sample.image1), sample.matches_N4)) > 0.8
