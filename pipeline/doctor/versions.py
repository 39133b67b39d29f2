"""Versions of Python and of the installed packages."""

import importlib
import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ucn.pipeline.doctor.findings import Finding

OPENCV = "opencv-contrib-python-headless"
_OTHER_OPENCV = {"opencv-python", "opencv-python-headless", "opencv-contrib-python"}
# Listed even if their version is right.
_LISTED = {"torch", "ray", "mlflow", "numpy", "webdataset", "pykitti", OPENCV}


def check_versions() -> list[Finding]:
    """Whether the installed packages are those that `ucn` requires."""
    installed = {str(one.name).lower(): one.version for one in metadata.distributions() if one.name}
    if "ucn" not in installed:
        return [Finding("ucn", "problem", "not installed", "run make, or pip install .")]
    python = str(metadata.metadata("ucn").json.get("requires_python", ""))
    findings = [judge_version("python", platform.python_version(), python)]
    for package in map(Requirement, metadata.requires("ucn") or []):
        if package.marker is None or package.marker.evaluate({"extra": ""}):
            found = installed.get(package.name.lower())
            finding = judge_version(package.name, found, str(package.specifier))
            if package.name in _LISTED or finding.status != "ok":
                findings.append(finding)
    error = None
    try:
        importlib.import_module("cv2")
    except (ImportError, AttributeError, OSError) as raised:
        error = " ".join(str(raised).split())[:200]
    return [*findings, *judge_opencv(set(installed), error)]


def judge_version(name: str, installed: str | None, required: str) -> Finding:
    """Compares an installed version (None: not installed) with a version specifier."""
    remedy = "install the environment of requirements.lock (make, or infra/Dockerfile)"
    if installed is None:
        return Finding(name, "problem", "not installed", remedy)
    # 2.13.0+cpu is a build of 2.13.0.
    if not SpecifierSet(required).contains(installed.partition("+")[0], prereleases=True):
        return Finding(name, "problem", f"{installed}, but {required} is required", remedy)
    return Finding(name, "ok", installed)


def judge_opencv(installed: set[str], import_error: str | None) -> list[Finding]:
    """Finds OpenCV packages that overwrite each other's files, and an error of ``import cv2``."""
    if import_error is not None:
        text = f"cannot be imported ({import_error})"
        return [Finding("cv2", "problem", text, f"install {OPENCV}")]
    if names := " ".join(sorted(installed & _OTHER_OPENCV)):
        remedy = f"pip uninstall {names}, then pip install --force-reinstall --no-deps {OPENCV}"
        return [Finding("cv2", "warning", f"{names} overwrites files of {OPENCV}", remedy)]
    return []
