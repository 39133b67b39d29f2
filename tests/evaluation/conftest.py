"""Image pairs with exact correspondences, small enough to be searched whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.textures import textured
from ucn.preprocessing.sample import Sample
from ucn.preprocessing.shards.write import write_manifest, write_shard
from ucn.storage.stores import open_store

FOCAL = 200.0


def shifted_sample(
    shift: tuple[int, int], seed: int = 0, size: tuple[int, int] = (120, 90), **metadata: object
) -> Sample:
    """A pair whose image 1 is image 0 moved by whole pixels; matches every third pixel."""
    width, height = size
    dx, dy = shift
    scene = textured(height + 2 * abs(dy), width + 2 * abs(dx), seed)
    x0, y0 = abs(dx), abs(dy)
    image0 = scene[y0 : y0 + height, x0 : x0 + width].copy()
    image1 = scene[y0 - dy : y0 - dy + height, x0 - dx : x0 - dx + width].copy()
    y, x = (grid.ravel() for grid in np.mgrid[0:height:3, 0:width:3])
    inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
    matches = np.stack([x, y, x + dx, y + dy], axis=1)[inside].astype(np.float32)
    name = f"shift{seed}-{dx}-{dy}"
    return Sample(
        key=name,
        image0=image0,
        image1=image1,
        matches_N4=matches,
        metadata={"sequence": f"drive-{seed % 2}", "frame0": f"{name}a", "frame1": f"{name}b"}
        | {"kind": "flow", "matches": len(matches)}
        | metadata,
    )


def rigid_sample(shift: int, seed: int = 0) -> Sample:
    """A camera that moves sideways before a wall: K, T_1_0 and the matches agree exactly."""
    depth = 5.0
    T_1_0 = np.eye(4)
    T_1_0[0, 3] = shift * depth / FOCAL
    K = [[FOCAL, 0.0, 60.0], [0.0, FOCAL, 45.0], [0.0, 0.0, 1.0]]
    return shifted_sample(
        (shift, 0), seed, kind="rigid", K0=K, K1=K, T_1_0=T_1_0.tolist(), unit="metre"
    )


def write_samples(folder: Path, samples: list[Sample]) -> Path:
    """Write samples as a finished set of one shard."""
    folder.mkdir(exist_ok=True)
    store = open_store(folder)
    shard = write_shard(store, "val-000000.tar", samples, "grey-png", "configuration", "f")
    write_manifest(store, [shard], {})
    return folder


@pytest.fixture(scope="session")
def shifted() -> Callable[..., Sample]:
    return shifted_sample


@pytest.fixture(scope="session")
def rigid() -> Callable[..., Sample]:
    return rigid_sample


@pytest.fixture(scope="session")
def write_set() -> Callable[[Path, list[Sample]], Path]:
    return write_samples


@pytest.fixture(scope="session")
def shift_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs of two sequences, two of them rigid."""
    folder = tmp_path_factory.mktemp("sets") / "shifts"
    return write_samples(
        folder,
        [
            rigid_sample(12, seed=0),
            rigid_sample(-7, seed=1),
            shifted_sample((6, 4), 2),
            shifted_sample((0, -9), 3),
        ],
    )
