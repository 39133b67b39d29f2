"""The Triton kernel: its answers, and what it is compiled to, without a GPU."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget

from ucn.matching import fused_search as module
from ucn.matching.exclusion import Exclusion
from ucn.matching.features import Grid
from ucn.matching.search import has_fused_search

Compile = Callable[..., list[Any]]
MULTIPLY = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}
MAX_SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}


def test_answers() -> None:
    """Triton reads once, when it is imported, whether to interpret: in a process of its own."""
    environment = os.environ | {"TRITON_INTERPRET": str(int(not torch.cuda.is_available()))}
    file = Path(__file__).with_name("fused_search_kernel.py")
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "SKIPPED" not in outcome.stdout


@pytest.mark.parametrize(
    ("device", "capability", "expected"),
    [
        ("cpu", (9, 0), False),
        ("cuda", (7, 5), False),
        ("cuda", (8, 0), True),
        ("cuda", (10, 0), True),
    ],
)
def test_gpus_with_the_tensor_cores_take_the_kernel(
    device: str, capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fused_search(torch.device(device)) == expected


@pytest.fixture
def compile_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compile:
    """Compiles the kernel for a GPU that need not exist, with the arguments of a search."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def run(capability: int, config: triton.Config, searches: list[tuple[Any, ...]]) -> list[Any]:
        class Driver:
            get_current_target = staticmethod(lambda: GPUTarget("cuda", capability, 32))
            get_current_device = staticmethod(lambda: 0)
            get_current_stream = staticmethod(lambda device: 0)

        kernel = module._jit(module._search_part)

        class Launcher:
            def __getitem__(self, grid: object) -> Callable[..., None]:
                def launch(*arguments: Any, **meta: Any) -> None:
                    options = meta | config.all_kwargs()
                    kernel.run(*arguments, grid=(1, 1, 1), warmup=True, **options)

                return launch

        monkeypatch.setattr(triton.runtime.driver, "_active", Driver())
        monkeypatch.setattr(module, "_kernel", Launcher())
        for arguments in searches:
            module.fused_search(*arguments)
        (cache, *_) = kernel.device_caches[0]
        return list(cache.values())

    return run


def arguments(
    queries: int, height: int, width: int, others: int, dimension: int, radius: float, sets: int = 1
) -> tuple[Any, ...]:
    cells = height * width + others
    return (
        torch.zeros(sets, queries, dimension),
        torch.zeros(sets, cells, dimension),
        torch.ones(sets, cells, dtype=torch.bool),
        Exclusion(torch.zeros(sets, queries, 2), Grid(height, width, 4, 1.5), radius),
    )


@pytest.mark.parametrize(
    ("capability", "config", "dimension"),
    [(80, 0, 128), (90, 0, 128), (90, -2, 64), (100, 0, 64)],
)
def test_compiles_to_tensor_cores(
    capability: int, config: int, dimension: int, compile_for: Compile, tmp_path: Path
) -> None:
    """The first tile fits each GPU; none of these spills registers."""
    tile = module.CONFIGS[config]
    (compiled,) = compile_for(capability, tile, [arguments(90, 20, 50, 7, dimension, 16.0)])
    assert MULTIPLY[capability] in compiled.asm["ptx"]
    assert re.search(r"f32\.f16|kind::f16", compiled.asm["ptx"])
    assert compiled.metadata.shared <= MAX_SHARED[capability]
    if capability == 90:
        assert abs(compiled.metadata.shared - module.shared_bytes(tile, dimension)) < 2048
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    usage = subprocess.run(
        [triton.knobs.nvidia.cuobjdump.path, "-res-usage", cubin],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "STACK:0" in usage
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None
    assert 0 < int(registers[1]) * tile.num_warps * 32 <= 1 << 16  # of a multiprocessor


def test_sizes_are_not_compiled_anew(compile_for: Compile) -> None:
    searches = [
        arguments(90, 20, 50, 7, 20, 16.0),
        arguments(1, 1, 1, 0, 32, 3.0),
        arguments(64, 16, 16, 0, 17, 1.0, sets=2),
        arguments(1024, 32, 64, 2000, 31, 8.0),
    ]
    queries, cells, valid, exclusion = arguments(33, 9, 11, 0, 32, 40.0, sets=3)
    unaligned = exclusion._replace(points_N2=exclusion.points_N2[1:2])
    searches.append((queries[1:2], cells[1:2], valid[1:2], unaligned))
    assert len(compile_for(90, module.CONFIGS[0], searches)) == 1


def test_few_sizes_are_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are timed once for a dimension and a power of 16 of similarities."""
    seen: dict[int, set[tuple[int, int]]] = {}

    class Launcher:
        def __getitem__(self, grid: Callable[..., tuple[int, int, int]]) -> Callable[..., None]:
            def launch(*arguments: Any, **meta: Any) -> None:
                bound = dict(zip(module._kernel.arg_names, arguments, strict=False))
                blocks, parts, sets = grid({"QUERIES": 64})
                part_cells, num_cells = bound["part_cells"], bound["num_cells"]
                assert (parts - 1) * part_cells < num_cells <= parts * part_cells
                assert blocks * parts * sets <= max(blocks * sets, 1024) * 2
                sizes = seen.setdefault(bound["size_class"], set())
                sizes.add((bound["num_queries"], num_cells))

            return launch

        arg_names = module._kernel.arg_names

    monkeypatch.setattr(module, "_kernel", Launcher())
    for queries in (1, 70, 1024, 3000, 20_000):
        for cells in (1, 1000, 1025, 22_000, 60_001, 200_000):
            module.fused_search(torch.zeros(1, queries, 1), torch.zeros(1, cells, 1), None, None)
    assert len(seen) <= 9
    for sizes in seen.values():
        products = [queries * cells for queries, cells in sizes]
        assert max(products) < 16 * min(products)


def test_tiles_that_exceed_the_shared_memory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        class utils:
            get_device_properties = staticmethod(lambda index: {"max_shared_mem": 99 << 10})

    monkeypatch.setattr(triton.runtime.driver, "_active", Driver)
    fit = [
        module._that_fit(module.CONFIGS, {"query_high": torch.zeros(1)}, DIMENSION=dimension)
        for dimension in (16, 64, 128, 1024)
    ]
    assert fit[0] == module.CONFIGS
    assert len(fit[0]) > len(fit[1]) > len(fit[2])
    assert all(module.CONFIGS[0] in configs for configs in fit)
