"""Fixtures that the tests of several packages share."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from tests.textures import textured

if TYPE_CHECKING:
    from tests.storage.s3_server import Server
    from ucn.preprocessing.sample import Sample

# How long an example takes says nothing of whether it is right.
settings.register_profile("ucn", deadline=None)
settings.load_profile("ucn")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real samples in their official layouts, beside the checkout; tests skip without them."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real sample data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def world_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small synthetic drives, 0001 and 0002, of 8 frames in KITTI raw's layout."""
    from ucn.preprocessing.sources.synthetic.config import WorldSpec
    from ucn.preprocessing.sources.synthetic.kitti_writer import write_world

    base = tmp_path_factory.getbasetemp()
    # The processes of pytest-xdist share the worlds; their folders have one parent.
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "worlds"
    with open(f"{root}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            for drive in (1, 2):
                spec = {"frames": 8, "width": 414, "height": 125, "scan_degrees": 120}
                write_world(base / "worlds in work", WorldSpec(seed=drive, drive=drive, **spec))
            (base / "worlds in work").rename(root)
    return root


@pytest.fixture(scope="session")
def s3_server() -> Iterator["Server"]:
    """A server of the S3 protocol on loopback, without a bucket."""
    from tests.storage.s3_server import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def moto_server() -> Iterator[str]:
    """Address of an S3 server."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., "Sample"]:
    """Make a small random sample from its number."""
    return _make_sample


def _make_sample(index: int, *, grey: bool = False, matches: int = 5) -> "Sample":
    from ucn.preprocessing.sample import Sample

    rng = np.random.default_rng(index)
    shape = (24, 32) if grey else (24, 32, 3)
    return Sample(
        key=f"seq-{index:04d}",
        image0=rng.integers(0, 256, shape, dtype=np.uint8),
        image1=rng.integers(0, 256, shape, dtype=np.uint8),
        matches_N4=rng.uniform(0, 23, (matches, 4)).astype(np.float32),
        metadata={
            "sequence": "seq",
            "frame0": str(index),
            "frame1": f"{index}b",
            "matches": matches,
        },
        attributes={"depth0": rng.uniform(1, 9, matches).astype(np.float32)},
    )


@pytest.fixture(scope="session")
def texture() -> Callable[..., np.ndarray]:
    """Makes an image with structure at several scales."""
    return textured


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch has one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _no_notices() -> Iterator[None]:
    """Whether a command says that it waits depends on how busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ucn.notice.FIRST_S", 1e6)
        yield
