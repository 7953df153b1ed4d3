"""The log: one JSON object a line, whoever wrote it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from aurora_operator.telemetry.logs import configure_logging


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", cluster="shop", pod="shop-storage-2")
    structlog.get_logger().info("promise", term=7, granted=True)
    (line,) = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "promise",
        "cluster": "shop",
        "pod": "shop-storage-2",
        "term": 7,
        "granted": True,
    }


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", cluster="shop")
    logging.getLogger("aiohttp.access").warning("slow %s", "peer")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["cluster"]) == ("slow peer", "warning", "shop")


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(capsys)
    assert line["level"] == "error"
    assert "ValueError: two\nlines" in line["exception"]


def test_the_level_holds_for_everybody(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    structlog.get_logger().info("left out")
    logging.getLogger("kopf").info("left out")
    structlog.get_logger().warning("kept")
    assert [line["event"] for line in lines(capsys)] == ["kept"]
