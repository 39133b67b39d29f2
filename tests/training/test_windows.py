"""The order by windows of tars, and the copies made ahead of need."""

import errno
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.s3_server import Server
from ucn.errors import UserError
from ucn.preprocessing.shards import cache_folder
from ucn.preprocessing.shards.cache_folder import LocalCache, lock_copy, make_copy, make_room
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage.stores import open_store, write_bytes
from ucn.training.config import DataConfig, TrainConfig
from ucn.training.data.inputs import Mixture, open_datasets, training_sampler
from ucn.training.data.loader import training_batches
from ucn.training.data.sampler import BLOCK, Draw, Sampler, take_groups
from ucn.training.data.windows import Tars, window_order

TARS, SAMPLES = 8, 4


def make_tars(rows: list[tuple[int, int]], window_bytes: int, first: int = 0) -> Tars:
    """Tars of (samples, bytes)."""
    samples_T, bytes_T = np.array(rows).T
    return Tars(samples_T, bytes_T, first + np.cumsum(samples_T) - samples_T, window_bytes)


rows = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 100)), min_size=1, max_size=12)
tar_tables = st.builds(make_tars, rows, st.integers(1, 300))


def sampler_of(tars: Tars, batch_size: int, seed: int) -> Sampler:
    return Sampler((int(tars.samples_T.sum()),), batch_size, seed, tars=(tars,))


@given(tar_tables, st.integers(0, 9))
def test_a_window_mixes_its_own_tars_and_fits(tars: Tars, seed: int) -> None:
    order = window_order(tars, np.random.default_rng(seed))
    assert sorted(order.tars_T) == list(range(len(tars.bytes_T)))
    start = 0
    for window, end in enumerate(order.sample_ends_W):
        inside = order.window_tars(window)
        assert tars.bytes_T[inside].sum() <= tars.window_bytes or len(inside) == 1
        expected = [tars.first_T[tar] + np.arange(tars.samples_T[tar]) for tar in inside]
        assert sorted(order.samples_S[start:end]) == sorted(np.concatenate(expected))
        start = end


@given(tar_tables, st.integers(1, 7), st.integers(0, 9))
def test_every_sample_once_an_epoch(tars: Tars, batch_size: int, seed: int) -> None:
    sampler, size = sampler_of(tars, batch_size, seed), int(tars.samples_T.sum())
    draws = [sampler.draw(place) for place in range(3 * size)]
    for epoch in range(3):
        part = draws[epoch * size : (epoch + 1) * size]
        assert {draw.epoch for draw in part} == {epoch}
        assert sorted(draw.sample for draw in part) == list(range(size))


@given(tar_tables, st.integers(1, 3), st.integers(1, 4), st.integers(0, 9), st.integers(0, 50))
def test_each_world_size_and_each_resumed_run_has_the_same_batches(
    tars: Tars, group_size: int, groups: int, seed: int, step: int
) -> None:
    batch = sampler_of(tars, group_size * groups, seed).batch(step)
    resumed = sampler_of(
        Tars(tars.samples_T, tars.bytes_T, tars.first_T, tars.window_bytes),
        group_size * groups,
        seed,
    )
    for world_size in range(1, groups + 1):
        parts = [
            take_groups(resumed.batch(step), group_size, rank, world_size)
            for rank in range(world_size)
        ]
        in_order = [parts[place % world_size][place // world_size] for place in range(groups)]
        assert list(chain.from_iterable(in_order)) == batch


@given(tar_tables, st.integers(1, 5), st.integers(0, 9), st.integers(0, 40))
def test_tars_in_use_are_those_of_the_batch_and_of_the_next_window(
    tars: Tars, batch_size: int, seed: int, step: int
) -> None:
    sampler, size = sampler_of(tars, batch_size, seed), int(tars.samples_T.sum())
    now, after = sampler.tars_in_use(step)

    def tars_at(place: int) -> tuple[tuple[int, int], list[int]]:
        epoch, position = divmod(place, size)
        order = window_order(tars, np.random.default_rng([seed, 0, epoch]))
        window = order.window_of(position)
        return (epoch, window), order.window_tars(window)

    place = (step + 1) * batch_size
    current = dict(map(tars_at, range(step * batch_size, place)))
    while tars_at(place)[0] in current:
        place += 1
    assert set(now) == set(chain.from_iterable(current.values()))
    assert set(after) == set(tars_at(place)[1])
    own = {int(np.searchsorted(tars.first_T, d.sample, "right")) - 1 for d in sampler.batch(step)}
    assert own <= set(now)


def test_weighted_datasets_have_their_own_windows() -> None:
    tables = make_tars([(5, 10)] * 4, 20), make_tars([(3, 10)] * 3, 20, first=20)
    sampler = Sampler((20, 9), 4, 1, (0.7, 0.3), tables)
    for step in range(2 * BLOCK // 4):
        now, after = sampler.tars_in_use(step)
        for sample, _ in sampler.batch(step):
            assert (sample // 5 if sample < 20 else 4 + (sample - 20) // 3) in now
        assert {tar < 4 for tar in now} == {True, False} == {tar < 4 for tar in after}
    draws: list[Draw] = list(chain.from_iterable(map(sampler.batch, range(BLOCK // 4))))
    epochs = Counter(draw.epoch for draw in draws if draw.sample >= 20)
    assert all(epochs[epoch] == 9 for epoch in range(max(epochs)))


def test_windows_are_the_default_for_stores_with_a_cache() -> None:
    assert DataConfig(shards="s3://b/f").window_bytes == int(20 / 3 * 2**30)
    assert DataConfig(shards="s3://b/f", cache_gib=0).window_bytes is None
    assert DataConfig(shards="s3://b/f", shuffle="global").window_bytes is None
    assert DataConfig(shards="folder").window_bytes is None
    assert DataConfig(shards="folder", shuffle="windows", window_gib=1).window_bytes == 2**30
    with pytest.raises(UserError, match="window_gib"):
        DataConfig(shards="folder", shuffle="windows", cache_gib=0)


def test_the_window_is_part_of_the_fingerprint() -> None:
    def fingerprint(**options: object) -> str:
        return TrainConfig(data=options).fingerprint("a")

    windows = {"shuffle": "windows", "window_gib": 1.0}
    assert fingerprint(shards="s3://b/f", shuffle="global") == fingerprint(shards="folder")
    assert fingerprint(shards="s3://b/f", **windows) == fingerprint(
        shards="folder", cache_gib=9.0, **windows
    )
    assert fingerprint(**windows) != fingerprint(shuffle="windows", window_gib=2.0)
    assert fingerprint(**windows) != fingerprint()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    with server.bucket("windows", monkeypatch):
        yield server
    server.close()


@pytest.fixture
def uri(server: Server, pairs: Callable[[int], object]) -> str:
    """A dataset of eight tars in the bucket."""
    store, samples = open_store("s3://windows/train"), pairs(TARS * SAMPLES)
    shards = [
        write_shard(
            store,
            f"train-{tar:06d}.tar",
            (samples[tar * SAMPLES + place] for place in range(SAMPLES)),
            "grey-png",
            "configuration",
            f"fingerprint-{tar}",
        )
        for tar in range(TARS)
    ]
    write_manifest(store, shards, {})
    server.asked.clear()
    return store.uri


def gets(server: Server) -> Counter[str]:
    return Counter(path for method, path in server.asked if method == "GET" and ".tar" in path)


def config_of(uri: str, config: TrainConfig, tars: float, **options: object) -> TrainConfig:
    """With a window of two tars, and a cache of ``tars`` tars."""
    largest = max(
        shard.bytes
        for shard in open_datasets(with_data(config, shards=uri))[0].datasets[0].manifest.shards
    )
    return with_data(
        config,
        shards=uri,
        shuffle="windows",
        window_gib=2 * largest / 2**30,
        cache_gib=tars * largest / 2**30,
        **options,
    )


def with_data(config: TrainConfig, **options: object) -> TrainConfig:
    return config.model_copy(update={"data": DataConfig(readers=0, **options), "steps": 16})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ucn" / "shards"


def batches(config: TrainConfig, first_step: int = 0) -> list[tuple[str, ...]]:
    training, _ = open_datasets(config)
    sampler = training_sampler(config, training)
    return [batch.keys for batch in training_batches(training, sampler, 1, config, first_step)]


def test_one_get_a_tar_and_epoch_from_a_cache_of_two_windows(
    uri: str, server: Server, tiny_config: TrainConfig, folder: Path
) -> None:
    config = config_of(uri, tiny_config, 4.5)
    server.asked.clear()
    keys = batches(config)
    # 16 steps of 4 samples are two epochs of 8 tars of 4 samples.
    for half in (keys[:8], keys[8:]):
        assert len(set(chain.from_iterable(half))) == TARS * SAMPLES
    # The window after the last one is copied, too.
    assert all(count <= 3 for count in gets(server).values())
    assert 12 <= gets(server).total() <= 20
    assert sum(p.stat().st_size for p in folder.glob("*.tar")) <= config.data.cache_gib * 2**30
    assert batches(config, 5) == keys[5:]


def test_two_ranks_of_a_node_copy_each_tar_once(
    uri: str, server: Server, tiny_config: TrainConfig
) -> None:
    config = config_of(uri, tiny_config, 20).model_copy(update={"steps": 8})
    opened = [open_datasets(config)[0] for _ in range(2)]
    server.asked.clear()
    iterators = [
        training_batches(one, training_sampler(config, one), 1, config, 0, rank, 2)
        for rank, one in enumerate(opened)
    ]
    keys = [batch.keys for step in zip(*iterators, strict=True) for batch in step]
    assert sorted(chain.from_iterable(keys)) == sorted(opened[0].datasets[0].keys)
    assert set(gets(server).values()) == {1}


def test_reader_processes_wait_for_the_copies_and_hold_no_index(
    uri: str, server: Server, tiny_config: TrainConfig
) -> None:
    config = config_of(uri, tiny_config, 6)
    expected = batches(config)
    with_reader = config.model_copy(update={"data": config.data.model_copy(update={"readers": 1})})
    server.asked.clear()
    assert batches(with_reader) == expected
    # No range was read: each GET was of a whole tar.
    assert gets(server).total() <= 20
    training, _ = open_datasets(with_data(config, shards=uri, shuffle="global"))
    assert training.datasets[0].keys[5].encode() not in pickle.dumps(training.reader)


@pytest.mark.parametrize("fault", ["damaged", "missing", "down"])
def test_a_fault_of_the_store_is_told_and_nothing_hangs(
    uri: str, server: Server, tiny_config: TrainConfig, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(uri, tiny_config, 6)
    store = open_store(uri)
    if fault == "damaged":
        write_bytes(store, "train-000003.tar", bytes(len(store.read("train-000003.tar"))))
    elif fault == "missing":
        store.delete("train-000003.tar")
    else:
        monkeypatch.setattr("ucn.storage.s3._ATTEMPTS", 2)
        server.fault = lambda method, path: "403" if "000003.tar" in path else None
    with pytest.raises(UserError, match=r"train-000003\.tar"):
        batches(config)


def test_a_full_disk_is_one_warning_and_the_store_is_read(
    uri: str,
    tiny_config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = config_of(uri, tiny_config, 6)
    expected = batches(config)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    for path in LocalCache(1).folder.glob("*.tar"):
        path.unlink(missing_ok=True)  # by the prefetcher, which may still evict
    monkeypatch.setattr(cache_folder.os, "fsync", fail)
    assert batches(config) == expected
    # The prefetcher of the run before may still copy, and fails in the same way.
    records = [one for one in caplog.records if one.name.startswith("ucn")]
    (message,) = {one.getMessage() for one in records}
    assert len(records) <= 2
    assert "the disk is full" in message


def test_a_cache_too_small_for_two_windows_is_refused(uri: str, tiny_config: TrainConfig) -> None:
    config = config_of(uri, tiny_config, 3.5)
    training, _ = open_datasets(config)
    with pytest.raises(UserError, match=r"data\.cache_gib: .* two windows"):
        training_sampler(config, training)


def test_a_copy_in_use_is_not_evicted(uri: str, tmp_path: Path) -> None:
    training = Mixture([open_datasets(with_data(TrainConfig(), shards=uri))[0].datasets[0]])
    store, shards = open_store(uri), training.datasets[0].manifest.shards
    cache = LocalCache(10 * shards[0].bytes, tmp_path / "copies")
    names = {shard.sha256 for shard in shards}
    assert lock_copy_or_none(cache, shards[0]) is None
    for shard in shards[:2]:
        assert make_copy(store, shard, cache) == "made"
    file = lock_copy(shards[0], cache)
    assert file is not None
    small = LocalCache(shards[0].bytes + shards[1].bytes, cache.folder)
    assert not make_room(small, shards[0].bytes + shards[1].bytes, expendable=names)
    # Used just now, and not expendable.
    assert not make_room(small, 1)
    assert make_room(small, 1, expendable=names)
    assert [path.stem for path in cache.folder.glob("*.tar")] == [shards[0].sha256]
    file.close()
    assert make_room(small, shards[0].bytes + shards[1].bytes, expendable=names)


def lock_copy_or_none(cache: LocalCache, shard: object) -> object:
    cache.folder.mkdir(exist_ok=True)
    return lock_copy(shard, cache)
