"""The ground holds: what every other test on the local cluster takes for granted.

Needs the cluster (it is brought up when it is not), root, and about a minute.
"""

import json
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localkube import cluster, faults, images, layout, lifecycle, nodes, shell, volumes
from localkube.errors import LocalKubeError

NAMESPACE = "localkube-selftest"
POD = "subject"
SERVICE = f"{POD}.{NAMESPACE}.svc.{layout.CLUSTER_DOMAIN}"
GREETING = "still-here"
SERVE = f"while :; do nc -l -p 8080 -e echo {GREETING}; done"
LIMIT_SECONDS = 60.0
SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"


def in_namespace(*words: str, input_text: str | None = None) -> str:
    """kubectl in the namespace of these tests."""
    return cluster.kubectl(f"--namespace={NAMESPACE}", *words, input_text=input_text)


def apply(*documents: object) -> None:
    in_namespace("apply", "--filename=-", input_text="\n---\n".join(map(json.dumps, documents)))


def claim(name: str, size: str, storage_class: str | None = None) -> dict[str, object]:
    spec: dict[str, object] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if storage_class:
        spec["storageClassName"] = storage_class
    metadata = {"name": name}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }


def pod(name: str, claim_name: str, script: str, zone: str) -> dict[str, Any]:
    """A pod as restricted as ours will be: no root, its volume given to its group."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {layout.ZONE_LABEL: zone},
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 26,
                "fsGroup": 26,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": "localhost/busybox:1",
                    "args": ["-c", script],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}],
        },
    }


def answer_from_service() -> str:
    """What a client in the cluster hears, or nothing."""
    asking = ("timeout", "1", "bash", "-c", f"cat </dev/tcp/{SERVICE}/80")
    done = subprocess.run(
        cluster.client_command(*asking), capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip()


def wait_for_answer() -> None:
    shell.wait_until(
        "the service does not answer",
        lambda: None if answer_from_service() == GREETING else "no answer",
        timeout_seconds=LIMIT_SECONDS,
    )


def wait_for(what: str, read: Callable[[], str], wanted: str) -> None:
    def check() -> str | None:
        seen = read()
        return None if seen == wanted else f"{seen!r} instead of {wanted!r}"

    shell.wait_until(what, check, timeout_seconds=LIMIT_SECONDS)


@pytest.fixture(scope="module")
def subject() -> Iterator[str]:
    """A pod with a volume behind a Service, in zone-b; returns its node's name."""
    lifecycle.up()
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s")
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl(
        *("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    )
    apply(
        claim(POD, "400Mi"),
        pod(POD, POD, SERVE, "zone-b"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": POD},
            "spec": {"selector": {"app": POD}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
    in_namespace("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=60s")
    wait_for_answer()
    yield cluster.node_of_pod(NAMESPACE, POD).name
    faults.heal_all()
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")


def test_six_nodes_stand_in_three_zones(subject: str) -> None:
    listed = cluster.kubectl_json("get", "nodes")["items"]
    zones = {n["metadata"]["name"]: n["metadata"]["labels"].get(layout.ZONE_LABEL) for n in listed}

    assert zones == {node.name: node.zone for node in layout.NODES}


def test_host_reaches_services_through_the_client_node(subject: str) -> None:
    service = json.loads(in_namespace("get", "service", POD, "--output=json"))
    with socket.create_connection((service["spec"]["clusterIP"], 80), timeout=5) as connection:
        assert connection.recv(100).decode().strip() == GREETING


def test_pod_reaches_itself_and_the_api_by_name(subject: str) -> None:
    said = in_namespace("exec", POD, "--", "sh", "-c", f"nc {SERVICE} 80 </dev/null")
    assert said.strip() == GREETING

    resolved = in_namespace("exec", POD, "--", "nslookup", "kubernetes.default.svc.cluster.local")
    assert layout.API_SERVICE_ADDRESS in resolved


def test_second_up_takes_a_few_seconds(subject: str) -> None:
    assert lifecycle.health_problem() is None


def test_image_loaded_into_two_nodes_is_cloned_and_runs(subject: str, tmp_path: Path) -> None:
    """The second node's files are the first one's, and containers start from them."""
    reference = f"localhost/selftest:{uuid.uuid4().hex}"
    note = tmp_path / "note"
    note.write_text(reference)
    busybox = Path("/bin/busybox")
    files = {"bin/busybox": busybox, "note": note}
    images.write_image(tmp_path / "i.tar", reference, files, ["/bin/busybox"])

    cluster.load_image(tmp_path / "i.tar", ["node-a1", "node-c1"])
    cluster.load_image(tmp_path / "i.tar", ["node-a1", "node-c1"])

    original, copy = (unpacked_note(node, reference) for node in ("node-a1", "node-c1"))
    assert original.samefile(copy)
    document = pod("from-image", POD, "", "zone-c")
    document["spec"] = {
        "nodeName": "node-c1",
        "restartPolicy": "Never",
        "securityContext": document["spec"]["securityContext"],
        "containers": [
            {
                "name": "main",
                "image": reference,
                "imagePullPolicy": "Never",
                "args": ["cat", "/note"],
                "securityContext": document["spec"]["containers"][0]["securityContext"],
            }
        ],
    }
    apply(document)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    in_namespace("wait", done, "pod/from-image", "--timeout=60s")
    assert in_namespace("logs", "from-image") == reference


def unpacked_note(node_name: str, text: str) -> Path:
    """The file `note` with this text among a node's unpacked layers."""
    layers = layout.node_by_name(node_name).state / "containerd" / SNAPSHOTS
    return next(path for path in layers.glob("*/fs/note") if path.read_text() == text)


def test_privileged_pod_is_refused_where_the_namespace_is_restricted(subject: str) -> None:
    document = pod("intruder", POD, "true", "zone-a")
    document["spec"]["hostNetwork"] = True

    with pytest.raises(LocalKubeError, match="violates PodSecurity"):
        apply(document)


def test_volume_grows_under_its_pod_and_is_really_full_when_full(subject: str) -> None:
    def size_mib() -> str:
        said = in_namespace("exec", POD, "--", "df", "-m", "/data").splitlines()[-1].split()
        return said[1]

    small = int(size_mib())
    in_namespace(
        *("patch", "persistentvolumeclaim", POD, "--patch"),
        '{"spec": {"resources": {"requests": {"storage": "1Gi"}}}}',
    )
    wait_for(
        "the claim does not grow",
        lambda: in_namespace("get", "pvc", POD, "--output=jsonpath={.status.capacity.storage}"),
        "1Gi",
    )
    assert int(size_mib()) - small == 1024 - 400

    filling = in_namespace(
        *("exec", POD, "--", "sh", "-c"),
        "dd if=/dev/zero of=/data/full bs=1M 2>&1; rm /data/full",
    )
    assert "No space left on device" in filling


def test_claim_of_the_fixed_class_cannot_grow(subject: str) -> None:
    apply(claim("fixed", "300Mi", "local-fixed"), pod("fixed", "fixed", "sleep 60", "zone-c"))
    in_namespace("wait", "--for=condition=Ready", "pod/fixed", "--timeout=60s")

    with pytest.raises(LocalKubeError, match="storageclass that provisions the pvc must support"):
        in_namespace(
            *("patch", "persistentvolumeclaim", "fixed", "--patch"),
            '{"spec": {"resources": {"requests": {"storage": "1Gi"}}}}',
        )


def test_deleted_claim_takes_its_file_along(subject: str) -> None:
    apply(claim("short", "300Mi"), pod("short", "short", "sleep 60", "zone-a"))
    in_namespace("wait", "--for=condition=Ready", "pod/short", "--timeout=60s")
    node = cluster.node_of_pod(NAMESPACE, "short")
    name = in_namespace("get", "pvc", "short", "--output=jsonpath={.spec.volumeName}")
    assert volumes.image_path(node, name).exists()

    in_namespace("delete", "pod/short", "pvc/short", "--timeout=60s")

    def check() -> str | None:
        left = cluster.kubectl("get", "pv", name, "--ignore-not-found")
        return left or ("its file" if volumes.image_path(node, name).exists() else None)

    shell.wait_until("the volume stays", check, timeout_seconds=LIMIT_SECONDS)


def test_frozen_pod_and_frozen_node_fall_silent_and_come_back(subject: str) -> None:
    with faults.frozen_pod(NAMESPACE, POD):
        assert answer_from_service() == ""
    wait_for_answer()
    with faults.frozen_nodes(subject):
        assert answer_from_service() == ""
    wait_for_answer()


def test_cuts_have_a_direction_and_peers(subject: str) -> None:
    for direction in ("in", "out", "both"):
        with faults.cut_off(subject, direction=direction, peers=["client"]):
            assert answer_from_service() == "", direction
    with faults.cut_off("zone-b", peers=["zone-a", "zone-c", "control"]):
        assert answer_from_service() == GREETING
    with faults.cut_off("zone-b"):
        assert answer_from_service() == ""
    wait_for_answer()


def test_killed_process_is_the_one_that_was_meant(subject: str) -> None:
    before = {p.pid: p for p in cluster.pids_of_pod(NAMESPACE, POD)}

    killed = faults.kill_process(NAMESPACE, POD, r"^nc -l", container="main")

    assert killed == before[killed.pid]
    wait_for_answer()
    with pytest.raises(LocalKubeError, match="no process"):
        faults.kill_process(NAMESPACE, POD, "no such words")


def test_killed_node_leaves_nothing_running_and_keeps_its_volumes(subject: str) -> None:
    in_namespace("exec", POD, "--", "sh", "-c", "echo kept > /data/note && sync")
    node = layout.node_by_name(subject)

    with faults.killed_nodes(subject):
        assert nodes.pid_of(node) is None
        assert answer_from_service() == ""

    wait_for_answer()
    assert in_namespace("exec", POD, "--", "cat", "/data/note").strip() == "kept"


def test_heal_undoes_what_a_killed_test_left(subject: str) -> None:
    faults.cut(["zone-a"])
    faults.freeze_nodes(["node-c1"])
    faults.kill_nodes(["node-c2"])

    healed = faults.heal_all()

    assert len(healed) == 3
    assert faults.heal_all() == []
    assert lifecycle.health_problem() is None


def test_the_client_node_is_never_hit(subject: str) -> None:
    with pytest.raises(LocalKubeError, match="client node"):
        faults.kill_nodes(["client"])
