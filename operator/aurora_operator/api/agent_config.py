"""What the operator tells an agent at start: the file ``/etc/aurora/agent.json``.

One ConfigMap serves all pods of a cluster; what differs between pods (name, uid, address) comes
from the downward API as ``POD_NAME``, ``POD_NAMESPACE``, ``POD_UID`` and ``POD_IP``. Nothing in it
is secret. Agents read it again when it changes.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from aurora_operator.api.messages import BirthRecord
from aurora_operator.core.names import Slot

REFILL_BYTES_PER_SECOND: Final = 100 * 1024 * 1024
"""Leaves room for commits on an ordinary disk and network."""


class StoragePodAddress(BaseModel):
    """One storage pod: its certificate's name and where it is found."""

    model_config = ConfigDict(frozen=True)

    slot: Slot
    pod: str
    host: str
    """A stable DNS name, ``shop-storage-0.shop-storage.ns.svc``."""


class AgentConfig(BaseModel):
    """A cluster as its agents need to know it."""

    model_config = ConfigDict(frozen=True)

    cluster: str
    namespace: str
    port: int = 5432
    storage: tuple[StoragePodAddress, ...]
    birth: BirthRecord
    database_name: str | None = None
    master_username: str = "postgres"
    parameters: dict[str, str] = Field(default_factory=dict)
    """PostgreSQL settings from the user, already checked against the table of refused ones."""
    writer_endpoint_slice: str
    reader_endpoint_slice: str
    instance_service: str
    """The headless Service that gives instances their names."""
    refill_bytes_per_second: int = REFILL_BYTES_PER_SECOND
    """How fast a copy that replaces a lost one may take pages, and log, from its peers."""
    log_level: str = "info"
