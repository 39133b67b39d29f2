"""Which Ray is joined, and when one is started."""

from typing import Any

import pytest
import ray

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
        (ValueError("Invalid Ray address"), "is no address to join by"),
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
