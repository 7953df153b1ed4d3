"""Certificates of a pod: contexts for mutual TLS 1.3, read again when their files change.

Every pod has one certificate of the cluster's own authority. Its common name is the pod's role,
its organisation the cluster, and its alternative names hold the short pod name, which clients
verify whatever address they connect to. A replaced certificate is used by the next connection;
running connections keep the one they began with.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

CERTIFICATE_FILE = "tls.crt"
KEY_FILE = "tls.key"
AUTHORITY_FILE = "ca.crt"


class PeerRole(StrEnum):
    """Who is at the other end: the common name of a certificate."""

    STORAGE = "storage"
    INSTANCE = "instance"
    OPERATOR = "operator"


class PeerRefused(Exception):
    """The peer's certificate is of our authority but names no role of this cluster."""


@dataclass(frozen=True)
class Peer:
    """The other end of a connection, as its certificate names it."""

    role: PeerRole
    organisation: str


def organisation_of(namespace: str, cluster: str) -> str:
    """The organisation in every certificate of one cluster."""
    return f"{namespace}/{cluster}"


def peer_of(certificate: dict[str, Any] | None, organisation: str) -> Peer:
    """Read a verified peer certificate; raises ``PeerRefused`` for another cluster's or no role."""
    subject = {key: value for part in (certificate or {}).get("subject", ()) for key, value in part}
    if subject.get("organizationName") != organisation:
        raise PeerRefused(
            f"the certificate belongs to {subject.get('organizationName')!r}, "
            f"this is {organisation!r}"
        )
    try:
        role = PeerRole(subject.get("commonName", ""))
    except ValueError as error:
        raise PeerRefused(f"{subject.get('commonName')!r} is not a role") from error
    return Peer(role, organisation)


class Certificates:
    """The contexts of one pod. ``refresh`` is called every now and then."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._contexts: list[ssl.SSLContext] = []
        self._stamp = self._read_stamp()

    def server(self, alpn: str | None = None) -> ssl.SSLContext:
        """A context that demands a certificate of the cluster's authority from the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._prepared(context, alpn)

    def client(self, alpn: str | None = None) -> ssl.SSLContext:
        """A context that shows our certificate and verifies the name it is told."""
        return self._prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), alpn)

    def refresh(self) -> bool:
        """Load the files again if they changed; says whether they did."""
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return False
        for context in self._contexts:
            self._load(context)
        self._stamp = stamp
        return True

    def _prepared(self, context: ssl.SSLContext, alpn: str | None) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        self._load(context)
        self._contexts.append(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._directory / CERTIFICATE_FILE, self._directory / KEY_FILE)
        context.load_verify_locations(self._directory / AUTHORITY_FILE)

    def _read_stamp(self) -> tuple[bytes, ...]:
        names = (CERTIFICATE_FILE, KEY_FILE, AUTHORITY_FILE)
        return tuple((self._directory / name).read_bytes() for name in names)
