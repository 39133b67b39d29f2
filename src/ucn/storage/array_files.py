"""Readers of NumPy and HDF5 files from untrusted sources: no pickles, no links, bounded size.

``numpy.load`` allocates the size that a header claims before it looks for the data. A small HDF5
file can declare a dataset of any size, and refer to other files.
"""

import io
import math
import zipfile
from collections.abc import Mapping

import numpy as np

from ucn.arrays import Array

MAX_ARRAY_BYTES = 2**30
"""Limit of all arrays in one .npz, unpacked: 67 million correspondences of four float32."""

_SUFFIX = ".npy"


def read_npy(data: bytes) -> Array:
    """Decode the bytes of a .npy file.

    Raises:
        ValueError: not a .npy file, Python objects, or a shape that is not that of the data.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"a .npy of version {version}")
    if dtype.hasobject:
        raise ValueError("an array of pickled objects, which could execute code")
    start = file.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"{len(data) - start} bytes for an array of {shape} {dtype}")
    if dtype.itemsize == 0:
        raise ValueError(f"an array of {dtype}")
    flat = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(shape, order="F" if is_fortran else "C").copy()


def read_npz(data: bytes) -> dict[str, Array]:
    """Decode the bytes of a .npz file: arrays by name.

    Raises:
        ValueError: more than `MAX_ARRAY_BYTES`, or a member is not an array.
        zipfile.BadZipFile: not a zip, or damaged.
    """
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"arrays of {size} bytes, more than {MAX_ARRAY_BYTES}")
        for member in archive.infolist():
            # Reads at most the declared size.
            arrays[member.filename.removesuffix(_SUFFIX)] = read_npy(archive.read(member))
    return arrays


def read_hdf5(data: bytes, max_sizes: Mapping[str, int]) -> dict[str, Array]:
    """Read numeric datasets from the bytes of an HDF5 file.

    Args:
        data: the whole file.
        max_sizes: the largest number of elements by the name of each dataset to read.

    Raises:
        ValueError: a dataset is missing, too large, damaged, or stored in another file.
    """
    import h5py

    arrays: dict[str, Array] = {}
    name = "HDF5"
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            for name, max_size in max_sizes.items():
                if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"no {name} that is not a link")
                dataset = file[name]
                if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
                    raise ValueError(f"no {name} of numbers")
                if dataset.is_virtual or dataset.external:
                    raise ValueError(f"no {name} of its own: it is stored in another file")
                if dataset.size is None or dataset.size > max_size:
                    raise ValueError(
                        f"no {name} of at most {max_size} numbers: its shape is {dataset.shape}"
                    )
                arrays[name] = np.asarray(dataset[()])
    # h5py raises exceptions of many kinds for damaged files.
    except (OSError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"no {name}, or damaged") from error
    return arrays
