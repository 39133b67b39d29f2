"""Preprocessing job: plans the shards, makes each as one task, and publishes the manifest.

The plan alone determines the name and content of each shard. So the output is byte-identical for
any number of workers, any order of completion, and after any interruption.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import cv2
from tqdm import tqdm

from ucn.cluster.tasks import run_tasks
from ucn.errors import SkippedPair, UserError
from ucn.notice import notice
from ucn.preprocessing.config import PreprocessConfig
from ucn.preprocessing.plan import ShardPlan, plan_shards
from ucn.preprocessing.shards.card import write_card
from ucn.preprocessing.shards.format import (
    CARD,
    INDEX,
    MANIFEST,
    SKIPPED,
    FinishedShard,
    Manifest,
    digest,
    parse_sidecar,
    read_manifest,
    sidecar_name,
)
from ucn.preprocessing.shards.read import read_concurrently
from ucn.preprocessing.shards.write import Outcome, finished_shard, write_manifest, write_shard
from ucn.preprocessing.sources.base import CompiledSource, PairReader, Source
from ucn.storage.files import TEMPORARY_PREFIX
from ucn.storage.lock import LOCK_NAME, Lock, folder_lock
from ucn.storage.stores import Store, absolute_uri, open_store

_SHARD_FILE = re.compile(r"[a-z0-9_]+-\d{6}\.(tar|json)")


@dataclass(frozen=True)
class _ShardTask:
    config: PreprocessConfig
    plan: ShardPlan
    configuration: str
    reader: PairReader | None
    """None if the task has to open the source."""


def preprocess(config: PreprocessConfig) -> Manifest:
    """Makes the shards of a configuration; shards that are already finished are kept.

    Returns:
        The published manifest.

    Raises:
        UserError: the input or the output cannot be used, the output holds shards of another
            configuration, another run is writing to it, or no pair gave a sample.
    """
    config = config.model_copy(
        update={name: absolute_uri(value) for name, value in config if name in ("root", "out")}
    )
    store = open_store(config.out)
    sizes = store.sizes()
    manifest = _published(store, sizes, config)
    if manifest is None:
        # One shard is enough to compare configurations. All are read once the folder is locked.
        for shard in _read_shards(store, sizes, most=1):
            _refuse_other_configuration(config, shard.configuration)
    config.prepare()
    stored = _begun_with(config, manifest) if sizes else None
    with notice(f"listing the pairs of {config.source}"):
        source = config.open_source()
        plans = plan_shards(source, config, stored)
    complete = _is_complete(manifest, plans, sizes) and CARD in sizes
    if not complete or _leftovers(plans, sizes):
        with folder_lock(config.out) as lock:
            manifest = _complete(store, config, source, plans, lock)
            write_card(store, config, manifest)
    assert manifest is not None
    if not manifest.totals.samples:
        reasons = ", ".join(f"{why} ({n})" for why, n in manifest.totals.skipped.items())
        raise UserError(
            f"{config.source}: no pair gave a sample: {reasons}; see {config.out}/{MANIFEST}"
        )
    return manifest


def _complete(
    store: Store, config: PreprocessConfig, source: Source, plans: list[ShardPlan], lock: Lock
) -> Manifest:
    """Makes what is missing. Requires the lock, and lists the folder again under it."""
    sizes = store.sizes()
    manifest = _published(store, sizes, config)
    content = _begun_with(config, manifest)
    if _is_complete(manifest, plans, sizes):
        _sweep(store, plans, sizes)
        return manifest
    shards = _shards(store, sizes, config, source, content, plans, manifest, lock)
    return write_manifest(store, shards, content)


def _shards(
    store: Store,
    sizes: dict[str, int],
    config: PreprocessConfig,
    source: Source,
    content: dict[str, Any],
    plans: list[ShardPlan],
    manifest: Manifest | None,
    lock: Lock,
) -> Iterator[FinishedShard]:
    """Yields the planned shards: first the finished ones, then the others as they are made."""
    configuration = digest(content)
    missing = {plan.name: plan for plan in plans}
    for shard in tqdm(
        _read_shards(store, sizes), "finished shards", unit="shard", leave=False, delay=2.0
    ):
        if manifest is None:
            _refuse_other_configuration(config, shard.configuration)
        plan = missing.get(shard.entry.name)
        if plan is not None and plan.is_fingerprint(shard.entry.fingerprint):
            del missing[plan.name]
            yield shard
    stands = manifest is not None and is_up_to_date(manifest, plans, sizes)
    for name in {MANIFEST, CARD} & sizes.keys() if not stands else ():
        # A manifest must not list shards that are about to change.
        store.delete(name)
    _sweep(store, plans, sizes)
    store.prepare()
    left = list(missing.values())
    # Readers are made when their tasks start: together they may be larger than the memory.
    tasks = (_ShardTask(config, plan, configuration, _reader(source, plan)) for plan in left)
    total = sum(len(plan.pairs) for plan in plans)
    with tqdm(
        total=total,
        initial=total - sum(len(plan.pairs) for plan in left),
        desc=f"preprocess {config.source}",
        unit="pair",
    ) as progress:
        for index, shard in run_tasks(_make_shard, tasks, config.workers):
            lock.check()
            progress.update(len(left[index].pairs))
            yield shard
    # Deletes temporary files of killed workers whose tasks were retried.
    store.prepare()
    lock.check()


def _reader(source: Source, plan: ShardPlan) -> PairReader | None:
    return source.reader(plan.pairs) if isinstance(source, CompiledSource) else None


def _make_shard(task: _ShardTask) -> FinishedShard:
    """Makes one shard. Runs in a worker, and again if the worker dies."""
    # Ray runs one task per core.
    cv2.setNumThreads(1)
    return write_shard(
        open_store(task.config.out),
        task.plan.name,
        _outcomes(task),
        task.config.images,
        task.configuration,
        task.plan.fingerprint,
    )


def _outcomes(task: _ShardTask) -> Iterator[Outcome]:
    reader = task.reader or task.config.open_source()
    for pair in task.plan.pairs:
        try:
            yield reader.load(pair)
        except SkippedPair as skipped:
            yield reader.key(pair), skipped


def _published(store: Store, sizes: dict[str, int], config: PreprocessConfig) -> Manifest | None:
    """The existing manifest. None if there is none, or an unreadable one may be overwritten.

    Raises:
        UserError: it is unreadable, or of another configuration, and may not be overwritten.
    """
    if MANIFEST not in sizes:
        return None
    try:
        manifest = read_manifest(store)
    except UserError:
        if not config.overwrite:
            raise
        return None
    _refuse_other_configuration(config, manifest)
    return manifest


def _begun_with(config: PreprocessConfig, manifest: Manifest | None) -> dict[str, Any]:
    """The stored configuration if it is equivalent to the current one, else the current one.

    A dataset started by an earlier version keeps its stored configuration, so all its shards agree.
    """
    if manifest is None or config.differences(manifest.configuration):
        return config.content()
    return manifest.configuration


def _read_shards(
    store: Store, sizes: dict[str, int], most: int | None = None
) -> Iterator[FinishedShard]:
    """Yields the shards that have a valid sidecar; at most ``most`` are read."""

    def read(name: str) -> FinishedShard | None:
        try:
            data = store.read(sidecar_name(name))
            return finished_shard(parse_sidecar(store, name, data), data)
        except (FileNotFoundError, UserError):
            return None

    names = [
        name
        for name in sizes
        if _SHARD_FILE.fullmatch(name) and name.endswith(".tar") and sidecar_name(name) in sizes
    ][:most]
    for name, shard in zip(names, read_concurrently(read, names), strict=True):
        if shard and (shard.entry.name, shard.entry.bytes) == (name, sizes[name]):
            yield shard


def _refuse_other_configuration(config: PreprocessConfig, found: Manifest | str) -> None:
    """Checks that the folder holds shards of this configuration only.

    Args:
        found: the manifest, or the digest of a shard's configuration.
    """
    if config.overwrite:
        return
    if isinstance(found, Manifest):
        changed = config.differences(found.configuration)
        same, what = not changed, f" ({', '.join(changed)} differ)"
    else:
        same, what = found == digest(config.content()), ""
    if not same:
        raise UserError(
            f"{config.out}: holds shards of another configuration{what}; "
            "choose another --out, or replace them with --overwrite"
        )


def _is_complete(
    manifest: Manifest | None, plans: list[ShardPlan], sizes: dict[str, int]
) -> TypeGuard[Manifest]:
    """Whether nothing is to be done. Datasets of earlier versions have no index."""
    return (
        manifest is not None
        and is_up_to_date(manifest, plans, sizes)
        and {INDEX, SKIPPED} <= sizes.keys()
    )


def is_up_to_date(manifest: Manifest, plans: list[ShardPlan], sizes: dict[str, int]) -> bool:
    """Whether the manifest matches the plans, and all its files exist with the listed sizes."""
    same = len(plans) == len(manifest.shards) and all(
        plan.name == shard.name and plan.is_fingerprint(shard.fingerprint)
        for plan, shard in zip(plans, manifest.shards, strict=True)
    )
    return same and all(
        sizes.get(shard.name) == shard.bytes
        and sizes.get(sidecar_name(shard.name)) == shard.sidecar_bytes
        for shard in manifest.shards
    )


def _sweep(store: Store, plans: list[ShardPlan], sizes: dict[str, int]) -> None:
    for name in _leftovers(plans, sizes) - {LOCK_NAME}:
        store.delete(name)


def _leftovers(plans: list[ShardPlan], sizes: dict[str, int]) -> set[str]:
    """Temporary and lock files of killed runs, and shards that are not in the plan."""
    planned = {name for plan in plans for name in (plan.name, sidecar_name(plan.name))}
    return {
        name
        for name in sizes
        if (_SHARD_FILE.fullmatch(name) and name not in planned)
        or name.startswith(TEMPORARY_PREFIX)
        or name == LOCK_NAME
    }
