"""The state of a training run in a store.

Checkpoints are ``OUTPUT/checkpoints/FINGERPRINT-START/step-00000100/state.pt``, where START is new
at each start of a driver. Ray Train keeps records of its own beside them, which are never read.
``state.pt`` is published whole, so that a checkpoint is complete if it has this file.
"""

import logging
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ucn.errors import UserError
from ucn.storage.stores import open_store
from ucn.training.networks.published_weights import load_tensors

logger = logging.getLogger(__name__)

STATE = "state.pt"
KEPT = 2
"""Checkpoints that are kept."""


def checkpoint_name(step: int) -> str:
    """Name of a checkpoint's folder; later checkpoints have greater names."""
    return f"step-{step:08d}"


def newest_checkpoint(folder: str, run: str) -> str | None:
    """Find the checkpoint of the most steps; delete all but `KEPT`, and Ray Train's records.

    Only the driver that holds the lock may call this.

    Args:
        folder: of the checkpoints of all starts.
        run: beginning of the names of the starts whose checkpoints count.

    Returns:
        folder of the checkpoint; None if there is none.

    Raises:
        UserError: the store cannot be used.
    """
    # Only drivers need Arrow: training steps run without it.
    from pyarrow.fs import FileSelector

    from ucn.storage.arrow import delete_entries, filesystem, storage_errors

    with storage_errors(folder):
        system, path = filesystem(folder)
        entries = system.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    files = [PurePosixPath(entry.path).relative_to(path) for entry in entries]
    # START/CHECKPOINT/state.pt. Earlier versions named checkpoints by the clock: checkpoint_2026...
    complete = [
        file.parent
        for file in files
        if file.name == STATE and len(file.parts) == 3 and file.parts[0].startswith(run)
    ]
    kept = sorted(complete, key=lambda checkpoint: checkpoint.name)[-KEPT:]
    newest = kept[-1].name if kept else ""
    for file in files:
        if len(file.parts) == 2 and file.name.startswith("step-") and file.name > newest:
            logger.warning("%s/%s: not complete, left out", folder, file)
    starts = {checkpoint.parent for checkpoint in kept}
    others = [file for file in files if len(file.parts) == 1 and file not in starts]
    others += [file for file in files if file.parent in starts and file not in kept]
    delete_entries(folder, map(str, others))
    return f"{folder}/{kept[-1]}" if kept else None


def save_checkpoint(folder: str | Path, snapshot: dict[str, Any]) -> None:
    """Write a snapshot of the state into ``folder``, atomically.

    Raises:
        UserError: it cannot be written, or the disk is full.
    """
    store = open_store(folder)
    # A killed worker may have left a part of this checkpoint.
    store.prepare()
    with store.publishing(STATE) as path, path.open("wb") as file:
        try:
            torch.save(snapshot, file)
        except RuntimeError as error:
            # torch ends its archive over the file's error, and fails again.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(folder: str | Path) -> dict[str, Any]:
    """Read a snapshot; nothing in it is executed.

    Raises:
        UserError: there is no readable checkpoint.
    """
    try:
        with open_store(folder).local_copy(STATE) as path:
            state: dict[str, Any] = load_tensors(path)
    except UserError:
        raise
    except Exception as error:  # damaged bytes can make the unpickler fail in any way
        raise unusable(folder, error) from error
    return state


def unusable(folder: str | Path, error: Exception) -> UserError:
    """Say that a run cannot go on from a checkpoint, and why."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"{folder}/{STATE}: cannot be resumed from ({reason}); delete it to go on from the one "
        "before, or start over in another output"
    )
