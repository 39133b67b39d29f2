"""Writes matches to files; the suffix of the name determines the format."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from ucn.errors import UserError
from ucn.evaluation.export.colmap_database import check_database, write_database
from ucn.evaluation.export.pairs import PairMatches, merge_keypoints, unique_matches
from ucn.matching.descriptors import Floats
from ucn.storage.files import atomic_path, make_folder

ENDINGS = (".npz", ".h5", ".db")


def check_matches_path(path: Path, num_pairs: int) -> None:
    """Checks early whether :func:`write_matches` can write to a path.

    Raises:
        UserError: the suffix is not in `ENDINGS`, the path is a folder, its folder cannot be
            written, an ``.npz`` would hold several pairs, or a ``.db`` is not a COLMAP database.
    """
    if path.suffix not in ENDINGS:
        raise UserError(f"{path}: matches are written as .npz, .h5 or .db; change the ending")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if path.suffix == ".npz" and num_pairs != 1:
        raise UserError(f"{path}: an .npz holds one pair; write several as .h5 or .db")
    make_folder(path.parent)
    if path.suffix == ".db":
        check_database(path)


def write_matches(path: Path, pairs: Sequence[PairMatches]) -> list[Path]:
    """Writes matches atomically, in the format given by the path's suffix.

    ``.npz``, for one pair: ``matches`` float32 [N, 4], ``scores`` float32 [N], ``name0``,
    ``name1``; readable with ``allow_pickle=False``. ``.h5``: see :func:`write_hloc`. ``.db``: a
    COLMAP database (`ucn.evaluation.export.colmap_database.write_database`).

    Returns:
        The files that were written.

    Raises:
        UserError: as in :func:`check_matches_path`, or a database cannot be extended.
    """
    check_matches_path(path, len(pairs))
    if path.suffix == ".npz":
        _write_npz(path, pairs[0])
    elif path.suffix == ".h5":
        return write_hloc(path, pairs)
    else:
        write_database(path, pairs)
    return [path]


def write_hloc(path: Path, pairs: Sequence[PairMatches]) -> list[Path]:
    """Writes the two files of hloc (github.com/cvg/Hierarchical-Localization).

    ``NAME-keypoints.h5``, beside ``NAME.h5``, has a group for each photo with ``keypoints`` float32
    [K, 2] and ``image_size`` (width, height).

    ``NAME.h5`` has a group ``NAME0/NAME1`` for each pair; slashes inside a name become ``-``.
    ``matches0`` int32 has the row of each keypoint's best match, or -1, with
    ``matching_scores0``. ``keypoints0``, ``keypoints1`` and ``scores`` have all matches, as in
    ``hloc.match_dense``.

    Raises:
        UserError: two pairs have the same group name, since their names differ only in ``/`` and
            ``-``.
    """
    keypoints_path = path.with_name(f"{path.stem}-keypoints{path.suffix}")
    keypoints: dict[str, Floats] = {}
    sizes: dict[str, tuple[int, int]] = {}
    # Keypoints are published first, since matches refer to their rows.
    with atomic_path(path) as matches_temporary, atomic_path(keypoints_path) as temporary:
        with h5py.File(matches_temporary, "w") as file:
            for pair in pairs:
                sizes.update(zip(pair.names, pair.sizes, strict=True))
                _write_pair(file, pair, keypoints)
        with h5py.File(temporary, "w") as file:
            for name, points_K2 in keypoints.items():
                group = file.create_group(name)
                group.create_dataset("keypoints", data=points_K2)
                group.create_dataset("image_size", data=np.array(sizes[name], np.int64))
    return [path, keypoints_path]


def _write_pair(file: h5py.File, pair: PairMatches, keypoints: dict[str, Floats]) -> None:
    """Writes one pair, and adds its points to the keypoints of its photos."""
    matches_N4, scores_N = pair.found.matches_N4, pair.found.scores_N
    rows = []
    for name, points_N2 in zip(pair.names, np.split(matches_N4, 2, axis=1), strict=True):
        known_M2 = keypoints.get(name, np.zeros((0, 2), np.float32))
        keypoints[name], rows_N = merge_keypoints(known_M2, points_N2)
        rows.append(rows_N)
    kept = unique_matches(*rows)
    matches0 = np.full(len(keypoints[pair.names[0]]), -1, np.int32)
    scores0 = np.zeros(len(matches0), np.float32)
    matches0[rows[0][kept]] = rows[1][kept]
    scores0[rows[0][kept]] = scores_N[kept]
    key = "/".join(name.replace("/", "-") for name in pair.names)
    if key in file:
        raise UserError(f"{key}: two pairs have this name in hloc's layout; rename a photo")
    group = file.create_group(key)
    group.create_dataset("matches0", data=matches0)
    group.create_dataset("matching_scores0", data=scores0)
    group.create_dataset("keypoints0", data=matches_N4[:, :2])
    group.create_dataset("keypoints1", data=matches_N4[:, 2:])
    group.create_dataset("scores", data=scores_N)


def _write_npz(path: Path, pair: PairMatches) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            matches=pair.found.matches_N4,
            scores=pair.found.scores_N,
            name0=np.array(pair.names[0]),
            name1=np.array(pair.names[1]),
        )
