"""NumPy's .npy and .npz from bytes that nobody vouches for: no pickles, nothing larger than said.

``numpy.load`` makes room for what a header claims before it looks for the data, and unpacks
whatever a compressed member unpacks to.
"""

import io
import math
import zipfile

import numpy as np

from ucn.arrays import Array

MAX_ARRAY_BYTES = 2**30
"""Of all arrays in one .npz, unpacked: 67 million correspondences of four float32."""

_SUFFIX = ".npy"


def read_npy(data: bytes) -> Array:
    """Decode the bytes of a .npy file.

    Raises:
        ValueError: not a .npy, of Python objects, or its data are not of the size of its shape.
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
        ValueError: more than `MAX_ARRAY_BYTES`, or a member is no array.
        zipfile.BadZipFile: not a zip, or damaged.
    """
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"arrays of {size} bytes, more than {MAX_ARRAY_BYTES}")
        for member in archive.infolist():
            # Reads no more than the size that is declared.
            arrays[member.filename.removesuffix(_SUFFIX)] = read_npy(archive.read(member))
    return arrays
