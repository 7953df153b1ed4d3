"""What the operator asks of agents, as a protocol, and the client behind it.

Agents are found by their pod's address and checked by their pod's name. The operator's own
certificate is made in memory from the cluster's authority, so there is none to store or to lose.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from aurora_operator.agent.client import AgentAddress, AgentClient, AgentUnreachable
from aurora_operator.api.messages import (
    FillAsk,
    FormatAsk,
    HandOverAsk,
    InstanceAnswer,
    InstanceStatus,
    OpenAsk,
    RestartAsk,
    StorageAnswer,
    StorageStatus,
)
from aurora_operator.reconcile.certificates import Authority, organisation_name

__all__ = ["AgentAddress", "AgentUnreachable", "Agents", "AgentsFactory", "connect_agents"]


class Agents(Protocol):
    """The asks; each has a time limit and raises ``AgentUnreachable``."""

    async def fetch_storage_status(
        self, agent: AgentAddress, timeout_seconds: float = 2.0
    ) -> StorageStatus:
        """What a copy knows and sees."""

    async def fetch_instance_status(
        self, agent: AgentAddress, timeout_seconds: float = 2.0
    ) -> InstanceStatus:
        """What an instance is."""

    async def format(self, agent: AgentAddress, ask: FormatAsk) -> StorageAnswer:
        """Run initdb."""

    async def fill(self, agent: AgentAddress, ask: FillAsk) -> StorageAnswer:
        """Fill a blank copy."""

    async def open(self, agent: AgentAddress, ask: OpenAsk) -> InstanceAnswer:
        """Open the volume."""

    async def hand_over(self, agent: AgentAddress, ask: HandOverAsk) -> InstanceAnswer:
        """Have the writer switch over."""

    async def restart(self, agent: AgentAddress, ask: RestartAsk) -> InstanceAnswer:
        """Restart an ended writer in place."""

    async def close(self) -> None:
        """End all connections."""


class AgentsFactory(Protocol):
    """Makes the client of one cluster from that cluster's authority."""

    def __call__(self, namespace: str, cluster: str, authority: Authority) -> Agents:
        """A client; the caller closes it."""


def connect_agents(namespace: str, cluster: str, authority: Authority) -> Agents:
    """The real client: mutual TLS with a certificate whose role is ``operator``."""
    pair = authority.issue(
        role="operator",
        organisation=organisation_name(namespace, cluster),
        names=("operator",),
        now=datetime.now(UTC),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    # OpenSSL's Python binding loads a key from a file only; the file is gone before the first use.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "operator.pem"
        path.touch(mode=0o600)
        path.write_bytes(pair.key_pem + pair.certificate_pem)
        context.load_cert_chain(path)
    return AgentClient(context)
