"""COLMAP's database, read back with plain SQL."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from ucn.errors import UserError
from ucn.evaluation.export.colmap_database import check_database, pair_id, write_database
from ucn.evaluation.export.match import ImageMatches
from ucn.evaluation.export.pairs import PairMatches

SIZES = {"a.png": (64, 48), "b/b.png": (50, 70), "c.png": (30, 40)}


def random_pair(name0: str, name1: str, seed: int, count: int = 20) -> PairMatches:
    """Matches whose ends all differ."""
    rng = np.random.default_rng(seed)
    ends = [rng.permutation(30 * 40)[:count] for _ in range(2)]
    matches = np.concatenate([np.stack([end % 30, end // 30], axis=1) for end in ends], axis=1)
    matches = matches.astype(np.float32) + rng.random((count, 4), np.float32) / 2
    found = ImageMatches(matches, np.sort(rng.random(count).astype(np.float32))[::-1])
    return PairMatches((name0, name1), (SIZES[name0], SIZES[name1]), found)


def query(path: Path, text: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(text, values).fetchall()


def change(path: Path, text: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(text, values)


def read_image(path: Path, name: str) -> tuple[int, np.ndarray]:
    ((image_id, rows, columns, data),) = query(
        path,
        "SELECT image_id, rows, cols, data FROM images JOIN keypoints USING (image_id) "
        "WHERE name = ?",
        name,
    )
    return image_id, np.frombuffer(data, np.float32).reshape(rows, columns)


def read_pair(path: Path, name0: str, name1: str) -> set[tuple]:
    """Matches of a pair as pixels of COLMAP, whatever the order of its ids."""
    (id0, keypoints0), (id1, keypoints1) = (read_image(path, name) for name in (name0, name1))
    number = 2147483647 * min(id0, id1) + max(id0, id1)
    ((rows, columns, data),) = query(
        path, "SELECT rows, cols, data FROM matches WHERE pair_id = ?", number
    )
    assert columns == 2
    matches = np.frombuffer(data, np.uint32).reshape(rows, 2)
    if id0 > id1:
        matches = matches[:, ::-1]
    ends = keypoints0[matches[:, 0], :2], keypoints1[matches[:, 1], :2]
    return set(map(tuple, np.concatenate(ends, axis=1)))


def expected(pair: PairMatches) -> set[tuple]:
    return set(map(tuple, pair.found.matches_N4 + np.float32(0.5)))


def test_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    pairs = [random_pair("a.png", "b/b.png", 0), random_pair("c.png", "a.png", 1)]
    write_database(path, pairs, 0)
    for pair in pairs:
        assert read_pair(path, *pair.names) == expected(pair)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.db"]
    assert query(path, "PRAGMA user_version") == [(3900,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []
    assert query(path, "SELECT count(*) FROM two_view_geometries") == [(0,)]
    cameras = query(
        path,
        "SELECT name, model, width, height, params, prior_focal_length FROM cameras "
        "JOIN images USING (camera_id)",
    )
    assert len(cameras) == 3
    for name, model, width, height, params, is_prior in cameras:
        assert (model, (width, height), is_prior) == (2, SIZES[name], 0)
        camera = [1.2 * max(width, height), width / 2, height / 2, 0]
        np.testing.assert_allclose(np.frombuffer(params, np.float64), camera)
    # The pair "c.png", "a.png" has its ids in the other order.
    assert read_image(path, "a.png")[0] < read_image(path, "c.png")[0]


def test_pairs_are_added_to_a_database(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    first, second = random_pair("a.png", "b/b.png", 0), random_pair("b/b.png", "c.png", 1)
    shared = second.found.matches_N4.copy()
    shared[:5, :2] = first.found.matches_N4[:5, 2:]
    second = PairMatches(second.names, second.sizes, ImageMatches(shared, second.found.scores_N))
    write_database(path, [first], 0)
    before = read_image(path, "b/b.png")[1]
    write_database(path, [second], 0)
    after = read_image(path, "b/b.png")[1]
    np.testing.assert_array_equal(after[: len(before)], before)
    assert len(after) == 20 + 15
    for pair in (first, second):
        assert read_pair(path, *pair.names) == expected(pair)
    # The same once more changes nothing.
    write_database(path, [second, first], 0)
    np.testing.assert_array_equal(read_image(path, "b/b.png")[1], after)
    assert query(path, "SELECT count(*) FROM matches") == [(2,)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.db"]


def test_a_pair_that_is_there_is_replaced_with_its_geometry(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    old, new = random_pair("a.png", "c.png", 0), random_pair("c.png", "a.png", 1)
    write_database(path, [old], 0)
    numbers = [pair_id(1, 2), pair_id(7, 8)]
    for number in numbers:
        change(
            path,
            "INSERT INTO two_view_geometries VALUES(?, 0, 2, x'', 3" + ", NULL" * 5 + ")",
            number,
        )
    write_database(path, [new], 0)
    assert read_pair(path, "a.png", "c.png") == {(*row[2:], *row[:2]) for row in expected(new)}
    assert query(path, "SELECT pair_id FROM two_view_geometries") == [(numbers[1],)]


def test_the_best_match_of_a_keypoint_is_kept(tmp_path: Path) -> None:
    matches = np.float32([[1, 2, 30, 40], [5, 6, 30, 40], [7, 8, 3, 4]])
    found = ImageMatches(matches, np.float32([0.9, 0.8, 0.7]))
    write_database(
        tmp_path / "m.db", [PairMatches(("a.png", "c.png"), ((64, 48), (30, 40)), found)], 0
    )
    rows = read_pair(tmp_path / "m.db", "a.png", "c.png")
    assert rows == set(map(tuple, matches[[0, 2]] + np.float32(0.5)))


def test_a_pair_without_matches_is_kept_as_such(tmp_path: Path) -> None:
    write_database(tmp_path / "m.db", [random_pair("a.png", "c.png", 0, count=0)], 0)
    assert read_pair(tmp_path / "m.db", "a.png", "c.png") == set()


@pytest.mark.parametrize(("columns", "shape"), [(4, [1, 0]), (6, [1, 0, 0, 1])])
def test_keypoints_with_shapes_are_extended(tmp_path: Path, columns: int, shape: list[int]) -> None:
    path = tmp_path / "m.db"
    write_database(path, [random_pair("a.png", "b/b.png", 0)], 0)
    image_id, keypoints = read_image(path, "b/b.png")
    rest = np.random.default_rng(3).random((len(keypoints), columns - 2), np.float32)
    known = np.concatenate([keypoints, rest], axis=1)
    known[3] = known[2]
    change(
        path,
        "UPDATE keypoints SET cols = ?, data = ? WHERE image_id = ?",
        *(columns, known.tobytes(), image_id),
    )
    pair = random_pair("b/b.png", "c.png", 1)
    write_database(path, [pair], 0)
    extended = read_image(path, "b/b.png")[1]
    np.testing.assert_array_equal(extended[: len(known)], known)
    np.testing.assert_array_equal(extended[len(known) :, 2:], [shape] * 20)
    assert read_pair(path, *pair.names) == expected(pair)


def test_images_join_the_frames_of_later_versions(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    write_database(path, [random_pair("a.png", "b/b.png", 0)], 0)
    for table in (
        "rigs(rig_id INTEGER PRIMARY KEY, ref_sensor_id INTEGER, ref_sensor_type INTEGER)",
        "frames(frame_id INTEGER PRIMARY KEY, rig_id INTEGER)",
        "frame_data(frame_id INTEGER, data_id INTEGER, sensor_id INTEGER, sensor_type INTEGER)",
    ):
        change(path, f"CREATE TABLE {table}")
    # Brought up to date, but without frames: an image with one would be the only one.
    write_database(path, [random_pair("a.png", "b/b.png", 0)], 0)
    assert query(path, "SELECT * FROM frame_data") == []
    change(path, "INSERT INTO rigs VALUES (5, 1, 0)")
    change(path, "INSERT INTO frames VALUES (6, 5)")
    change(path, "INSERT INTO frame_data VALUES (6, 1, 1, 0)")
    write_database(path, [random_pair("b/b.png", "c.png", 1)], 0)
    ((image_id, camera_id),) = query(
        path, "SELECT image_id, camera_id FROM images WHERE name = 'c.png'"
    )
    joined = query(
        path,
        "SELECT data_id, sensor_id, sensor_type, ref_sensor_id, ref_sensor_type FROM frame_data "
        "JOIN frames USING (frame_id) JOIN rigs USING (rig_id) WHERE rig_id > 5",
    )
    assert joined == [(image_id, camera_id, 0, camera_id, 0)]


def test_other_files_are_refused_and_stay(tmp_path: Path) -> None:
    pair = random_pair("a.png", "c.png", 0)
    contents = {"text.db": b"not a database, but long enough " * 40, "empty.db": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    change(tmp_path / "other.db", "CREATE TABLE images(x)")
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        with pytest.raises(UserError, match=f"{path.name}: no COLMAP database"):
            write_database(path, [pair], 0)
        assert path.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 3


def test_what_would_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    write_database(path, [random_pair("a.png", "b/b.png", 0)], 0)
    change(path, "INSERT INTO descriptors VALUES (1, 20, 128, x'')")
    before = path.read_bytes()
    small = PairMatches(
        ("c.png", "b/b.png"), ((30, 40), (50, 71)), random_pair("c.png", "a.png", 1).found
    )
    with pytest.raises(
        UserError, match=r"holds b/b.png with 50 x 70 pixels, the photo has 50 x 71"
    ):
        write_database(path, [small], 0)
    with pytest.raises(UserError, match=r"a.png has descriptors, which more keypoints would lack"):
        write_database(path, [random_pair("a.png", "c.png", 2)], 0)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA user_version = 3900")
        with pytest.raises(UserError, match="is open in another program"):
            write_database(path, [random_pair("b/b.png", "c.png", 2)], 0)
        database.execute("PRAGMA journal_mode = DELETE")
    assert query(path, "SELECT count(*) FROM images") == [(2,)]
    assert len(before) == len(path.read_bytes())
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.db"]


def test_photos_that_a_database_cannot_take_are_refused_beforehand(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    write_database(path, [random_pair("a.png", "c.png", 0)], 0)
    photos = {name: tmp_path / name for name in ("a.png", "c.png", "new.png")}
    for name, photo in photos.items():
        width, height = SIZES.get(name, (20, 20))
        cv2.imwrite(str(photo), np.zeros((height, width), np.uint8))
    check_database(path, photos)
    cv2.imwrite(str(photos["c.png"]), np.zeros((41, 30), np.uint8))
    with pytest.raises(UserError, match=r"holds c.png with 30 x 40 pixels, the photo has 30 x 41"):
        check_database(path, photos)
    del photos["c.png"]
    change(path, "INSERT INTO descriptors VALUES (1, 20, 128, x'')")
    with pytest.raises(UserError, match=r"a.png has descriptors"):
        check_database(path, photos)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_the_log_of_a_killed_program_is_completed(tmp_path: Path, mode: str) -> None:
    """A transaction that was committed stays, one that was not is rolled back."""
    path = tmp_path / "m.db"
    write_database(path, [random_pair("a.png", "b/b.png", 0)], 0)
    script = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA journal_mode = ' + sys.argv[2])\n"
        "database.execute('UPDATE cameras SET prior_focal_length = 7')\n"
        "database.execute('PRAGMA cache_size = 1')\n"
        "database.execute('BEGIN')\n"
        "database.execute('UPDATE cameras SET prior_focal_length = 8')\n"
        "database.execute('CREATE TABLE large AS SELECT randomblob(1000000)')\n"
        "os._exit(1)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, path, mode], check=False).returncode == 1
    assert len(list(tmp_path.iterdir())) > 1
    write_database(path, [random_pair("b/b.png", "c.png", 2)], 0)
    assert query(path, "SELECT prior_focal_length FROM cameras") == [(7,), (7,), (0,)]
    assert query(path, "SELECT count(*) FROM sqlite_master WHERE name = 'large'") == [(0,)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.db"]


@pytest.mark.parametrize(("ids", "number"), [((1, 2), 2147483649), ((2, 1), 2147483649)])
def test_the_number_of_a_pair(ids: tuple[int, int], number: int) -> None:
    assert pair_id(*ids) == number
    with pytest.raises(ValueError, match="no pair with itself"):
        pair_id(3, 3)
