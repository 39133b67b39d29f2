"""The preprocessing that the faults are done to: two small drives, a few shards."""

import hashlib
from pathlib import Path

from ucn.preprocessing.sources.kitti.raw import KittiRawConfig
from ucn.storage.lock import LOCK_NAME
from ucn.storage.stores import Store, open_store


def drives_config(root: Path, out: Path | str, **options: object) -> KittiRawConfig:
    """A configuration of `ucn preprocess kitti-raw`, in this process unless told otherwise."""
    defaults = {"gaps": (1,), "min_matches": 50, "pairs_per_shard": 4, "workers": 0}
    return KittiRawConfig(root=str(root), out=str(out), **defaults | options)


def preprocess_words(config: KittiRawConfig) -> list[str]:
    """The same as words for `ucn`."""
    values = config.model_dump(mode="json", exclude_defaults=True, exclude={"source"})
    words = ["preprocess", "kitti-raw"]
    for name, value in values.items():
        several = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, several)]
    return words


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder but a lease."""
    return store_digests(open_store(out))


def store_digests(store: Store) -> dict[str, str]:
    """SHA-256 of every file in a store but a lease."""
    return {
        name: hashlib.sha256(store.read(name)).hexdigest()
        for name in sorted(store.sizes())
        if name != LOCK_NAME
    }
