"""Which Ray is joined, and when one is started."""

from typing import Any

import pytest
import ray

from preprocessing.cluster import ray_session


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
