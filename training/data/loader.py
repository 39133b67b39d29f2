"""Training batches: made by reader processes ahead of the network, and copied to its device."""

import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from multiprocessing.connection import wait
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ucn.cluster.cpus import worker_cpus
from ucn.errors import UserError
from ucn.storage.files import socket_folder
from ucn.training.config import TrainConfig
from ucn.training.data.collate import Batch, PackedBatch, collate
from ucn.training.data.pairs import Reader, TrainingData, load_item
from ucn.training.data.sampler import Draw, Sampler, take_groups

CPU = torch.device("cpu")
MAX_READERS = 16
"""Most readers by default. Each takes memory, which a container without a CPU quota may lack."""


def training_batches(
    data: TrainingData,
    sampler: Sampler,
    channels: int,
    config: TrainConfig,
    first_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device = CPU,
) -> Iterator[PackedBatch]:
    """Yield one worker's groups of each global batch, from ``first_step`` to the last step.

    Args:
        data: its reader is pickled into each reader process.
        device: that the batches go to; in pinned memory if it is a GPU.

    Raises:
        UserError: a sample cannot be read.
    """
    steps = (
        [
            (data.locate(draw.sample), draw)
            for draw in chain(
                *take_groups(sampler.batch(step), config.pairs_in_group, rank, world_size)
            )
        ]
        for step in range(first_step, config.steps)
    )
    readers = num_readers(config, device)
    loader = DataLoader(
        _Batches(data.reader, channels, config),
        batch_size=None,
        sampler=steps,
        num_workers=readers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_reader,
        # Otherwise the loader draws from torch's global generator.
        generator=torch.Generator(),
        multiprocessing_context="spawn" if readers else None,
    )
    prefetcher = data.prefetcher
    if prefetcher is not None:
        prefetcher.use(*sampler.tars_in_use(first_step))
    with _without_main_file():
        batches = iter(loader)
    try:
        for step, batch in enumerate(batches, start=first_step + 1):
            if isinstance(batch, UserError):
                raise batch
            if prefetcher is not None:
                # Batches come in order: all before this step are read.
                prefetcher.use(*sampler.tars_in_use(step))
            yield batch
    finally:
        if prefetcher is not None:
            prefetcher.use([], [])


def num_readers(config: TrainConfig, device: torch.device) -> int:
    """Number of reader processes of a worker: `DataConfig.readers` with its default."""
    if config.data.readers is not None:
        return config.data.readers
    cpus = worker_cpus()
    return max(1, min(cpus - 1, MAX_READERS) if device.type == "cuda" else cpus // 8)


def on_device(batches: Iterable[PackedBatch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to a device. On a GPU the next batch is copied while one is trained on."""
    if device.type != "cuda":
        for packed in batches:
            yield packed.to(device)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ready: tuple[Batch, torch.cuda.Event] | None = None
    for packed in batches:
        with torch.cuda.stream(stream):
            following = packed.to(device), stream.record_event()
        if ready:
            yield _received(*ready)
        ready = following
    if ready:
        yield _received(*ready)


def _received(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Make the current stream wait for a copy, and keep its memory until the stream is past it."""
    stream = torch.cuda.current_stream(batch.images_BCHW.device)
    stream.wait_event(copied)
    # All tensors of the batch share one storage.
    batch.images_BCHW.record_stream(stream)
    return batch


class _Batches(Dataset[PackedBatch | UserError]):
    """Batches by the locations and draws of their samples.

    A `UserError` is a result: `DataLoader` changes raised messages.
    """

    def __init__(self, reader: Reader, channels: int, config: TrainConfig) -> None:
        self._reader, self._channels, self._config = reader, channels, config

    def __getitem__(self, draws: Sequence[tuple[Any, Draw]]) -> PackedBatch | UserError:
        try:
            items = [
                load_item(self._reader.read(location), *draw, self._channels, self._config)
                for location, draw in draws
            ]
        except UserError as error:
            return error
        packed = collate(items)
        return packed if get_worker_info() is None else packed.share()


def _start_reader(_: int) -> None:
    """Prepare a reader process: one thread, and an end with its parent, also if that is killed."""
    cv2.setNumThreads(1)
    # The sockets that hand over shared memory lie in the temporary folder.
    tempfile.tempdir = socket_folder()
    parent = multiprocessing.parent_process()
    assert parent is not None, "readers are child processes"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _without_main_file() -> Iterator[None]:
    """Keep spawned processes from running the main module's file, which is Ray's in its workers."""
    main = vars(sys.modules["__main__"])
    file = main.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            main["__file__"] = file
