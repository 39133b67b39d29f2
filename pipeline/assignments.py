"""KEY=VALUE words among a command's own flags."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ucn.pipeline.arguments import read_layers

_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.-]*=")
_SWITCHES = ("--again", "--detach", "--json")


def split_assignments(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take KEY=VALUE words out of arguments, wherever they stand.

    Returns:
        Those words, and the others: flags, their values, and what stands alone.
    """
    assignments: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *args], args, strict=False):
        is_value = before.startswith("--") and "=" not in before and before not in _SWITCHES
        is_assignment = not is_value and _ASSIGNMENT.match(word)
        (assignments if is_assignment else others).append(word)
    return assignments, others


def read_values(files: Sequence[Path], assignments: Sequence[str]) -> dict[str, Any]:
    """Merge configuration files and KEY=VALUE words; later ones win, words over files.

    Raises:
        UserError: a file is missing or no YAML mapping.
    """
    flags = [word for path in files for word in ("--config", str(path))]
    values, _ = read_layers([*flags, *assignments])
    return values
