"""Turn claims into volumes: the external provisioner and resizer of the local cluster.

Level-triggered: a watch only says that something changed; each pass lists claims and volumes and
does what is missing. So a pass may fail or the process may be killed at any point, and the next
pass ends in the same state. A claim that cannot be served gets an Event, and is tried again.
"""

import math
import re
import threading
import time
from fractions import Fraction

from localkube import layout, nodes, volumes
from localkube.apiclient import Api, ApiError, Json
from localkube.errors import LocalKubeError
from localkube.layout import Node

_RESYNC_SECONDS = 5.0
_WATCH_SILENCE_SECONDS = 300.0
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_SUFFIXES: dict[str, Fraction] = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    **{name: Fraction(1000**power) for power, name in enumerate("kMGT", start=1)},
    **{f"{name}i": Fraction(1024**power) for power, name in enumerate("KMGT", start=1)},
}


def parse_quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity, rounded up."""
    match = re.fullmatch(r"([0-9.]+)(?:e([0-9]+))?([A-Za-z]*)", text)
    if match is None or match[3] not in _SUFFIXES:
        raise ValueError(f"not a quantity of bytes: {text!r}")
    exact = Fraction(f"{match[1]}e{match[2] or 0}") * _SUFFIXES[match[3]]
    return math.ceil(exact)


def quantity(size_bytes: int) -> str:
    """A size in whole MiB as Kubernetes writes it."""
    return f"{size_bytes >> 20}Mi"


def volume_name(claim: Json) -> str:
    """Named after the claim's uid, so that a second attempt finds the first one's work."""
    return f"pvc-{claim['metadata']['uid']}"


def requested_bytes(claim: Json) -> int:
    """What the claim asks for."""
    return parse_quantity(claim["spec"]["resources"]["requests"]["storage"])


def volume_object(claim: Json, node: Node, size_bytes: int, reclaim_policy: str) -> Json:
    """The PersistentVolume for a claim, bound to it and to its node."""
    name = volume_name(claim)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_PROVISIONED_BY: layout.PROVISIONER}},
        "spec": {
            "capacity": {"storage": quantity(size_bytes)},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": reclaim_policy,
            "storageClassName": claim["spec"]["storageClassName"],
            "volumeMode": "Filesystem",
            "local": {"path": str(volumes.mount_path(node, name))},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": claim["metadata"]["name"],
                "namespace": claim["metadata"]["namespace"],
                "uid": claim["metadata"]["uid"],
            },
        },
    }


def node_of_volume(volume: Json) -> Node:
    """The node that holds a volume of ours."""
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    return layout.node_by_name(terms[0]["matchExpressions"][0]["values"][0])


class Provisioner:
    """Reconciles all claims and volumes of our classes."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._complaints: dict[str, str] = {}

    def reconcile(self) -> None:
        """One pass over everything; one claim's failure does not stop the others."""
        classes = {
            item["metadata"]["name"]: item
            for item in self._api.items(_CLASSES)
            if item["provisioner"] == layout.PROVISIONER
        }
        found = {item["metadata"]["name"]: item for item in self._api.items(_VOLUMES)}
        for claim in self._api.items("/api/v1/persistentvolumeclaims"):
            storage_class = classes.get(claim["spec"].get("storageClassName", ""))
            if storage_class is not None:
                self._guarded(claim, storage_class, found.get(volume_name(claim)))
        for volume in found.values():
            if _is_ours(volume) and volume["status"].get("phase") == "Released":
                self._delete(volume)

    def _guarded(self, claim: Json, storage_class: Json, volume: Json | None) -> None:
        uid = claim["metadata"]["uid"]
        try:
            if volume is None:
                self._provision(claim, storage_class)
            elif volume["status"].get("phase") == "Bound":
                self._grow(claim, volume)
        except (LocalKubeError, OSError, KeyError, ValueError) as error:
            complaint = f"{type(error).__name__}: {error}"
            print(f"{claim['metadata']['name']}: {complaint}", flush=True)
            if self._complaints.get(uid) != complaint:
                self._complaints[uid] = complaint
                self._tell(claim, complaint)
        else:
            self._complaints.pop(uid, None)

    def _provision(self, claim: Json, storage_class: Json) -> None:
        selected = claim["metadata"].get("annotations", {}).get(_SELECTED_NODE)
        waiting = claim["status"].get("phase") == "Pending" and selected is not None
        if not waiting or "deletionTimestamp" in claim["metadata"]:
            return
        if claim["spec"].get("volumeMode", "Filesystem") != "Filesystem":
            raise ValueError("only volumes with a file system can be made")
        node = layout.node_by_name(selected)
        size_bytes = volumes.usable_size(requested_bytes(claim))
        name = volume_name(claim)
        pid = nodes.require_pid(node)
        volumes.create(node, name, size_bytes)
        volumes.mount_in_node(node, pid, name)
        policy = storage_class.get("reclaimPolicy", "Delete")
        self._api.create(_VOLUMES, volume_object(claim, node, size_bytes, policy))
        print(f"{name} made on {node.name}, {size_bytes} bytes", flush=True)

    def _grow(self, claim: Json, volume: Json) -> None:
        wanted = volumes.usable_size(requested_bytes(claim))
        capacity = parse_quantity(volume["spec"]["capacity"]["storage"])
        told = parse_quantity(claim["status"].get("capacity", {}).get("storage", "0"))
        if wanted <= capacity and told == capacity:
            return
        name = volume["metadata"]["name"]
        if wanted > capacity:
            node = node_of_volume(volume)
            volumes.grow(node, nodes.require_pid(node), name, wanted)
            capacity = wanted
            self._api.patch(
                f"{_VOLUMES}/{name}", {"spec": {"capacity": {"storage": quantity(capacity)}}}
            )
            print(f"{name} grown to {capacity} bytes", flush=True)
        # Told last, as the external resizer does: status never promises what is not there.
        status = {"capacity": {"storage": quantity(capacity)}, "conditions": []}
        self._api.patch(f"{_claim_path(claim)}/status", {"status": status})

    def _delete(self, volume: Json) -> None:
        if volume["spec"]["persistentVolumeReclaimPolicy"] != "Delete":
            return
        node, name = node_of_volume(volume), volume["metadata"]["name"]
        try:
            volumes.delete(node, nodes.pid_of(node), name)
            self._api.delete(f"{_VOLUMES}/{name}")
        except (LocalKubeError, OSError) as error:
            print(f"{name} is not deleted yet: {error}", flush=True)
            return
        print(f"{name} deleted from {node.name}", flush=True)

    def _tell(self, claim: Json, complaint: str) -> None:
        namespace = claim["metadata"]["namespace"]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event = {
            "metadata": {"generateName": f"{claim['metadata']['name']}."},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": claim["metadata"]["name"],
                "namespace": namespace,
                "uid": claim["metadata"]["uid"],
            },
            "reason": "ProvisioningFailed",
            "message": complaint[:1000],
            "type": "Warning",
            "source": {"component": layout.PROVISIONER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._api.create(f"/api/v1/namespaces/{namespace}/events", event)
        except OSError as error:  # the claim's own trouble is on record in the log
            print(f"no event for {claim['metadata']['name']}: {error}", flush=True)


_VOLUMES = "/api/v1/persistentvolumes"


def _claim_path(claim: Json) -> str:
    metadata = claim["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}"


def _is_ours(volume: Json) -> bool:
    annotations = volume["metadata"].get("annotations", {})
    return bool(annotations.get(_PROVISIONED_BY) == layout.PROVISIONER)


def _watch(api: Api, path: str, changed: threading.Event) -> None:
    """Say that something changed, for ever; a broken watch begins again."""
    while True:
        try:
            for _ in api.watch(path, _WATCH_SILENCE_SECONDS):
                changed.set()
        except OSError as error:
            print(f"watch of {path}: {error}", flush=True)
            time.sleep(1)
        changed.set()


def main() -> None:
    """Watch and reconcile until killed."""
    api = Api.admin()
    changed = threading.Event()
    for path in ("/api/v1/persistentvolumeclaims", _VOLUMES):
        threading.Thread(target=_watch, args=(api, path, changed), daemon=True).start()
    provisioner = Provisioner(api)
    while True:
        changed.wait(_RESYNC_SECONDS)
        changed.clear()
        try:
            provisioner.reconcile()
        except (ApiError, OSError) as error:
            print(f"this pass failed: {error}", flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
