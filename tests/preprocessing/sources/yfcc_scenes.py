"""Scenes in OANet's layout, rendered from real textures with exact truth."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from skimage import data

from ucn.preprocessing.sources.yfcc.source import YfccConfig

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


@cache
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


def write_counts(folder: Path, counts: Array) -> None:
    """A scene of as many images as ``counts`` has rows; only what planning reads."""
    (folder / "visibility").mkdir(parents=True)
    numbers = range(len(counts))
    for name, file in (("images", "a/{}.jpg"), ("calibration", "b/{}.h5")):
        (folder / f"{name}.txt").write_text("".join(file.format(n) + "\n" for n in numbers))
    (folder / "visibility.txt").write_text("".join(f"visibility/{n}.txt\n" for n in numbers))
    for number, row in enumerate(counts):
        np.savetxt(folder / "visibility" / f"{number}.txt", row, fmt="%d")
