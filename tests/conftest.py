"""Fixtures that every room's tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.preprocessing.s3_server import Server

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

    root = tmp_path_factory.mktemp("worlds")
    for drive in (1, 2):
        write_world(
            root,
            WorldSpec(seed=drive, drive=drive, frames=8, width=414, height=125, scan_degrees=120),
        )
    return root


@pytest.fixture(scope="session")
def s3_server() -> Iterator["Server"]:
    """A server of the S3 protocol on loopback, without a bucket."""
    from tests.preprocessing.s3_server import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch has one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
