"""COLMAP's database: photos, keypoints and matches, for verification and mapping by COLMAP.

The tables are those of COLMAP 3.9 (``src/colmap/scene/database.cc``), which later versions open and
upgrade. Upgraded databases can also be extended. Two-view geometries are left to COLMAP (``colmap
geometric_verifier``).
"""

import errno
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ucn.errors import UserError
from ucn.evaluation.export.pairs import PairMatches, Rows, merge_keypoints, unique_matches
from ucn.images.read import image_size
from ucn.matching.descriptors import Floats
from ucn.storage.files import atomic_path

USER_VERSION = 3900
"""Version number of COLMAP 3.9; later versions upgrade older databases."""
MAX_IMAGES = 2147483647
"""Upper bound of image ids. The id of a pair is MAX_IMAGES * smaller id + larger id."""
SIMPLE_RADIAL = 2
"""Id of the camera model with parameters f, cx, cy, k."""
FOCAL_PRIOR = 1.2
"""COLMAP's default focal length, as a multiple of the longer image side."""
CAMERA_SENSOR = 0

TABLES = {
    "cameras": """camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL,
        width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB,
        prior_focal_length INTEGER NOT NULL""",
    "images": f"""image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE,
        camera_id INTEGER NOT NULL, prior_qw REAL, prior_qx REAL, prior_qy REAL, prior_qz REAL,
        prior_tx REAL, prior_ty REAL, prior_tz REAL,
        CONSTRAINT image_id_check CHECK(image_id >= 0 and image_id < {MAX_IMAGES}),
        FOREIGN KEY(camera_id) REFERENCES cameras(camera_id)""",
    "keypoints": """image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
        cols INTEGER NOT NULL, data BLOB,
        FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE""",
    "descriptors": """image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
        cols INTEGER NOT NULL, data BLOB,
        FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE""",
    "matches": """pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
        cols INTEGER NOT NULL, data BLOB""",
    "two_view_geometries": """pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
        cols INTEGER NOT NULL, data BLOB, config INTEGER NOT NULL,
        F BLOB, E BLOB, H BLOB, qvec BLOB, tvec BLOB""",
}


def write_database(path: Path, pairs: Sequence[PairMatches], merge_px: float) -> None:
    """Writes matches to a new COLMAP database, or adds them to an existing one, atomically.

    Photos are found by name. A new photo gets its own SIMPLE_RADIAL camera. Existing keypoints of
    a photo are kept, and new ones are appended. If a keypoint has several matches, the best is
    kept. An existing pair is replaced, and its two-view geometry, now invalid, is deleted.

    Args:
        path: path of the database.
        pairs: matches in pixels, with (0, 0) at the centre of the top-left pixel; COLMAP has
            (0.5, 0.5) there.
        merge_px: see `MatchOptions`.

    Raises:
        UserError: the file is not a COLMAP database, is open elsewhere, has a photo of the same
            name with another size, or has descriptors, which new keypoints would lack.
    """
    check_database(path, {})
    with (
        atomic_path(path) as temporary,
        _explained(path),
        closing(_start(path, temporary)) as database,
        database,
    ):
        for pair in pairs:
            _add_pair(database, path, pair, merge_px)


def check_database(path: Path, photos: Mapping[str, Path]) -> None:
    """Checks before the matching whether :func:`write_database` can add photos to a database.

    SQLite completes or rolls back what a killed program has left beside the file (``-wal``,
    ``-journal``).

    Args:
        path: path of the database; nothing is checked if it does not exist.
        photos: file of each photo, by name.

    Raises:
        UserError: the file is not a COLMAP database, is open in another program, or has a photo
            with descriptors or of another size.
    """
    if not path.exists():
        return
    with _explained(path), closing(sqlite3.connect(path)) as database:
        if set(TABLES) - _tables(database):
            raise UserError(f"{path}: no COLMAP database; choose another --out")
        for name, photo in photos.items():
            if known := _find_image(database, name):
                _check_size(path, name, known[1], image_size(photo))
                _check_descriptors(database, path, known[0], name)
    # The last program to close a database deletes these files.
    if any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal")):
        raise UserError(f"{path}: is open in another program; close it there first")


def pair_id(image_id0: int, image_id1: int) -> int:
    """COLMAP's id of a pair, independent of the order.

    Raises:
        ValueError: both images are the same.
    """
    if image_id0 == image_id1:
        raise ValueError(f"image {image_id0} makes no pair with itself")
    return MAX_IMAGES * min(image_id0, image_id1) + max(image_id0, image_id1)


def _start(path: Path, temporary: Path) -> sqlite3.Connection:
    """Copies the existing database, or creates an empty one."""
    if not path.exists():
        database = sqlite3.connect(temporary)
        for name, columns in TABLES.items():
            database.execute(f"CREATE TABLE {name} ({columns})")
        database.execute("CREATE UNIQUE INDEX index_name ON images(name)")
        database.execute(f"PRAGMA user_version = {USER_VERSION}")
        return database
    temporary.write_bytes(path.read_bytes())
    return sqlite3.connect(temporary)


def _tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def _add_pair(database: sqlite3.Connection, path: Path, pair: PairMatches, merge_px: float) -> None:
    ids, rows = [], []
    for side in (0, 1):
        image_id = _find_or_add_image(database, path, pair.names[side], pair.sizes[side])
        points_N2 = pair.found.matches_N4[:, 2 * side : 2 * side + 2] + np.float32(0.5)
        ids.append(image_id)
        rows.append(_add_keypoints(database, path, image_id, pair.names[side], points_N2, merge_px))
    kept = unique_matches(*rows)
    if ids[0] > ids[1]:
        rows.reverse()
    matches_N2 = np.stack([rows[0][kept], rows[1][kept]], axis=1).astype("<u4")
    number = pair_id(*ids)
    database.execute("DELETE FROM two_view_geometries WHERE pair_id = ?", (number,))
    database.execute(
        "INSERT OR REPLACE INTO matches(pair_id, rows, cols, data) VALUES (?, ?, 2, ?)",
        (number, len(matches_N2), matches_N2.tobytes()),
    )


def _find_or_add_image(
    database: sqlite3.Connection, path: Path, name: str, size: tuple[int, int]
) -> int:
    known = _find_image(database, name)
    if known is None:
        return _add_image(database, name, size)
    _check_size(path, name, known[1], size)
    return known[0]


def _find_image(database: sqlite3.Connection, name: str) -> tuple[int, tuple[int, int]] | None:
    """The id and the size of a photo, if the database has it."""
    found = database.execute(
        "SELECT image_id, width, height FROM images JOIN cameras USING (camera_id) WHERE name = ?",
        (name,),
    ).fetchone()
    return found and (int(found[0]), (found[1], found[2]))


def _check_size(path: Path, name: str, known: tuple[int, int], size: tuple[int, int]) -> None:
    if known != size:
        raise UserError(
            f"{path}: holds {name} with {known[0]} x {known[1]} pixels, the photo has "
            f"{size[0]} x {size[1]}; choose another --out"
        )


def _check_descriptors(database: sqlite3.Connection, path: Path, image_id: int, name: str) -> None:
    found = database.execute(
        "SELECT 1 FROM descriptors WHERE image_id = ? AND rows > 0", (image_id,)
    ).fetchone()
    if found:
        raise UserError(
            f"{path}: {name} has descriptors, which more keypoints would lack; choose another --out"
        )


def _add_image(database: sqlite3.Connection, name: str, size: tuple[int, int]) -> int:
    width, height = size
    params_4 = np.array([FOCAL_PRIOR * max(size), width / 2, height / 2, 0.0], "<f8")
    camera_id = _insert(
        database,
        "cameras",
        model=SIMPLE_RADIAL,
        width=width,
        height=height,
        params=params_4.tobytes(),
        prior_focal_length=0,
    )
    image_id = _insert(database, "images", name=name, camera_id=camera_id)
    if _has_frames(database):
        # A rig of one camera, as COLMAP creates it for a single image.
        sensor = {"ref_sensor_id": camera_id, "ref_sensor_type": CAMERA_SENSOR}
        frame_id = _insert(database, "frames", rig_id=_insert(database, "rigs", **sensor))
        place = {"sensor_id": camera_id, "sensor_type": CAMERA_SENSOR}
        _insert(database, "frame_data", frame_id=frame_id, data_id=image_id, **place)
    return image_id


def _has_frames(database: sqlite3.Connection) -> bool:
    """Whether images belong to frames of rigs. This is so from COLMAP 3.12 on, except in older
    databases that it has upgraded."""
    if "frame_data" not in _tables(database):
        return False
    return database.execute("SELECT 1 FROM frame_data").fetchone() is not None


def _add_keypoints(
    database: sqlite3.Connection,
    path: Path,
    image_id: int,
    name: str,
    points_N2: Floats,
    merge_px: float,
) -> Rows:
    """Adds missing keypoints to an image; returns the row of each point."""
    found = database.execute(
        "SELECT rows, cols, data FROM keypoints WHERE image_id = ?", (image_id,)
    ).fetchone()
    num_known, columns, data = found or (0, 2, b"")
    known = np.frombuffer(data or b"", "<f4").reshape(num_known, columns)
    keypoints_K2, rows_N = merge_keypoints(known[:, :2], points_N2, merge_px)
    if found is None or len(keypoints_K2) > num_known:
        _check_descriptors(database, path, image_id, name)
        added = _with_shape(keypoints_K2[num_known:], columns)
        database.execute(
            "INSERT OR REPLACE INTO keypoints(image_id, rows, cols, data) VALUES (?, ?, ?, ?)",
            (image_id, len(keypoints_K2), columns, known.tobytes() + added.tobytes()),
        )
    return rows_N


def _with_shape(points_K2: Floats, columns: int) -> Floats:
    """Converts points to rows with 2, 4 (scale, orientation) or 6 (affine) columns."""
    shape = {2: [], 4: [1.0, 0.0], 6: [1.0, 0.0, 0.0, 1.0]}[columns]
    rest = np.tile(np.array(shape, np.float32), (len(points_K2), 1))
    return np.concatenate([points_K2, rest], axis=1).astype("<f4")


def _insert(database: sqlite3.Connection, table: str, **values: Any) -> int:
    marks = ", ".join("?" * len(values))
    cursor = database.execute(
        f"INSERT INTO {table}({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    )
    return int(cursor.lastrowid or 0)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Converts SQLite's errors to a `UserError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, str(error)) from error
        raise UserError(f"{path}: cannot be changed ({error}); choose another --out") from error
    except (sqlite3.DatabaseError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: no COLMAP database ({reason}); choose another --out") from error
