"""One at a time: a lock file that ends with the process that holds it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localkube.errors import LocalKubeError


@contextmanager
def exclusive(path: Path, limit_seconds: float) -> Iterator[None]:
    """Hold the lock for the length of the block; waits for another holder, not for ever."""
    with path.open("w") as file:
        deadline = time.monotonic() + limit_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise LocalKubeError(
                        f"another run has held {path} for {limit_seconds:.0f} s: let it finish"
                    ) from error
                time.sleep(0.05)
        yield
