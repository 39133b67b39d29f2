"""The yfcc source with a COLMAP model beside a scene: exact tracks instead of SIFT's matches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.preprocessing.sources.yfcc_scenes import (
    View,
    config,
    render_scene,
    truth_errors,
    write_scene,
)
from ucn.errors import SkippedPair, UserError


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


VIEWS = render_scene(0)


@pytest.mark.parametrize(("place", "side"), [("train/sparse/0", 1024), ("colmap", 200)])
def test_tracks_of_a_model_are_exact(tmp_path: Path, place: str, side: int) -> None:
    write_scene(tmp_path, views=VIEWS)
    write_model(tmp_path / "louvre" / place, VIEWS)
    source = config(tmp_path, max_side=side).open_source()
    for pair in source.pairs():
        sample = source.load(pair)
        metadata = sample.metadata
        assert metadata["labels"] == "tracks"
        view0, view1 = (VIEWS[int(frame)] for frame in pair[1:])
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


def test_images_that_a_model_lacks_have_sift_matches(tmp_path: Path) -> None:
    write_scene(tmp_path, views=VIEWS)
    first, _, last = config(tmp_path).open_source().pairs()
    before = config(tmp_path).open_source().input_fingerprint(first)
    write_model(tmp_path / "louvre" / "train" / "colmap", VIEWS[:2])
    source = config(tmp_path).open_source()
    assert source.input_fingerprint(first) != before
    assert source.load(first).metadata["labels"] == "tracks"
    assert source.load(last).metadata["labels"] == "sift"
    assert config(tmp_path, labels="sift").open_source().input_fingerprint(first) == before
    alone = config(tmp_path, labels="tracks").open_source()
    assert alone.load(first).metadata["labels"] == "tracks"
    with pytest.raises(SkippedPair, match=r"not in the model: images/02_photo.jpg"):
        alone.load(last)


def test_faults_of_models(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, views=VIEWS)
    with pytest.raises(UserError, match="louvre/train: no COLMAP model in sparse or colmap"):
        config(tmp_path, labels="tracks").open_source()
    larger = [replace(view, image=np.pad(view.image, ((0, 5), (0, 5)))) for view in VIEWS]
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
        config(tmp_path).open_source().input_fingerprint(source.pairs()[0])
