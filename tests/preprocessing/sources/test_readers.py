"""Readers hold what tasks need: they load the same samples once listings and models are gone."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.preprocessing.sources import (
    colmap_worlds,
    test_bundler,
    test_colmap_depth,
    test_flow_folder,
    test_homography_source,
    test_keypoint_sources,
    test_kitti_flow,
    test_planar_sources,
    test_sintel,
    test_yfcc_models,
    yfcc_scenes,
)
from ucn.errors import SkippedPair
from ucn.preprocessing.sources.base import CompiledSource, PairReader, PairRef
from ucn.preprocessing.sources.keypoints.cub import CubConfig
from ucn.preprocessing.sources.keypoints.pascal import PascalConfig
from ucn.preprocessing.sources.sfm.pairs import SfmSource


def outcome(reader: PairReader, pair: PairRef) -> Any:
    """The bytes of a sample, or why there is none."""
    try:
        sample = reader.load(pair)
    except SkippedPair as skipped:
        return reader.key(pair), skipped.reason, skipped.detail
    arrays = sample.image0, sample.image1, sample.matches_N4, *sample.attributes.values()
    return (
        sample.key,
        sample.metadata,
        list(sample.attributes),
        [(array.dtype, array.shape, array.tobytes()) for array in arrays],
    )


def check_reader(config: Any, *gone: Path) -> list[Any]:
    """Compares a reader without the files ``gone`` with the source. Returns the outcomes."""
    source = config.open_source()
    assert isinstance(source, CompiledSource)
    pairs = source.pairs()
    expected = [outcome(source, pair) for pair in pairs]
    data = pickle.dumps(source.reader(pairs))
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    reader = pickle.loads(data)
    assert [outcome(reader, pair) for pair in pairs] == expected
    return expected


@pytest.mark.parametrize("undistort", [True, False])
def test_colmap_tracks(tmp_path: Path, undistort: bool) -> None:
    world = colmap_worlds.make_world(1, "OPENCV", images=5)
    world.images[2].t[0] = float("nan")
    root = colmap_worlds.write_scene(tmp_path, world)
    (root / "images" / world.images[0].name).unlink()
    config = colmap_worlds.config(root, undistort=undistort, max_angle=180)
    found = check_reader(config, root / "sparse")
    assert {row[1] for row in found if len(row) == 3} == {"damaged pose", "missing image"}
    assert any(len(row) == 4 for row in found)


def test_depth_maps(tmp_path: Path) -> None:
    world = colmap_worlds.make_world(1, "PINHOLE")
    test_colmap_depth.write_workspace(tmp_path, world)
    check_reader(colmap_worlds.config(tmp_path, dense=True), tmp_path / "sparse")


def test_bundler_tracks(tmp_path: Path) -> None:
    root = test_bundler.write_scene(tmp_path, test_bundler.make_world(1, lost=(2,)))
    check_reader(test_bundler.config(root), root / "bundle")


def test_a_reader_has_the_images_and_the_shared_points_of_its_pairs(tmp_path: Path) -> None:
    world = colmap_worlds.make_world(1, "PINHOLE", images=6)
    root = colmap_worlds.write_scene(tmp_path, world)
    source = colmap_worlds.config(root, max_angle=180).open_source()
    pair = source.pairs()[0]
    assert isinstance(source, SfmSource)
    (model,) = source.reader([pair]).models.values()
    assert [image.name for image in model.images] == [pair.frame0, pair.frame1]
    seen0, seen1 = (set(one.points) for one in world.images if one.name in pair[1:])
    assert set(model.tracks_P) == (seen0 & seen1) - {-1}


def test_kitti_flow_pairs(tmp_path: Path) -> None:
    root = test_kitti_flow.write_2015(tmp_path, 0, 1, 2)
    (root / "calib_cam_to_cam/000001.txt").unlink()
    found = check_reader(test_kitti_flow.config(root), root / "calib_cam_to_cam")
    assert [row[1:] for row in found if len(row) == 3] == [
        ("missing calibration", "calib_cam_to_cam/000001.txt")
    ]


def test_sintel_frames(tmp_path: Path) -> None:
    test_sintel.write_sequence(tmp_path, "alley_1", 4, cameras=True)
    (tmp_path / "camdata_left/alley_1/frame_0001.cam").write_bytes(b"PIEH")
    found = check_reader(test_sintel.config(tmp_path), tmp_path / "camdata_left")
    assert [row[1] for row in found if len(row) == 3] == ["damaged camera"] * 2


def test_hpatches_scenes(tmp_path: Path) -> None:
    scene = test_planar_sources.write_hpatches(tmp_path, "v_one")
    check_reader(test_planar_sources.hpatches(tmp_path), *scene.glob("H_*"))


def test_birds(tmp_path: Path) -> None:
    test_keypoint_sources.write_birds(tmp_path)
    config = CubConfig(root=str(tmp_path), out="unused")
    check_reader(config, *tmp_path.glob("*.txt"), tmp_path / "parts")


def test_pascal_objects(tmp_path: Path) -> None:
    test_keypoint_sources.write_objects(tmp_path)
    path = tmp_path / "annotations/aeroplane/2008_000001_1.xml"
    path.write_text(path.read_text()[:60])
    config = PascalConfig(root=str(tmp_path), out="unused")
    found = check_reader(config, tmp_path / "annotations", tmp_path / "ImageSets")
    assert [row[1] for row in found if len(row) == 3] == ["damaged annotation"] * 2


def test_views_of_photos(tmp_path: Path) -> None:
    for name in ("a.png", "copy.png"):
        test_homography_source.write_photo(tmp_path / name)
    found = check_reader(test_homography_source.make_config(tmp_path))
    assert [row[1] for row in found if len(row) == 3] == ["duplicate photo"]


def test_a_listed_flow_pair(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        test_flow_folder.write_photo(tmp_path / name)
    test_flow_folder.write_flo(tmp_path / "ab.flo", 1, 0)
    (tmp_path / "pairs.txt").write_text("a.png b.png ab.flo\n")
    check_reader(test_flow_folder.config(tmp_path, min_matches=1), tmp_path / "pairs.txt")


def test_photos_with_sift_and_with_tracks(tmp_path: Path) -> None:
    views = test_yfcc_models.VIEWS
    phase = yfcc_scenes.write_scene(tmp_path, views=views)
    test_yfcc_models.write_model(phase / "sparse", views[:2])
    gone = phase / "sparse", phase / "calibration", *phase.glob("*.txt")
    found = check_reader(yfcc_scenes.config(tmp_path), *gone)
    assert [row[1]["labels"] for row in found] == ["tracks", "sift", "sift"]
