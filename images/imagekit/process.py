"""Running the tools that do the work: each with a deadline, each failure with its last words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagekit.cache import BuildError

TOOL_TIMEOUT_SECONDS = 900


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = TOOL_TIMEOUT_SECONDS,
) -> str:
    """Run ``command`` and return what it printed; raise with its last lines when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError:
        raise BuildError(
            f"{words[0]} is not installed; on Debian: apt-get install {words[0]}"
        ) from None
    except subprocess.TimeoutExpired as expired:
        raise BuildError(
            f"{_brief(words)} did not end within {timeout_seconds:.0f} s; it was stopped."
            f" Last output:\n{_tail(expired.stderr)}"
        ) from None
    if done.returncode != 0:
        raise BuildError(
            f"{_brief(words)} ended with code {done.returncode}:\n"
            f"{_tail(done.stdout)}{_tail(done.stderr)}"
        )
    return done.stdout


def _brief(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 200 else text[:200] + " …"


def _tail(output: str | bytes | None) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return "".join(line + "\n" for line in text.splitlines()[-30:])
