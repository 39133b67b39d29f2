"""The state of a training run on disk."""

from pathlib import Path
from typing import Any

import torch

from ucn.errors import UserError
from ucn.storage.files import atomic_path
from ucn.training.networks.published_weights import load_tensors

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


def unusable(folder: Path, error: Exception) -> UserError:
    """Say that a run cannot go on from a checkpoint, and why."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"{folder / STATE}: cannot be resumed from ({reason}); start over with overwrite=true"
    )
