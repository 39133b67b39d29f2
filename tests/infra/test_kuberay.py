"""KubeRay's objects, by what its operator asks of them (v1.7.0, ray-operator/apis/ray/v1)."""

import importlib.util
import shlex
from pathlib import Path
from typing import Any

import pytest

Documents = dict[str, dict[str, Any]]

# Fields of that version that these files may use; the pods inside are checked as Kubernetes' own.
JOB = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "entrypoint",
    "entrypointNumCpus",
    "jobId",
    "metadata",
    "preRunningDeadlineSeconds",
    "rayClusterSpec",
    "runtimeEnvYAML",
    "shutdownAfterJobFinishes",
    "submissionMode",
    "submitterConfig",
    "submitterPodTemplate",
    "suspend",
    "ttlSecondsAfterFinished",
}
CLUSTER = {
    "authOptions",
    "autoscalerOptions",
    "enableInTreeAutoscaling",
    "gcsFaultToleranceOptions",
    "headGroupSpec",
    "rayVersion",
    "suspend",
    "workerGroupSpecs",
}
AUTOSCALER = {
    "env",
    "idleTimeoutSeconds",
    "image",
    "resources",
    "securityContext",
    "upscalingMode",
    "version",
}
HEAD = {"headService", "labels", "rayStartParams", "resources", "template"}
GROUP = {
    "groupName",
    "idleTimeoutSeconds",
    "labels",
    "maxReplicas",
    "minReplicas",
    "numOfHosts",
    "priority",
    "rayStartParams",
    "replicas",
    "resources",
    "template",
}

GPUS_OF_A_NODE = 8


@pytest.fixture(scope="module")
def jobs(manifests: Documents) -> Documents:
    return {name: value for name, value in manifests.items() if value["kind"] == "RayJob"}


@pytest.fixture(scope="module")
def clusters(manifests: Documents) -> Documents:
    """Specifications of clusters, a job's own among them."""
    return {
        name: value["spec"].get("rayClusterSpec", value["spec"])
        for name, value in manifests.items()
        if value["kind"] in ("RayCluster", "RayJob")
    }


def test_there_is_a_job_for_each_stage_and_a_cluster_that_stays(manifests: Documents) -> None:
    custom = {
        (value["kind"], value["metadata"]["name"]): value["apiVersion"]
        for value in manifests.values()
        if value["kind"].startswith("Ray")
    }
    stages = ("preprocess", "train", "evaluate")
    expected = {("RayCluster", "ucn"), *(("RayJob", f"ucn-{stage}") for stage in stages)}
    assert set(custom) == expected
    assert set(custom.values()) == {"ray.io/v1"}


def test_only_fields_that_kuberay_knows(jobs: Documents, clusters: Documents) -> None:
    for name, job in jobs.items():
        assert set(job["spec"]) <= JOB, name
    for name, cluster in clusters.items():
        assert set(cluster) <= CLUSTER, name
        assert set(cluster.get("autoscalerOptions", {})) <= AUTOSCALER, name
        assert set(cluster["headGroupSpec"]) <= HEAD, name
        for group in cluster["workerGroupSpecs"]:
            assert set(group) <= GROUP, name
            assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"], name
            assert all(isinstance(value, str) for value in group["rayStartParams"].values()), name


def test_every_cluster_asks_for_the_token(clusters: Documents, locked: dict[str, str]) -> None:
    for name, cluster in clusters.items():
        assert cluster["authOptions"] == {"mode": "token"}, name
        # KubeRay refuses token mode without the version.
        assert cluster["rayVersion"] == locked["ray"], name


def test_preprocessing_grows_and_training_has_gpus(clusters: Documents) -> None:
    preprocess = clusters["kubernetes/jobs/preprocess.yaml RayJob ucn-preprocess"]
    assert preprocess["enableInTreeAutoscaling"] is True
    (group,) = preprocess["workerGroupSpecs"]
    assert group["maxReplicas"] > group["minReplicas"]
    (group,) = clusters["kubernetes/jobs/train.yaml RayJob ucn-train"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == GPUS_OF_A_NODE
    assert container["image"].endswith("-cuda")


def test_gpus_are_of_whole_nodes_and_heads_have_none(clusters: Documents) -> None:
    for name, cluster in clusters.items():
        (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
        assert head["image"].endswith("-cpu"), name
        assert "nvidia.com/gpu" not in head["resources"]["limits"], name
        for group in cluster["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
            assert gpus in (0, GPUS_OF_A_NODE), name
            assert container["image"].endswith("-cuda" if gpus else "-cpu"), name
            if gpus:
                volumes = {one["name"]: one for one in group["template"]["spec"]["volumes"]}
                mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
                # $HOME/.cache of the image's user
                assert "emptyDir" in volumes[mounts["/home/ucn/.cache"]], name


def test_as_many_tasks_wait_as_the_largest_cluster_has_cpus(
    jobs: Documents, clusters: Documents
) -> None:
    """The autoscaler starts nodes for what waits, no more."""
    name = "kubernetes/jobs/preprocess.yaml RayJob ucn-preprocess"
    (group,) = clusters[name]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    most = group["maxReplicas"] * int(container["resources"]["requests"]["cpu"])
    words = shlex.split(shlex.split(jobs[name]["spec"]["entrypoint"])[2])
    given = [int(words[index + 1]) for index, word in enumerate(words) if word == "--workers"]
    assert given == [most, most]


def test_training_has_a_gpu_for_each_worker(jobs: Documents, clusters: Documents) -> None:
    """It starts with the pods that the job waits for, and grows to as many as there can be."""
    name = "kubernetes/jobs/train.yaml RayJob ucn-train"
    (group,) = clusters[name]["workerGroupSpecs"]
    words = set(shlex.split(jobs[name]["spec"]["entrypoint"]))
    most, least = (GPUS_OF_A_NODE * group[name] for name in ("maxReplicas", "replicas"))
    assert {f"workers={most}", f"min_workers={least}"} <= words
    assert group["replicas"] == group["minReplicas"]
    assert "device=cuda" in words
    assert clusters[name]["enableInTreeAutoscaling"] is True


def test_an_entrypoint_is_one_command_of_the_submitter(jobs: Documents) -> None:
    """KubeRay pastes it into a shell script: what follows an operator would run in that pod."""
    for name, job in jobs.items():
        lexer = shlex.shlex(job["spec"]["entrypoint"], posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        assert not any(set(token) <= set("();<>|&") for token in lexer), name


def test_probes_ask_what_ray_answers_without_a_token(clusters: Documents) -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    agent = (Path(spec.origin).parent / "dashboard" / "http_server_agent.py").read_text()
    for name, cluster in clusters.items():
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for template in (group["template"] for group in groups):
            for probe in ("readinessProbe", "livenessProbe"):
                asked = template["spec"]["containers"][0][probe]["httpGet"]
                assert asked["port"] == 52365, name
                assert f'"{asked["path"]}"' in agent, name


def test_prometheus_is_let_in_where_it_is_told_to_ask(
    manifests: Documents, clusters: Documents
) -> None:
    monitor = manifests["metrics/pod-monitor.yaml PodMonitor ucn-ray"]["spec"]
    assert monitor["namespaceSelector"] == {"matchNames": ["ucn"]}
    # KubeRay itself names the first, on every node.
    names = {"metrics": 8080}
    for cluster in clusters.values():
        (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
        names |= {port["name"]: port["containerPort"] for port in head["ports"]}
    asked = {names[endpoint["port"]] for endpoint in monitor["podMetricsEndpoints"]}
    policy = manifests["kubernetes/services/network-policy.yaml NetworkPolicy ray"]["spec"]
    assert policy["podSelector"] == monitor["selector"]
    assert {port["port"] for port in policy["ingress"][-1]["ports"]} == asked
