"""The colmap source: every camera model against its formula, layouts, choice of pairs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.preprocessing.sources.colmap_lenses import MODELS
from tests.preprocessing.sources.colmap_worlds import (
    H,
    W,
    World,
    check_sample,
    config,
    make_world,
    write_scene,
)
from ucn.errors import UserError
from ucn.geometry.sfm_model import SfmModel
from ucn.preprocessing.sources.sfm.colmap_cameras import pinhole_like_models
from ucn.preprocessing.sources.sfm.colmap_files import read_colmap_model


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
    before = source.input_fingerprint(pair)
    (root / "images" / pair.frame0).write_bytes(b"x")
    after = config(root).open_source().input_fingerprint(pair)
    assert after == [before[0], [pair.frame0, 1], before[2]]
    file = root / "sparse/points3D.txt"
    file.write_text(file.read_text() + "# more\n")
    assert config(root).open_source().input_fingerprint(pair)[0] != before[0]


def test_each_model_is_read_once_in_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scene in "abc":
        write_scene(tmp_path / scene, make_world(1, "PINHOLE"))
    read = []

    def counted(folder: Path) -> SfmModel:
        read.append(folder)
        return read_colmap_model(folder)

    monkeypatch.setattr("ucn.preprocessing.sources.sfm.colmap.read_colmap_model", counted)
    source = config(tmp_path).open_source()
    pairs = source.pairs()
    assert len({source.key(pair) for pair in pairs}) == 9
    assert len([source.input_fingerprint(pair) for pair in pairs]) == 9
    assert len(read) == 3
