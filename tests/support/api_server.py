"""A real kube-apiserver with a real etcd and nothing else: no controllers, no nodes.

They are the programs of the local cluster, started on free ports of loopback for one test session.
They die with the process that started them, even when that is killed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes.aio.client import ApiClient, Configuration

from aurora_operator.api.render import render_crd
from aurora_operator.kube.api import EXTRA_RIGHTS, Kind
from aurora_operator.kube.client import KubeClient
from aurora_operator.reconcile.certificates import make_authority
from localkube import gobuild

START_SECONDS = 60.0
_TOKENS = {"admin": "admin-token", "operator": "operator-token"}


@dataclass(frozen=True)
class ApiServer:
    """A running API server."""

    url: str
    authority: Path

    def client(self, user: str = "admin") -> KubeClient:
        """A client that acts as ``admin`` or as ``operator``; the caller closes it."""
        return KubeClient(ApiClient(self._configuration(user)))

    def _configuration(self, user: str) -> Configuration:
        return Configuration(
            host=self.url,
            ssl_ca_cert=str(self.authority),
            api_key={"BearerToken": _TOKENS[user]},
            api_key_prefix={"BearerToken": "Bearer"},
        )

    def kubeconfig(self, user: str, path: Path) -> Path:
        """Write a kubeconfig for programs that log in by themselves."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": self.url, "certificate-authority": str(self.authority)},
                }
            ],
            "users": [{"name": user, "user": {"token": _TOKENS[user]}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path


async def raw(
    client: KubeClient, method: str, path: str, body: dict[str, Any] | None = None
) -> Any:
    """A call for kinds that the operator does not know."""
    return await client._call(method, path, body)


@contextlib.contextmanager
def api_server() -> Iterator[ApiServer]:
    """Start one, with the CRD and the operator's rights in place."""
    gobuild.build_missing()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        # One binary that is every program of a control plane, and asks its name which.
        for name in ("etcd", "kube-apiserver"):
            (home / name).symlink_to(gobuild.path_of("kube"))
        ports = _free_ports(3)
        etcd = f"http://127.0.0.1:{ports[0]}"
        peer = f"http://127.0.0.1:{ports[1]}"
        stack.enter_context(
            _running(
                home / "etcd.log",
                *(f"{home}/etcd", "--name=test", f"--data-dir={home}/data"),
                *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"),
                *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
                *(f"--initial-cluster=test={peer}", "--unsafe-no-fsync", "--log-level=warn"),
            )
        )
        key = _write_key(home / "service-account.key")
        authority = _write_certificate(home)
        tokens = home / "tokens.csv"
        tokens.write_text(
            f'{_TOKENS["admin"]},admin,1,"system:masters"\n{_TOKENS["operator"]},operator,2\n'
        )
        log = home / "kube-apiserver.log"
        stack.enter_context(
            _running(
                log,
                *(f"{home}/kube-apiserver", f"--etcd-servers={etcd}"),
                *("--bind-address=127.0.0.1", f"--secure-port={ports[2]}"),
                *(f"--tls-cert-file={home}/tls.crt", f"--tls-private-key-file={home}/tls.key"),
                *(f"--token-auth-file={tokens}",),
                *("--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"),
                *("--service-account-issuer=https://test", f"--service-account-key-file={key}"),
                f"--service-account-signing-key-file={key}",
                # Its controller, which would take the finalizer off again, is not here.
                "--disable-admission-plugins=StorageObjectInUseProtection",
                "--profiling=false",
            )
        )
        server = ApiServer(f"https://localhost:{ports[2]}", authority)
        _wait_ready(server, log)
        _prepare(server)
        yield server


@contextlib.contextmanager
def _running(log: Path, *argv: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait(timeout=10)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _write_key(path: Path) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return path


def _write_certificate(home: Path) -> Path:
    """The server's certificate, and the authority that clients trust."""
    now = datetime.now(UTC)
    authority = make_authority("test", now)
    pair = authority.issue(role="apiserver", organisation="test", names=["localhost"], now=now)
    (home / "ca.crt").write_bytes(authority.certificate_pem)
    (home / "tls.crt").write_bytes(pair.certificate_pem)
    (home / "tls.key").write_bytes(pair.key_pem)
    return home / "ca.crt"


def _wait_ready(server: ApiServer, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            status = _ask(server, "GET", "/readyz", None)
        except OSError as error:
            last = str(error)
        else:
            if status == "ok":
                return
            last = status
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-2000:]
    raise AssertionError(f"kube-apiserver is not ready after {START_SECONDS:.0f} s: {last}\n{tail}")


def _ask(server: ApiServer, method: str, path: str, body: dict[str, Any] | None) -> str:

    context = ssl.create_default_context(cafile=str(server.authority))
    request = urllib.request.Request(
        server.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {_TOKENS['admin']}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        text: str = answer.read().decode()
        return text


def _prepare(server: ApiServer) -> None:
    """The CRD, and a role for the operator with what its code says that it needs, no more."""
    _ask(server, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", render_crd())
    rules = [
        {"apiGroups": [facts.group], "resources": [facts.plural], "verbs": list(facts.verbs)}
        for facts in (kind.value for kind in Kind)
    ]
    rules += [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in EXTRA_RIGHTS
    ]
    root = "/apis/rbac.authorization.k8s.io/v1"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "operator"},
        "rules": rules,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "operator",
        },
        "subjects": [{"kind": "User", "name": "operator", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    _ask(server, "POST", f"{root}/clusterroles", role)
    _ask(server, "POST", f"{root}/clusterrolebindings", binding)
    _wait_served(server)


def _wait_served(server: ApiServer) -> None:
    """Until the new kind is served and the operator may list it."""
    deadline = time.monotonic() + START_SECONDS
    facts = Kind.CLUSTER.value
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            _ask(server, "GET", f"/apis/{facts.api_version}/{facts.plural}", None)
        except OSError as error:
            last = str(error)
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{facts.plural} are not served after {START_SECONDS:.0f} s: {last}")
