"""Match files of real photos, read by COLMAP and in hloc's way, with the poses known.

The photos are of the Lund door sequence, whose reconstruction by COLMAP is the reference.
"""

from pathlib import Path

import h5py
import numpy as np
import pycolmap
import pytest

from ucn.evaluation.export.config import MatchOptions
from ucn.pipeline.match import match_photos

NAMES = ["DSC_0003.JPG", "DSC_0004.JPG", "DSC_0005.JPG"]
PAIRS = [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[2]), (NAMES[2], NAMES[0])]


@pytest.fixture(scope="module")
def door(shared_data: Path) -> Path:
    return shared_data / "colmap" / "lund_door"


@pytest.fixture(scope="module")
def reference(door: Path, tmp_path_factory: pytest.TempPathFactory) -> pycolmap.Reconstruction:
    """The camera and the poses of the photos, without points."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "cameras.txt").write_text((door / "sparse" / "cameras.txt").read_text())
    (folder / "points3D.txt").write_text("")
    lines = (door / "sparse" / "images.txt").read_text().splitlines()
    poses = [line for line in lines if line.split()[-1:] in ([name] for name in NAMES)]
    (folder / "images.txt").write_text("".join(f"{line}\n\n" for line in poses))
    return pycolmap.Reconstruction(str(folder))


@pytest.fixture(scope="module")
def files(
    door: Path, reference: pycolmap.Reconstruction, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """m.h5, m-keypoints.h5, and m.db, which had the photos and the camera before."""
    folder = tmp_path_factory.mktemp("door")
    with pycolmap.Database.open(str(folder / "m.db")) as database:
        for camera in reference.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for rig in reference.rigs.values():
            database.write_rig(rig, use_rig_id=True)
        for frame in reference.frames.values():
            database.write_frame(frame, use_frame_id=True)
        for image in reference.images.values():
            database.write_image(image, use_image_id=True)
    for name in ("m.db", "m.h5"):
        match_photos(
            PAIRS,
            door / "images",
            "shipped",
            MatchOptions(keypoints=400, reciprocity_px=2.0),
            save=None,
            out=folder / name,
            max_side=800,
            device="cpu",
        )
    return folder


def test_colmap_triangulates_the_matches(
    files: Path, door: Path, reference: pycolmap.Reconstruction, tmp_path: Path
) -> None:
    (tmp_path / "pairs.txt").write_text("".join(f"{a} {b}\n" for a, b in PAIRS))
    pycolmap.verify_matches(str(files / "m.db"), str(tmp_path / "pairs.txt"))
    found = pycolmap.triangulate_points(
        reference, str(files / "m.db"), str(door / "images"), str(tmp_path)
    )
    # COLMAP leaves out tracks over two photos: these pairs share keypoints.
    assert found.num_points3D() > 100
    assert found.compute_mean_reprojection_error() < 0.8


def test_hloc_indexes_keypoints_that_satisfy_the_epipolar_constraint(
    files: Path, reference: pycolmap.Reconstruction
) -> None:
    images = {image.name: image for image in reference.images.values()}
    with h5py.File(files / "m.h5") as matches, h5py.File(files / "m-keypoints.h5") as keypoints:
        for name0, name1 in PAIRS:
            matches0 = matches[name0][name1]["matches0"][()]
            rows = np.flatnonzero(matches0 > -1)
            assert len(rows) > 200
            ends = zip((name0, name1), (rows, matches0[rows]), strict=True)
            # hloc adds 0.5 px: COLMAP has (0.5, 0.5) at the centre of the first pixel.
            x0_N3, x1_N3 = (
                homogeneous(
                    images[name].camera.cam_from_img(
                        keypoints[name]["keypoints"][()][chosen].astype(np.float64) + 0.5
                    )
                )
                for name, chosen in ends
            )
            T_1_0 = images[name1].cam_from_world() * images[name0].cam_from_world().inverse()
            R, (x, y, z) = T_1_0.rotation.matrix(), T_1_0.translation
            E = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ R
            line1_N3 = x0_N3 @ E.T
            distance_N = np.abs((x1_N3 * line1_N3).sum(axis=1)) / np.hypot(*line1_N3[:, :2].T)
            error_px = distance_N * images[name1].camera.focal_length
            assert np.median(error_px) < 1.0


def homogeneous(points_N2: np.ndarray) -> np.ndarray:
    return np.concatenate([points_N2, np.ones((len(points_N2), 1))], axis=1)
