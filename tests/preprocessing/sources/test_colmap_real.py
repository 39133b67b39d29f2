"""The colmap source on a real model, beside COLMAP's own library and the model's photographs."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.preprocessing.sources.colmap_worlds import config
from tests.preprocessing.sources.patch_similarity import similarities
from ucn.preprocessing.sources.sfm.colmap_files import read_colmap_model


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
    assert np.median(similarities((sample.image0, sample.image1), some)) > 0.85
