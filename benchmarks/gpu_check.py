"""All claims about GPUs in one run of under ten minutes: search, steps, loading, distributed steps.

    PYTHONPATH=src python benchmarks/gpu_check.py --out FOLDER

Needs torch, triton, numpy, OpenCV, pydantic and safetensors; neither Ray nor MLflow. Every row goes
to FOLDER/gpu_check.json when it is measured; the same command again measures what is missing. The
table goes to FOLDER/gpu_check.md. Exit 1: a part failed, or a check did not hold.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import torch
from gpu_rows import all_rows

from ucn.storage.files import write_json, write_text

PART_SECONDS = 140


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test of this script")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: torch sees no GPU; install a CUDA build, or set --device cpu")
    path = options.out / "gpu_check.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    conditions = versions(options)
    if results.setdefault("versions", conditions) != conditions:
        parser.error(f"--out: {path} is of other versions or options; set another folder")
    if options.part:
        measure(options.part, path, results)
        return
    parts = all_rows(conditions)
    missing = [part for part in parts if results.get(part, {}).keys() != parts[part].keys()]
    failures = {part: failure for part in missing if (failure := run_part(part, options.out))}
    if path.exists():
        results = json.loads(path.read_text())
    text = table(results, failures)
    write_text(options.out / "gpu_check.md", text)
    print(text, end="")
    holds = all(row["holds"] for part in parts for row in results.get(part, {}).values())
    sys.exit(0 if holds and not failures else 1)


def run_part(part: str, folder: Path) -> str:
    """Measure a part in a process of its own, since an error of CUDA ends all work of a process.

    Returns:
        why it failed; empty if it did not.
    """
    command = [sys.executable, __file__, *sys.argv[1:], "--part", part]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{part}.log"
    print(f"{part}: see {log}", file=sys.stderr)
    with log.open("w") as stream:
        try:
            subprocess.run(command, stderr=stream, timeout=PART_SECONDS, check=True)
        except subprocess.TimeoutExpired:
            return f"took more than {PART_SECONDS} s"
        except subprocess.CalledProcessError as error:
            last_line = log.read_text().strip().rpartition("\n")[2]
            return f"exit code {error.returncode}: {last_line}"
    return ""


def measure(part: str, path: Path, results: dict[str, Any]) -> None:
    """Measure the missing rows of a part; each is written at once."""
    cv2.setNumThreads(1)
    if results["versions"]["quick"]:
        torch.set_num_threads(1)
    rows = results.setdefault(part, {})
    for name, work in all_rows(results["versions"])[part].items():
        if name not in rows:
            start = time.perf_counter()
            rows[name] = asdict(work())
            write_json(path, results)
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def versions(options: argparse.Namespace) -> dict[str, Any]:
    """What the results hold for."""
    found: dict[str, Any] = {"device": options.device, "quick": options.quick}
    found["CPUs"] = len(os.sched_getaffinity(0))
    found["Python"] = platform.python_version()
    for package in ("torch", "triton", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    if options.device == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        driver = subprocess.run(query, capture_output=True, text=True, check=False)
        found |= {
            "GPU": torch.cuda.get_device_name(),
            "GPUs": torch.cuda.device_count(),
            "CUDA": torch.version.cuda,
            "driver": driver.stdout.strip(),
        }
    return found


def table(results: dict[str, Any], failures: dict[str, str]) -> str:
    """The results in Markdown."""
    lines = [
        ", ".join(f"{name} {value}" for name, value in results["versions"].items()),
        "",
        "| part | case | measured | reference | ratio | check |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for part, names in all_rows(results["versions"]).items():
        measured = results.get(part, {})
        for name in (name for name in names if name in measured):
            row = measured[name]
            check = row["check"] if row["holds"] else f"**FAILED**: {row['check']}"
            lines.append(
                f"| {part} | {name} | {row['measured']} | {row['reference']} | "
                f"{row['ratio']:.2f} | {check} |"
            )
        if part in failures:
            lines.append(f"| {part} | | **FAILED**: {failures[part]} | | | |")
    if results["versions"]["device"] == "cpu":
        lines += ["", "The kernel needs a GPU: it was not measured."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
