"""Bring the cluster up, keep it up, take it down, and tell what is left of it.

`up` may be run at any time: on a healthy cluster it does nothing, a half-dead one is repaired, and
one that cannot be repaired, or was built from other pins or before the machine's last boot, is
taken down and built anew. `down` works on whatever a killed run left behind.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from localkube import (
    cgroups,
    control,
    cuts,
    gobuild,
    images,
    layout,
    network,
    node_config,
    nodes,
    packages,
    pki,
    preflight,
    shell,
    volumes,
)
from localkube.errors import LocalKubeError
from localkube.layout import NODES, STATE, Node
from localkube.locks import exclusive
from localkube.progress import say, step

CLIENTS_GROUP = f"{layout.CGROUP}/programs"
CLIENT_RESOLV_CONF = STATE / "client-resolv.conf"
_FINGERPRINT = STATE / "fingerprint"
_IMAGES = STATE / "images"
_SYSCTLS = STATE / "sysctls.json"
# What forwarding and kubelets set on the host; put back by `down`.
_CHANGED_SYSCTLS = (
    "net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic",
    "kernel/panic_on_oops", "fs/inotify/max_user_instances",
)  # fmt: skip
_INOTIFY_INSTANCES = "1024"
# Sources that a running cluster was made from, or runs.
_RUNNING_SOURCES = (
    "addons.yaml", "apiclient.py", "control.py", "layout.py", "network.py", "node_config.py",
    "pki.py", "provisioner.py", "supervisor.py", "volumes.py",
)  # fmt: skip
_LOCK_LIMIT_SECONDS = 3600.0
_PROGRAMS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl"),
)


def up() -> None:
    """Make the cluster run and be usable; returns when it is."""
    problems = preflight.problems()
    if problems:
        raise LocalKubeError("this machine cannot run the cluster:\n  " + "\n  ".join(problems))
    packages.install_missing()
    gobuild.build_missing()
    with exclusive(layout.LOCK_FILE, _LOCK_LIMIT_SECONDS):
        if _exists_but_differs():
            say("the cluster is of another version or another boot: it is built anew")
            _down()
        for fault in heal_links_and_freezers():
            say(f"undone, left by an earlier run: {fault}")
        if health_problem() is None:
            say("the cluster is up")
            return
        begun_before = _FINGERPRINT.exists()
        try:
            _bring_up()
        except LocalKubeError as error:
            if not begun_before:
                raise
            say(f"repairing failed ({error}); the cluster is built anew")
            _down()
            _bring_up()


def down() -> None:
    """Take everything away; raises when something cannot be removed."""
    with exclusive(layout.LOCK_FILE, _LOCK_LIMIT_SECONDS):
        _down()
    left = leftovers()
    if left:
        raise LocalKubeError("still there after taking the cluster down:\n  " + "\n  ".join(left))


def heal_links_and_freezers() -> list[str]:
    """Undo every cut and freeze; returns what was in force."""
    healed = [f"cut {name}" for name in cuts.in_force()]
    cuts.remove_all()
    return healed + [f"frozen {path}" for path in cgroups.thaw_all(layout.CGROUP)]


def health_problem() -> str | None:
    """What is wrong with the cluster, or None."""
    if not _FINGERPRINT.exists():
        return "there is no cluster"
    if not control.is_running():
        return "the control plane does not run"
    off = [node.name for node in NODES if nodes.pid_of(node) is None]
    if off:
        return f"powered off: {', '.join(off)}"
    try:
        nodes.wait_ready(NODES, timeout_seconds=0)
        rolled_out = _kubectl(
            *("--namespace=kube-system", "get", "deployment", "coredns"),
            *("--output=jsonpath={.status.availableReplicas}",),
        )
    except (LocalKubeError, OSError) as error:
        return str(error)
    return None if rolled_out == "1" else "CoreDNS is not available"


def leftovers() -> list[str]:
    """Everything of a cluster that still exists; empty after `down`."""
    found = network.leftovers() + cuts.leftovers()
    found += [f"process {pid}" for pid in sorted(cgroups.pids_below(layout.CGROUP))]
    found += [f"cgroup {path}" for path in cgroups.top_groups()]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if str(STATE) in line]
    found += [f"loop device {line}" for line in volumes.loop_devices_below(STATE)]
    found += [f"folder {path}" for path in (STATE, layout.RUN) if path.exists()]
    return found


def _bring_up() -> None:
    started = time.monotonic()
    _prepare_state()
    with step("starting control plane and nodes", 20):
        network.ensure_host()
        control.start()
        with ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(_start_node, NODES))
        control.wait_ready()
    with step("applying storage classes and DNS", 2):
        addons = str(Path(__file__).parent / "addons.yaml")
        shell.wait_until(
            "the add-ons cannot be applied", lambda: _apply(addons), timeout_seconds=60
        )
    with step("waiting for nodes and DNS", 10):
        nodes.wait_ready(NODES)
        shell.wait_until("the cluster is not healthy", health_problem, timeout_seconds=90)
    say(f"the cluster is up after {time.monotonic() - started:.1f} s: {layout.KUBECONFIG}")


def _start_node(node: Node) -> None:
    nodes.start(node, start_images(node))


def start_images(node: Node) -> list[str]:
    """The archives that a node imports before its kubelet starts."""
    names = ["pause", "busybox"] + (["coredns"] if node.zone is None else [])
    return [str(_IMAGES / f"{name}.tar") for name in names]


def _apply(path: str) -> None:
    _kubectl("apply", "--server-side", "--force-conflicts", "--filename", path)


def _kubectl(*arguments: str) -> str:
    kubectl = layout.BIN / "kubectl"
    return shell.run(kubectl, f"--kubeconfig={layout.KUBECONFIG}", *arguments, timeout_seconds=60)


def _prepare_state() -> None:
    STATE.mkdir(parents=True, exist_ok=True, mode=0o711)
    layout.RUN.mkdir(parents=True, exist_ok=True)
    _IMAGES.mkdir(exist_ok=True)
    layout.BIN.mkdir(exist_ok=True)
    _remember_sysctls()
    for name in _PROGRAMS:
        _link(layout.BIN / name, gobuild.path_of("kube"))
    _link(layout.BIN / "helm", gobuild.path_of("helm"))
    _write_images()
    cgroups.create(CLIENTS_GROUP)
    domain = layout.CLUSTER_DOMAIN
    CLIENT_RESOLV_CONF.write_text(
        f"nameserver {layout.DNS_ADDRESS}\nsearch svc.{domain} {domain}\n"
        "options ndots:3 timeout:2 attempts:2\n"
    )
    pki.ensure_all()
    shutil.copyfile(pki.kubeconfig_path("admin"), layout.KUBECONFIG)
    layout.KUBECONFIG.chmod(0o600)
    _FINGERPRINT.write_text(_fingerprint())


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _write_images() -> None:
    """Static programs as images; busybox is there for tests and for looking around."""
    images.write_image(
        *(_IMAGES / "pause.tar", node_config.PAUSE_IMAGE),
        *({"pause": gobuild.path_of("pause")}, ["/pause"]),
    )
    images.write_image(
        *(_IMAGES / "coredns.tar", "localhost/coredns:1"),
        *({"coredns": gobuild.path_of("coredns")}, ["/coredns"]),
    )
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    applets = shell.run(busybox, "--list").split()
    images.write_image(
        *(_IMAGES / "busybox.tar", "localhost/busybox:1"),
        *({"bin/busybox": busybox}, ["/bin/sh"]),
        {f"bin/{name}": "busybox" for name in applets if name != "busybox"},
    )


def _remember_sysctls() -> None:
    if not _SYSCTLS.exists():
        before = {name: _sysctl(name).read_text().strip() for name in _CHANGED_SYSCTLS}
        _SYSCTLS.write_text(json.dumps(before))
    _sysctl("fs/inotify/max_user_instances").write_text(_INOTIFY_INSTANCES)


def _restore_sysctls() -> None:
    if _SYSCTLS.exists():
        for name, value in json.loads(_SYSCTLS.read_text()).items():
            _sysctl(name).write_text(value)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name


def _fingerprint() -> str:
    """Changes when the cluster must be built anew: other programs, other sources, other boot."""
    digest = hashlib.sha256()
    for program in gobuild.PROGRAMS:
        digest.update(gobuild.program_key(program).encode())
    for name in _RUNNING_SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    digest.update(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    return digest.hexdigest()


def _exists_but_differs() -> bool:
    if _FINGERPRINT.exists():
        return _FINGERPRINT.read_text() != _fingerprint()
    return bool(leftovers())


def _down() -> None:
    """Each part is tried even when another fails; the first failure is raised at the end."""
    with step("taking the cluster down", 3):
        failures: list[LocalKubeError | OSError] = []
        for action in _down_actions():
            try:
                action()
            except (LocalKubeError, OSError) as error:
                failures.append(error)
        if failures:
            raise failures[0]


def _down_actions() -> Iterator[Callable[[], object]]:
    yield partial(cgroups.kill_all, layout.CGROUP)
    yield cuts.remove_all
    for node in NODES:
        yield partial(network.remove_node, node)
    yield network.remove_host
    yield partial(cgroups.remove, layout.CGROUP)
    yield _release_loops
    yield _restore_sysctls
    yield partial(_remove_tree, layout.RUN)
    yield partial(_remove_tree, STATE)
    yield _remove_mount_points


def _release_loops() -> None:
    """Loop devices end with the nodes' mount namespaces, a moment after their last process."""

    def check() -> str | None:
        for line in volumes.loop_devices_below(STATE):
            shell.run("losetup", "--detach", line.split()[0])
        return "; ".join(volumes.loop_devices_below(STATE)) or None

    shell.wait_until("loop devices stay", check, timeout_seconds=20)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _remove_mount_points() -> None:
    """The empty folders that nodes mounted their own ones on."""
    for target in node_config.OWN_FOLDERS:
        with contextlib.suppress(FileNotFoundError, OSError):  # not empty: not ours
            Path(target).rmdir()
