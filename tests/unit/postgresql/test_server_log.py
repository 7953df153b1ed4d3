"""Log lines to records."""

from __future__ import annotations

import asyncio

from aurora_operator.engines.postgresql.server_log import LogParser, Record, ServerLog

HEAD = "\x1e2026-11-23 09:00:00.000 UTC\x1f42\x1fclient backend\x1fapp\x1fshop\x1fpsql\x1f22P02\x1f"


def records_of(*lines: str) -> list[Record]:
    parser = LogParser()
    found = [parser.feed(line) for line in lines] + [parser.finish()]
    return [record for record in found if record is not None]


def test_a_message_with_its_parts_is_one_record() -> None:
    (record,) = records_of(
        f"{HEAD}ERROR:  invalid input",
        "\tsecond line",
        f"{HEAD}HINT:  try again",
        f"{HEAD}STATEMENT:  SELECT 1",
        "\t+ 2",
    )
    assert record == {
        "severity": "ERROR",
        "message": "invalid input\nsecond line",
        "hint": "try again",
        "statement": "SELECT 1\n+ 2",
        "time": "2026-11-23 09:00:00.000 UTC",
        "process": "42",
        "backend": "client backend",
        "user": "app",
        "database": "shop",
        "application": "psql",
        "sqlstate": "22P02",
    }


def test_parts_of_another_process_are_not_mixed_in() -> None:
    other = HEAD.replace("\x1f42\x1f", "\x1f43\x1f")
    first, second = records_of(f"{HEAD}ERROR:  mine", f"{other}DETAIL:  not mine")
    assert "detail" not in first
    assert second["severity"] == "DETAIL"


def test_a_line_from_elsewhere_is_passed_on() -> None:
    (record,) = records_of("postgres: could not find a shared library")
    assert record["message"] == "postgres: could not find a shared library"


def test_a_message_cannot_forge_a_record() -> None:
    """PostgreSQL indents the further lines of a message, so a mark never begins one."""
    (record,) = records_of(f"{HEAD}LOG:  first", f"\t{HEAD}ERROR:  forged")
    assert record["severity"] == "LOG"


async def test_records_are_emitted_as_soon_as_they_are_whole() -> None:
    emitted: list[Record] = []
    log = ServerLog(emitted.append)
    stream = asyncio.StreamReader()
    reading = asyncio.create_task(log.read(stream))
    text = f"{HEAD}LOG:  one\n{HEAD}LOG:  two\n".encode()
    stream.feed_data(text[:30])
    stream.feed_data(text[30:])
    async with asyncio.timeout(5):
        while len(emitted) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
    stream.feed_data(b"a last word without an end")
    stream.feed_eof()
    await reading
    assert [record["message"] for record in emitted] == ["one", "two", "a last word without an end"]
    assert list(log.last_lines)[-1] == "LOG: a last word without an end"
