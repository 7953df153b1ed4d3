"""The operator's own metrics, apart from the agents' so that each process shows only its own."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_CYCLE_BUCKETS: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

LEADER: Final = Gauge("aurora_operator_leader", "1 while this process holds the Lease, else 0.")
CLUSTERS: Final = Gauge("aurora_operator_clusters", "AuroraClusters looked after by this process.")
CYCLE_SECONDS: Final = Histogram(
    "aurora_operator_cycle_seconds",
    "How long one look at a cluster took, from the first read to the status.",
    buckets=_CYCLE_BUCKETS,
)
CYCLE_FAILURES: Final = Counter(
    "aurora_operator_cycle_failures", "Looks at a cluster that ended early and were begun again."
)
LOOP_CRASHES: Final = Counter(
    "aurora_operator_loop_crashes", "Faults in the operator's own code; any is a bug."
)
OPENINGS_ASKED: Final = Counter(
    "aurora_operator_openings_asked", "Asks to an instance to open a volume."
)
