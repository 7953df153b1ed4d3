"""The server's configuration files as text.

Everything that must hold for the volume stands after what the user chose, so that it wins; what a
user may not choose was refused long before (``core.cluster.parameters``). Instances and page
stores share the settings that a standby compares with its writer: they are fixed for the whole
life of a cluster and never depend on the size of an instance (rule 14, T7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from aurora_operator.core.names import Identity
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.engines.postgresql.acceptor import ACCEPTOR_ROLE
from aurora_operator.engines.postgresql.endpoint import TlsFiles
from aurora_operator.engines.postgresql.server_log import LINE_PREFIX

AGENT_ROLE: Final = "rdsadmin"
AGENT_DATABASE: Final = "rdsadmin"
BASE_ROLE: Final = "aurora_base"
STREAM_ROLE: Final = "aurora_standby"
"""What a walreceiver calls itself to a gate; no such role logs in anywhere."""

MAIN_FILE: Final = "postgresql.conf"
HBA_FILE: Final = "pg_hba.conf"
IDENT_FILE: Final = "pg_ident.conf"
MEMBERS_FILE: Final = "aurora_members.conf"

LOG_SOCKET_PORT: Final = 5433
"""Names the socket of the relay, or of the own gate: ``.s.PGSQL.5433``."""

_COMPARED: Final[Mapping[str, str]] = {
    "max_connections": "500",
    "max_wal_senders": "40",
    "max_worker_processes": "16",
    "max_prepared_transactions": "0",
    "max_locks_per_transaction": "64",
    "track_commit_timestamp": "off",
    "wal_level": "replica",
    "wal_log_hints": "off",
}
"""A standby refuses to start when its own are lower than its writer's."""


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")


class Purpose(StrEnum):
    """What a server is for."""

    INSTANCE = "instance"
    """Its disk is a cache: nothing there is worth an fsync, the copies hold the log."""
    PAGE_STORE = "page store"
    """Its pages outlive it: fsync on. Nobody queries it."""
    BIRTH = "birth"
    """Runs once, alone, to make the first base."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What differs from server to server."""

    purpose: Purpose
    name: str
    """The pod's name."""
    socket_directory: Path
    port: int = 5432
    listen_addresses: str = "*"
    tls: TlsFiles | None = None
    door: Path | None = None
    """The guard's file; without one the guard is not loaded, as at birth."""
    log_socket_directory: Path | None = None
    """Where the relay's or gate's socket is; ``None`` only at birth."""
    os_user: str = "postgres"
    """Who this process is, for peer authentication."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The user's, already checked."""


def configuration_files(settings: ServerSettings) -> dict[str, str]:
    """All files but the member list, by name."""
    return {
        MAIN_FILE: postgresql_conf(settings),
        HBA_FILE: pg_hba(settings.purpose),
        IDENT_FILE: pg_ident(settings.os_user),
    }


def postgresql_conf(settings: ServerSettings) -> str:
    """``postgresql.conf``, whole: ours that may be changed, the user's, ours that hold."""
    for name, value in settings.parameters.items():
        if not _NAME.fullmatch(name) or "\n" in value:
            raise ValueError(
                f"{name!r} = {value!r} is no setting; nothing was written, correct"
                " spec.parameterOverrides"
            )
    sections = (
        ("Defaults", _DEFAULTS),
        ("Chosen by the user", settings.parameters),
        ("Fixed for the cluster", _COMPARED),
        ("Durability and replication", _replication(settings)),
        ("Place, access and log", _place(settings)),
    )
    lines: list[str] = []
    for title, values in sections:
        lines += [f"# {title}", *(f"{name} = {quoted(v)}" for name, v in values.items()), ""]
    lines.append(f"include_if_exists = {quoted(MEMBERS_FILE)}")
    return "\n".join(lines) + "\n"


def members_conf(identities: Iterable[Identity]) -> str:
    """The file that makes commits wait for a write quorum of the members (rule 1)."""
    names = ", ".join(f'"{identity}"' for identity in identities)
    value = f"ANY {AURORA_QUORUM.write_quorum} ({names})" if names else ""
    return f"synchronous_standby_names = {quoted(value)}\n"


def sync_names(identities: Iterable[Identity]) -> str:
    """The value that ``members_conf`` sets, as SHOW gives it back."""
    text = members_conf(identities).partition(" = ")[2].strip()
    return text[1:-1]


def quoted(value: str) -> str:
    """A value as configuration files write it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


_DEFAULTS: Final[Mapping[str, str]] = {
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "5min",
    "log_checkpoints": "on",
    "log_lock_waits": "on",
    "log_autovacuum_min_duration": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "pg_stat_statements.track": "top",
}


def _replication(settings: ServerSettings) -> dict[str, str]:
    is_page_store = settings.purpose is Purpose.PAGE_STORE
    is_cache = settings.purpose is Purpose.INSTANCE
    values = {
        "fsync": "off" if is_cache else "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "restart_after_crash": "off",  # it would come back in its old term, unasked (rule 11)
        "wal_init_zero": "off" if is_cache else "on",
        "wal_recycle": "off" if is_cache else "on",
        "wal_keep_size": "64MB" if is_page_store else "512MB",
        "max_replication_slots": "40",
        "max_logical_replication_workers": "0",  # logical replication is refused
        "max_slot_wal_keep_size": "2GB",
        "wal_sender_timeout": "5s",
        "wal_receiver_timeout": "5s",
        "wal_receiver_status_interval": "0",  # a gate needs no reports; it answers pings
        "wal_retrieve_retry_interval": "100ms",
        "hot_standby": "on",
        "hot_standby_feedback": "off",
        "recovery_target_timeline": "latest",
    }
    if settings.log_socket_directory is not None:
        values["primary_conninfo"] = (
            f"host={settings.log_socket_directory} port={LOG_SOCKET_PORT} user={STREAM_ROLE}"
            f" application_name={settings.name} sslmode=disable gssencmode=disable"
        )
    return values


def _place(settings: ServerSettings) -> dict[str, str]:
    libraries = ["pg_stat_statements"]
    if settings.door is not None:
        libraries.insert(0, "aurora_guard")  # first to load, so its callbacks run last (I7)
    values = {
        "cluster_name": settings.name,
        "listen_addresses": settings.listen_addresses,
        "port": str(settings.port),
        "unix_socket_directories": str(settings.socket_directory),
        "shared_preload_libraries": ",".join(libraries),
        "dynamic_shared_memory_type": "posix",
        "password_encryption": "scram-sha-256",
        "allow_alter_system": "off",
        "lc_messages": "C",
        "log_destination": "stderr",
        "logging_collector": "off",
    }
    if settings.door is not None:
        values["aurora_guard.door_file"] = str(settings.door)
    if settings.tls is not None:
        values |= {
            "ssl": "on",
            "ssl_min_protocol_version": "TLSv1.2",
            "ssl_ca_file": str(settings.tls.ca),
            "ssl_cert_file": str(settings.tls.certificate),
            "ssl_key_file": str(settings.tls.key),
        }
    return values | {"log_line_prefix": LINE_PREFIX}


def pg_hba(purpose: Purpose) -> str:
    """Who may connect: the agent by socket, internal roles by certificate, clients by password.

    Nobody else gets a physical stream: a client that streamed under a member's name would count as
    an acknowledgement.
    """
    rules = [f"local all {AGENT_ROLE} peer map=aurora", "local all all reject"]
    if purpose is not Purpose.BIRTH:
        rules.append(f"hostssl replication {BASE_ROLE} all cert map=aurora")
    if purpose is Purpose.INSTANCE:
        rules += [
            f"hostssl replication {ACCEPTOR_ROLE} all cert map=aurora",
            "host replication all all reject",
            f"host all {AGENT_ROLE},{ACCEPTOR_ROLE},{BASE_ROLE} all reject",
            f"host {AGENT_DATABASE} all all reject",
            "host all all all scram-sha-256",
        ]
    else:
        rules.append("host all all all reject")
    return "\n".join(rules) + "\n"


def pg_ident(os_user: str) -> str:
    """Which role a certificate's common name, or the agent's own user, may log in as."""
    pairs = (
        (os_user, AGENT_ROLE),
        ("storage", ACCEPTOR_ROLE),
        ("storage", BASE_ROLE),
        ("instance", BASE_ROLE),
    )
    return "".join(f"aurora {name} {role}\n" for name, role in pairs)
