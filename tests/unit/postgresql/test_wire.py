"""Messages byte for byte.

``transcripts/*.txt`` hold whole conversations: a line of Python that makes a message, then the
bytes. ``REWRITE=1`` writes them anew, to be reviewed as a diff. The bytes of ``recorded.txt`` came
from a real PostgreSQL 17 and are never rewritten.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aurora_operator.core.lsn import Lsn
from aurora_operator.engines.postgresql import wire

TRANSCRIPTS = Path(__file__).parent / "transcripts"
MADE = sorted(TRANSCRIPTS.glob("made-*.txt"))


def spelled(data: bytes) -> str:
    return data.hex(" ", 4)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
def test_messages_are_made_as_written_down(path: Path) -> None:
    lines = path.read_text().splitlines()
    made = []
    for line in lines:
        if line.startswith("= "):
            continue
        made.append(line)
        if line and not line.startswith("#"):
            made.append("= " + spelled(eval(line, vars(wire))))
    text = "\n".join(made) + "\n"
    if os.environ.get("REWRITE"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; REWRITE=1 writes it anew"


def recorded() -> dict[str, bytes]:
    """Messages by name, from a real walsender and a real walreceiver."""
    lines = (TRANSCRIPTS / "recorded.txt").read_text().splitlines()
    pairs = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {name: bytes.fromhex(data) for name, _, data in pairs}


def body_of(name: str) -> bytes:
    (message,) = wire.MessageBuffer().feed(recorded()[name])
    return message.body


def test_a_real_walreceivers_startup_is_read() -> None:
    packet = recorded()["walreceiver startup"]
    assert wire.parse_startup(packet[8:]) == {
        "user": "aurora_standby",
        "database": "replication",
        "replication": "true",
        "application_name": "shop-instance-2",
    }
    assert wire.startup(wire.parse_startup(packet[8:])) == packet


def test_real_answers_are_read() -> None:
    system, timeline, end, database = wire.parse_data_row(body_of("walsender identity"))
    assert (timeline, database) == (b"2", None)
    assert system is not None
    assert system.isdigit()
    assert end is not None
    assert Lsn.parse(end.decode()) > 0
    assert wire.authentication_code(body_of("walsender authentication")) == 0
    error = wire.parse_error(body_of("walsender removed"))
    assert error.sqlstate == wire.SEGMENT_REMOVED
    assert "has already been removed" in error.message


def test_real_log_is_read_and_made_alike() -> None:
    body = body_of("walsender log")
    log = wire.parse_server_copy(body)
    assert isinstance(log, wire.LogData)
    assert log.end == log.start.advanced(len(log.data))
    again = wire.log_data(log.start, log.end, log.data, unix_seconds=0.0)
    at_time = slice(5 + 17, 5 + 25)
    assert again[: at_time.start] == recorded()["walsender log"][: at_time.start]
    assert again[at_time.stop :] == recorded()["walsender log"][at_time.stop :]


def test_a_real_keepalive_and_reports_are_read() -> None:
    keepalive = wire.parse_server_copy(body_of("walsender keepalive"))
    assert isinstance(keepalive, wire.Keepalive)
    status = wire.parse_client_copy(body_of("walreceiver status"))
    assert status is not None
    assert status.flushed <= status.written
    assert wire.parse_client_copy(body_of("walreceiver feedback")) is None


def test_messages_are_cut_the_same_whatever_the_pieces() -> None:
    stream = b"".join(data for name, data in recorded().items() if "startup" not in name)
    whole = wire.MessageBuffer().feed(stream)
    buffer = wire.MessageBuffer()
    by_byte = [m for i in range(len(stream)) for m in buffer.feed(stream[i : i + 1])]
    assert by_byte == whole


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (wire.parse_startup, b"user\0admin\0"[:-1]),
        (wire.parse_startup, b"user\0\0"),
        (wire.parse_server_copy, b"x123"),
        (wire.parse_server_copy, b"w123"),
        (wire.parse_client_copy, b"r123"),
        (wire.MessageBuffer().feed, b"w\0\0\0\1"),
        (wire.MessageBuffer().feed, b"w\x7f\xff\xff\xff"),
    ],
    ids=["no-end", "no-value", "unknown-copy", "short-log", "short-report", "tiny", "huge"],
)
def test_what_the_protocol_does_not_allow_is_refused(read: object, data: bytes) -> None:
    assert callable(read)
    with pytest.raises(wire.WireError):
        read(data)
