"""What each method found on each pair, stored as one Parquet table for every set and method.

``OUTPUT/matches/SET/METHOD.parquet`` has one row per query; its columns are `SCHEMA`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ucn.matching.descriptors import Floats
from ucn.storage.files import atomic_path

POINT, OWN, MUTUAL = "point", "own", "mutual"
"""Kinds of queries: stored correspondences; points that the method chose; mutual nearest neighbours
among SIFT keypoints. Others: the name of a detector, and ``sparse/DETECTOR``."""
_COLUMNS = ("x0", "y0", "x1", "y1", "similarity", "second_similarity", "back_px", "stability_px")
SCHEMA = pa.schema(
    [("pair", pa.int32()), ("kind", pa.string()), *((name, pa.float32()) for name in _COLUMNS)]
)
_IDENTITY = b"ucn.identity"


@dataclass(frozen=True)
class Matches:
    """Matches of N queries of one kind. All values are NaN where they were not computed.

    Attributes:
        matches_N4: float32 x0, y0, x1, y1 in pixels; x1 and y1 are NaN without a match.
        similarity_N, second_N: float32 cosine similarity of the best and the second-best match.
        back_px_N: float32 forward-backward error, pixels; infinite without a match.
        stability_px_N: float32, the same after a shift of the match by one pixel.
    """

    matches_N4: Floats
    similarity_N: Floats
    second_N: Floats
    back_px_N: Floats
    stability_px_N: Floats

    @classmethod
    def bare(cls, matches_N4: Floats) -> "Matches":
        """Matches without any scores."""
        return cls(matches_N4, *np.full((4, len(matches_N4)), np.nan, np.float32))


PairMatches = Mapping[str, Matches]
"""Matches of one method on one pair, by kind of the queries."""


def to_table(index: int, found: PairMatches) -> pa.Table:
    """Rows of pair ``index``. A kind without queries has one row of NaN."""
    parts = [
        np.column_stack([m.matches_N4, m.similarity_N, m.second_N, m.back_px_N, m.stability_px_N])
        if len(m.matches_N4)
        else np.full((1, len(_COLUMNS)), np.nan)
        for m in found.values()
    ]
    kinds = [kind for kind, part in zip(found, parts, strict=True) for _ in part]
    columns = np.concatenate(parts).astype(np.float32, copy=False).T
    return pa.table([np.full(len(kinds), index, np.int32), kinds, *columns], schema=SCHEMA)


def from_table(rows: pa.Table) -> dict[str, Matches]:
    """Matches of the rows of one pair."""
    kinds_N = np.array(rows["kind"].to_pylist())
    rows_N8 = np.column_stack([rows[name].to_numpy() for name in _COLUMNS])
    is_query_N = ~np.isnan(rows_N8[:, 0])
    return {
        str(kind): Matches(part_N8[:, :4], *part_N8[:, 4:].T)
        for kind in np.unique(kinds_N)
        for part_N8 in [rows_N8[(kinds_N == kind) & is_query_N]]
    }


class MatchTable:
    """The matches of one method on the pairs of one set.

    Each pair is stored in a file of its own until :meth:`publish` merges all pairs into the table.
    Files with another identity, and damaged files, are ignored.

    Args:
        path: the table.
        parts: folder of the files of single pairs.
        identity: digest of everything that determines the matches.
    """

    def __init__(self, path: Path, parts: Path, identity: str) -> None:
        self._path, self._parts, self._identity = path, parts, identity
        self._pairs: dict[int, pa.Table] = {}
        for part in parts.glob("[0-9]*.parquet"):
            self._pairs |= self._read(part)
        self._is_published = not self._pairs
        self._pairs = self._read(path) | self._pairs

    def __contains__(self, index: int) -> bool:
        return index in self._pairs

    def __getitem__(self, index: int) -> dict[str, Matches]:
        return from_table(self._pairs[index])

    def keep(self, index: int, found: PairMatches) -> None:
        """Stores the matches of a pair."""
        self._pairs[index] = to_table(index, found)
        self._is_published = False
        self._write(self._parts / f"{index}.parquet", self._pairs[index])

    def publish(self) -> None:
        """Writes the table, if there are pairs that it does not have."""
        if not self._is_published:
            self._write(self._path, pa.concat_tables(self._pairs[i] for i in sorted(self._pairs)))
            self._is_published = True

    def _read(self, path: Path) -> dict[int, pa.Table]:
        """Rows by pair; empty if the file is missing, damaged, or of another identity."""
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                schema = file.schema_arrow
                identity = (schema.metadata or {}).get(_IDENTITY, b"").decode()
                # A row takes more than a byte. So memory is bounded by the size of the file.
                is_honest = file.metadata.num_rows <= path.stat().st_size
                if schema != SCHEMA or identity != self._identity or not is_honest:
                    return {}
                table = file.read()
            pairs_N = table["pair"].to_numpy()
            ends = [*np.flatnonzero(np.diff(pairs_N)) + 1, len(pairs_N)]
            return {
                int(pairs_N[start]): table.slice(start, end - start)
                for start, end in pairwise([0, *ends])
                if end > start
            }
        except Exception:  # noqa: BLE001 - pyarrow raises many kinds for damaged files
            return {}

    def _write(self, path: Path, table: pa.Table) -> None:
        with atomic_path(path) as temporary:
            pq.write_table(
                table.replace_schema_metadata({_IDENTITY: self._identity}),
                temporary,
                write_page_checksum=True,
            )
