"""What the provisioner does with claims, against a fake API and a fake disk."""

import copy
from pathlib import Path
from typing import Any

import pytest

from localkube import layout, nodes, provisioner, volumes
from localkube.errors import LocalKubeError
from localkube.layout import Node

CLASS = {
    "metadata": {"name": "local-xfs"},
    "provisioner": layout.PROVISIONER,
    "reclaimPolicy": "Delete",
}
MIB = 1 << 20


class FakeApi:
    """Remembers objects and, in order, what was changed."""

    def __init__(self, claims: list[Any], found: list[Any]) -> None:
        self.lists = {
            "/apis/storage.k8s.io/v1/storageclasses": [CLASS],
            "/api/v1/persistentvolumeclaims": claims,
            "/api/v1/persistentvolumes": found,
        }
        self.changes: list[tuple[str, str, Any]] = []

    def items(self, path: str) -> list[Any]:
        return copy.deepcopy(self.lists[path])

    def create(self, path: str, body: Any) -> Any:
        self.changes.append(("create", path, body))
        return body

    def patch(self, path: str, body: Any) -> Any:
        self.changes.append(("patch", path, body))
        return body

    def delete(self, path: str) -> None:
        self.changes.append(("delete", path, None))


class FakeDisk:
    """Stands in for `volumes` and `nodes`: notes what was done to files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.pid: int | None = 42
        for name in ("create", "mount_in_node", "grow", "delete"):
            monkeypatch.setattr(volumes, name, self._noting(name))
        monkeypatch.setattr(nodes, "pid_of", lambda _: self.pid)
        monkeypatch.setattr(nodes, "require_pid", self._require)

    def _noting(self, name: str) -> Any:
        return lambda node, *rest: self.done.append((name, node.name, *rest))

    def _require(self, node: Node) -> int:
        if self.pid is None:
            raise LocalKubeError(f"{node.name} is off")
        return self.pid


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FakeDisk:
    return FakeDisk(monkeypatch)


def claim(*, request: str = "1Gi", node: str | None = "node-a1", phase: str = "Pending") -> Any:
    annotations = {"volume.kubernetes.io/selected-node": node} if node else {}
    return {
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local-xfs",
            "resources": {"requests": {"storage": request}},
        },
        "status": {"phase": phase},
    }


def volume(of: Any, *, size_mib: int, phase: str = "Bound") -> Any:
    made = provisioner.volume_object(of, layout.NODES[0], size_mib * MIB, "Delete")
    return made | {"status": {"phase": phase}}


def reconcile(api: FakeApi) -> None:
    provisioner.Provisioner(api).reconcile()  # type: ignore[arg-type]


def test_claim_waits_for_the_schedulers_choice(disk: FakeDisk) -> None:
    api = FakeApi([claim(node=None)], [])

    reconcile(api)

    assert disk.done == []
    assert api.changes == []


def test_volume_is_made_on_the_chosen_node_before_it_is_told(disk: FakeDisk) -> None:
    api = FakeApi([claim()], [])

    reconcile(api)

    assert disk.done == [
        ("create", "node-a1", "pvc-u", 1024 * MIB),
        ("mount_in_node", "node-a1", 42, "pvc-u"),
    ]
    [(verb, _, body)] = api.changes
    assert verb == "create"
    assert body["spec"]["capacity"] == {"storage": "1024Mi"}
    assert body["spec"]["claimRef"]["uid"] == "u"
    assert provisioner.node_of_volume(body).name == "node-a1"
    assert Path(body["spec"]["local"]["path"]).name == "pvc-u"


def test_small_request_gets_the_smallest_file_system(disk: FakeDisk) -> None:
    reconcile(FakeApi([claim(request="10Mi")], []))

    assert disk.done[0] == ("create", "node-a1", "pvc-u", 300 * MIB)


def test_claim_on_a_dead_node_is_told_why_and_told_once(disk: FakeDisk) -> None:
    disk.pid = None
    api = FakeApi([claim()], [])
    running = provisioner.Provisioner(api)  # type: ignore[arg-type]

    running.reconcile()
    running.reconcile()

    [(verb, path, event)] = api.changes
    assert (verb, path) == ("create", "/api/v1/namespaces/n/events")
    assert "node-a1 is off" in event["message"]
    assert disk.done == []


def test_growth_reaches_the_disk_first_and_the_claim_last(disk: FakeDisk) -> None:
    wanted = claim(request="2Gi", phase="Bound")
    wanted["status"]["capacity"] = {"storage": "1Gi"}
    api = FakeApi([wanted], [volume(wanted, size_mib=1024)])

    reconcile(api)

    assert disk.done == [("grow", "node-a1", 42, "pvc-u", 2048 * MIB)]
    assert [path for _, path, _ in api.changes] == [
        "/api/v1/persistentvolumes/pvc-u",
        "/api/v1/namespaces/n/persistentvolumeclaims/c/status",
    ]
    assert api.changes[1][2]["status"]["capacity"] == {"storage": "2048Mi"}


def test_growth_broken_off_before_the_claim_was_told_is_finished(disk: FakeDisk) -> None:
    wanted = claim(request="2Gi", phase="Bound")
    wanted["status"]["capacity"] = {"storage": "1Gi"}
    api = FakeApi([wanted], [volume(wanted, size_mib=2048)])

    reconcile(api)

    assert disk.done == []
    [(_, path, _)] = api.changes
    assert path.endswith("/status")


def test_nothing_to_do_changes_nothing(disk: FakeDisk) -> None:
    settled = claim(phase="Bound")
    settled["status"]["capacity"] = {"storage": "1Gi"}
    api = FakeApi([settled], [volume(settled, size_mib=1024)])

    reconcile(api)

    assert (disk.done, api.changes) == ([], [])


def test_released_volume_is_deleted_also_when_its_node_is_off(disk: FakeDisk) -> None:
    disk.pid = None
    api = FakeApi([], [volume(claim(), size_mib=300, phase="Released")])

    reconcile(api)

    assert disk.done == [("delete", "node-a1", None, "pvc-u")]
    assert api.changes == [("delete", "/api/v1/persistentvolumes/pvc-u", None)]


def test_retained_volume_stays(disk: FakeDisk) -> None:
    kept = volume(claim(), size_mib=300, phase="Released")
    kept["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
    api = FakeApi([], [kept])

    reconcile(api)

    assert (disk.done, api.changes) == ([], [])


def test_volumes_of_others_are_left_alone(disk: FakeDisk) -> None:
    foreign = volume(claim(), size_mib=300, phase="Released")
    foreign["metadata"]["annotations"] = {"pv.kubernetes.io/provisioned-by": "somebody"}
    api = FakeApi([], [foreign])

    reconcile(api)

    assert (disk.done, api.changes) == ([], [])


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1Gi", 1 << 30), ("1.5Gi", 3 << 29), ("5G", 5 * 10**9), ("12e6", 12 * 10**6), ("1500m", 2)],
)
def test_quantities(text: str, size_bytes: int) -> None:
    assert provisioner.parse_quantity(text) == size_bytes


@pytest.mark.parametrize("text", ["", "Gi", "1Xi", "-1Gi", "1 Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        provisioner.parse_quantity(text)
