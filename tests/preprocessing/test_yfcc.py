"""The yfcc source on scenes in OANet's layout, rendered from real textures with exact truth."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from skimage import data

from preprocessing.errors import SkippedPair, UserError
from preprocessing.job import preprocess
from preprocessing.sample import Sample
from preprocessing.shards.read import ShardDataset
from preprocessing.shards.verify import verify_dataset
from preprocessing.sources.base import PairRef
from preprocessing.sources.yfcc import YfccConfig
from preprocessing.sources.yfcc_files import read_scene_lists, visible_pairs
from preprocessing.sources.yfcc_scenes import SCENES

Array = np.ndarray
SIZES = ((400, 300), (380, 310), (300, 400))


@dataclass
class View:
    """One rendered image: truth in this project's conventions."""

    K: Array
    R: Array
    t: Array
    image: Array
    depth: Array = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[0]


def render_scene(seed: int) -> list[View]:
    """Three photographs of a wall with three pictures in front of it, at several angles."""
    rng = np.random.default_rng(seed)
    textures = [
        cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.8)
        for picture in (
            np.hstack([data.brick(), data.camera(), data.gravel(), data.camera()[::-1, ::-1]]),
            data.astronaut()[..., 1],
            data.coffee()[..., 1],
            data.camera(),
        )
    ]
    planes = [place_picture(rng, (0, 0, 8), 0.15, textures[0], 9 / 512)]
    for texture in textures[1:]:
        centre = rng.uniform([-1.8, -1, 4], [1.8, 1, 6])
        planes.append(place_picture(rng, centre, 0.35, texture, rng.uniform(0.8, 1.4) / 512))
    views = []
    for number, (width, height) in enumerate(SIZES):
        K = np.diag([rng.uniform(350, 450)] * 2 + [1.0])
        K[:2, 2] = [(width - 1) / 2 + rng.uniform(-6, 6), (height - 1) / 2 + rng.uniform(-6, 6)]
        centre = np.array([number - 1 + rng.uniform(-0.3, 0.3), *rng.uniform(-0.3, 0.3, 2)])
        look = Rotation.from_euler("y", -np.arctan2(centre[0], 6))
        R = (look * Rotation.from_rotvec(rng.uniform(-0.15, 0.15, 3))).as_matrix().T
        views.append(render(K, R, -R @ centre, (width, height), planes, rng))
    return views


def place_picture(
    rng: np.random.Generator, centre: Any, tilt: float, texture: Array, step: float
) -> tuple[Array, Array]:
    """A texture and the map [3, 3] from its (column, row, 1) to the world."""
    axes = Rotation.from_rotvec(rng.uniform(-tilt, tilt, 3)).as_matrix()[:, :2] * step
    middle = np.array(texture.shape[::-1]) / 2
    return texture, np.column_stack([axes, np.asarray(centre) - axes @ middle])


def render(
    K: Array, R: Array, t: Array, size: tuple[int, int], planes: list[Any], rng: Any
) -> View:
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1).astype(float)
    depth, image = np.full(rows.shape, np.inf), np.zeros(rows.shape)
    for texture, world_from_texture in planes:
        camera_from_texture = np.column_stack([R @ world_from_texture[:, :2], np.zeros(3)])
        camera_from_texture[:, 2] = R @ world_from_texture[:, 2] + t
        # z (column, row, 1) = (K camera_from_texture)^-1 pixel, up to 1 / depth.
        mapped = pixels @ np.linalg.inv(K @ camera_from_texture).T
        z = 1 / mapped[..., 2]
        column, row = mapped[..., 0] * z, mapped[..., 1] * z
        there = (column >= 0) & (column <= texture.shape[1] - 1) & (row >= 0)
        there &= (row <= texture.shape[0] - 1) & (z > 0) & (z < depth)
        depth[there] = z[there]
        image[there] = map_coordinates(texture, [row[there], column[there]], order=1)
    gain, offset = rng.uniform(0.8, 1.1), rng.uniform(0, 20)
    lit = image * gain + offset + rng.normal(0, 2, image.shape)
    return View(K, R, t, np.clip(np.rint(lit), 0, 255).astype(np.uint8), depth)


def write_scene(
    root: Path, scene: str = "louvre", phase: str = "train", views: list[View] | None = None
) -> Path:
    """A phase's folder as in OANet's release."""
    views = render_scene(0) if views is None else views
    folder = root / scene / phase
    for name in ("images", "calibration", "visibility"):
        (folder / name).mkdir(parents=True)
    lists: dict[str, list[str]] = {"images": [], "calibration": [], "visibility": []}
    for number, view in enumerate(views):
        files = {
            "images": f"images/{number:02d}_photo.jpg",
            "calibration": f"calibration/calibration_{number:06d}.h5",
            "visibility": f"visibility/vis_{number:06d}.txt",
        }
        colour = cv2.cvtColor(view.image, cv2.COLOR_GRAY2BGR)
        assert cv2.imwrite(str(folder / files["images"]), colour, [cv2.IMWRITE_JPEG_QUALITY, 98])
        write_calibration(folder / files["calibration"], view)
        np.savetxt(folder / files["visibility"], np.full(len(views), 101.0))
        for name, file in files.items():
            lists[name].append(file)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_calibration(path: Path, view: View, **changes: Any) -> None:
    """OANet's convention: the principal point counts from the image's centre."""
    K = view.K.copy()
    K[:2, 2] -= (np.array(view.size) - 1) / 2
    values = {"K": K, "R": view.R, "T": view.t[None], "imsize": np.array([view.size], float)}
    with h5py.File(path, "w") as file:
        for name, value in (values | changes).items():
            if value is not None:
                file[name] = value


def config(root: Path, **values: Any) -> YfccConfig:
    defaults: dict[str, Any] = {"out": "unused", "scenes": ("louvre",), "workers": 0}
    return YfccConfig(root=str(root), **(defaults | values))


@pytest.fixture(scope="module")
def scenes() -> list[list[View]]:
    return [render_scene(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, scenes: list[list[View]]) -> Path:
    folder = tmp_path_factory.mktemp("yfcc")
    for name, views in zip(SCENES["train"], scenes, strict=False):
        write_scene(folder, name, "train", views)
    return folder


@pytest.fixture(scope="module")
def samples(root: Path, scenes: list[list[View]]) -> list[tuple[Sample, View, View]]:
    source = config(root, scenes=SCENES["train"][: len(scenes)]).open_source()
    by_name = {f"{name}-train": views for name, views in zip(SCENES["train"], scenes, strict=False)}
    return [
        (source.load(pair), *(by_name[pair.sequence][int(frame)] for frame in pair[1:]))
        for pair in source.pairs()
    ]


def transfer(view0: View, view1: View, pixels: Array) -> Array:
    """Where view 1 has what view 0 shows at whole pixels [N, 2]."""
    columns, rows = pixels.T
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(view0.K).T
    world = (rays * view0.depth[rows, columns][:, None] - view0.t) @ view0.R
    image = (world @ view1.R.T + view1.t) @ view1.K.T
    return image[:, :2] / image[:, 2:]


def truth_errors(view0: View, view1: View, ends0: Array, ends1: Array) -> Array:
    """Distance to where the surface at or right beside ``ends0`` is, pixels [N]."""
    errors = []
    for step in np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 2):
        near = np.clip(np.rint(ends0).astype(int) + step, 0, np.array(view0.size) - 1)
        errors.append(np.linalg.norm(transfer(view0, view1, near) + ends0 - near - ends1, axis=1))
    return np.min(errors, axis=0)


def test_matches_are_true(samples: list[tuple[Sample, View, View]]) -> None:
    """0.5 % at most are over 4 px off, seen from either view; half are right to 0.3 px."""
    errors = []
    for sample, view0, view1 in samples:
        ends = np.hsplit(sample.matches_N4.astype(float), 2)
        there, back = truth_errors(view0, view1, *ends), truth_errors(view1, view0, *ends[::-1])
        errors.append(np.maximum(there, back))
    every = np.concatenate(errors)
    assert len(every) > 150 * len(samples)
    assert (every > 4).mean() < 0.005
    assert np.median(every) < 0.3


def test_matches_fit_the_geometry_exactly(samples: list[tuple[Sample, View, View]]) -> None:
    """Points triangulated by OpenCV from the true cameras fall on both ends."""
    for sample, *views in samples:
        ends = sample.matches_N4.astype(float).T
        cameras = [view.K @ np.column_stack([view.R, view.t]) for view in views]
        points = cv2.triangulatePoints(*cameras, ends[:2], ends[2:])
        for number, (view, P, seen) in enumerate(
            zip(views, cameras, (ends[:2], ends[2:]), strict=True)
        ):
            image = P @ points
            assert np.abs(image[:2] / image[2] - seen).max() < 0.01
            depth = (view.R @ (points[:3] / points[3]))[2] + view.t[2]
            assert sample.attributes[f"depth{number}"] == pytest.approx(depth, rel=1e-3)
            size = sample.metadata[f"size{number}"]
            assert (seen >= -0.5).all()
            assert (np.array(size) - 0.5 >= seen.T).all()


def test_no_point_is_matched_twice(samples: list[tuple[Sample, View, View]]) -> None:
    for sample, *_ in samples:
        for ends in np.hsplit(sample.matches_N4, 2):
            assert len(np.unique(ends.round(1), axis=0)) > 0.99 * len(ends)
        assert sample.attributes["error"].max() <= 1
        assert sample.attributes["ratio"].max() <= 0.8


def test_cameras_are_in_this_project_s_convention(
    samples: list[tuple[Sample, View, View]],
) -> None:
    for sample, view0, view1 in samples:
        metadata = sample.metadata
        T_1_0 = np.eye(4)
        T_1_0[:3, :3] = view1.R @ view0.R.T
        T_1_0[:3, 3] = view1.t - T_1_0[:3, :3] @ view0.t
        assert np.array(metadata["T_1_0"]) == pytest.approx(T_1_0, abs=1e-9)
        for number, view in enumerate((view0, view1)):
            assert np.array(metadata[f"K{number}"]) == pytest.approx(view.K, abs=1e-9)
            assert metadata[f"size{number}"] == list(view.size)
        assert (metadata["unit"], metadata["kind"]) == ("model", "rigid")
        assert metadata["labels"] == "sift"
        assert 0 < metadata["shift_median"] < 0.3


def test_reduced_images_keep_their_geometry(root: Path, scenes: list[list[View]]) -> None:
    scene = SCENES["train"][0]
    source = config(root, scenes=(scene,), max_side=280, images="rgb-png").open_source()
    sample = source.load(PairRef(f"{scene}-train", "000000", "000001"))
    assert sample.image0.shape == (210, 280, 3)
    assert sample.image1.shape == (228, 280, 3)
    # Back to the size that the truth belongs to.
    scale = np.array([400 / 280, 300 / 210, 380 / 280, 310 / 228])
    ends = np.hsplit((sample.matches_N4 + 0.5) * scale - 0.5, 2)
    errors = truth_errors(scenes[0][0], scenes[0][1], *ends)
    assert np.median(errors) < 0.5
    assert (errors > 4).mean() < 0.02
    pinhole = np.array(sample.metadata["K1"])
    assert pinhole[0, 2] == pytest.approx((scenes[0][1].K[0, 2] + 0.5) * 280 / 380 - 0.5)
    assert pinhole[1, 1] == pytest.approx(scenes[0][1].K[1, 1] * 228 / 310)


def test_shards_hold_what_the_source_makes_and_name_absent_scenes(
    root: Path, tmp_path: Path, samples: list[tuple[Sample, View, View]]
) -> None:
    out = tmp_path / "out"
    manifest = preprocess(config(root, out=str(out), scenes=(), pairs_per_shard=20))
    verify_dataset(str(out))
    dataset = ShardDataset(str(out))
    assert [one.key for one in map(dataset.__getitem__, range(len(dataset)))] == [
        sample.key for sample, *_ in samples
    ]
    assert (dataset[2].matches_N4 == samples[2][0].matches_N4).all()
    assert manifest.totals.skipped == {"absent scene": 60}
    text = json.dumps(json.loads((out / "manifest.json").read_text()))
    assert "western_wall_jerusalem-train" in text


def test_official_lists_share_no_scene() -> None:
    every = [scene for scenes in SCENES.values() for scene in scenes]
    assert {split: len(scenes) for split, scenes in SCENES.items()} == {
        "train": 64,
        "val": 4,
        "test": 4,
    }
    assert len(set(every)) == 72


def write_counts(folder: Path, counts: Array) -> None:
    """A scene of as many images as ``counts`` has rows; only what planning reads."""
    (folder / "visibility").mkdir(parents=True)
    numbers = range(len(counts))
    for name, file in (("images", "a/{}.jpg"), ("calibration", "b/{}.h5")):
        (folder / f"{name}.txt").write_text("".join(file.format(n) + "\n" for n in numbers))
    (folder / "visibility.txt").write_text("".join(f"visibility/{n}.txt\n" for n in numbers))
    for number, row in enumerate(counts):
        np.savetxt(folder / "visibility" / f"{number}.txt", row, fmt="%d")


def test_pairs_share_enough_points_and_are_a_seeded_choice(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 202, (60, 60))
    write_counts(tmp_path / "louvre" / "train", counts)
    expected = [(i, j) for i in range(60) for j in range(i + 1, 60) if counts[i, j] > 100]
    lists = read_scene_lists(tmp_path / "louvre" / "train")
    assert visible_pairs(lists, 100).tolist() == [list(pair) for pair in expected]

    def planned(**values: Any) -> list[tuple[int, int]]:
        pairs = config(tmp_path, **values).open_source().pairs()
        assert {pair.sequence for pair in pairs} == {"louvre-train"}
        return [(int(pair.frame0), int(pair.frame1)) for pair in pairs]

    assert planned() == expected
    some = planned(pairs_per_scene=100)
    assert len(some) == 100
    assert some == sorted(some)
    assert set(some) < set(expected)
    assert planned(pairs_per_scene=100) == some
    assert planned(pairs_per_scene=100, seed=1) != some
    assert len(planned(min_visibility=200)) == sum(counts[i, j] > 200 for i, j in expected)


def test_plan_knows_the_files(root: Path, tmp_path: Path) -> None:
    folder = write_scene(tmp_path)
    first = PairRef("louvre-train", "000000", "000001")

    def inputs() -> list[Any]:
        return config(tmp_path).open_source().inputs(first)

    before = inputs()
    assert json.loads(json.dumps(before)) == [list(one) for one in before]
    assert inputs() == before
    write_calibration(folder / "calibration/calibration_000001.h5", render_scene(1)[1])
    after = inputs()
    assert after[0] == before[0]
    assert after[1] != before[1]
    (folder / "images/00_photo.jpg").unlink()
    assert inputs()[0][1] == -1


Fault = Callable[[Path], object]


def edit(name: str, change: Callable[[str], str]) -> Fault:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(change(path.read_text()))

    return apply


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda folder: (folder / "images.txt").unlink(), "images.txt: no such file"),
        (edit("images.txt", lambda text: text + "images/x.jpg\n"), "4 in images.txt, 3 in cal"),
        (
            edit("visibility.txt", lambda text: text[len("visibility/vis_000000.txt\n") :]),
            "2 in visibility.txt",
        ),
        (edit("images.txt", lambda text: "/etc/passwd\n" + text), "line 1 names no file below"),
        (edit("images.txt", lambda text: "../../x.jpg\n" + text), "line 1 names no file below"),
        (edit("calibration.txt", lambda text: "\n" + text), "line 1 names no file below"),
        (lambda folder: (folder / "images.txt").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (lambda folder: (folder / "visibility/vis_000001.txt").unlink(), "vis_000001.txt: no such"),
        (edit("visibility/vis_000001.txt", lambda text: text + "7\n"), "4 values, where each of 3"),
        (edit("visibility/vis_000001.txt", lambda _: ""), "0 values, where each of 3"),
        (edit("visibility/vis_000001.txt", lambda _: "1 x 3"), "not a list of numbers"),
        (edit("visibility/vis_000001.txt", lambda _: "1 nan 3"), "a negative one or NaN"),
        (edit("visibility/vis_000001.txt", lambda _: "1 -5 3"), "a negative one or NaN"),
    ],
)
def test_a_broken_scene_is_one_line(tmp_path: Path, fault: Fault, message: str) -> None:
    folder = tmp_path / "louvre" / "train"
    write_counts(folder, np.full((3, 3), 200))
    (folder / "visibility.txt").write_text(
        "".join(f"visibility/vis_{n:06d}.txt\n" for n in range(3))
    )
    for number in range(3):
        (folder / f"visibility/{number}.txt").rename(folder / f"visibility/vis_{number:06d}.txt")
    fault(folder)
    with pytest.raises(UserError, match=message) as caught:
        config(tmp_path).open_source().pairs()
    assert "\n" not in str(caught.value)
    assert "louvre" in str(caught.value)


VIEW = render_scene(0)[1]


def calibrated(**changes: Any) -> Fault:
    return lambda folder: write_calibration(
        folder / "calibration/calibration_000001.h5", VIEW, **changes
    )


def cut(name: str, share: float) -> Fault:
    def apply(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return apply


CALIBRATION = "calibration/calibration_000001.h5"
MIRROR = np.diag([1.0, 1, -1])
ABSOLUTE = VIEW.K


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        (lambda folder: (folder / CALIBRATION).unlink(), "missing calibration", "000001.h5"),
        (cut(CALIBRATION, 0.5), "damaged calibration", "000001.h5"),
        (cut(CALIBRATION, 0), "damaged calibration", "no HDF5"),
        (lambda folder: (folder / CALIBRATION).write_text("K"), "damaged calibration", "no HDF5"),
        (calibrated(R=None), "damaged calibration", "no R"),
        (calibrated(imsize=None), "damaged calibration", "no imsize"),
        (calibrated(K=np.eye(2)), "damaged calibration", "no K"),
        (calibrated(K="focal"), "damaged calibration", "no K"),
        (calibrated(T=np.array([0, np.nan, 0])), "damaged calibration", "T is not finite"),
        (calibrated(K=np.zeros((3, 3))), "damaged calibration", "not a camera matrix"),
        (calibrated(K=ABSOLUTE), "damaged calibration", "not relative to the centre"),
        (calibrated(R=MIRROR), "damaged calibration", "not a rotation"),
        (calibrated(R=2 * np.eye(3)), "damaged calibration", "not a rotation"),
        (calibrated(imsize=np.array([0.0, 300])), "damaged calibration", "imsize"),
        (calibrated(imsize=np.array([310.0, 380])), "image size differs", "380x310 and 310x380"),
        (lambda folder: (folder / "images/01_photo.jpg").unlink(), "missing image", "01_photo"),
        (cut("images/01_photo.jpg", 0.6), "damaged image", "01_photo.jpg"),
    ],
)
def test_a_broken_image_skips_its_pairs(
    tmp_path: Path, fault: Fault, reason: str, detail: str, scenes: list[list[View]]
) -> None:
    fault(write_scene(tmp_path, views=scenes[0]))
    source = config(tmp_path).open_source()
    first, _, last = source.pairs()
    for pair in (first, last):
        source.inputs(pair)
        with pytest.raises(SkippedPair) as caught:
            source.load(pair)
        assert caught.value.reason == reason
        assert detail in caught.value.detail
    assert source.load(PairRef("louvre-train", "000000", "000002")).metadata["matches"] > 0


def test_two_photos_from_one_place_are_skipped(tmp_path: Path, scenes: list[list[View]]) -> None:
    view = scenes[0][0]
    source = config(write_scene(tmp_path, views=[view, view]).parents[1]).open_source()
    with pytest.raises(SkippedPair, match="no baseline"):
        source.load(source.pairs()[0])


def test_pairs_without_matches_are_skipped(tmp_path: Path, scenes: list[list[View]]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (310, 380), dtype=np.uint8)
    write_scene(tmp_path, views=[scenes[0][0], replace(scenes[0][1], image=noise)])
    source = config(tmp_path).open_source()
    with pytest.raises(SkippedPair, match="too few matches"):
        source.load(source.pairs()[0])


def write_model(folder: Path, views: list[View], scale: float = 2.0) -> None:
    """COLMAP's text model of all views but what is not given: exact points, in a unit of its own.

    COLMAP counts pixels from the corner of the top-left one.
    """
    rng = np.random.default_rng(0)
    columns, rows = (rng.integers(0, side, 400) for side in views[0].size)
    rays = np.column_stack([columns, rows, np.ones(400)]) @ np.linalg.inv(views[0].K).T
    points = (rays * views[0].depth[rows, columns][:, None] - views[0].t) @ views[0].R
    cameras, images = [], []
    tracks: list[list[str]] = [[] for _ in points]
    for number, view in enumerate(views, 1):
        seen = points @ view.R.T + view.t
        pixels = (seen @ view.K.T)[:, :2] / seen[:, 2:]
        near = np.clip(np.rint(pixels).astype(int), 0, np.array(view.size) - 1)
        visible = np.abs(view.depth[near[:, 1], near[:, 0]] / seen[:, 2] - 1) < 0.003
        visible &= (np.abs(near - pixels) <= 0.5).all(axis=1)
        fx, fy, cx, cy = view.K[0, 0], view.K[1, 1], view.K[0, 2] + 0.5, view.K[1, 2] + 0.5
        width, height = view.size
        cameras.append(f"{number} PINHOLE {width} {height} {fx} {fy} {cx} {cy}")
        x, y, z, w = Rotation.from_matrix(view.R).as_quat()
        pose = " ".join(map(str, [w, x, y, z, *(view.t * scale)]))
        found = np.flatnonzero(visible)
        images.append(f"{number} {pose} {number} {number - 1:02d}_photo.jpg")
        images.append(
            " ".join(
                f"{px + 0.5} {py + 0.5} {i}"
                for i, (px, py) in zip(found, pixels[found], strict=True)
            )
        )
        for place, index in enumerate(found):
            tracks[index].append(f"{number} {place}")
    lines = [
        f"{index} {' '.join(map(str, point * scale))} 9 9 9 0.1 {' '.join(track)}"
        for index, (point, track) in enumerate(zip(points, tracks, strict=True))
    ]
    folder.mkdir(parents=True)
    for name, content in (("cameras", cameras), ("images", images), ("points3D", lines)):
        (folder / f"{name}.txt").write_text("\n".join(content) + "\n")


@pytest.mark.parametrize(("place", "side"), [("train/sparse/0", 1024), ("colmap", 200)])
def test_tracks_of_a_model_are_exact(
    tmp_path: Path, scenes: list[list[View]], place: str, side: int
) -> None:
    write_scene(tmp_path, views=scenes[0])
    write_model(tmp_path / "louvre" / place, scenes[0])
    source = config(tmp_path, max_side=side).open_source()
    for pair in source.pairs():
        sample = source.load(pair)
        metadata = sample.metadata
        assert metadata["labels"] == "tracks"
        view0, view1 = (scenes[0][int(frame)] for frame in pair[1:])
        T_1_0 = np.eye(4)
        T_1_0[:3, :3] = view1.R @ view0.R.T
        T_1_0[:3, 3] = 2 * (view1.t - T_1_0[:3, :3] @ view0.t)
        assert np.array(metadata["T_1_0"]) == pytest.approx(T_1_0, abs=1e-6)
        ends0, ends1 = np.hsplit(sample.matches_N4.astype(float), 2)
        rays = np.column_stack([ends0, np.ones(len(ends0))]) @ np.linalg.inv(metadata["K0"]).T
        moved = (rays * sample.attributes["depth0"][:, None]) @ T_1_0[:3, :3].T + T_1_0[:3, 3]
        image = moved @ np.array(metadata["K1"]).T
        assert np.abs(image[:, :2] / image[:, 2:] - ends1).max() < 0.01
        assert moved[:, 2] == pytest.approx(sample.attributes["depth1"], rel=1e-4)
        width, height = metadata["size0"]
        assert max(width, height) == min(side, max(view0.size))
        full = (ends0 + 0.5) * np.array(view0.size) / [width, height] - 0.5
        full1 = (ends1 + 0.5) * np.array(view1.size) / metadata["size1"] - 0.5
        assert np.median(truth_errors(view0, view1, full, full1)) < 0.1


def test_images_that_a_model_lacks_have_sift_matches(
    tmp_path: Path, scenes: list[list[View]]
) -> None:
    write_scene(tmp_path, views=scenes[0])
    first, _, last = config(tmp_path).open_source().pairs()
    before = config(tmp_path).open_source().inputs(first)
    write_model(tmp_path / "louvre" / "train" / "colmap", scenes[0][:2])
    source = config(tmp_path).open_source()
    assert source.inputs(first) != before
    assert source.load(first).metadata["labels"] == "tracks"
    assert source.load(last).metadata["labels"] == "sift"
    assert config(tmp_path, labels="sift").open_source().inputs(first) == before
    alone = config(tmp_path, labels="tracks").open_source()
    assert alone.load(first).metadata["labels"] == "tracks"
    with pytest.raises(SkippedPair, match=r"not in the model: images/02_photo.jpg"):
        alone.load(last)


def test_faults_of_models(tmp_path: Path, scenes: list[list[View]]) -> None:
    folder = write_scene(tmp_path, views=scenes[0])
    with pytest.raises(UserError, match="louvre/train: no COLMAP model in sparse or colmap"):
        config(tmp_path, labels="tracks").open_source()
    larger = [replace(view, image=np.pad(view.image, ((0, 5), (0, 5)))) for view in scenes[0]]
    write_model(
        folder / "colmap", [replace(v, depth=np.pad(v.depth, ((0, 5), (0, 5)))) for v in larger]
    )
    source = config(tmp_path).open_source()
    with pytest.raises(SkippedPair, match=r"image size differs: images/00_photo.jpg"):
        source.load(source.pairs()[0])
    (folder / "colmap" / "points3D.txt").write_text("1 2 x\n")
    with pytest.raises(UserError, match=r"points3D\.txt"):
        config(tmp_path).open_source().load(source.pairs()[0])
    (folder / "colmap" / "points3D.txt").unlink()
    with pytest.raises(UserError, match="colmap"):
        config(tmp_path).open_source().inputs(source.pairs()[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenes": ("nowhere",)}, "nowhere/train: no such folder"),
        ({"scenes": (), "split": "test"}, "buckingham_palace/test: no such folder"),
        ({"split": "all"}, "no folder of a scene is called all"),
        ({"scenes": ("../etc",)}, "scenes"),
        ({"root": "/nowhere"}, "/nowhere: no such folder"),
        ({"min_visibility": 500}, "lower --min-visibility"),
        ({"max_ratio": 1.5}, "max_ratio"),
    ],
)
def test_wrong_options_are_one_line(root: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        YfccConfig(
            **({"root": str(root), "out": "x", "scenes": SCENES["train"][:1]} | values)
        ).open_source().pairs()
    assert "\n" not in str(caught.value)
