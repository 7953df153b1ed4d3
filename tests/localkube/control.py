"""The control plane: etcd, API server, controllers, scheduler and our provisioner, on the host.

They run without namespaces at the bridge's address, as a managed control plane that no fault of
the nodes touches. etcd does not wait for the disk: the cluster is thrown away after a crash of the
machine.
"""

import os
import sys
from pathlib import Path

from localkube import cgroups, layout, pki, shell
from localkube.apiclient import Api
from localkube.launch import launch, pid_of
from localkube.layout import CONTROL
from localkube.supervisor import Spec, Task

GROUP = f"{layout.CGROUP}/control"
PID_FILE = layout.RUN / "control.pid"
LOGS = CONTROL / "logs"
_READY_LIMIT_SECONDS = 90.0


def start() -> None:
    """Start the control plane's supervisor, if it does not run."""
    if is_running():
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    cgroups.create(GROUP)
    spec = Spec(
        name="control",
        cgroup=GROUP,
        pid_file=str(PID_FILE),
        log_folder=str(LOGS),
        tasks=[_etcd(), _api_server(), _controller_manager(), _scheduler(), _provisioner()],
    )
    launch(spec, CONTROL)


def is_running() -> bool:
    """Whether the supervisor lives (its programs are its own concern)."""
    return pid_of(PID_FILE, GROUP) is not None


def wait_ready() -> None:
    """Wait until the API server answers that all of it is ready."""

    def check() -> str | None:
        answer = Api.admin().get_text("/readyz")
        return None if answer == "ok" else f"/readyz says {answer[-300:]!r}"

    shell.wait_until(
        f"the API server is not ready (see {LOGS})",
        check,
        timeout_seconds=_READY_LIMIT_SECONDS,
        interval_seconds=0.1,
    )


def stop() -> None:
    """Kill the control plane; what it stored stays."""
    cgroups.kill_all(GROUP)
    cgroups.remove(GROUP)
    PID_FILE.unlink(missing_ok=True)


def _program(name: str) -> str:
    return str(layout.BIN / name)


def _etcd() -> Task:
    client, peer = (f"http://127.0.0.1:{p}" for p in (layout.ETCD_PORT, layout.ETCD_PEER_PORT))
    return Task(
        "etcd",
        [
            _program("etcd"),
            "--name=control",
            f"--data-dir={CONTROL}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=control={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
    )


def _api_server() -> Task:
    ca, front_ca = pki.certificate("ca"), pki.certificate("front-proxy-ca")
    return Task(
        "kube-apiserver",
        [
            _program("kube-apiserver"),
            f"--advertise-address={layout.BRIDGE_ADDRESS}",
            f"--bind-address={layout.BRIDGE_ADDRESS}",
            f"--secure-port={layout.API_PORT}",
            f"--etcd-servers=http://127.0.0.1:{layout.ETCD_PORT}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--client-ca-file={ca}",
            f"--tls-cert-file={pki.certificate('apiserver')}",
            f"--tls-private-key-file={pki.key('apiserver')}",
            f"--kubelet-certificate-authority={ca}",
            f"--kubelet-client-certificate={pki.certificate('apiserver-kubelet')}",
            f"--kubelet-client-key={pki.key('apiserver-kubelet')}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer=https://kubernetes.default.svc.{layout.CLUSTER_DOMAIN}",
            f"--service-account-key-file={pki.key('service-account')}",
            f"--service-account-signing-key-file={pki.key('service-account')}",
            f"--service-cluster-ip-range={layout.SERVICE_CIDR}",
            f"--requestheader-client-ca-file={front_ca}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki.certificate('front-proxy')}",
            f"--proxy-client-key-file={pki.key('front-proxy')}",
            "--enable-aggregator-routing=true",
            "--profiling=false",
        ],
    )


def _controller_manager() -> Task:
    config = pki.kubeconfig_path("controller-manager")
    return Task(
        "kube-controller-manager",
        [
            _program("kube-controller-manager"),
            *_as_client(config),
            f"--root-ca-file={pki.certificate('ca')}",
            f"--service-account-private-key-file={pki.key('service-account')}",
            f"--cluster-signing-cert-file={pki.certificate('ca')}",
            f"--cluster-signing-key-file={pki.key('ca')}",
            "--use-service-account-credentials=true",
            "--node-monitor-period=2s",
            "--node-monitor-grace-period=20s",
        ],
    )


def _scheduler() -> Task:
    config = pki.kubeconfig_path("scheduler")
    return Task("kube-scheduler", [_program("kube-scheduler"), *_as_client(config)])


def _as_client(config: Path) -> list[str]:
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]


def _provisioner() -> Task:
    return Task("provisioner", [sys.executable, "-m", "localkube.provisioner"])


def log_tail(name: str, size_bytes: int = 2000) -> str:
    """The end of one program's log, for messages."""
    path = LOGS / f"{name}.log"
    if not path.exists():
        return "(no log)"
    with path.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - size_bytes))
        return log.read().decode(errors="replace")
