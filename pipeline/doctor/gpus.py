"""GPUs as the driver and as torch see them."""

import shutil
import subprocess
from dataclasses import dataclass

from ucn.pipeline.doctor.finding import Finding

_NAME = "gpu"


@dataclass(frozen=True)
class Gpus:
    """What was seen.

    Attributes:
        driver: version of NVIDIA's driver; None without one.
        built_for: version of CUDA that torch is built for; None of a build for CPUs.
        names: of the GPUs that torch can use.
    """

    driver: str | None
    built_for: str | None
    names: tuple[str, ...]


def look_at_gpus() -> list[Finding]:
    """Whether torch can use the GPUs that there are."""
    import torch

    names: list[str] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            names.append(f"{torch.cuda.get_device_name(index)} ({memory:.0f} GiB)")
    return [judge_gpus(Gpus(_driver(), torch.version.cuda, tuple(names)))]


def judge_gpus(gpus: Gpus) -> Finding:
    """Whether what is there is used."""
    if gpus.names:
        what = ", ".join(gpus.names)
        return Finding(_NAME, "ok", f"{what}; CUDA {gpus.built_for}, driver {gpus.driver}")
    if gpus.driver is None:
        return Finding(_NAME, "ok", "none; the network runs on the CPU")
    if gpus.built_for is None:
        return Finding(
            _NAME,
            "warning",
            f"driver {gpus.driver} is there, but this torch is built for CPUs",
            "install torch's build for CUDA (https://pytorch.org/get-started/locally)",
        )
    return Finding(
        _NAME,
        "problem",
        f"torch for CUDA {gpus.built_for} sees no GPU, with driver {gpus.driver}",
        "renew the driver, start the container with its GPUs (docker run --gpus all), or check "
        "CUDA_VISIBLE_DEVICES",
    )


def _driver() -> str | None:
    """The driver's version, where a GPU is there and its driver works."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)
