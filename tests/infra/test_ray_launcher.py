"""The cluster launcher's files, by the launcher's own schema and defaults."""

from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

FILES = sorted((Path(__file__).parents[2] / "infra" / "ray").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return values


def test_ray_accepts_the_file(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]
    # What the file does not say, the launcher fills in: nothing of ours may be dropped.
    for key in ("head_start_ray_commands", "worker_start_ray_commands", "file_mounts"):
        assert prepared[key] == config[key]


def test_ray_refuses_an_unknown_option(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validate_config(prepare_config(config | {"worker_number": 3}))


def test_ec2_accepts_the_nodes_of_the_aws_cluster() -> None:
    """By the model of its API that boto3 ships: a misspelt option shows here, not after an hour."""
    (path,) = (path for path in FILES if path.stem == "aws")
    nodes = yaml.safe_load(path.read_text())["available_node_types"]
    request = botocore.session.get_session().get_service_model("ec2")
    shape = request.operation_model("RunInstances").input_shape
    for name, node in nodes.items():
        options = node["node_config"] | {"MinCount": 1, "MaxCount": 1}
        faults = ParamValidator().validate(options, shape)
        assert not faults.has_errors(), f"{name}: {faults.generate_report()}"
    assert ParamValidator().validate({"InstanceTyp": "m7i"}, shape).has_errors()


def test_every_node_starts_with_the_token(config: dict[str, Any]) -> None:
    starts = [
        command
        for role in ("head", "worker")
        for command in config[f"{role}_start_ray_commands"]
        if "ray start" in command
    ]
    assert len(starts) == 2
    for command in starts:
        assert "RAY_AUTH_MODE=token ray start" in command
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def test_nothing_listens_in_public(config: dict[str, Any]) -> None:
    head = config["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    if config["provider"]["type"] == "aws":
        assert config["provider"]["use_internal_ips"] is True


def test_the_checkout_travels_without_what_is_large_or_local(config: dict[str, Any]) -> None:
    assert config["file_mounts"]["~/ucn"] == "."
    assert {".git", ".venv", "runs", "shared"} <= set(config["rsync_exclude"])
