"""The preprocessing job: plan, one task a shard, collect, publish the manifest.

Shards are named and filled by the plan, so neither the number of workers nor the order of
completion nor a kill in between changes a byte.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
from tqdm import tqdm

from preprocessing.config import PreprocessConfig
from preprocessing.errors import SkippedPair, UserError
from preprocessing.plan import ShardPlan, plan_shards
from preprocessing.shards.format import (
    MANIFEST,
    FinishedShard,
    Manifest,
    Sidecar,
    digest,
    parse_sidecar,
    read_manifest,
    sidecar_name,
)
from preprocessing.shards.write import Outcome, finished_shard, write_manifest, write_shard
from preprocessing.stores.base import Store
from preprocessing.stores.open import absolute_uri, open_store
from preprocessing.tasks import run_tasks

_SHARD_FILE = re.compile(r".+-\d{6}\.(tar|json)")
# Sidecars read at once: over a network it is their number that takes the time.
_READERS = 16


@dataclass(frozen=True)
class _ShardTask:
    config: PreprocessConfig
    plan: ShardPlan


def preprocess(config: PreprocessConfig) -> Manifest:
    """Make the shards that ``config`` describes, or what is missing of them.

    Returns:
        The published manifest.

    Raises:
        UserError: the input or the output is not usable, the output holds shards of another
            configuration, or no pair gave a sample.
    """
    config = config.model_copy(
        update={name: absolute_uri(value) for name, value in config if name in ("root", "out")}
    )
    store = open_store(config.out)
    sizes = store.sizes()
    sidecars = _read_sidecars(store, sizes)
    _refuse_other_configuration(store, config, sizes, sidecars)
    config.prepare()
    plans = plan_shards(config.open_source(), config)
    store.prepare()
    finished = _finished(plans, sizes, sidecars)
    tasks = [_ShardTask(config, plan) for plan in plans if plan.name not in finished]
    if tasks:
        store.delete(MANIFEST)
    _sweep(store, plans, sizes)
    total = sum(len(plan.pairs) for plan in plans)
    with tqdm(
        total=total,
        initial=total - sum(len(task.plan.pairs) for task in tasks),
        desc=f"preprocess {config.source}",
        unit="pair",
    ) as progress:
        for index, shard in run_tasks(_make_shard, tasks, config.workers):
            finished[tasks[index].plan.name] = shard
            progress.update(len(tasks[index].plan.pairs))
    # Killed workers, whose tasks others took over, left theirs.
    store.prepare()
    manifest = write_manifest(store, [finished[plan.name] for plan in plans], config.content())
    if not manifest.totals.samples:
        reasons = ", ".join(f"{why} ({n})" for why, n in manifest.totals.skipped.items())
        raise UserError(
            f"{config.source}: no pair gave a sample: {reasons}; see {config.out}/{MANIFEST}"
        )
    return manifest


def _make_shard(task: _ShardTask) -> FinishedShard:
    """Make one shard. Runs in a worker, again if the worker dies."""
    # Ray runs one task a core.
    cv2.setNumThreads(1)
    return write_shard(
        open_store(task.config.out),
        task.plan.name,
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


def _read_sidecars(store: Store, sizes: dict[str, int]) -> dict[str, tuple[Sidecar, bytes]]:
    """The sound sidecars that lie there, by the name of their tar."""
    tars = [name for name in sizes if _SHARD_FILE.fullmatch(name) and name.endswith(".tar")]

    def read(tar: str) -> tuple[str, Sidecar | None, bytes]:
        try:
            data = store.read(sidecar_name(tar))
            return tar, parse_sidecar(store, tar, data), data
        except (FileNotFoundError, UserError):
            return tar, None, b""

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(read, (tar for tar in tars if sidecar_name(tar) in sizes)))
    return {tar: (sidecar, data) for tar, sidecar, data in found if sidecar is not None}


def _refuse_other_configuration(
    store: Store,
    config: PreprocessConfig,
    sizes: dict[str, int],
    sidecars: dict[str, tuple[Sidecar, bytes]],
) -> None:
    """Shards of one configuration a folder."""
    if config.overwrite:
        return
    content = config.content()
    changed: list[str] = []
    if MANIFEST in sizes:
        there = read_manifest(store).configuration
        changed = sorted(
            name for name in there.keys() | content if there.get(name) != content.get(name)
        )
        same = not changed
    else:
        same = all(one.configuration == digest(content) for one, _ in sidecars.values())
    if not same:
        what = f" ({', '.join(changed)} differ)" if changed else ""
        raise UserError(
            f"{config.out}: holds shards of another configuration{what}; "
            "choose another --out, or replace them with --overwrite"
        )


def _finished(
    plans: list[ShardPlan], sizes: dict[str, int], sidecars: dict[str, tuple[Sidecar, bytes]]
) -> dict[str, FinishedShard]:
    """The planned shards that stand already, by name."""
    done = {}
    for plan in plans:
        sidecar, data = sidecars.get(plan.name, (None, b""))
        if (
            sidecar is not None
            and sidecar.fingerprint == plan.fingerprint
            and sidecar.bytes == sizes.get(plan.name)
        ):
            done[plan.name] = finished_shard(sidecar, data)
    return done


def _sweep(store: Store, plans: list[ShardPlan], sizes: dict[str, int]) -> None:
    """Remove shards that are no longer planned."""
    planned = {name for plan in plans for name in (plan.name, sidecar_name(plan.name))}
    for name in sizes:
        if _SHARD_FILE.fullmatch(name) and name not in planned:
            store.delete(name)
