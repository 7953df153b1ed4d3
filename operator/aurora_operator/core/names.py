"""Types for names that must not be mixed up."""

from __future__ import annotations

from typing import Final, NewType

VolumeId = NewType("VolumeId", str)
"""Identifies one volume for ever; made once, when the cluster is born."""

Identity = NewType("Identity", str)
"""Identifies one copy's disk. A replaced disk gets a new one; a removed one never returns."""

Slot = NewType("Slot", int)
"""The place of a copy in the volume, 0 to 5; two slots a zone."""

AttemptId = NewType("AttemptId", str)
"""Random for each attempt to open, kept in memory only: no attempt is repeated by chance."""

InstanceName = NewType("InstanceName", str)
"""The name of an instance's pod, such as ``shop-instance-1``."""

SLOT_COUNT: Final = 6
