"""Tell the person who waits what happens, for how long already, and of about how long."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REMINDER_SECONDS = 15.0


def say(text: str) -> None:
    """One line on standard error, so that standard output stays for results."""
    print(f"localkube: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str, about_seconds: float) -> Iterator[None]:
    """Say that a step begins, remind while it lasts, say how long it took."""
    started = time.monotonic()
    finished = threading.Event()
    say(f"{what} (about {_span(about_seconds)})")

    def remind() -> None:
        while not finished.wait(REMINDER_SECONDS):
            elapsed = time.monotonic() - started
            say(f"{what}: {_span(elapsed)} of about {_span(about_seconds)}")

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    finally:
        finished.set()
        reminder.join()
    say(f"{what}: done in {_span(time.monotonic() - started)}")


def _span(seconds: float) -> str:
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole // 60}:{whole % 60:02d}"
