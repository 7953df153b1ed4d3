"""Where an agent stands: its pod and its directories.

Everything that differs between a pod and a test on loopback is in this one value, so that no other
module reads the environment or knows an absolute path.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aurora_operator.api.agent_config import AgentConfig

_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Place:
    """A pod as its agent sees it."""

    pod: str
    namespace: str
    pod_uid: str
    pod_ip: str
    boot_id: str
    """Changes when the machine boots: page cache that was not synced is gone then (rule 11)."""
    config_file: Path
    tls: Path
    master: Path
    disk: Path
    """The claim of a storage pod, the cache of an instance."""
    run: Path
    """Sockets and the door; in memory."""
    listen: str | None = None
    """The address to listen on; ``None`` means all of the pod's."""

    @classmethod
    def from_environment(
        cls,
        *,
        config_file: Path,
        tls: Path,
        master: Path,
        disk: Path,
        run: Path,
        listen: str | None,
    ) -> Place:
        """Fill in what the downward API tells; raises ``KeyError`` naming what is missing."""
        return cls(
            pod=os.environ["POD_NAME"],
            namespace=os.environ["POD_NAMESPACE"],
            pod_uid=os.environ["POD_UID"],
            pod_ip=os.environ["POD_IP"],
            boot_id=_BOOT_ID_FILE.read_text(encoding="ascii").strip(),
            config_file=config_file,
            tls=tls,
            master=master,
            disk=disk,
            run=run,
            listen=listen,
        )

    def read_password(self) -> str:
        """The master user's password, as its Secret says now."""
        return (self.master / "password").read_text(encoding="utf-8").rstrip("\n")

    def read_config(self) -> AgentConfig:
        """The cluster's configuration as the operator wrote it."""
        return AgentConfig.model_validate_json(self.config_file.read_bytes())
