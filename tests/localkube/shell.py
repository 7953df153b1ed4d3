"""Run other programs: always with a time limit, and with an error that tells what they said."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from localkube.errors import LocalKubeError


def run(
    *argv: str | Path,
    timeout_seconds: float = 60,
    input_text: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    accept: Sequence[int] = (0,),
) -> str:
    """Standard output of a program; any exit code not in `accept` is a LocalKubeError."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=input_text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            env=env,
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise LocalKubeError(f"{words[0]} is not installed ({error})") from error
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"")[-500:]
        raise LocalKubeError(
            f"{' '.join(words)[:200]} was stopped after {timeout_seconds:.0f} s; it said: {said!r}"
        ) from error
    if done.returncode not in accept:
        said_last = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise LocalKubeError(f"{' '.join(words)[:300]} ended with {done.returncode}: {said_last}")
    return done.stdout


def succeeds(*argv: str | Path, timeout_seconds: float = 30) -> bool:
    """Whether a program ends with 0; for questions, where the reason does not matter."""
    try:
        run(*argv, timeout_seconds=timeout_seconds)
    except LocalKubeError:
        return False
    return True


def wait_until(
    what: str,
    check: Callable[[], str | None],
    *,
    timeout_seconds: float,
    interval_seconds: float = 0.2,
) -> None:
    """Call `check` until it returns None; it returns, or raises, what is still missing.

    Only errors that mean "not yet" (of the network, the file system, a program) are waited out.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            missing = check()
        except (LocalKubeError, OSError) as error:
            missing = f"{type(error).__name__}: {error}"
        if missing is None:
            return
        if time.monotonic() >= deadline:
            raise LocalKubeError(f"{what}: not after {timeout_seconds:.0f} s; last: {missing}")
        time.sleep(interval_seconds)
