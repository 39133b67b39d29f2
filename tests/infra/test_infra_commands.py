"""Every command line of infra/, docs/cluster.md and docs/datasets/ is accepted by its parser."""

import importlib
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tyro

from ucn.pipeline import commands as ucn_commands
from ucn.pipeline.main import main

Commands = list[tuple[str, list[str]]]

# Where images keep the presets (infra/Dockerfile).
IN_IMAGE = "/opt/ucn/configs/"


class ParsedError(BaseException):
    """The arguments were accepted; not an `Exception`, so that nothing takes it for a fault."""


def _stop(*_: object) -> None:
    raise ParsedError


def _called(commands: Commands, name: str) -> Commands:
    return [(file, words) for file, words in commands if words[0] == name]


def test_commands_are_found(commands: Commands) -> None:
    found = Counter(words[0] for _, words in commands)
    assert {"ucn", "ray", "mlflow", "kubectl", "docker", "helm", "make"} <= set(found)
    stages = {words[1] for _, words in _called(commands, "ucn")}
    assert {"preprocess", "train", "evaluate", "run", "submit", "status", "doctor"} <= stages
    walked = {words[0] for file, words in commands if file == "docs/cluster.md"}
    assert {"ucn", "ray", "mlflow", "make"} <= walked


def test_ucn_accepts_every_ucn_command(
    commands: Commands, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the point where the work would begin."""
    parse = tyro.cli

    def parse_only(*args: Any, **options: Any) -> None:
        parse(*args, **options)
        raise ParsedError

    monkeypatch.chdir(root)
    monkeypatch.setattr(tyro, "cli", parse_only)
    monkeypatch.setattr(ucn_commands, "_run", _stop)
    refused = []
    for file, words in _called(commands, "ucn"):
        args = [word.replace(IN_IMAGE, "configs/") for word in words[1:]]
        try:
            main(args)
        except ParsedError:
            continue
        refused.append(f"{file}: {' '.join(words)}")
    assert not refused


def test_submitted_configurations_hold_on_a_cluster(
    commands: Commands,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are sent to where nothing listens: what could be wrong with them shows before."""
    monkeypatch.chdir(root)
    submitted = [words for _, words in _called(commands, "ucn") if words[1] == "submit"]
    assert submitted
    for words in submitted:
        args = [word.replace("http://127.0.0.1:8265", "http://127.0.0.1:1") for word in words[1:]]
        assert main(args) == 2
        assert "http://127.0.0.1:1: no connection" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "module", "attribute"),
    [("ray", "ray.scripts.scripts", "cli"), ("mlflow", "mlflow.cli", "cli")],
)
def test_ray_and_mlflow_accept_every_command_of_theirs(
    name: str, module: str, attribute: str, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    group = getattr(importlib.import_module(module), attribute)
    called = _called(commands, name)
    assert called
    for _, words in called:
        command, rest = group, words[1:]
        with group.make_context(name, [], resilient_parsing=True) as context:
            while hasattr(command, "commands"):
                _, command, rest = command.resolve_command(context, rest)
        # Raises UsageError for an option that does not exist; runs nothing.
        command.make_context(" ".join(words), list(rest))


def test_files_and_targets_that_commands_name_exist(commands: Commands, root: Path) -> None:
    stages = (root / "infra" / "Dockerfile").read_text()
    for file, words in commands:
        for word in words:
            if word.startswith(("infra/", "configs/", "docs/")):
                assert (root / word).exists(), f"{file}: {word}"
        if "--target" in words:
            assert f" AS {words[words.index('--target') + 1]}\n" in stages, file


def test_nodes_are_installed_by_a_target_of_the_makefile(commands: Commands, root: Path) -> None:
    called = _called(commands, "make")
    assert called
    for _, words in called:
        target = words[-1]
        plan = subprocess.run(
            ["make", "--dry-run", "--always-make", "-C", str(root), target],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "requirements.lock" in plan.stdout
