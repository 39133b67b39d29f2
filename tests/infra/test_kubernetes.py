"""The manifests: valid for the API server, and nothing in them is public or has rights."""

from pathlib import Path
from typing import Any

import pytest
from kubernetes_validate.utils import ValidationError, validate

Documents = dict[str, dict[str, Any]]

# The oldest and the newest that the files are meant for.
KUBERNETES = ("1.31", "1.37")
CUSTOM = ("RayCluster", "RayJob", "PodMonitor")
WORKLOADS = ("Deployment", "StatefulSet")


def _containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_object(version: str, manifests: Documents) -> None:
    plain = [value for value in manifests.values() if value["kind"] not in CUSTOM]
    assert len(plain) > 10
    for document in plain:
        validate(document, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_pod(version: str, pods: Documents) -> None:
    """Those that KubeRay makes as well: its objects hold whole pod templates."""
    assert len(pods) > 10
    for name, template in pods.items():
        document = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
        try:
            validate(document, version, strict=True)
        except ValidationError as error:
            pytest.fail(f"{name}: {error.message}")


def test_the_validator_refuses_what_it_does_not_know(pods: Documents) -> None:
    template = next(iter(pods.values()))
    broken = template | {"spec": template["spec"] | {"container": []}}
    document = {"apiVersion": "v1", "kind": "PodTemplate", "template": broken}
    with pytest.raises(ValidationError):
        validate(document, KUBERNETES[-1], strict=True)


def test_no_pod_has_rights(pods: Documents) -> None:
    """Pod Security Standards, level `restricted`, which the namespace enforces."""
    for name, template in pods.items():
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), name
        for container in _containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_the_autoscaler_has_no_rights_either(manifests: Documents) -> None:
    """KubeRay adds its container to the head."""
    for name, document in manifests.items():
        cluster = (
            document["spec"].get("rayClusterSpec", document["spec"]) if "spec" in document else {}
        )
        if cluster.get("enableInTreeAutoscaling"):
            context = cluster["autoscalerOptions"]["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name


def test_the_namespace_enforces_it(manifests: Documents) -> None:
    labels = manifests["kubernetes/namespace.yaml Namespace ucn"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, document in manifests.items():
        if document["kind"] not in ("Namespace", "PodMonitor"):
            assert document["metadata"]["namespace"] == "ucn", name


def test_every_container_has_resources_and_every_server_probes(pods: Documents) -> None:
    for name, template in pods.items():
        for container in _containers(template):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), name
            assert "memory" in resources["limits"], name
            if container["name"] != "ray-job-submitter":
                assert {"readinessProbe", "livenessProbe"} <= set(container), name


def test_no_service_is_public(manifests: Documents) -> None:
    kinds = {document["kind"] for document in manifests.values()}
    assert not kinds & {"Ingress", "Gateway", "HTTPRoute", "Secret"}
    for name, document in manifests.items():
        if document["kind"] == "Service":
            assert document["spec"]["type"] == "ClusterIP", name
            assert not {"externalIPs", "loadBalancerIP"} & set(document["spec"]), name
        cluster = document.get("spec", {}).get("rayClusterSpec", document.get("spec", {}))
        assert "serviceType" not in cluster.get("headGroupSpec", {}), name


def test_whoever_is_not_named_is_refused(manifests: Documents) -> None:
    """All ingress is closed, and each service's pods are opened at that service's ports alone."""
    policies = [d["spec"] for d in manifests.values() if d["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies
    for name, service in manifests.items():
        if service["kind"] != "Service":
            continue
        selector = {"matchLabels": service["spec"]["selector"]}
        own = [policy for policy in policies if policy["podSelector"] == selector]
        assert len(own) == 1, name
        open_ports = {port["port"] for rule in own[0]["ingress"] for port in rule["ports"]}
        assert open_ports == {port["port"] for port in service["spec"]["ports"]}, name
        assert all(rule["from"] for rule in own[0]["ingress"]), name


def test_services_select_a_workload(manifests: Documents) -> None:
    labels = [
        document["spec"]["template"]["metadata"]["labels"]
        for document in manifests.values()
        if document["kind"] in WORKLOADS
    ]
    for name, document in manifests.items():
        if document["kind"] == "Service":
            assert document["spec"]["selector"] in labels, name


def test_what_pods_refer_to_is_there(pods: Documents, manifests: Documents, infra: Path) -> None:
    """An object of these files, or a secret whose making the README shows."""
    there = {(document["kind"], document["metadata"]["name"]) for document in manifests.values()}
    readme = (infra / "README.md").read_text().replace("\\\n", " ")
    for name, template in pods.items():
        for kind, wanted, key in _references(template):
            if kind == "Secret":
                lines = [line for line in readme.splitlines() if f"generic {wanted} " in line]
                assert len(lines) == 1, f"{name}: {wanted}"
                assert key is None or f"--from-literal={key}=" in lines[0], f"{name}: {key}"
            else:
                assert (kind, wanted) in there, f"{name}: {wanted}"


def _references(node: Any) -> list[tuple[str, str, str | None]]:
    """(kind, name, key or None) of the objects that a pod template names."""
    kinds = {"configMapRef": "ConfigMap", "secretRef": "Secret", "secretKeyRef": "Secret"}
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    if not isinstance(node, dict):
        return []
    found = [
        (kind, node[field]["name"], node[field].get("key"))
        for field, kind in kinds.items()
        if field in node
    ]
    if "persistentVolumeClaim" in node:
        claim = node["persistentVolumeClaim"]["claimName"]
        found.append(("PersistentVolumeClaim", claim, None))
    return found + [more for value in node.values() for more in _references(value)]
