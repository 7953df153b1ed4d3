"""A server's log lines on the agent's own standard output, in the agent's own format."""

from __future__ import annotations

import structlog

from aurora_operator.engines.postgresql.server_log import Record

log = structlog.get_logger("postgresql")

_LEVELS = {
    "DEBUG": "debug",
    "WARNING": "warning",
    "ERROR": "error",
    "FATAL": "error",
    "PANIC": "critical",
}


def emit_server_line(record: Record) -> None:
    """Print one record; PostgreSQL's severity stays in it, its words for levels differ."""
    level = _LEVELS.get(record.get("severity", ""), "info")
    fields = {key: value for key, value in record.items() if key != "message"}
    fields["server_time"] = fields.pop("time", "")
    getattr(log, level)(record.get("message", ""), **fields)
