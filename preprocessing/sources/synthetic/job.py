"""Writes synthetic drives in parallel tasks of frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from ucn.cluster.tasks import run_tasks
from ucn.preprocessing.sources.synthetic.config import WorldSpec
from ucn.preprocessing.sources.synthetic.kitti_writer import (
    frame_files,
    write_frames,
    write_static_files,
)

# Every task builds the world, which takes about as long as two frames.
_FRAMES_A_TASK = 20


@dataclass(frozen=True)
class _FramesTask:
    root: Path
    spec: WorldSpec
    frames: range


def make_worlds(root: Path, specs: Sequence[WorldSpec], workers: int | None) -> None:
    """Write drives below ``root``. Existing files are kept.

    Args:
        root: folder in KITTI raw's layout.
        specs: the drives.
        workers: number of parallel tasks; None for the default, 0 to run without Ray.

    Raises:
        UserError: ``root`` has other drives with the same numbers, or cannot be written.
    """
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
        for index, _ in run_tasks(_write_frames, tasks, workers):
            progress.update(len(tasks[index].frames))


def _is_done(task: _FramesTask) -> bool:
    return all(
        path.exists() for frame in task.frames for path in frame_files(task.root, task.spec, frame)
    )


def _write_frames(task: _FramesTask) -> None:
    # Ray runs one task per core.
    cv2.setNumThreads(1)
    write_frames(task.root, task.spec, task.frames)
