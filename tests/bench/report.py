"""Tables of figures as Markdown, so that documents hold what the run printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_COMMIT_HEAD = (
    "clients",
    "arm",
    "tps",
    "of plain",
    "ours / this",
    "packets, bytes per copy",
    "CPU µs per transaction",
    "fsyncs per copy",
)


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The commit path, one line per arm and number of clients."""
    return markdown(_COMMIT_HEAD, [_commit_line(row) for row in rows])


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    parts = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(part)} |" for part in parts)


def _commit_line(row: Mapping[str, Any]) -> list[str]:
    tls = "" if row["client_tls"] else ", client without TLS"
    packets = ""
    if "packets_per_copy" in row:
        packets = f"{row['packets_per_copy']}, {row['bytes_per_copy']}"
    return [
        f"{row['clients']}{tls}",
        row["arm"],
        f"{row['tps']:.0f}",
        _ratio(row.get("of_plain")),
        "" if row["arm"] == "ours" else _ratio(row.get("ours_of_this")),
        packets,
        ", ".join(f"{role} {us}" for role, us in row["cpu_us"].items()),
        f"{row['syncs_per_copy']} ({row['sync_ms']} ms)" if "syncs_per_copy" in row else "",
    ]


def _ratio(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if not value["n"]:
        return f"no steady pair of {value['dropped']}"
    dropped = f", {value['dropped']} dropped" if value["dropped"] else ""
    return (
        f"{value['median']:.2f} ({value['low']:.2f}-{value['high']:.2f}; n={value['n']}{dropped})"
    )
