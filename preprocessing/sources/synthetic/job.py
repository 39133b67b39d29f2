"""Make synthetic drives: which worlds a configuration asks for, and their frames as tasks."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from preprocessing.config import SyntheticConfig
from preprocessing.sources.synthetic.config import WorldSpec
from preprocessing.sources.synthetic.kitti_writer import (
    frame_files,
    write_frames,
    write_static_files,
)
from preprocessing.tasks import run_tasks

_KITTI_ASPECT = 375 / 1242
# Building a world costs about as much as two frames.
_FRAMES_A_TASK = 20


@dataclass(frozen=True)
class _FramesTask:
    root: Path
    spec: WorldSpec
    frames: range


def world_specs(config: SyntheticConfig) -> list[WorldSpec]:
    """The worlds that a configuration asks for: numbered, and each driven at a speed of its own."""
    specs = []
    for number in range(config.first_world, config.first_world + config.worlds):
        rng = np.random.default_rng(number)
        specs.append(
            WorldSpec(
                seed=number,
                drive=number,
                frames=config.frames,
                width=config.width,
                height=round(config.width * _KITTI_ASPECT),
                cameras=(config.camera,),
                textures=config.textures,
                speed=round(float(rng.uniform(0.5, 1.2)), 2),
                movers=int(rng.integers(3, 8)),
                truth=False,
            )
        )
    return specs


def make_worlds(config: SyntheticConfig) -> None:
    """Write the drives below ``config.root``, or what is missing of them.

    Raises:
        UserError: ``config.root`` holds other drives of the same numbers, or cannot be written.
    """
    root = Path(config.root)
    specs = world_specs(config)
    for spec in specs:
        write_static_files(root, spec)
    tasks = [
        _FramesTask(root, spec, range(start, min(start + _FRAMES_A_TASK, spec.frames)))
        for spec in specs
        for start in range(0, spec.frames, _FRAMES_A_TASK)
    ]
    tasks = [task for task in tasks if not _is_done(task)]
    total = sum(len(task.frames) for task in tasks)
    with tqdm(total=total, desc="make worlds", unit="frame", disable=not tasks) as progress:
        for index, _ in run_tasks(_write_frames, tasks, config.workers):
            progress.update(len(tasks[index].frames))


def _is_done(task: _FramesTask) -> bool:
    return all(
        path.exists() for frame in task.frames for path in frame_files(task.root, task.spec, frame)
    )


def _write_frames(task: _FramesTask) -> None:
    # Ray runs one task a core.
    cv2.setNumThreads(1)
    write_frames(task.root, task.spec, task.frames)
