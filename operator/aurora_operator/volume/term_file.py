"""``term.json``: a copy's record, replaced atomically, believed only with its checksum.

JSON, so that a person with a broken cluster can read it; a checksum, because a promise that was
read wrongly would be a promise broken (I3).
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, Final

from aurora_operator.core.copy import CopyRecord, Promise, Vdl
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import MemberList, MemberVersion
from aurora_operator.core.names import AttemptId, Identity, Slot, VolumeId
from aurora_operator.volume.errors import RecordDamaged
from aurora_operator.volume.files import Files, write_atomically

NAME: Final = "term.json"
_FORMAT: Final = 1


def record_path(directory: Path) -> Path:
    """Where a copy's record is."""
    return directory / NAME


def write_record(files: Files, directory: Path, record: CopyRecord) -> None:
    """Make ``record`` durable; raises what ``write_atomically`` raises."""
    document = _to_json(record)
    checksum = zlib.crc32(json.dumps(document, sort_keys=True).encode())
    line = json.dumps({"checksum": checksum, "record": document}, sort_keys=True)
    write_atomically(files, record_path(directory), line.encode() + b"\n")


def read_record(directory: Path) -> CopyRecord | None:
    """The record; ``None`` when there never was one; raises ``RecordDamaged``."""
    path = record_path(directory)
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
        content = json.dumps(document["record"], sort_keys=True)
        if zlib.crc32(content.encode()) != document["checksum"]:
            raise ValueError("its checksum does not fit")
        return _from_json(document["record"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordDamaged(
            f"{path} cannot be believed ({error}); the copy is failed and must be filled from its"
            " peers"
        ) from error


def why_foreign(record: CopyRecord, slot: Slot, volume_id: VolumeId | None) -> str | None:
    """Why this is not the disk of that slot and volume, if so (a ``volume_id`` that is known)."""
    if record.slot == slot and volume_id in (None, record.volume_id):
        return None
    return (
        f"the disk of slot {slot} holds {record.identity} of slot {record.slot}, volume"
        f" {record.volume_id}; nothing was touched, check the claims"
    )


def _to_json(record: CopyRecord) -> dict[str, Any]:
    vdl = record.known_vdl
    return {
        "format": _FORMAT,
        "volume_id": record.volume_id,
        "identity": record.identity,
        "slot": record.slot,
        "system_identifier": record.system_identifier,
        "promise": [record.promise.term, record.promise.attempt_id],
        "history": [[entry.term, str(entry.begin)] for entry in record.history.entries],
        "first_record_end": str(record.first_record_end),
        "members": {
            "version": [record.members.version.term, record.members.version.number],
            "identities": list(record.members.identities),
            "slots": list(record.members.slots),
        },
        "known_vdl": None if vdl is None else [vdl.term, str(vdl.lsn)],
        "scl_floor": str(record.scl_floor),
    }


def _from_json(content: dict[str, Any]) -> CopyRecord:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']} is not known to this release")
    promise_term, attempt_id = content["promise"]
    version_term, version_number = content["members"]["version"]
    vdl = content["known_vdl"]
    return CopyRecord(
        volume_id=VolumeId(content["volume_id"]),
        identity=Identity(content["identity"]),
        slot=Slot(content["slot"]),
        system_identifier=content["system_identifier"],
        promise=Promise(Term(promise_term), AttemptId(attempt_id)),
        history=TermHistory(
            tuple(TermStart(Term(term), Lsn.parse(begin)) for term, begin in content["history"])
        ),
        first_record_end=Lsn.parse(content["first_record_end"]),
        members=MemberList(
            MemberVersion(Term(version_term), version_number),
            tuple(Identity(name) for name in content["members"]["identities"]),
            tuple(Slot(slot) for slot in content["members"].get("slots", ())),
        ),
        known_vdl=None if vdl is None else Vdl(Term(vdl[0]), Lsn.parse(vdl[1])),
        scl_floor=Lsn.parse(content["scl_floor"]),
    )
