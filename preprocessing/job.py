"""The preprocessing job: plan, one task a shard, collect, publish the manifest.

Shards are named and filled by the plan, so neither the number of workers nor the order of
completion nor a kill in between changes a byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
from tqdm import tqdm

from preprocessing import storage
from preprocessing.config import PreprocessConfig
from preprocessing.errors import SkippedPair, UserError
from preprocessing.plan import ShardPlan, plan_shards
from preprocessing.shards.format import (
    MANIFEST,
    Manifest,
    Sidecar,
    digest,
    read_manifest,
    read_sidecar,
    sidecar_path,
)
from preprocessing.shards.write import Outcome, write_manifest, write_shard
from preprocessing.tasks import run_tasks


@dataclass(frozen=True)
class _ShardTask:
    config: PreprocessConfig
    plan: ShardPlan


def preprocess(config: PreprocessConfig) -> Manifest:
    """Make the shards that ``config`` describes, or what is missing of them.

    Returns:
        The published manifest.

    Raises:
        UserError: the input or the output folder is not usable, the output holds shards of
            another configuration, or no pair gave a sample.
    """
    config = config.model_copy(
        update={
            name: str(Path(value).absolute()) for name, value in config if name in ("root", "out")
        }
    )
    out = Path(config.out)
    _refuse_other_configuration(out, config)
    config.prepare()
    plans = plan_shards(config.open_source(), config)
    storage.make_folder(out)
    _sweep(out, plans)
    tasks = [_ShardTask(config, plan) for plan in plans if not _is_done(out, plan)]
    if tasks:
        (out / MANIFEST).unlink(missing_ok=True)
    total = sum(len(plan.pairs) for plan in plans)
    with tqdm(
        total=total,
        initial=total - sum(len(task.plan.pairs) for task in tasks),
        desc=f"preprocess {config.source}",
        unit="pair",
    ) as progress:
        for index, _ in run_tasks(_make_shard, tasks, config.workers):
            progress.update(len(tasks[index].plan.pairs))
    # Killed workers, whose tasks others took over, left theirs.
    storage.sweep_temporaries(out)
    manifest = write_manifest(out, [plan.name for plan in plans], config.content())
    if not manifest.totals.samples:
        reasons = ", ".join(f"{why} ({n})" for why, n in manifest.totals.skipped.items())
        raise UserError(f"{config.source}: no pair gave a sample: {reasons}; see {out / MANIFEST}")
    return manifest


def _make_shard(task: _ShardTask) -> None:
    """Make one shard. Runs in a worker, again if the worker dies."""
    # Ray runs one task a core.
    cv2.setNumThreads(1)
    write_shard(
        Path(task.config.out) / task.plan.name,
        _outcomes(task),
        task.config.images,
        digest(task.config.content()),
        task.plan.fingerprint,
    )


def _outcomes(task: _ShardTask) -> Iterator[Outcome]:
    source = task.config.open_source()
    for pair in task.plan.pairs:
        try:
            yield source.load(pair)
        except SkippedPair as skipped:
            yield source.key(pair), skipped


def _refuse_other_configuration(out: Path, config: PreprocessConfig) -> None:
    """Shards of one configuration a folder."""
    if config.overwrite or not out.is_dir():
        return
    content = config.content()
    if (out / MANIFEST).exists():
        there = read_manifest(out).configuration
        changed = sorted(
            name for name in there.keys() | content if there.get(name) != content.get(name)
        )
        same = not changed
    else:
        changed = []
        sidecars = [_sound_sidecar(path) for path in _shard_files(out) if path.suffix == ".json"]
        same = all(one is None or one.configuration == digest(content) for one in sidecars)
    if not same:
        what = f" ({', '.join(changed)} differ)" if changed else ""
        raise UserError(
            f"{out}: holds shards of another configuration{what}; "
            "choose another --out, or replace them with --overwrite"
        )


def _shard_files(out: Path) -> list[Path]:
    digits = "[0-9]" * 6
    return [path for suffix in ("tar", "json") for path in out.glob(f"*-{digits}.{suffix}")]


def _sweep(out: Path, plans: list[ShardPlan]) -> None:
    """Remove what interrupted runs left, and shards that are no longer planned."""
    storage.sweep_temporaries(out)
    planned = {Path(plan.name).stem for plan in plans}
    for path in _shard_files(out):
        if path.stem not in planned:
            path.unlink()


def _is_done(out: Path, plan: ShardPlan) -> bool:
    tar = out / plan.name
    sidecar = _sound_sidecar(sidecar_path(tar))
    return (
        sidecar is not None
        and sidecar.fingerprint == plan.fingerprint
        and tar.exists()
        and sidecar.bytes == tar.stat().st_size
    )


def _sound_sidecar(path: Path) -> Sidecar | None:
    try:
        return read_sidecar(path)
    except UserError:
        return None
