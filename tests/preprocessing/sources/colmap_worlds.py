"""Random models in COLMAP's formats, and the matches that they should give."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.preprocessing.sources.colmap_lenses import MODELS, plain
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.sources.sfm.colmap import ColmapConfig

W, H = 120, 90


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
