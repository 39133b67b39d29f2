"""The local copy of an output in a store: its log is written and delivered from there.

A log is appended to, which object stores do not allow. The driver uploads it every few seconds, and
delivers to MLflow only what is uploaded, so that any machine can go on with the store's log.
"""

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pyarrow import fs

from ucn.errors import UserError
from ucn.preprocessing.shards.cache_folder import default_folder
from ucn.storage.arrow import filesystem, storage_errors
from ucn.storage.lock import folder_lock
from ucn.storage.stores import absolute_uri, open_store
from ucn.training.run_state import MODEL
from ucn.training.tracking.log import DELIVERED, LOG, TRACKING

logger = logging.getLogger(__name__)

UPLOAD_S = 10.0
"""Seconds between uploads of a log that grows."""


def is_remote(output: str) -> bool:
    """Whether an output is in a store."""
    return "://" in output


def local_folder(output: str) -> Path:
    """An output folder itself; of one in a store its copy, in ``~/.cache/ucn/outputs``."""
    if not is_remote(output):
        return Path(output)
    return default_folder().with_name("outputs") / hashlib.sha256(output.encode()).hexdigest()[:16]


def pull(output: str) -> Path:
    """Bring the copy of an output up to date: log and model; return its folder.

    A copy whose log continues the store's is kept. Any other is replaced. Only the process that
    holds the output's lock may call this.

    Raises:
        UserError: the store cannot be used.
    """
    folder = local_folder(output)
    if is_remote(output):
        log = folder / TRACKING / LOG
        try:
            stored = open_store(f"{output}/{TRACKING}").read(LOG)
        except FileNotFoundError:
            stored = b""
        if not stored or not log.exists() or not log.read_bytes().startswith(stored):
            shutil.rmtree(folder, ignore_errors=True)
            _copy(f"{output}/{TRACKING}", str(folder / TRACKING))
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        _copy(f"{output}/{MODEL}", str(folder / MODEL))
    return folder


def push(output: str) -> None:
    """Upload the log of an output in a store, with the files that only MLflow needs.

    Raises:
        UserError: the store cannot be used.
    """
    _copy(str(local_folder(output) / TRACKING), f"{output}/{TRACKING}")


class Upload:
    """Uploads the log of an output in a store while it grows.

    Attributes:
        output: URI.
        end: the byte that the upload has reached.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self.end = 0
        self._due = 0.0
        self._log = local_folder(output) / TRACKING / LOG

    def renew(self, at_once: bool) -> None:
        """Upload what is new: every `UPLOAD_S`, or at once."""
        size = self._log.stat().st_size if self._log.exists() else 0
        if size > self.end and (at_once or time.monotonic() >= self._due):
            self._due = time.monotonic() + UPLOAD_S
            if self.upload():
                self.end = size

    def upload(self) -> bool:
        """Upload all; a failure is logged, since no error of tracking stops a run."""
        try:
            push(self.output)
        except (UserError, FileNotFoundError) as error:
            logger.warning("the log is not uploaded (%s)", error)
            return False
        return True


@contextmanager
def open_output(output: str) -> Iterator[Path]:
    """Yield an output folder, or the copy of one in a store, which is uploaded afterwards.

    Raises:
        UserError: a run writes there, or the store cannot be used.
    """
    if not is_remote(output):
        yield Path(output)
        return
    output = absolute_uri(output)
    with folder_lock(output):
        folder = pull(output)
        # Only what is uploaded is delivered.
        push(output)
        try:
            yield folder
        finally:
            push(output)


def _copy(source: str, target: str) -> None:
    """Copy the files that the target lacks or has with another size."""
    with storage_errors(source), storage_errors(target):
        here, there = filesystem(source), filesystem(target)
        present = dict(_sizes(*there))
        # The log after the files that it names, and after the log what is delivered of it.
        last = {LOG: 1, DELIVERED: 2}
        for name, size in sorted(_sizes(*here), key=lambda item: last.get(item[0], 0)):
            path = PurePosixPath(name)
            # Names with a dot: the lock of the local folder, unfinished files, folders outside.
            if name.startswith(".") or ".." in path.parts:
                continue
            if present.get(name) == size and name != DELIVERED:
                continue
            to = there[1] / path
            there[0].create_dir(str(to.parent))
            fs.copy_files(
                f"{here[1]}/{name}",
                str(to),
                source_filesystem=here[0],
                destination_filesystem=there[0],
            )


def _sizes(system: fs.FileSystem, folder: str) -> Iterator[tuple[str, int]]:
    for entry in system.get_file_info(
        fs.FileSelector(folder, recursive=True, allow_not_found=True)
    ):
        if entry.type == fs.FileType.File:
            yield entry.path[len(folder) + 1 :], entry.size
