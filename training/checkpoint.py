"""The state of a training run on disk."""

import pickle
from pathlib import Path
from typing import Any

import torch

from preprocessing.errors import UserError
from preprocessing.storage import atomic_path

STATE = "state.pt"


def save_checkpoint(folder: Path, snapshot: dict[str, Any]) -> None:
    """Write a snapshot of the state into ``folder``, atomically."""
    with atomic_path(folder / STATE) as path:
        torch.save(snapshot, path)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a snapshot; nothing in it is executed.

    Raises:
        UserError: there is no readable checkpoint.
    """
    path = folder / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise unusable(folder, error) from error
    return state


def unusable(folder: Path, error: Exception) -> UserError:
    """Say that a run cannot go on from a checkpoint, and why."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"{folder / STATE}: cannot be resumed from ({reason}); start over with overwrite=true"
    )
