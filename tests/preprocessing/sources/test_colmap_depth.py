"""The colmap source on depth maps, COLMAP's and MegaDepth's."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.preprocessing.sources.colmap_worlds import (
    H,
    W,
    World,
    config,
    make_world,
    write_scene,
    write_text,
)
from ucn.errors import SkippedPair, UserError
from ucn.preprocessing.sample import Sample


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
    assert len(source.input_fingerprint(pair)) == 5
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
