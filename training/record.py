"""What an output folder is about: so that a rerun finds out what is left to do."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ucn.errors import UserError
from ucn.storage.files import write_json

RECORD = "training.json"
MODEL = "model"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class RunRecord:
    """The content of an output folder's `training.json`.

    Attributes:
        fingerprint: of the configuration and the data.
        status: of the training.
        run_id: in MLflow.
    """

    fingerprint: str
    status: Literal["NEW", "RUNNING", "FINISHED"] = "NEW"
    run_id: str | None = None


def read_record(output: Path) -> RunRecord | None:
    """The record of an output folder; None where no training has begun.

    Raises:
        UserError: it is damaged, or the folder is a file.
    """
    path = output / RECORD
    if not path.exists():
        return None
    try:
        return RunRecord(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged; remove the folder, or choose another output") from error


def open_record(output: Path, fingerprint: str, *, overwrite: bool) -> RunRecord:
    """Find out how far training in a folder has come; with ``overwrite``, start another one.

    To be called by the driver that holds the folder.

    Raises:
        UserError: the folder holds the training of another configuration, or is a file.
    """
    record = read_record(output)
    if record is None:
        return RunRecord(fingerprint)
    if record.fingerprint == fingerprint:
        return record
    if not overwrite:
        raise UserError(
            f"{output}: holds the training of another configuration or other shards; choose "
            "another output, or set overwrite=true"
        )
    (output / RECORD).unlink()
    for folder in (output / MODEL, output / CHECKPOINTS):
        shutil.rmtree(folder, ignore_errors=True)
    return RunRecord(fingerprint)


def write_record(output: Path, record: RunRecord) -> None:
    """Publish the record of an output folder."""
    write_json(output / RECORD, asdict(record))
