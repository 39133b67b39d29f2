"""Completes the environment of a process that runs without a home folder or a user name."""

import getpass
import os
import tempfile
from pathlib import Path


def complete_environment() -> None:
    """Sets what Ray, MLflow, Matplotlib and torch expect of the environment where it is missing.

    Containers run processes under ids that no user has, with no HOME or one that cannot be written.
    Then HOME (only if it is no folder) and the folders of caches become ``ucn-UID`` below the
    temporary folder, and LOGNAME becomes ``uid-UID``.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    if home and os.access(home, os.W_OK):
        return
    folder = _private_folder()
    if home is None or not home.is_dir():
        os.environ["HOME"] = str(folder)
    for variable in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        os.environ.setdefault(variable, str(folder))


def _private_folder() -> Path:
    """A folder that only this user can enter; a new one if another user has taken its name."""
    folder = Path(tempfile.gettempdir()) / f"ucn-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
            return folder
    except FileExistsError:
        pass
    return Path(tempfile.mkdtemp(prefix="ucn-"))
