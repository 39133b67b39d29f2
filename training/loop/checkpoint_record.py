"""Ray Train's record of a run's checkpoints, which Ray writes in place, not atomically.

A kill, or a full disk, in that moment leaves half a record, which Ray refuses to go on from. The
checkpoints themselves are whole or not there.
"""

import json
import shutil
from pathlib import Path

from ucn.storage.files import sweep_temporaries
from ucn.training.loop.checkpoint import STATE, load_checkpoint

_RECORD = "checkpoint_manager_snapshot.json"


def mend_record(folder: Path) -> Path | None:
    """Remove a damaged record, and all checkpoints but the newest.

    Args:
        folder: where Ray keeps the run. Nobody else may use it.

    Returns:
        the newest checkpoint, which Ray no longer knows of; None where its record is sound, or
        there is no checkpoint.

    Raises:
        UserError: a checkpoint is damaged.
    """
    path = folder / _RECORD
    if not path.exists() or _is_sound(path):
        return None
    # Not by their names, which are by the clock.
    checkpoints = sorted((state.parent for state in folder.glob(f"*/{STATE}")), key=_steps)
    for older in checkpoints[:-1]:
        shutil.rmtree(older)
    path.unlink()
    return checkpoints[-1] if checkpoints else None


def sweep_unfinished(output: Path) -> None:
    """Delete what killed workers and drivers left half written below an output folder.

    Nobody else may write there.
    """
    sweep_temporaries(output)
    for checkpoint in output.glob("*/*/*/"):
        if sweep_temporaries(checkpoint) and not any(checkpoint.iterdir()):
            checkpoint.rmdir()


def _steps(checkpoint: Path) -> int:
    return int(load_checkpoint(checkpoint)["step"])


def _is_sound(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False
