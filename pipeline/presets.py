"""The presets: configurations that come with `ucn`, by name."""

from importlib.resources import files
from itertools import takewhile
from pathlib import Path

import yaml

from ucn.errors import UserError, did_you_mean

_FOLDER = files("ucn.configs")


def preset_names() -> list[str]:
    """Names of all presets."""
    names = (entry.name for entry in _FOLDER.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_preset(name: str) -> str:
    """Text of a preset.

    Raises:
        UserError: there is no such preset.
    """
    if name not in preset_names():
        stem = Path(name).stem
        hint = f"did you mean --config {stem}? " if stem in preset_names() else ""
        hint = hint or did_you_mean(name, preset_names())
        raise UserError(f"{name}: no such file or preset; {hint}`ucn presets` lists the presets")
    return (_FOLDER / f"{name}.yaml").read_text()


def preset_usage(name: str) -> str:
    """How presets of this kind are used: ``ucn run --config PRESET`` or another command."""
    values = yaml.safe_load(read_preset(name))
    if "shards" in values:
        return "ucn run --config PRESET"
    return (
        "ucn run --config OTHER --config PRESET"
        if "train" in values
        else "ucn train --config PRESET"
    )


def preset_summary(name: str) -> str:
    """First sentence of the comment at the top of a preset."""
    comment = takewhile(lambda line: line.startswith("#"), read_preset(name).splitlines())
    return " ".join(line.lstrip("# ") for line in comment).partition(". ")[0]
