"""Tasks with and without Ray: every result once, and errors as they were raised."""

import pytest

from ucn.cluster.session import ray_session
from ucn.cluster.tasks import run_tasks
from ucn.errors import UserError
from ucn.preprocessing.shards.format import digest, read_manifest
from ucn.storage.stores import LocalStore


def test_in_this_process_in_order() -> None:
    assert list(run_tasks(digest, [1, 2], workers=0)) == [(0, digest(1)), (1, digest(2))]
    with pytest.raises(UserError, match="no such folder"):
        list(run_tasks(read_manifest, [LocalStore("/nowhere")], workers=0))


def test_nothing_to_do_starts_nothing() -> None:
    import ray

    assert list(run_tasks(digest, [], workers=None)) == []
    assert not ray.is_initialized()


@pytest.mark.ray
def test_on_ray() -> None:
    items = list(range(25))
    with ray_session(2):
        found = dict(run_tasks(digest, items, workers=2))
        assert found == {index: digest(item) for index, item in enumerate(items)}
        with pytest.raises(UserError, match=r"^/nowhere: no such folder") as error:
            list(run_tasks(read_manifest, [LocalStore("/nowhere")], workers=1))
    assert "\n" not in str(error.value)
