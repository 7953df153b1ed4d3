"""Every metric of agents and operator, in one place.

A storage pod serves the metrics of its copy, an instance pod those of its instance; Prometheus
adds pod and namespace, so no metric repeats them. Log positions are byte counts: their difference
is a lag in bytes. Names and meanings never change once released.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SYNC_BUCKETS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2)
_OPENING_BUCKETS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60)

# The copy of a storage pod.

COPY_FULL: Final = Gauge(
    "aurora_copy_full", "1 while the copy is full, and so has a vote; 0 while blank or failed."
)
COPY_PROMISED_TERM: Final = Gauge(
    "aurora_copy_promised_term", "The highest term that the copy promised."
)
COPY_SCL_BYTES: Final = Gauge(
    "aurora_copy_scl_bytes", "The copy's contiguous durable log position (SCL)."
)
COPY_KNOWN_VDL_BYTES: Final = Gauge(
    "aurora_copy_known_vdl_bytes", "The volume durable position (VDL) that the copy knows."
)
COPY_PRESSURE: Final = Gauge(
    "aurora_copy_pressure",
    "1 for the state that the copy is in (none, low-space, slow, no-room, left-behind), else 0.",
    ["state"],
)
COPY_FREE_BYTES: Final = Gauge("aurora_copy_free_bytes", "Free room on the disk of the copy.")
COPY_BEHIND_BYTES: Final = Gauge(
    "aurora_copy_behind_bytes", "Log that is durable on four copies and not on this one."
)
COPY_BEHIND_SECONDS: Final = Gauge(
    "aurora_copy_behind_seconds", "For how long this copy has lacked what others serve."
)
LOG_APPENDED_BYTES: Final = Counter(
    "aurora_log_appended_bytes", "Log bytes appended to the copy since the process started."
)
COPY_FILL_BASE_BYTES: Final = Gauge(
    "aurora_copy_fill_base_bytes", "Bytes of pages that came while the copy is filled anew."
)
COPY_FILL_BASE_TOTAL_BYTES: Final = Gauge(
    "aurora_copy_fill_base_total_bytes", "About how many there will be; 0 when nothing is filled."
)
LOG_SYNC_SECONDS: Final = Histogram(
    "aurora_log_sync_seconds", "How long making the log durable took.", buckets=_SYNC_BUCKETS
)
LOG_SCRUBBED_BYTES: Final = Counter(
    "aurora_log_scrubbed_bytes", "Bytes of the copy's log read again and checked."
)
LOG_DAMAGE_FOUND: Final = Counter(
    "aurora_log_damage_found", "Pieces of the copy's log that had lost their checksum."
)
LOG_DAMAGE_REPAIRED: Final = Counter(
    "aurora_log_damage_repaired", "Pieces of the copy's log that were repaired from a peer."
)
LOG_SCRUB_PASS_AT: Final = Gauge(
    "aurora_log_scrub_pass_timestamp_seconds",
    "When the whole log was read again last; 0: not since the process started.",
)

# An instance.

INSTANCE_TERM: Final = Gauge("aurora_instance_term", "The term that the instance writes or reads.")
INSTANCE_WRITER: Final = Gauge(
    "aurora_instance_writer", "1 while the instance is the open writer, else 0."
)
INSTANCE_DOOR_OPEN: Final = Gauge(
    "aurora_instance_door_open", "1 while clients may come in, else 0."
)
STAND_DOWNS: Final = Counter(
    "aurora_writer_stand_downs",
    "How often this writer ended its sessions: cut off from its copies, or superseded.",
    ["reason"],
)
STATEMENTS_HELD: Final = Counter(
    "aurora_statements_held",
    "Statements that waited because three copies had not answered for a moment.",
)
STATEMENTS_HELD_SECONDS: Final = Counter(
    "aurora_statements_held_seconds", "How long these statements waited, all together."
)
VOLUME_VDL_BYTES: Final = Gauge(
    "aurora_volume_vdl_bytes", "The volume durable position, as the writer's hub tells it."
)
VOLUME_COPIES_COUNTING: Final = Gauge(
    "aurora_volume_copies_counting", "Copies that count for the writer's VDL; 4 are needed."
)
OPENINGS: Final = Counter(
    "aurora_volume_openings", "Attempts to open the volume by this instance.", ["outcome"]
)
OPENING_SECONDS: Final = Histogram(
    "aurora_volume_opening_seconds",
    "From the start of an attempt until the writer's door was open.",
    buckets=_OPENING_BUCKETS,
)
