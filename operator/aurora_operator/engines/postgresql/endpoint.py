"""Where the other end of a connection is, and the TLS that leads there.

Connections between pods go to an address but verify the *short pod name*: addresses change, names
of certificates do not. Every internal connection is TLS from its first byte; only Unix sockets of
the own pod are plain.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ALPN_PROTOCOL: Final = "postgresql"
"""PostgreSQL 17 demands it of whoever begins with TLS at once."""


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A port reached over mutual TLS; ``server_name`` is what the certificate must say."""

    host: str
    port: int
    server_name: str

    def __str__(self) -> str:
        return f"{self.server_name} ({self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class SocketEndpoint:
    """A Unix-domain socket of this pod."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Endpoint = TcpEndpoint | SocketEndpoint


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The pod's certificate as the Secret mounts it: ``ca.crt``, ``tls.crt``, ``tls.key``.

    A client's context is made for each connection, so a renewed certificate is used by the next
    one; a listening server has its context loaded again (``load``).
    """

    directory: Path

    @property
    def ca(self) -> Path:
        """The authority of the cluster."""
        return self.directory / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The pod's own certificate."""
        return self.directory / "tls.crt"

    @property
    def key(self) -> Path:
        """The pod's private key."""
        return self.directory / "tls.key"

    def client_context(self) -> ssl.SSLContext:
        """Verify the server against the cluster's authority, and show the own certificate."""
        return self._finish(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def server_context(self) -> ssl.SSLContext:
        """Show the own certificate, and take only clients that the cluster's authority signed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._finish(context)

    def _finish(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN_PROTOCOL])
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Read the files into a context; connections made from now on use them."""
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.certificate, self.key)


STREAM_BUFFER_BYTES: Final = 1024 * 1024
"""How much may wait unread before the kernel is asked to hold the sender back."""


async def connect_endpoint(
    endpoint: Endpoint, tls: TlsFiles | None, protocol: asyncio.Protocol
) -> asyncio.Transport:
    """Connect ``protocol``: TLS from the first byte to a port, plain to a Unix socket.

    The caller sets the deadline. Raises ``OSError``, of which ``ssl.SSLError`` is one.
    """
    loop = asyncio.get_running_loop()
    if isinstance(endpoint, SocketEndpoint):
        return (await loop.create_unix_connection(lambda: protocol, str(endpoint.path)))[0]
    if tls is None:
        raise ValueError(f"a connection to {endpoint} needs TLS, and no files were given")
    transport, _ = await loop.create_connection(
        lambda: protocol,
        endpoint.host,
        endpoint.port,
        ssl=tls.client_context(),
        server_hostname=endpoint.server_name,
    )
    return transport


async def open_endpoint(
    endpoint: Endpoint, tls: TlsFiles | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect a stream, for whoever only carries bytes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=STREAM_BUFFER_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = await connect_endpoint(endpoint, tls, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
