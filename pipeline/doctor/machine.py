"""This machine: installed packages, GPUs, memory, disks and threads."""

import importlib
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ucn.pipeline.doctor.findings import Finding

_OPENCV = "opencv-contrib-python-headless"
_OTHER_OPENCV = {"opencv-python", "opencv-python-headless", "opencv-contrib-python"}
# Packages that are listed even if their version is right.
_LISTED = {"torch", "ray", "mlflow", "numpy", "webdataset", "pykitti", _OPENCV}
_GIB = 2**30
_SHM = Path("/dev/shm")
# Ray's defaults: object_store_memory's share of the memory, and local_fs_capacity_threshold.
_OBJECT_STORE_SHARE, _DISK_FULL = 0.3, 0.95
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


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
        return [Finding("cv2", "problem", text, f"install {_OPENCV}")]
    if names := " ".join(sorted(installed & _OTHER_OPENCV)):
        remedy = f"pip uninstall {names}, then pip install --force-reinstall --no-deps {_OPENCV}"
        return [Finding("cv2", "warning", f"{names} overwrites files of {_OPENCV}", remedy)]
    return []


def check_gpus() -> list[Finding]:
    """Whether torch can use the GPUs."""
    import torch

    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        driver = next(iter(done.stdout.split()), None)
    except (OSError, subprocess.SubprocessError):
        driver = None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_name(index) for index in range(count)]
    return [judge_gpus(names, torch.version.cuda, driver)]


def judge_gpus(names: Sequence[str], cuda: str | None, driver: str | None) -> Finding:
    """Compares the GPUs that torch finds, torch's CUDA version and the version of the driver."""
    if names:
        return Finding("gpu", "ok", f"{', '.join(names)}; CUDA {cuda}, driver {driver}")
    if driver is None:
        return Finding("gpu", "ok", "none; networks run on the CPU")
    if cuda is None:
        remedy = "install torch with CUDA (https://pytorch.org/get-started/locally)"
        return Finding("gpu", "warning", f"driver {driver}, but torch has no CUDA", remedy)
    remedy = (
        "update the driver, start the container with GPUs (docker run --gpus all), or check "
        "CUDA_VISIBLE_DEVICES"
    )
    text = f"torch with CUDA {cuda} finds no GPU, driver {driver}"
    return Finding("gpu", "problem", text, remedy)


def check_memory() -> list[Finding]:
    """Memory of this machine or container, and shared memory for Ray's object store."""
    memory = psutil.virtual_memory()
    total = min(memory.total, cgroup_limits()[1] or memory.total)
    # macOS has no /dev/shm.
    shared = shutil.disk_usage(_SHM).total if _SHM.is_dir() else None
    return judge_memory(total, min(memory.available, total), shared)


def judge_memory(total: int, available: int, shared: int | None) -> list[Finding]:
    """Compares memory and shared memory, in bytes, with what Ray needs."""
    text, remedy = f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB available", ""
    if total < 4 * _GIB:
        remedy = "use a machine with 4 GiB or more; Ray kills tasks when memory runs out"
    elif available < 2 * _GIB:
        remedy = "close other programs, or lower --workers"
    findings = [Finding("memory", "warning" if remedy else "ok", text, remedy)]
    needed = _OBJECT_STORE_SHARE * total
    if shared is not None and shared < needed:
        size = f"{needed / _GIB:.0f}g"
        text = f"{shared / _GIB:.1f} GiB, Ray needs {needed / _GIB:.1f}"
        remedy = f"docker run --shm-size={size}, or an emptyDir of medium Memory on Kubernetes"
        findings.append(Finding(str(_SHM), "warning", text, remedy))
    return findings


def check_disks(folders: Sequence[tuple[str, Path]], cache_gib: float) -> list[Finding]:
    """Free space of each disk that is written to.

    Args:
        folders: purpose (``outputs``, ``ray``, ``cache``) and path, which need not exist.
        cache_gib: size limit of the shard cache.
    """
    disks: dict[int, tuple[Path, set[str]]] = {}
    for purpose, folder in folders:
        parent = existing_parent(folder)
        disks.setdefault(os.stat(parent).st_dev, (parent, set()))[1].add(purpose)
    findings = []
    for parent, purposes in disks.values():
        usage = shutil.disk_usage(parent)
        findings.append(judge_disk(purposes, parent, usage.total, usage.free, cache_gib))
    return findings


def judge_disk(
    purposes: set[str], folder: Path, total: int, free: int, cache_gib: float
) -> Finding:
    """Compares the free space of a disk, in bytes, with what is written to it."""
    text = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free at {folder}"
    text += f" ({', '.join(sorted(purposes))})"
    if free < _GIB:
        return Finding("disk", "problem", text, "free some space, or choose another folder")
    if "ray" in purposes and free < (1 - _DISK_FULL) * total:
        remedy = "free some space, or set RAY_TMPDIR to a folder of another disk"
        return Finding("disk", "problem", f"{text}; Ray stops at 95 % full", remedy)
    if "cache" in purposes and free < cache_gib * _GIB:
        remedy = f"lower data.cache_gib (now {cache_gib:g}), or set XDG_CACHE_HOME to another disk"
        return Finding("disk", "warning", f"{text}; the shard cache can need more", remedy)
    if free < 10 * _GIB:
        return Finding("disk", "warning", text, "free some space")
    return Finding("disk", "ok", text)


def existing_parent(path: Path) -> Path:
    """The folder itself, or the nearest existing folder above it."""
    path = path.absolute()
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), Path("/"))


def check_threads(environment: Mapping[str, str]) -> list[Finding]:
    """OpenMP's settings, which torch and OpenCV follow."""
    # macOS has no affinity.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    findings = [judge_threads(cores, cgroup_limits()[0], environment.get("OMP_NUM_THREADS"))]
    if environment.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        text = "OMP_WAIT_POLICY=ACTIVE: idle threads occupy their cores"
        findings.append(Finding("threads", "warning", text, "set OMP_WAIT_POLICY=PASSIVE"))
    return findings


def judge_threads(cores: int, limit: float | None, threads: str | None) -> Finding:
    """Compares OMP_NUM_THREADS with the cores, and with the CPU limit of the container if any."""
    usable = max(1, math.ceil(min(cores, limit or cores)))
    text = f"{cores} cores" + (f", limited to {limit:g}" if limit and limit < cores else "")
    text += f", OMP_NUM_THREADS {threads or 'not set'}"
    remedy = f"set OMP_NUM_THREADS={usable}"
    if threads and not all(part.isdigit() and int(part) for part in threads.split(",")):
        return Finding("threads", "problem", f"{text}, which is not a number", remedy)
    if (int(threads.split(",")[0]) if threads else cores) > usable:
        return Finding("threads", "warning", f"{text}: more threads than cores", remedy)
    return Finding("threads", "ok", text)


def cgroup_limits(
    root: Path = _CGROUPS, own: Path = _OWN_CGROUP
) -> tuple[float | None, int | None]:
    """CPUs and bytes of memory that this process can use (cgroup v2); None without a limit."""
    lines = _read(own).splitlines()
    group = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = root / group.strip("/")
    cpus: list[float] = []
    memory: list[int] = []
    for level in (folder, *folder.parents):
        quota, _, period = _read(level / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            cpus.append(int(quota) / int(period))
        if (limit := _read(level / "memory.max")).isdigit():
            memory.append(int(limit))
    return min(cpus, default=None), min(memory, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
