"""The operating system's name for this process's user."""

from __future__ import annotations

import os
import pwd


def os_user() -> str:
    """Peer authentication maps this name to the agent's role."""
    return pwd.getpwuid(os.getuid()).pw_name
