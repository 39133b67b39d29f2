"""What the files of infra/ hold, taken apart once."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
WALK = ROOT / "docs" / "cluster.md"
DATASETS = ROOT / "docs" / "datasets"

Words = list[str]
Document = dict[str, Any]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def infra() -> Path:
    return INFRA


@pytest.fixture(scope="session")
def locked() -> dict[str, str]:
    """Versions of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.fixture(scope="session")
def version() -> str:
    """Of this project."""
    project: Document = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


@pytest.fixture(scope="session")
def manifests() -> dict[str, Document]:
    """Kubernetes objects, by file, kind and name."""
    return {
        f"{path.relative_to(INFRA)} {document['kind']} {document['metadata']['name']}": document
        for folder in ("kubernetes", "metrics")
        for path in sorted((INFRA / folder).rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    }


@pytest.fixture(scope="session")
def pods(manifests: dict[str, Document]) -> dict[str, Document]:
    """Pod templates, by the object that holds them and their place in it."""
    return {
        f"{name} {place}": template
        for name, document in manifests.items()
        for place, template in _templates(document.get("spec", {}), "spec")
    }


@pytest.fixture(scope="session")
def compose() -> Document:
    """The compose file, with each variable at its default."""
    text = (INFRA / "mlflow" / "compose.yaml").read_text()
    values: Document = yaml.safe_load(_interpolated(text))
    return values


@pytest.fixture(scope="session")
def commands() -> list[tuple[str, Words]]:
    """Every command line of infra/, docs/cluster.md and docs/datasets/ as (file, words).

    Those in `sh -c` as well.
    """
    return [
        (str(path.relative_to(ROOT)), words)
        for path in (*sorted(INFRA.rglob("*")), WALK, *sorted(DATASETS.glob("*.md")))
        if path.is_file()
        for text in _shell_texts(path)
        for words in _split(text)
    ]


def _templates(node: Any, place: str) -> Iterator[tuple[str, Document]]:
    if isinstance(node, list):
        for index, value in enumerate(node):
            yield from _templates(value, f"{place}[{index}]")
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in ("template", "submitterPodTemplate"):
            yield f"{place}.{key}", value
        else:
            yield from _templates(value, f"{place}.{key}")


def _interpolated(text: str) -> str:
    """Compose's ``${NAME:-DEFAULT}`` and ``${NAME:?MESSAGE}`` as if no variable were set."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "/secrets", text)


def _shell_texts(path: Path) -> Iterator[str]:
    """Text that a shell is to run: indented comments, code in Markdown, commands in YAML."""
    text = path.read_text()
    if path.suffix == ".md":
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        # What is called console is what commands print.
        yield from (block for language, block in blocks if not language)
        yield from re.findall(r"`((?:ray|ucn|mlflow) [^`]* -[^`]+)`", text)
        return
    yield from re.findall(r"^ *#   (\S.*)$", text, re.MULTILINE)
    if path.suffix == ".yaml":
        for document in yaml.safe_load_all(_interpolated(text)):
            yield from _commands(document)


def _commands(node: Any) -> Iterator[str]:
    """Commands of a YAML tree: lists of words, and strings where a shell's text is expected."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("command", "args") and isinstance(value, list):
                yield shlex.join(value).replace("$$", "$")
            elif key == "entrypoint" and isinstance(value, str):
                yield value
            elif key.endswith("_commands"):
                yield from value
            else:
                yield from _commands(value)
    elif isinstance(node, list):
        for value in node:
            yield from _commands(value)


def _split(text: str) -> Iterator[Words]:
    """Commands of a shell's text, without the variables that are set for them."""
    lines = text.replace("\\\n", " ").replace("\n", " ;\n")
    lexer = shlex.shlex(lines, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: Words = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            yield from _unwrapped(command)
            command = []
        else:
            command.append(token)


def _unwrapped(words: Words) -> Iterator[Words]:
    while words and (words[0] == "exec" or re.match(r"\w+=", words[0])):
        words = words[1:]
    if words[:2] == ["sh", "-c"]:
        yield from _split(words[2])
    elif words:
        yield words
