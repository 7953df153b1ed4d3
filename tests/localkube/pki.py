"""The cluster's certificates: made once with openssl, valid for ten years, readable by root only.

Two authorities: one for everybody, one for the front proxy (aggregated APIs), because the API
server would otherwise take any client for its own front proxy. What exists is kept, so running
`up` again changes nothing.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from localkube import layout, shell
from localkube.layout import Node

_DAYS = "3650"


@dataclass(frozen=True)
class Identity:
    """A certificate's file name, subject and the names it may serve."""

    name: str
    common_name: str
    organization: str = ""
    serves: tuple[str, ...] = ()
    authority: str = "ca"

    def subject(self) -> str:
        """The subject as openssl writes it."""
        prefix = f"/O={self.organization}" if self.organization else ""
        return f"{prefix}/CN={self.common_name}"

    def extensions(self) -> str:
        """The certificate's extensions, as an openssl configuration file."""
        lines = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=clientAuth" + (",serverAuth" if self.serves else ""),
        ]
        if self.serves:
            lines.append("subjectAltName=" + ",".join(_alternative(name) for name in self.serves))
        return "\n".join(lines) + "\n"


def _alternative(name: str) -> str:
    is_address = name.replace(".", "").isdigit()
    return f"IP:{name}" if is_address else f"DNS:{name}"


CONTROL_IDENTITIES = (
    Identity(
        "apiserver",
        "kube-apiserver",
        serves=(
            *(layout.BRIDGE_ADDRESS, layout.API_SERVICE_ADDRESS, "127.0.0.1", "localhost"),
            *("kubernetes", "kubernetes.default", "kubernetes.default.svc"),
            f"kubernetes.default.svc.{layout.CLUSTER_DOMAIN}",
        ),
    ),
    Identity("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
    Identity("front-proxy", "front-proxy-client", authority="front-proxy-ca"),
    Identity("controller-manager", "system:kube-controller-manager"),
    Identity("scheduler", "system:kube-scheduler"),
    Identity("proxy", "system:kube-proxy"),
    Identity("admin", "aurora-localkube-admin", "system:masters"),
)


def node_identity(node: Node) -> Identity:
    """What a kubelet uses, as a client and as a server."""
    serves = (node.name, node.address)
    return Identity(node.name, f"system:node:{node.name}", "system:nodes", serves)


def certificate(name: str) -> Path:
    """Path of a certificate."""
    return layout.PKI / f"{name}.crt"


def key(name: str) -> Path:
    """Path of a private key."""
    return layout.PKI / f"{name}.key"


def kubeconfig_path(name: str) -> Path:
    """Path of the kubeconfig of one of the cluster's own parts."""
    return layout.PKI / f"{name}.kubeconfig"


def ensure_all() -> None:
    """Make what is missing of the authorities, certificates, keys and kubeconfigs."""
    layout.PKI.mkdir(parents=True, exist_ok=True, mode=0o700)
    for authority in ("ca", "front-proxy-ca"):
        _ensure(certificate(authority), partial(_make_authority, authority))
    _ensure(key("service-account"), _make_service_account_key)
    for identity in (*CONTROL_IDENTITIES, *(node_identity(node) for node in layout.NODES)):
        _ensure(certificate(identity.name), partial(_issue, identity))
        if identity.common_name.startswith(("system:", "aurora-localkube")):
            _ensure(kubeconfig_path(identity.name), partial(_kubeconfig, identity))


def _ensure(path: Path, make: Callable[[Path], None]) -> None:
    """`make` writes to another name first: what has the final name is whole."""
    if path.exists():
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    make(unfinished)
    unfinished.chmod(0o600)
    unfinished.replace(path)


def _make_authority(name: str, path: Path) -> None:
    shell.run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", _DAYS, "-subj", f"/CN=aurora-localkube-{name}"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
        *("-keyout", key(name), "-out", path),
    )
    key(name).chmod(0o600)


def _make_service_account_key(path: Path) -> None:
    shell.run("openssl", "genrsa", "-out", path, "2048")


def _issue(identity: Identity, path: Path) -> None:
    request = path.with_suffix(".csr")
    extensions = path.with_suffix(".ext")
    extensions.write_text(identity.extensions())
    try:
        shell.run(
            *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", identity.subject()),
            *("-keyout", key(identity.name), "-out", request),
        )
        key(identity.name).chmod(0o600)
        shell.run(
            *("openssl", "x509", "-req", "-days", _DAYS, "-in", request, "-extfile", extensions),
            *("-CA", certificate(identity.authority), "-CAkey", key(identity.authority)),
            *("-set_serial", f"0x{os.urandom(16).hex()}", "-out", path),
        )
    finally:
        request.unlink(missing_ok=True)
        extensions.unlink(missing_ok=True)


def _kubeconfig(identity: Identity, path: Path) -> None:
    path.write_text(json.dumps(_kubeconfig_document(identity.name), indent=2) + "\n")


def _kubeconfig_document(name: str) -> dict[str, object]:
    """Certificates are named by path: they outlive no cluster and never leave this machine."""
    context = {"cluster": "aurora-localkube", "user": name}
    cluster = {"server": layout.API_SERVER, "certificate-authority": str(certificate("ca"))}
    user = {"client-certificate": str(certificate(name)), "client-key": str(key(name))}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "aurora-localkube", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "aurora-localkube", "context": context}],
        "current-context": "aurora-localkube",
    }
