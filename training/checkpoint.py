"""The state of a training run on disk."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from preprocessing.errors import UserError
from preprocessing.storage import atomic_path

STATE = "state.pt"


def save_checkpoint(folder: Path, snapshot: dict[str, Any]) -> None:
    """Write a snapshot of the state into ``folder``, atomically.

    Raises:
        UserError: it cannot be written, or the disk is full.
    """
    with atomic_path(folder / STATE) as path, path.open("wb") as file:
        try:
            torch.save(snapshot, file)
        except RuntimeError as error:
            # torch ends its archive over the file's error, and fails again.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a snapshot; nothing in it is executed.

    Raises:
        UserError: there is no readable checkpoint.
    """
    path = folder / STATE
    try:
        state: dict[str, Any] = load_tensors(path)
    except Exception as error:  # damaged bytes can make the unpickler fail in any way
        raise unusable(folder, error) from error
    return state


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


def unusable(folder: Path, error: Exception) -> UserError:
    """Say that a run cannot go on from a checkpoint, and why."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"{folder / STATE}: cannot be resumed from ({reason}); start over with overwrite=true"
    )
