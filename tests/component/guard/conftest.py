"""Servers for the door's tests, each on its own port and gone with its test."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from component.guard.server import GuardedServer, make_template

MakeServer = Callable[[], GuardedServer]

_ports = itertools.count(6400)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("guard"))


@pytest.fixture(scope="module")
def module_server(
    template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardedServer]:
    """One for all tests of a module, not started."""
    folder = tmp_path_factory.mktemp("module")
    shutil.copytree(template, folder / "data")
    server = GuardedServer(folder / "data", next(_ports))
    yield server
    server.stop()


@pytest.fixture
def make_server(template: Path, tmp_path: Path) -> Iterator[MakeServer]:
    made: list[GuardedServer] = []

    def make() -> GuardedServer:
        port = next(_ports)
        data = tmp_path / f"data-{port}"
        shutil.copytree(template, data)
        made.append(GuardedServer(data, port))
        return made[-1]

    yield make
    for server in made:
        server.stop()
        shutil.rmtree(server.data, ignore_errors=True)  # all of them together would fill /tmp


@pytest.fixture
def server(make_server: MakeServer) -> GuardedServer:
    """A running server, its door as it starts: shut."""
    made = make_server()
    made.start()
    return made
