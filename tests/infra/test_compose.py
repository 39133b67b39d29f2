"""The compose file: valid, on loopback, and its MLflow as DESIGN wants it."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema

Words = list[str]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Of the Compose specification."""
    return get_builtin_schema("vendor.compose-spec")


@pytest.fixture(scope="module")
def servers(commands: list[tuple[str, Words]]) -> dict[str, Words]:
    """How MLflow's server is started in a container, by file."""
    return {
        file: words
        for file, words in commands
        if words[:2] == ["mlflow", "server"] and file.startswith("infra/")
    }


def test_compose_accepts_the_file(compose: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(compose, schema)
    broken = compose | {"services": {"mlflow": compose["services"]["mlflow"] | {"port": []}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_ports_are_bound_to_loopback(compose: dict[str, Any]) -> None:
    ports = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert ports == {
        "mlflow": ["127.0.0.1:5000:5000"],
        "postgresql": [],
        "object-store": ["127.0.0.1:8333:8333"],
    }
    assert all("network_mode" not in service for service in compose["services"].values())


def test_every_service_is_watched_and_pinned(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":\d+\.\d+", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for needed in service.get("depends_on", {}).values():
            assert needed == {"condition": "service_healthy"}, name


def test_networks_volumes_and_secrets_are_declared(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service["secrets"]) <= set(compose["secrets"]), name
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= set(compose["volumes"]), name
    assert compose["networks"]["records"] == {"internal": True}
    # Made by the README's command, under these names.
    for name, secret in compose["secrets"].items():
        assert Path(secret["file"]).name == name


def test_secrets_come_without_a_default(infra: Path) -> None:
    """Compose stops where the folder is not given, and says which."""
    text = (infra / "mlflow" / "compose.yaml").read_text()
    files = re.findall(r"^ +file: (\S+)", text, re.MULTILINE)
    assert files == ["${UCN_SECRETS:?the"] * 2


def test_mlflow_is_started_alike_and_guarded(
    servers: dict[str, Words], compose: dict[str, Any], manifests: dict[str, dict[str, Any]]
) -> None:
    assert set(servers) == {"infra/mlflow/compose.yaml", "infra/kubernetes/services/mlflow.yaml"}
    pod = manifests["kubernetes/services/mlflow.yaml Deployment mlflow"]["spec"]["template"]
    environments = {
        "infra/mlflow/compose.yaml": compose["services"]["mlflow"]["environment"],
        "infra/kubernetes/services/mlflow.yaml": {
            entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]
        },
    }
    for file, words in servers.items():
        given = _options(words[2:])
        assert given["--workers"] == "1", file
        assert given["--port"] == "5000", file
        # SQLAlchemy takes `postgresql://` for psycopg 3.
        uri = "postgresql+psycopg2://mlflow@postgresql:5432/mlflow"
        assert given["--backend-store-uri"] == uri, file
        assert given["--artifacts-destination"] == "s3://mlflow/artifacts", file
        hosts = given["--allowed-hosts"].split(",")
        assert "mlflow:5000" in hosts, file
        assert "*" not in hosts, file
        assert environments[file]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false", file


def _options(words: Words) -> dict[str, str]:
    """`--name value` and `--name=value`."""
    flat = [part for word in words for part in word.split("=", 1)]
    return dict(zip(flat[::2], flat[1::2], strict=True))
