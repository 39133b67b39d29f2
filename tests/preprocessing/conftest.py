"""Fixtures of the preprocessing tests."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from ucn.preprocessing.sample import Sample


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """Make a small random sample from its number."""
    return _make_sample


def _make_sample(index: int, *, grey: bool = False, matches: int = 5) -> Sample:
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
