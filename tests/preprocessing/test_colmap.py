"""The colmap source: every camera model against its formula, layouts, choice of pairs, damage."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.errors import SkippedPair, UserError
from preprocessing.job import preprocess
from preprocessing.sample import Sample
from preprocessing.sfm_model import SfmModel
from preprocessing.shards.verify import verify_dataset
from preprocessing.sources.colmap import ColmapConfig
from preprocessing.sources.colmap_cameras import pinhole_like_models
from preprocessing.sources.colmap_files import read_colmap_model

W, H = 120, 90


def polynomial(theta: np.ndarray, *k: float) -> np.ndarray:
    return theta * (1 + sum(c * theta ** (2 * n) for n, c in enumerate(k, 1)))


def radial(u: np.ndarray, v: np.ndarray, *k: float) -> tuple[np.ndarray, np.ndarray]:
    r2 = u * u + v * v
    factor = 1 + sum(c * r2**n for n, c in enumerate(k, 1))
    return u * factor, v * factor


def tangential(u: np.ndarray, v: np.ndarray, p1: float, p2: float) -> tuple[np.ndarray, np.ndarray]:
    r2 = u * u + v * v
    return 2 * p1 * u * v + p2 * (r2 + 2 * u * u), 2 * p2 * u * v + p1 * (r2 + 2 * v * v)


def fisheye(u: np.ndarray, v: np.ndarray, *k: float) -> tuple[np.ndarray, np.ndarray]:
    r = np.hypot(u, v)
    scale = np.where(r > 0, polynomial(np.arctan(r), *k) / np.where(r > 0, r, 1), 1)
    return u * scale, v * scale


def opencv(u, v, k1, k2, p1, p2):  # type: ignore[no-untyped-def]
    (a, b), (c, d) = radial(u, v, k1, k2), tangential(u, v, p1, p2)
    return a + c, b + d


def full_opencv(u, v, k1, k2, p1, p2, k3, k4, k5, k6):  # type: ignore[no-untyped-def]
    r2 = u * u + v * v
    ratio = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    c, d = tangential(u, v, p1, p2)
    return u * ratio + c, v * ratio + d


def fov(u, v, omega):  # type: ignore[no-untyped-def]
    r = np.hypot(u, v)
    safe = np.where(r > 0, r, 1)
    scale = np.where(
        r > 0,
        np.arctan(2 * safe * np.tan(omega / 2)) / (safe * omega),
        2 * np.tan(omega / 2) / omega,
    )
    return u * scale, v * scale


def thin_prism(u, v, k1, k2, p1, p2, k3, k4, sx1, sy1):  # type: ignore[no-untyped-def]
    a, b = fisheye(u, v)
    r2 = a * a + b * b
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    c, d = tangential(a, b, p1, p2)
    return a * factor + c + sx1 * r2, b * factor + d + sy1 * r2


def fisheye624(u, v, k0, k1, k2, k3, k4, k5, p0, p1, s0, s1, s2, s3):  # type: ignore[no-untyped-def]
    """The fisheye model of Project Aria's documentation; p0 goes with x."""
    a, b = fisheye(u, v, k0, k1, k2, k3, k4, k5)
    r2 = a * a + b * b
    c, d = tangential(a, b, p1, p0)
    return a + c + s0 * r2 + s1 * r2**2, b + d + s2 * r2 + s3 * r2**2


def division(u, v, k):  # type: ignore[no-untyped-def]
    """Fitzgibbon's model, u = d / (1 + k d^2), solved for the distorted radius d."""
    r2 = u * u + v * v
    scale = 2 / (1 + np.sqrt(1 - 4 * k * r2))
    return u * scale, v * scale


def enhanced_unified(u, v, alpha, beta):  # type: ignore[no-untyped-def]
    """Khomutenko, Garcia and Martinet's model, on the plane z = 1."""
    below = alpha * np.sqrt(beta * (u * u + v * v) + 1) + 1 - alpha
    return u / below, v / below


def plain(u, v):  # type: ignore[no-untyped-def]
    return u, v


# Number and name of the model, whether it has two focal lengths, its lens, the lens's parameters.
MODELS: dict[str, tuple[int, bool, Callable[..., Any], tuple[float, ...]]] = {
    "SIMPLE_PINHOLE": (0, False, plain, ()),
    "PINHOLE": (1, True, plain, ()),
    "SIMPLE_RADIAL": (2, False, radial, (-0.12,)),
    "RADIAL": (3, False, radial, (0.15, -0.06)),
    "OPENCV": (4, True, opencv, (-0.1, 0.03, 0.004, -0.003)),
    "OPENCV_FISHEYE": (5, True, fisheye, (-0.02, 0.01, 0.003, -0.001)),
    "FULL_OPENCV": (6, True, full_opencv, (0.1, 0.02, 0.001, 0.002, 0.01, 0.2, 0.01, 0.001)),
    "FOV": (7, True, fov, (0.8,)),
    "SIMPLE_RADIAL_FISHEYE": (8, False, fisheye, (0.05,)),
    "RADIAL_FISHEYE": (9, False, fisheye, (0.04, -0.01)),
    "THIN_PRISM_FISHEYE": (
        10,
        True,
        thin_prism,
        (0.02, -0.01, 0.001, -0.002, 0.003, 0.001, 0.002, -0.001),
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        11,
        True,
        fisheye624,
        (0.03, -0.01, 0.002, 0.001, -0.0004, 0.0001, 0.002, -0.001, 0.003, 0.001, -0.002, 0.0005),
    ),
    "SIMPLE_DIVISION": (12, False, division, (-0.15,)),
    "DIVISION": (13, True, division, (0.1,)),
    "SIMPLE_FISHEYE": (14, False, fisheye, ()),
    "FISHEYE": (15, True, fisheye, ()),
    "EUCM": (16, True, enhanced_unified, (0.6, 1.1)),
}


@dataclass
class Camera:
    model: str
    fx: float
    fy: float
    cx: float
    cy: float

    @property
    def parameters(self) -> list[float]:
        _, two, _, lens = MODELS[self.model]
        return [*([self.fx, self.fy] if two else [self.fx]), self.cx, self.cy, *lens]

    def photo(self, points_N3: np.ndarray) -> np.ndarray:
        """COLMAP's pixels."""
        _, _, lens, values = MODELS[self.model]
        u, v = lens(points_N3[:, 0] / points_N3[:, 2], points_N3[:, 1] / points_N3[:, 2], *values)
        return np.stack([self.fx * u + self.cx, self.fy * v + self.cy], axis=1)

    def pinhole(self, points_N3: np.ndarray) -> np.ndarray:
        """COLMAP's pixels after undistortion."""
        u, v = points_N3[:, 0] / points_N3[:, 2], points_N3[:, 1] / points_N3[:, 2]
        return np.stack([self.fx * u + self.cx, self.fy * v + self.cy], axis=1)


@dataclass
class Image:
    name: str
    camera: int
    q: np.ndarray
    R: np.ndarray
    t: np.ndarray
    pixels: np.ndarray
    points: np.ndarray


@dataclass
class World:
    """A model; point numbers are not in a row, and cameras not numbered from 0."""

    cameras: dict[int, Camera]
    points: dict[int, np.ndarray]
    images: list[Image] = field(default_factory=list)


def quaternion_matrix(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def make_world(seed: int, model: str, images: int = 3, points: int = 150) -> World:
    rng = np.random.default_rng(seed)
    two = MODELS[model][1]
    cameras = {}
    for number in (3, 8):
        f = rng.uniform(90, 130)
        fy = f * rng.uniform(0.95, 1.05) if two else f
        cx, cy = (np.array([W, H]) / 2 + rng.uniform(-6, 6, 2)).tolist()
        cameras[number] = Camera(model, f, fy, cx, cy)
    numbers = rng.choice(10**6, points, replace=False) + 1
    xyz = rng.uniform([-3.5, -2.6, 4], [3.5, 2.6, 7], (points, 3))
    world = World(cameras, dict(zip(numbers.tolist(), xyz, strict=True)))
    for index in range(images):
        q = np.array([1, *rng.uniform(-0.04, 0.04, 3)])
        q /= np.linalg.norm(q)
        R = quaternion_matrix(q)
        t = np.array([index - (images - 1) / 2, *rng.uniform(-0.2, 0.2, 2)])
        number = (3, 8)[index % 2]
        pixels = cameras[number].photo(xyz @ R.T + t)
        seen = np.flatnonzero(((pixels > 0) & (pixels < [W, H])).all(axis=1))
        seen = rng.permutation(seen[rng.random(len(seen)) < 0.9])
        detected = pixels[seen] + rng.uniform(-1, 1, (len(seen), 2))
        wrong = rng.random(len(seen)) < 0.1
        detected[wrong] += 5
        # And some detections without a point.
        detected = np.concatenate([rng.uniform(0, 60, (4, 2)), detected])
        known = np.concatenate([np.full(4, -1), numbers[seen]])
        world.images.append(Image(f"cam{index}/a.b {index}.png", number, q, R, t, detected, known))
    return world


def write_photos(folder: Path, world: World) -> None:
    """Photographs whose red is x and whose green is y."""
    rows, columns = np.mgrid[:H, :W].astype(np.uint8)
    photo = np.stack([np.zeros_like(rows), rows, columns], axis=-1)
    for image in world.images:
        path = folder / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), photo)


def tracks(world: World) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {number: [] for number in world.points}
    for index, image in enumerate(world.images, 1):
        for place, number in enumerate(image.points.tolist()):
            if number != -1:
                found[number].append((index, place))
    return found


def write_text(folder: Path, world: World) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Camera list with one line of data per camera:"]
    for number, camera in world.cameras.items():
        lines.append(f"{number} {camera.model} {W} {H} {' '.join(map(repr, camera.parameters))}")
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# Image list with two lines of data per image:"]
    for index, image in enumerate(world.images, 1):
        pose = " ".join(repr(float(value)) for value in (*image.q, *image.t))
        lines.append(f"{index} {pose} {image.camera} {image.name}")
        rows = zip(image.pixels.tolist(), image.points.tolist(), strict=True)
        lines.append(" ".join(f"{x!r} {y!r} {number}" for (x, y), number in rows))
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    lines = ["# 3D point list with one line of data per point:"]
    for number, track in tracks(world).items():
        xyz = " ".join(map(repr, world.points[number].tolist()))
        lines.append(f"{number} {xyz} 1 2 3 0.5 {' '.join(f'{i} {p}' for i, p in track)}".rstrip())
    (folder / "points3D.txt").write_text("\n".join(lines) + "\n")


def write_binary(folder: Path, world: World) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = struct.pack("<Q", len(world.cameras))
    for number, camera in world.cameras.items():
        data += struct.pack("<iiQQ", number, MODELS[camera.model][0], W, H)
        data += struct.pack(f"<{len(camera.parameters)}d", *camera.parameters)
    (folder / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", len(world.images))
    for index, image in enumerate(world.images, 1):
        data += struct.pack("<i4d3di", index, *image.q, *image.t, image.camera)
        data += image.name.encode() + b"\0" + struct.pack("<Q", len(image.points))
        for (x, y), number in zip(image.pixels, image.points.tolist(), strict=True):
            data += struct.pack("<ddQ", x, y, number % 2**64)
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(world.points))
    for number, track in tracks(world).items():
        data += struct.pack("<Q3d3BdQ", number, *world.points[number], 1, 2, 3, 0.5, len(track))
        for element in track:
            data += struct.pack("<ii", *element)
    (folder / "points3D.bin").write_bytes(data)


def write_scene(root: Path, world: World, *, binary: bool = False, model: str = "sparse") -> Path:
    write_photos(root / "images", world)
    (write_binary if binary else write_text)(root / model, world)
    return root


def config(root: Path, **options: object) -> ColmapConfig:
    base = {"min_matches": 10, "images": "rgb-png"}
    return ColmapConfig(root=str(root), out="unused", **(base | options))


def expected_matches(world: World, pair: Any, undistort: bool) -> dict[int, np.ndarray]:
    """Pixels, depths and errors of every track that the pair should have, by its number."""
    found: list[dict[int, np.ndarray]] = []
    for name in pair[1:]:
        image = next(image for image in world.images if image.name == name)
        camera = world.cameras[image.camera]
        rows = {}
        for pixel, number in zip(image.pixels, image.points.tolist(), strict=True):
            if number == -1:
                continue
            point = (image.R @ world.points[number] + image.t)[None]
            photo, pinhole = camera.photo(point)[0], camera.pinhole(point)[0]
            shown = pinhole if undistort else photo
            error = np.hypot(*(photo - pixel))
            inside = all(((p >= 0) & (p <= [W, H])).all() for p in (photo, shown))
            if error <= 2 and inside and point[0, 2] > 0:
                rows[number] = np.array([*(shown - 0.5), point[0, 2], error])
        found.append(rows)
    return {n: np.concatenate([found[0][n], found[1][n]]) for n in found[0].keys() & found[1]}


def check_sample(sample: Sample, world: World, pair: Any, undistort: bool) -> None:
    """Each track that should be there is there once, exactly, and no other."""
    expected = expected_matches(world, pair, undistort)
    numbers = sample.attributes["track"]
    assert numbers.dtype == np.int64
    assert sorted(numbers.tolist()) == sorted(expected)
    rows = np.array([expected[number] for number in numbers.tolist()])
    np.testing.assert_allclose(sample.matches_N4, rows[:, [0, 1, 4, 5]], atol=0.01)
    for name, column in (("depth0", 2), ("depth1", 6), ("error0", 3), ("error1", 7)):
        np.testing.assert_allclose(sample.attributes[name], rows[:, column], rtol=1e-4, atol=1e-4)
    assert (sample.attributes["depth0"] > 0).all()
    # What the metadata says leads from one end to the other.
    T_1_0 = np.array(sample.metadata["T_1_0"])
    for which in (0, 1):
        image = next(image for image in world.images if image.name == pair[1 + which])
        camera = world.cameras[image.camera]
        lensless = MODELS[camera.model][2] is plain
        K = [[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]]
        assert sample.metadata[f"K{which}"] == (K if undistort or lensless else None)
    if undistort:
        K0, K1 = (np.array(sample.metadata[name]) for name in ("K0", "K1"))
        ends = np.hstack([sample.matches_N4[:, :2], np.ones((len(rows), 1))]).astype(np.float64)
        points = ends @ np.linalg.inv(K0).T * sample.attributes["depth0"][:, None]
        moved = (points @ T_1_0[:3, :3].T + T_1_0[:3, 3]) @ K1.T
        np.testing.assert_allclose(sample.matches_N4[:, 2:], moved[:, :2] / moved[:, 2:], atol=0.01)


def test_no_camera_model_is_left_out() -> None:
    known = {model.name: model.number for model in pinhole_like_models()}
    assert {name: number for name, (number, *_) in MODELS.items()} == known


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("undistort", [True, False])
def test_each_camera_model(tmp_path: Path, model: str, undistort: bool) -> None:
    """All tracks that pass in both images are stored (recall 1), each within 0.01 px."""
    number = MODELS[model][0]
    world = make_world(number, model)
    root = write_scene(tmp_path / "some scene", world, binary=number % 2 == 0)
    source = config(root, undistort=undistort).open_source()
    pairs = source.pairs()
    assert len(pairs) == 3
    for pair in pairs:
        sample = source.load(pair)
        check_sample(sample, world, pair, undistort)
        assert sample.metadata["kind"] == "rigid"
        assert sample.metadata["unit"] == "model"
        if undistort:
            check_undistorted(sample.image0, world, pair.frame0)
        else:
            camera = world.cameras[3 if pair.frame0 != "cam1/a.b 1.png" else 8]
            assert sample.metadata["camera0"] == {
                "model": model,
                "parameters": camera.parameters,
                "size": [W, H],
            }


def check_undistorted(picture: np.ndarray, world: World, name: str) -> None:
    """Each pixel shows the photograph's pixel that its ray comes from, black beyond it."""
    image = next(image for image in world.images if image.name == name)
    camera = world.cameras[image.camera]
    rows, columns = (grid.ravel() for grid in np.mgrid[:H, :W])
    rays = np.stack(
        [(columns + 0.5 - camera.cx) / camera.fx, (rows + 0.5 - camera.cy) / camera.fy], axis=1
    )
    source = camera.photo(np.hstack([rays, np.ones((len(rays), 1))])) - 0.5
    # At the very border bilinear interpolation mixes in black.
    inside = ((source >= 1 / 16) & (source <= [W - 1 - 1 / 16, H - 1 - 1 / 16])).all(axis=1)
    shown = picture[rows, columns, :2].astype(float)
    # Rounded to whole numbers; OpenCV interpolates in steps of 1/32 pixel, and the lens is
    # interpolated between every fourth pixel.
    np.testing.assert_allclose(shown[inside], source[inside], atol=0.5 + 1 / 16)
    beyond = ((source < -1) | (source > [W, H])).any(axis=1)
    assert (shown[beyond] == 0).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from(sorted(MODELS)),
    binary=st.booleans(),
    undistort=st.booleans(),
)
@settings(max_examples=30)
def test_random_scenes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, model: str, binary: bool, undistort: bool
) -> None:
    world = make_world(seed, model, images=2)
    root = write_scene(tmp_path_factory.mktemp("scene"), world, binary=binary)
    source = config(root, undistort=undistort, min_matches=1, max_angle=180).open_source()
    (pair,) = source.pairs()
    check_sample(source.load(pair), world, pair, undistort)


def test_layouts_and_names(tmp_path: Path) -> None:
    world = make_world(1, "PINHOLE")
    write_scene(tmp_path / "b", world)
    for number in (0, 1, 10):
        write_scene(tmp_path / "a", world, binary=True, model=f"sparse/{number}")
    write_scene(tmp_path / "c", world, model="sparse/0")
    (tmp_path / "other").mkdir()
    source = config(tmp_path).open_source()
    pairs = source.pairs()
    assert list(dict.fromkeys(pair.sequence for pair in pairs)) == ["a/0", "a/1", "a/10", "b", "c"]
    keys = [source.key(pair) for pair in pairs]
    assert keys[0] == "a_0-cam0_a_b_0-cam1_a_b_1"
    assert len(set(keys)) == len(keys) == 15
    assert [pair.sequence for pair in config(tmp_path / "b").open_source().pairs()] == ["b"] * 3
    for pair in pairs[::3]:
        check_sample(source.load(pair), world, pair, True)
    some = config(tmp_path, sequences=("c", "a/1")).open_source().pairs()
    assert [pair.sequence for pair in some] == ["a/1"] * 3 + ["c"] * 3
    with pytest.raises(UserError, match="no scene d; there are a/0, a/1, a/10, b, c"):
        config(tmp_path, sequences=("c", "d")).open_source()
    # A dense workspace beside the model shows the same pictures once more.
    write_scene(tmp_path / "b/dense", world)
    assert {pair.sequence for pair in config(tmp_path / "b").open_source().pairs()} == {"b"}


def test_scenes_of_workspaces_alone(tmp_path: Path) -> None:
    """As Photo Tourism's are: undistorted images and their model in SCENE/dense."""
    world = make_world(1, "PINHOLE")
    write_scene(tmp_path / "0015/dense", world)
    for number in (2, 10):
        write_scene(tmp_path / f"church/dense/{number}", world, model="sparse/0")
    pairs = config(tmp_path).open_source().pairs()
    names = list(dict.fromkeys(pair.sequence for pair in pairs))
    assert names == ["0015", "church/2", "church/10"]
    assert [pair.sequence for pair in config(tmp_path / "0015").open_source().pairs()] == [
        "0015"
    ] * 3


def test_keys_stay_apart(tmp_path: Path) -> None:
    world = make_world(1, "PINHOLE")
    for image, name in zip(world.images, ("a/b.png", "a_b.png", "a b.png"), strict=True):
        image.name = name
    source = config(write_scene(tmp_path, world)).open_source()
    assert len({source.key(pair) for pair in source.pairs()}) == 3


def test_pairs_by_angle_and_number(tmp_path: Path) -> None:
    world = make_world(5, "PINHOLE", images=6)
    root = write_scene(tmp_path, world)
    everything = config(root, min_matches=1, min_angle=0, max_angle=180).open_source().pairs()
    assert [pair[1:] for pair in everything] == sorted(pair[1:] for pair in everything)
    assert len(everything) == 15
    # The baseline is a unit a frame, the points are some 5.5 units away.
    near = config(root, min_matches=1, max_angle=15).open_source().pairs()
    assert {(int(p.frame0[3]), int(p.frame1[3])) for p in near} == {(i, i + 1) for i in range(5)}
    few = config(root, min_matches=1, max_pairs_per_image=2, max_angle=180).open_source().pairs()
    counts = [sum(image.name in pair[1:] for pair in few) for image in world.images]
    assert 4 <= len(few) <= 6
    assert max(counts) == 2
    some = config(root, min_matches=1, max_pairs=4, max_angle=180).open_source().pairs()
    assert len(some) == 4
    assert some == [pair for pair in everything if pair in some]
    with pytest.raises(UserError, match="min_angle 20 is above max_angle 10"):
        config(root, min_angle=20, max_angle=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_matches": 1000}, r"the best of 3 pairs shares \d+ .* lower --min-matches"),
        ({"min_angle": 50}, r"3 pairs .* angles of .* not 50 to 60; change --min-angle"),
        ({"max_error": 1e-9}, r"no two of its 3 images .* raise --max-error"),
    ],
)
def test_no_pair_passes_with_figures(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    root = write_scene(tmp_path, make_world(1, "PINHOLE"))
    with pytest.raises(UserError, match=message):
        config(root, **options).open_source().pairs()


def test_inputs_change_with_the_files(tmp_path: Path) -> None:
    root = write_scene(tmp_path, make_world(1, "PINHOLE"))
    source = config(root).open_source()
    pair = source.pairs()[0]
    before = source.inputs(pair)
    (root / "images" / pair.frame0).write_bytes(b"x")
    after = config(root).open_source().inputs(pair)
    assert after == [before[0], [pair.frame0, 1], before[2]]
    file = root / "sparse/points3D.txt"
    file.write_text(file.read_text() + "# more\n")
    assert config(root).open_source().inputs(pair)[0] != before[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def put(position: int, layout: str, value: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        struct.pack_into(layout, data, position, value)
        path.write_bytes(data)

    return change


def replace(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("cameras.bin", Path.unlink, "no cameras, images, points3D"),
        ("cameras.bin", cut, r"cameras\.bin: cut short"),
        ("images.bin", cut, r"images\.bin: cut short"),
        ("points3D.bin", cut, r"points3D\.bin: cut short"),
        ("points3D.bin", lambda path: path.write_bytes(b""), r"points3D\.bin: cut short"),
        ("images.bin", lambda path: path.write_bytes(path.read_bytes() + b"x"), "after its end"),
        ("cameras.bin", put(0, "<Q", 2**63), "cut short"),
        ("cameras.bin", put(12, "<i", 99), "model 99 has no pinhole image"),
        ("cameras.bin", put(12, "<i", 17), "model 17 has no pinhole image"),
        ("cameras.bin", put(8, "<i", 4), "camera 3 is not in the model"),
        ("cameras.bin", put(16, "<Q", 2**40), "camera 3: images of 1099511627776x90 pixels"),
        ("cameras.bin", put(24, "<Q", 0), "camera 3: images of 120x0 pixels"),
        ("points3D.bin", put(8, "<Q", 5 * 10**6), "is not in the model"),
        ("cameras.txt", cut, r"cameras\.txt: line 3: not"),
        ("cameras.txt", replace("SIMPLE_RADIAL", "SPIRAL"), "SPIRAL has no pinhole image"),
        ("cameras.txt", replace("SIMPLE_RADIAL", "RADIAL"), "5 parameters of RADIAL"),
        ("images.txt", replace("cam0/a.b 0.png\n", "cam0/a.b 0.png"), r"images\.txt: line 3: not"),
        ("images.txt", replace("cam1/a.b 1.png", "cam0/a.b 0.png"), "stands twice"),
        ("images.txt", replace("cam1/a.b 1.png", "cam1\0/a.png"), "is not an image's name"),
        ("images.txt", replace("cam1/a.b 1.png", "."), "'.' is not an image's name"),
        ("points3D.txt", replace(" 1 2 3 0.5 ", " 1 2 3 "), r"points3D\.txt: line 2: not"),
        ("points3D.txt", replace("\n", f"\n{10**30}"), r"points3D\.txt: line 2: not"),
        ("images.txt", replace(" -1 ", " nan "), r"images\.txt: line 3: not"),
        ("images.txt", replace(" -1 ", " 1e300 "), r"images\.txt: line 3: not"),
        ("points3D.txt", lambda path: path.write_bytes(b"\xff\xfe"), "not a text file"),
    ],
)
def test_damaged_models_are_one_line(
    tmp_path: Path, file: str, damage: Callable[[Path], object], message: str
) -> None:
    world = make_world(1, "SIMPLE_RADIAL")
    root = write_scene(tmp_path, world, binary=file.endswith("bin"))
    if file == "cameras.txt" and damage is cut:
        # Three characters less is a number still; this cuts a parameter off.
        path = root / "sparse" / file
        path.write_text(path.read_text().rstrip().rpartition(" ")[0])
    else:
        damage(root / "sparse" / file)
    with pytest.raises(UserError, match=message) as caught:
        config(root).open_source().pairs()
    assert "\n" not in str(caught.value)


def test_missing_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        config(tmp_path / "none").open_source()
    with pytest.raises(UserError, match="neither it nor a folder in it has images/ and sparse/"):
        config(tmp_path).open_source()
    with pytest.raises(UserError, match="stereo/depth_maps"):
        config(write_scene(tmp_path, make_world(1, "PINHOLE")), dense=True).open_source()


@pytest.mark.parametrize(("place", "value"), [(0, np.nan), (0, -100), (1, np.inf), (3, np.nan)])
def test_images_of_a_damaged_camera_are_skipped(tmp_path: Path, place: int, value: float) -> None:
    root = write_scene(tmp_path, make_world(1, "SIMPLE_RADIAL", images=4), binary=True)
    # Camera 3 is the first of two, and that of images 0 and 2.
    put(32 + 8 * place, "<d", value)(root / "sparse/cameras.bin")
    source = config(root, max_angle=180).open_source()
    for pair in source.pairs():
        if pair.frame0 == pair.frame1:
            with pytest.raises(SkippedPair, match=r"damaged camera: cam[02]"):
                source.load(pair)
        else:
            assert (pair.frame0[:4], pair.frame1[:4]) == ("cam1", "cam3")
            source.load(pair)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_points_match_nothing(tmp_path: Path, value: float) -> None:
    world = make_world(1, "OPENCV", images=2)
    number = next(n for n in world.images[0].points.tolist() if n in world.images[1].points[4:])
    world.points[number][0] = value
    source = config(write_scene(tmp_path, world, binary=True)).open_source()
    (pair,) = source.pairs()
    tracks = source.load(pair).attributes["track"]
    assert len(tracks) > 10
    assert number not in tracks


def test_damaged_images_are_skipped_and_counted(tmp_path: Path) -> None:
    world = make_world(1, "OPENCV", images=6)
    world.images[4].t = np.array([np.nan, 0, 0])
    root = write_scene(tmp_path / "in", world)
    (root / "images/cam0/a.b 0.png").unlink()
    cut(root / "images/cam1/a.b 1.png")
    cv2.imwrite(str(root / "images/cam2/a.b 2.png"), np.zeros((H, W + 1), np.uint8))
    options = config(root, max_angle=180).model_copy(
        update={"out": str(tmp_path / "out"), "workers": 0}
    )
    manifest = preprocess(options)
    assert manifest.totals.samples == 1
    assert manifest.totals.skipped == {
        "missing image": 4,
        "damaged image": 3,
        "image size differs": 2,
        "damaged pose": 1,
    }
    assert not verify_dataset(str(tmp_path / "out"))
    source = options.open_source()
    details = []
    for pair in source.pairs():
        if pair.frame0 != "cam3/a.b 3.png":
            with pytest.raises(SkippedPair) as caught:
                source.load(pair)
            details.append(caught.value.detail.partition(":")[0])
    assert set(details) == {
        "images/cam0/a.b 0.png",
        "images/cam1/a.b 1.png",
        "cam2/a.b 2.png",
        "cam4/a.b 4.png",
    }


def write_depth(path: Path, depth_HW: np.ndarray) -> None:
    """As COLMAP's read_write_dense.py: column-major of the transposed array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"{depth_HW.shape[1]}&{depth_HW.shape[0]}&1&".encode()
    path.write_bytes(header + depth_HW.T.astype("<f4").reshape(-1, order="F").tobytes())


def write_workspace(folder: Path, world: World) -> None:
    """Depth maps of the plane z = 5 of the world."""
    write_scene(folder, world)
    for image in world.images:
        camera = world.cameras[image.camera]
        rows, columns = np.mgrid[:H, :W]
        rays = np.stack(
            [
                (columns + 0.5 - camera.cx) / camera.fx,
                (rows + 0.5 - camera.cy) / camera.fy,
                np.ones((H, W)),
            ],
            axis=-1,
        )
        # R^T (depth * ray - t) has z = 5.
        depth = (5 + image.R[:, 2] @ image.t) / (rays @ image.R[:, 2])
        write_depth(folder / f"stereo/depth_maps/{image.name}.geometric.bin", depth)


@pytest.mark.parametrize("place", ["", "dense", "dense/0"])
def test_depth_maps(tmp_path: Path, place: str) -> None:
    world = make_world(2, "PINHOLE", images=2)
    write_workspace(tmp_path / "scene" / place, world)
    source = config(tmp_path, dense=True, dense_step=3).open_source()
    (pair,) = source.pairs()
    assert pair.sequence == {"": "scene", "dense": "scene", "dense/0": "scene/0"}[place]
    assert len(source.inputs(pair)) == 5
    sample = source.load(pair)
    ends = []
    for which, image in enumerate(world.images):
        K = np.array(sample.metadata[f"K{which}"])
        pixels = sample.matches_N4[:, 2 * which : 2 * which + 2].astype(np.float64)
        rays = np.hstack([pixels, np.ones((len(pixels), 1))]) @ np.linalg.inv(K).T
        depths = sample.attributes[f"depth{which}"][:, None]
        ends.append((rays * depths - image.t) @ image.R)
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)
    np.testing.assert_allclose(ends[0][:, 2], 5, atol=1e-4)
    # All of the plane that both see, which is more than half of image 0.
    assert len(sample.matches_N4) > 0.5 * (H // 3) * (W // 3)


def write_megadepth(folder: Path, world: World) -> None:
    """COLMAP's maps as MegaDepth's; COLMAP's folder stays, empty."""
    for image in world.images:
        path = folder / f"stereo/depth_maps/{image.name}.geometric.bin"
        depth = np.frombuffer(path.read_bytes().split(b"&", 3)[3], "<f4").reshape(H, W)
        path.unlink()
        path = folder / "depths" / f"{image.name.removesuffix('.png')}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["depth"] = depth


def test_megadepths_depth_maps(tmp_path: Path) -> None:
    world = make_world(2, "PINHOLE", images=2)
    write_workspace(tmp_path / "0015", world)

    def load() -> Sample:
        source = config(tmp_path, dense=True).open_source()
        return source.load(source.pairs()[0])

    expected = load()
    write_megadepth(tmp_path / "0015", world)
    np.testing.assert_array_equal(load().matches_N4, expected.matches_N4)
    path = tmp_path / "0015/depths/cam1/a.b 1.h5"
    data = path.read_bytes()
    for bad in (b"", data[:-100], data[:600], b"x" * 3000):
        path.write_bytes(bad)
        with pytest.raises(SkippedPair, match=r"damaged depth map: 0015/depths/cam1/a\.b 1\.h5"):
            load()
    for name, shape in (("depth", (H, W, 1)), ("depths", (H, W))):
        with h5py.File(path, "w") as file:
            file[name] = np.ones(shape)
        with pytest.raises(SkippedPair, match="damaged depth map"):
            load()
    path.unlink()
    with pytest.raises(SkippedPair, match="missing depth map"):
        load()


def test_each_model_is_read_once_in_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scene in "abc":
        write_scene(tmp_path / scene, make_world(1, "PINHOLE"))
    read = []

    def counted(folder: Path) -> SfmModel:
        read.append(folder)
        return read_colmap_model(folder)

    monkeypatch.setattr("preprocessing.sources.colmap.read_colmap_model", counted)
    source = config(tmp_path).open_source()
    pairs = source.pairs()
    assert len({source.key(pair) for pair in pairs}) == 9
    assert len([source.inputs(pair) for pair in pairs]) == 9
    assert len(read) == 3


def test_depth_map_faults(tmp_path: Path) -> None:
    world = make_world(2, "PINHOLE", images=2)
    write_workspace(tmp_path, world)
    path = tmp_path / "stereo/depth_maps" / f"{world.images[1].name}.geometric.bin"
    data = path.read_bytes()

    def reason() -> str:
        source = config(tmp_path, dense=True).open_source()
        with pytest.raises(SkippedPair) as caught:
            source.load(source.pairs()[0])
        return caught.value.reason

    for bad in (b"", data[:-1], b"x" + data, b"120&90&3&" + data[9:]):
        path.write_bytes(bad)
        assert reason() == "damaged depth map"
    write_depth(path, np.ones((H - 1, W)))
    assert reason() == "depth map size differs"
    path.unlink()
    assert reason() == "missing depth map"
    write_text(tmp_path / "sparse", make_world(2, "OPENCV", images=2))
    with pytest.raises(UserError, match="depth maps belong to undistorted images"):
        config(tmp_path, dense=True).open_source().pairs()


def test_models_are_what_colmaps_own_library_reads(shared_data: Path, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    folder = shared_data / "colmap/lund_door/sparse"
    theirs = pycolmap.Reconstruction(str(folder))
    theirs.write_binary(str(tmp_path))
    for ours in (read_colmap_model(folder), read_colmap_model(tmp_path)):
        assert len(ours.images) == 12
        assert ours.tracks_P.tolist() == sorted(theirs.points3D)
        for index in range(0, len(ours.tracks_P), 500):
            point = theirs.points3D[int(ours.tracks_P[index])]
            np.testing.assert_allclose(ours.points_P3[index], point.xyz, rtol=1e-12)
        for image in ours.images:
            other = theirs.find_image_with_name(image.name)
            # The file's quaternions have six digits, and COLMAP takes them as they are.
            np.testing.assert_allclose(
                image.T_cam_world[:3], other.cam_from_world().matrix(), atol=1e-6
            )
        # Of the first image's detections, the distance of each to where its point projects.
        image, other = ours.images[0], theirs.find_image_with_name(ours.images[0].name)
        errors: dict[int, float] = {}
        for detection in other.points2D:
            if detection.has_point3D():
                number = detection.point3D_id
                pixel = other.project_point(theirs.points3D[number].xyz)
                error = float(np.linalg.norm(pixel - detection.xy))
                errors[number] = min(error, errors.get(number, np.inf))
        assert ours.tracks_P[image.points_M].tolist() == sorted(errors)
        np.testing.assert_allclose(
            image.errors_M, [errors[number] for number in sorted(errors)], atol=5e-3
        )


def patches(image: np.ndarray, pixels_N2: np.ndarray) -> np.ndarray:
    """9x9 grey patches, each of mean 0 and length 1."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = np.stack([cv2.getRectSubPix(grey, (9, 9), pixel.tolist()) for pixel in pixels_N2])
    rows = found.reshape(len(found), -1).astype(float)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def test_a_real_model(shared_data: Path) -> None:
    """Lund's door: matches against the geometry of the detections alone, and against the pixels."""
    root = shared_data / "colmap/lund_door"
    source = config(root, min_matches=100).open_source()
    pairs = source.pairs()
    assert len(pairs) == 66
    pair = pairs[1]
    sample = source.load(pair)
    assert len(sample.matches_N4) > 3500
    rows = (root / "sparse/images.txt").read_text().splitlines()
    detected: list[dict[int, list[float]]] = []
    for name in pair[1:]:
        place = next(i for i, row in enumerate(rows) if row.endswith(name))
        values = np.array(rows[place + 1].split(), float).reshape(-1, 3)
        detected.append({int(number): [x, y] for x, y, number in values if number >= 0})
    shared = sorted(detected[0].keys() & detected[1].keys())
    camera = np.array([[2435.38, 0, 648], [0, 2435.38, 968], [0, 0, 1]])
    ends = [
        cv2.undistortPoints(
            np.array([[one[number]] for number in shared]),
            camera,
            np.array([-0.0336422, 0, 0, 0]),
            P=camera,
        )[:, 0]
        - 0.5
        for one in detected
    ]
    F, _ = cv2.findFundamentalMat(ends[0], ends[1], cv2.FM_LMEDS)
    ones = np.ones((len(sample.matches_N4), 1))
    first, second = (np.hstack([sample.matches_N4[:, c : c + 2], ones]) for c in (0, 2))
    lines = first @ F.T
    distance = np.abs((lines * second).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert np.median(distance) < 0.2
    # The stored ends are where the detections are.
    by_number = {number: row for row, number in enumerate(shared)}
    places = [by_number[number] for number in sample.attributes["track"].tolist()]
    for end, column in zip(ends, (0, 2), strict=True):
        offset = end[places] - sample.matches_N4[:, column : column + 2]
        assert np.median(np.linalg.norm(offset, axis=1)) < 0.4
        assert np.abs(np.median(offset, axis=0)).max() < 0.05
    inner = ((sample.matches_N4 > 5) & (sample.matches_N4 < [1290, 1930] * 2)).all(axis=1)
    some = sample.matches_N4[inner][::10]
    alike = patches(sample.image0, some[:, :2]) * patches(sample.image1, some[:, 2:])
    assert np.median(alike.sum(axis=1)) > 0.85
