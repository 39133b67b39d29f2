"""Datasets of HDF5 files that nobody vouches for: of bounded size, and from that file alone."""

import io
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


def read_datasets(data: bytes, most: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """Read numeric datasets from the bytes of a file.

    A file of a few bytes can declare a dataset of any size; links, virtual datasets and external
    storage lead to other files.

    Args:
        data: of the whole file.
        most: how many numbers each of the datasets, by name, may have.

    Raises:
        ValueError: one is missing, too large, from elsewhere, or damaged.
    """
    found: dict[str, NDArray[Any]] = {}
    name = "HDF5"
    # h5py raises exceptions of many kinds for damaged files.
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            for name, limit in most.items():
                if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"no {name} of its own")
                found[name] = _read(file[name], name, limit)
    except (OSError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"no {name}, or damaged") from error
    return found


def _read(dataset: Any, name: str, most: int) -> NDArray[Any]:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise ValueError(f"no {name} that is numeric")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"no {name} of its own")
    if dataset.size is None or dataset.size > most:
        raise ValueError(f"no {name} of at most {most} numbers, but one of shape {dataset.shape}")
    return np.asarray(dataset[()])
