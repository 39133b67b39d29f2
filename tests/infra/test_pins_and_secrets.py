"""Across all files of infra/: one version of everything, and nobody's secret."""

import re
from pathlib import Path
from typing import Any

import pytest

Documents = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def images(pods: Documents, compose: dict[str, Any]) -> dict[str, set[str]]:
    """Tags of each image that is run."""
    named = [
        *(service["image"] for service in compose["services"].values()),
        *(c["image"] for pod in pods.values() for c in pod["spec"]["containers"]),
    ]
    found: dict[str, set[str]] = {}
    for image in named:
        name, _, tag = image.rpartition(":")
        found.setdefault(name, set()).add(tag)
    return found


def test_images_are_those_that_are_built_or_pinned(
    images: dict[str, set[str]], locked: dict[str, str], version: str
) -> None:
    assert images["ucn"] == {f"{version}-cpu", f"{version}-cuda"}
    assert images["ucn-mlflow"] == {locked["mlflow"]}
    others = {name: tags for name, tags in images.items() if not name.startswith("ucn")}
    assert set(others) == {"postgres", "chrislusf/seaweedfs"}
    for name, tags in others.items():
        assert len(tags) == 1, f"{name} differs between Kubernetes and compose"
        assert re.match(r"\d+\.\d+", tags.pop()), name


def test_build_commands_give_those_tags(
    commands: list[tuple[str, list[str]]], images: dict[str, set[str]]
) -> None:
    built: dict[str, set[str]] = {}
    for _, words in commands:
        if words[:2] == ["docker", "build"]:
            name, _, tag = words[words.index("-t") + 1].partition(":")
            built.setdefault(name, set()).add(tag)
    assert built == {name: tags for name, tags in images.items() if name.startswith("ucn")}


def test_texts_name_the_versions_that_are_pinned(infra: Path, locked: dict[str, str]) -> None:
    """Beside the tags: Ray's and KubeRay's versions in manifests and in the README."""
    readme = (infra / "README.md").read_text()
    minor = ".".join(locked["ray"].split(".")[:2])
    assert set(re.findall(r"\bRay (\d+\.\d+)", readme)) == {minor}
    assert set(re.findall(r"kuberay-operator --version (\d+\.\d+)", readme)) == set(
        re.findall(r"Needs KubeRay (\d+\.\d+)", readme)
    )


def test_variables_that_hold_secrets_are_references(
    pods: Documents, compose: dict[str, Any]
) -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN", re.IGNORECASE)
    for name, template in pods.items():
        for container in template["spec"]["containers"]:
            for entry in container.get("env", []):
                if secret.search(entry["name"]):
                    assert set(entry) == {"name", "valueFrom"}, f"{name}: {entry['name']}"
    for name, service in compose["services"].items():
        for key, value in service.get("environment", {}).items():
            if secret.search(key):
                assert value.startswith("/run/secrets/"), f"{name}: {key}"


def test_no_file_holds_what_looks_like_a_secret(infra: Path) -> None:
    """Passwords in addresses, long random words, AWS keys, private keys."""
    shapes = {
        "password in an address": r"://[^/\s:@]+:[^/\s@]+@",
        "random word": r"\b(?=\w*\d)(?=\w*[a-f])[0-9a-f]{24,}\b",
        "AWS key": r"\bAKIA[0-9A-Z]{16}\b",
        "private key": r"BEGIN [A-Z ]*PRIVATE KEY",
    }
    files = [path for path in infra.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        for what, shape in shapes.items():
            assert not re.search(shape, path.read_text()), f"{path}: {what}"


def test_the_shapes_of_secrets_are_seen() -> None:
    """The search above can fail."""
    assert re.search(r"://[^/\s:@]+:[^/\s@]+@", "postgresql://mlflow:geheim@postgresql")
    assert re.search(r"\b(?=\w*\d)(?=\w*[a-f])[0-9a-f]{24,}\b", "key: 3f" + "0a1b2c3d" * 4)
