"""Writes matches to files; the suffix of the name determines the format."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from ucn.errors import UserError
from ucn.evaluation.export.colmap_database import check_database, write_database
from ucn.evaluation.export.match import ImageMatches
from ucn.evaluation.export.pairs import Names, PairMatches, Rows, merge_keypoints, unique_matches
from ucn.matching.descriptors import Floats
from ucn.storage.files import atomic_path, make_folder

ENDINGS = (".npz", ".h5", ".db")


def check_output(path: Path, pairs: Sequence[Names], root: Path) -> None:
    """Checks before the matching whether :func:`write_matches` can write the pairs to a path.

    Args:
        path: of the output.
        pairs: names of the photos, relative to ``root``.
        root: folder of the photos.

    Raises:
        UserError: the suffix is not in `ENDINGS`, the path is a folder, its folder cannot be
            written, an ``.npz`` would hold several pairs, two pairs have the same name in an
            ``.h5``, or a ``.db`` cannot take the photos (`check_database`).
    """
    if path.suffix not in ENDINGS:
        raise UserError(f"{path}: matches are written as .npz, .h5 or .db; change the ending")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if path.suffix == ".npz" and len(pairs) != 1:
        raise UserError(f"{path}: an .npz holds one pair; write several as .h5 or .db")
    make_folder(path.parent)
    if path.suffix == ".db":
        check_database(path, {name: root / name for names in pairs for name in names})
    if path.suffix == ".h5":
        first: dict[str, Names] = {}
        for names in pairs:
            if (other := first.setdefault(_hloc_key(names), names)) != names:
                raise UserError(
                    f"{path}: hloc's layout gives {' '.join(other)} and {' '.join(names)} the same "
                    f"name, {_hloc_key(names)}; rename a photo, or write a .db"
                )


def write_matches(path: Path, pairs: Sequence[PairMatches], merge_px: float) -> list[Path]:
    """Writes matches atomically, in the format given by the path's suffix.

    ``.npz``, for one pair: ``matches`` float32 [N, 4], ``scores`` float32 [N], ``name0``,
    ``name1``; readable with ``allow_pickle=False``. ``.h5``: see :func:`write_hloc`. ``.db``: a
    COLMAP database (`ucn.evaluation.export.colmap_database.write_database`).

    Args:
        path: of the output, which :func:`check_output` accepts.
        pairs: the matches of each pair.
        merge_px: see `MatchOptions`.

    Returns:
        The files that were written.

    Raises:
        UserError: the disk is full, or a database cannot be extended.
    """
    if path.suffix == ".npz":
        _write_npz(path, pairs[0])
    elif path.suffix == ".h5":
        return write_hloc(path, pairs, merge_px)
    else:
        write_database(path, pairs, merge_px)
    return [path]


def write_hloc(path: Path, pairs: Sequence[PairMatches], merge_px: float) -> list[Path]:
    """Writes the two files of hloc (github.com/cvg/Hierarchical-Localization).

    ``NAME-keypoints.h5``, beside ``NAME.h5``, has a group for each photo with ``keypoints`` float32
    [K, 2] and ``image_size`` (width, height).

    ``NAME.h5`` has a group ``NAME0/NAME1`` for each pair; slashes inside a name become ``-``.
    ``matches0`` int32 [K] has the row of the best match in photo 1 for each keypoint of photo 0, or
    -1, with ``matching_scores0``. ``keypoints0``, ``keypoints1`` and ``scores`` have all matches,
    as in ``hloc.match_dense``.
    """
    keypoints_path = path.with_name(f"{path.stem}-keypoints{path.suffix}")
    keypoints: dict[str, Floats] = {}
    sizes: dict[str, tuple[int, int]] = {}
    rows: list[tuple[Rows, Rows]] = []
    for pair in pairs:
        sizes.update(zip(pair.names, pair.sizes, strict=True))
        rows.append(_add_keypoints(keypoints, pair, merge_px))
    # Keypoints are published first, since matches refer to their rows.
    with atomic_path(path) as matches_temporary, atomic_path(keypoints_path) as temporary:
        with h5py.File(matches_temporary, "w") as file:
            for pair, pair_rows in zip(pairs, rows, strict=True):
                group = file.create_group(_hloc_key(pair.names))
                _write_pair(group, pair.found, pair_rows, len(keypoints[pair.names[0]]))
        with h5py.File(temporary, "w") as file:
            for name, points_K2 in keypoints.items():
                group = file.create_group(name)
                group.create_dataset("keypoints", data=points_K2)
                group.create_dataset("image_size", data=np.array(sizes[name], np.int64))
    return [path, keypoints_path]


def _hloc_key(names: Names) -> str:
    return "/".join(name.replace("/", "-") for name in names)


def _add_keypoints(
    keypoints: dict[str, Floats], pair: PairMatches, merge_px: float
) -> tuple[Rows, Rows]:
    """Adds a pair's points to the keypoints of its photos; returns the rows of the points."""
    rows = []
    for name, points_N2 in zip(pair.names, np.split(pair.found.matches_N4, 2, axis=1), strict=True):
        known_M2 = keypoints.get(name, np.zeros((0, 2), np.float32))
        keypoints[name], rows_N = merge_keypoints(known_M2, points_N2, merge_px)
        rows.append(rows_N)
    return rows[0], rows[1]


def _write_pair(
    group: h5py.Group, found: ImageMatches, rows: tuple[Rows, Rows], num_keypoints0: int
) -> None:
    kept = unique_matches(*rows)
    matches0_K = np.full(num_keypoints0, -1, np.int32)
    scores0_K = np.zeros(num_keypoints0, np.float32)
    matches0_K[rows[0][kept]] = rows[1][kept]
    scores0_K[rows[0][kept]] = found.scores_N[kept]
    group.create_dataset("matches0", data=matches0_K)
    group.create_dataset("matching_scores0", data=scores0_K)
    group.create_dataset("keypoints0", data=found.matches_N4[:, :2])
    group.create_dataset("keypoints1", data=found.matches_N4[:, 2:])
    group.create_dataset("scores", data=found.scores_N)


def _write_npz(path: Path, pair: PairMatches) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            matches=pair.found.matches_N4,
            scores=pair.found.scores_N,
            name0=np.array(pair.names[0]),
            name1=np.array(pair.names[1]),
        )
