"""Turns candidate matches into a sample, or raises `SkippedPair` with the reason."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ucn.arrays import Array, Floats
from ucn.errors import SkippedPair, printable
from ucn.geometry.subsample import spread_sample
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.sample import Candidates, PairGeometry, Sample
from ucn.preprocessing.sources.base import PairRef

_MIX = np.uint64(0x9E3779B97F4A7C15)


def assemble_sample(
    config: PreprocessConfig,
    key: str,
    pair: PairRef,
    images: tuple[Array, Array],
    candidates: Candidates,
    geometry: PairGeometry,
) -> Sample:
    """Drop duplicates, choose at most ``config.max_matches``, and describe the pair.

    Floating-point attributes are stored as float32.

    Args:
        config: its ``min_matches``, ``max_matches``, ``seed`` and ``source`` are used.
        key: key of the sample.
        pair: the image pair. (sequence, frame) identifies an image in the whole dataset.
        images: uint8, grey or RGB.
        candidates: the matches.
        geometry: intrinsics and relative pose of the pair.

    Raises:
        SkippedPair: fewer than ``config.min_matches`` are left.
    """
    matches_N4 = candidates.matches_N4.astype(np.float32, order="C")
    unique_N = unique_rows(matches_N4)
    if len(unique_N) < config.min_matches:
        raise SkippedPair("too few matches", f"{len(unique_N)} of at least {config.min_matches}")
    seed = [config.seed, *hashlib.sha256(key.encode()).digest()[:4]]
    pixels_N2 = matches_N4.take(unique_N, axis=0)[:, :2]
    chosen_N = unique_N.take(spread_sample(pixels_N2, config.max_matches, seed))
    rejected = dict(candidates.rejected) | {
        "duplicate": len(matches_N4) - len(unique_N),
        "beyond max_matches": len(unique_N) - len(chosen_N),
    }
    metadata: dict[str, Any] = {
        "source": config.source,
        "sequence": printable(pair.sequence),
        "frame0": printable(pair.frame0),
        "frame1": printable(pair.frame1),
        "size0": list(images[0].shape[1::-1]),
        "size1": list(images[1].shape[1::-1]),
        "K0": _to_list(geometry.K0),
        "K1": _to_list(geometry.K1),
        "T_1_0": _to_list(geometry.T_1_0),
        "unit": geometry.unit,
        "kind": geometry.kind,
        "matches": len(chosen_N),
        "rejected": rejected,
    }
    return Sample(
        key=key,
        image0=images[0],
        image1=images[1],
        matches_N4=matches_N4.take(chosen_N, axis=0),
        attributes={
            name: _narrow(values.take(chosen_N, axis=0))
            for name, values in candidates.attributes.items()
        },
        metadata=metadata | dict(geometry.more),
    )


def unique_rows(rows_N4: NDArray[np.float32]) -> NDArray[np.intp]:
    """Ascending indices of the first occurrence of each row of float32 [N, 4]."""
    # Adding zero turns -0 into 0, so that equal numbers have equal bits.
    words_N2 = np.ascontiguousarray(rows_N4 + np.float32(0)).view(np.uint64)
    # Equal rows have equal hashes. If all hashes differ, the slower lexsort is not needed.
    sums_N = np.sort(words_N2[:, 0] * _MIX + words_N2[:, 1])
    if (sums_N[1:] != sums_N[:-1]).all():
        return np.arange(len(rows_N4))
    order_N = np.lexsort((words_N2[:, 1], words_N2[:, 0]))
    sorted_N2 = words_N2[order_N]
    first_N = np.ones(len(rows_N4), bool)
    first_N[1:] = (sorted_N2[1:] != sorted_N2[:-1]).any(1)
    return np.sort(order_N[first_N])


def _narrow(values: Array) -> Array:
    return values.astype(np.float32) if np.issubdtype(values.dtype, np.floating) else values


def _to_list(matrix: Floats | None) -> list[Any] | None:
    return None if matrix is None else matrix.tolist()
