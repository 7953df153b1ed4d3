"""PostgreSQL settings that a user may not override, each with the reason.

The volume stands on some of them (a commit that does not wait for four copies is not durable),
others are fixed by where things lie in a pod. The table is the whole truth: the CRD's rules, the
condition's message and the documentation are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_VOLUME = "the volume's durability rests on it"
_DOOR = "the door that keeps clients out of a server that is not open rests on it"
_LOG = "it decides where a server takes its log from, which only the volume may"
_PATH = "its place in the pod is fixed"
_TLS = "certificates are managed by the operator"
_FIXED = "it must be equal on every instance for the cluster's whole life"
_AGENT = "the agent reads the server's log as JSON from its standard output"
_FILES = "it reads files of the pod, where keys and passwords lie"
_LOGICAL = "logical replication is refused until it can be held behind the durable point"

REFUSED_PARAMETERS: Final[Mapping[str, str]] = {
    "allow_alter_system": "settings come from the AuroraCluster, not from ALTER SYSTEM",
    "archive_cleanup_command": _LOG,
    "archive_command": _LOG,
    "archive_library": _LOG,
    "archive_mode": _LOG,
    "aurora_guard.door_file": _DOOR,
    "bonjour": _PATH,
    "config_file": _PATH,
    "data_directory": _PATH,
    "data_sync_retry": _VOLUME,
    "dynamic_shared_memory_type": _PATH,
    "external_pid_file": _PATH,
    "fsync": _VOLUME,
    "full_page_writes": _VOLUME,
    "hba_file": _PATH,
    "hot_standby": "replicas serve reads by it",
    "ident_file": _PATH,
    "ignore_checksum_failure": _VOLUME,
    "ignore_invalid_pages": _VOLUME,
    "lc_messages": _AGENT,
    "include": _FILES,
    "include_dir": _FILES,
    "include_if_exists": _FILES,
    "listen_addresses": _PATH,
    "log_destination": _AGENT,
    "log_directory": _AGENT,
    "log_filename": _AGENT,
    "logging_collector": _AGENT,
    "max_connections": _FIXED,
    "max_locks_per_transaction": _FIXED,
    "max_prepared_transactions": _FIXED,
    "max_replication_slots": "the six copies each need theirs",
    "max_slot_wal_keep_size": _VOLUME,
    "max_wal_senders": "the six copies each need theirs",
    "max_worker_processes": _FIXED,
    "port": "spec.port sets it",
    "primary_conninfo": _LOG,
    "primary_slot_name": _LOG,
    "promote_trigger_file": _LOG,
    "rds.extensions": "clients recognise Aurora by it",
    "rds.logical_replication": _LOGICAL,
    "recovery_end_command": _LOG,
    "recovery_min_apply_delay": "a replica that applies late cannot take over",
    "recovery_prefetch": _LOG,
    "recovery_target": _LOG,
    "recovery_target_action": _LOG,
    "recovery_target_inclusive": _LOG,
    "recovery_target_lsn": _LOG,
    "recovery_target_name": _LOG,
    "recovery_target_time": _LOG,
    "recovery_target_timeline": _LOG,
    "recovery_target_xid": _LOG,
    "restart_after_crash": "a crashed writer must not come back by itself in its old term",
    "restore_command": _LOG,
    "shared_preload_libraries": _DOOR,
    "local_preload_libraries": _DOOR,
    "session_preload_libraries": _DOOR,
    "ssl": _TLS,
    "ssl_ca_file": _TLS,
    "ssl_cert_file": _TLS,
    "ssl_crl_dir": _TLS,
    "ssl_crl_file": _TLS,
    "ssl_key_file": _TLS,
    "synchronized_standby_slots": _VOLUME,
    "synchronous_commit": _VOLUME,
    "synchronous_standby_names": _VOLUME,
    "sync_replication_slots": _LOG,
    "track_commit_timestamp": _FIXED,
    "unix_socket_directories": _PATH,
    "unix_socket_group": _PATH,
    "unix_socket_permissions": _PATH,
    "wal_consistency_checking": _VOLUME,
    "wal_init_zero": _VOLUME,
    "wal_keep_size": _LOG,
    "wal_level": _LOGICAL,
    "wal_log_hints": _FIXED,
    "wal_receiver_create_temp_slot": _LOG,
    "wal_receiver_status_interval": _LOG,
    "wal_receiver_timeout": _LOG,
    "wal_recycle": _VOLUME,
    "wal_retrieve_retry_interval": _LOG,
    "wal_segment_size": _VOLUME,
    "wal_sender_timeout": _LOG,
    "wal_sync_method": _VOLUME,
    "zero_damaged_pages": _VOLUME,
}


PARAMETER_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_$]*([.][A-Za-z_][A-Za-z0-9_$]*)*$"
"""A name as PostgreSQL takes it, with the extension's name before a dot; anything else would be
read as something else than a setting."""

_NO_NAME: Final = "it is not the name of a setting"


def refused_parameters(overrides: Mapping[str, str]) -> dict[str, str]:
    """Those of ``overrides`` that may not be set, each with the reason, in the order of names.

    PostgreSQL's names are case-insensitive, so ``FSYNC`` is refused like ``fsync``.
    """
    refused = {}
    for name in sorted(overrides):
        if not re.fullmatch(PARAMETER_PATTERN, name):
            refused[name] = _NO_NAME
        elif name.lower() in REFUSED_PARAMETERS:
            refused[name] = REFUSED_PARAMETERS[name.lower()]
    return refused
