"""Which Ray is joined, and when one is started."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from ucn.cluster.session import ray_session
from ucn.errors import UserError


@pytest.mark.parametrize(
    ("variable", "address", "cpus"), [(None, "local", 2), ("head:6379", "head:6379", None)]
)
def test_only_a_named_cluster_is_joined(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, address: str, cpus: int | None
) -> None:
    """Without a name Ray would join what lies recorded in its folder, dead or alive."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(
        ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:1")
    )
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    with ray_session(2):
        assert (asked["address"], asked["num_cpus"]) == (address, cpus)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("no answer"), "cannot be joined"),
        (ValueError("Invalid Ray address"), "not the address of a cluster"),
        (ray.exceptions.AuthenticationError("no token"), "there is no token"),
        (Exception("The current node timed out during startup."), "did not start in time"),
    ],
)
def test_what_keeps_a_driver_out_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "http://me:secret@head:8265")
    with pytest.raises(UserError, match=told) as refused, ray_session():
        pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("missing", ["attribute", "module"])
def test_without_its_switch_for_loopback_no_local_ray_is_started(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "attribute":
        monkeypatch.delattr(ray_constants, "ENABLE_RAY_CLUSTER")
    else:
        monkeypatch.setitem(sys.modules, "ray._private.ray_constants", None)
        monkeypatch.delattr(ray._private, "ray_constants")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("a local Ray was started"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="listens on all interfaces") as refused, ray_session():
        pass
    assert "\n" not in str(refused.value)
    assert not hasattr(ray_constants, "ENABLE_RAY_CLUSTER") or missing == "module"


def test_a_local_ray_that_listens_for_others_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(
        ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.5:1")
    )
    monkeypatch.setattr(ray, "shutdown", lambda: stopped.append(True))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="listens on all interfaces"), ray_session():
        pytest.fail("it was used")
    assert stopped


@pytest.mark.ray
def test_a_local_ray_is_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_session(1):
        assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
