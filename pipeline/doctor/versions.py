"""Versions of Python and of the packages, against what the package requires."""

import importlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ucn.pipeline.doctor.finding import Finding

PACKAGE = "ucn"
OPENCV = "opencv-contrib-python-headless"
OTHER_OPENCV = {"opencv-python", "opencv-python-headless", "opencv-contrib-python"}
SHOWN = {
    "torch": "torch",
    "ray": "ray",
    "mlflow": "mlflow",
    "numpy": "numpy",
    "cv2": OPENCV,
    "webdataset": "webdataset",
    "pykitti": "pykitti",
}
"""What is looked at, and the name under which it is installed."""


def look_at_versions() -> list[Finding]:
    """Python and the packages that decide results."""
    try:
        required = required_versions(metadata.requires(PACKAGE) or [])
        python = str(metadata.metadata(PACKAGE).json.get("requires_python", ""))
    except metadata.PackageNotFoundError:
        required, python = {}, ""
    findings = [judge_version("python", platform.python_version(), python)]
    for name, package in SHOWN.items():
        findings.append(judge_version(name, _installed(package), required.get(package, "")))
    installed = {str(dist.name).lower() for dist in metadata.distributions() if dist.name}
    return [*findings, *judge_opencv(installed, _import_error("cv2"))]


def required_versions(requirements: Sequence[str]) -> Mapping[str, str]:
    """The version specifier of each package that is no extra, such as ``==2.13.0``."""
    parsed = [Requirement(text) for text in requirements]
    return {
        one.name.lower(): str(one.specifier)
        for one in parsed
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def judge_version(name: str, installed: str | None, required: str) -> Finding:
    """Whether an installed version is one that the package takes.

    Args:
        name: as it is shown.
        installed: None where it is not.
        required: specifier; an empty one takes every version.
    """
    remedy = "install the environment of requirements.lock (make, or infra/Dockerfile)"
    if installed is None:
        return Finding(name, "problem", "not installed", remedy)
    # Builds of one version, such as 2.13.0+cpu, are that version.
    if not SpecifierSet(required).contains(installed.partition("+")[0], prereleases=True):
        return Finding(name, "problem", f"{installed}, but {required} is required", remedy)
    return Finding(name, "ok", installed)


def judge_opencv(installed: set[str], import_error: str | None) -> list[Finding]:
    """Whether the one cv2 that is there works: its packages overwrite each other's files.

    Args:
        installed: names of all packages, in lower case.
        import_error: what importing it raises; None where it does not.
    """
    if import_error is not None:
        return [
            Finding("cv2", "problem", f"cannot be imported ({import_error})", f"install {OPENCV}")
        ]
    others = sorted(installed & OTHER_OPENCV)
    if not others:
        return []
    names = " ".join(others)
    return [
        Finding(
            "cv2",
            "warning",
            f"{names} overwrites files of {OPENCV}",
            f"pip uninstall {names}, then pip install --force-reinstall --no-deps {OPENCV}",
        )
    ]


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _import_error(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except (ImportError, AttributeError, OSError) as error:
        return " ".join(str(error).split())[:200]
    return None
