"""One log format for all processes: a JSON object a line, on standard output.

Each line says which cluster and pod it comes from; everything else, the term above all, stands in
named fields beside an event that reads as a phrase. Log lines of libraries take the same
way. Levels: ``error`` means a person should look; ``warning`` that something was refused or lost
and is being handled; ``info`` tells what happens to the volume; ``debug`` is for developers.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars


def configure_logging(level: str, *, cluster: str | None = None, pod: str | None = None) -> None:
    """Set up the log of this process; call once, before anything logs."""
    shared: list[structlog.types.Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    about = {"cluster": cluster, "pod": pod}
    bind_contextvars(**{name: value for name, value in about.items() if value is not None})
