"""The ground of the end-to-end tests: local cluster, product, and AuroraClusters to break.

Everything that a test makes lies in namespaces with one label; a run begins by removing what an
earlier one left (it may have been killed), faults in force included. When a test fails, the logs
of all pods of those namespaces and of the operator are kept under build/e2e-logs.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from localkube import cluster, faults
from support.aurora import Aurora
from support.evidence import collect
from support.install import Images, build_images, install_chart, load_images
from support.kube import Kube, local_kube
from support.namespaces import MakeNamespace, create_namespace, remove_namespace, remove_namespaces
from support.traffic import StartTraffic, Traffic

BUILD = Path(__file__).resolve().parents[2] / "build"


def pytest_configure(config: pytest.Config) -> None:
    """The one marker of these tests."""
    config.addinivalue_line("markers", "full: takes long; runs with LEVEL=full only")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the long tests out unless they were asked for."""
    if os.environ.get("LEVEL") == "full":
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="runs with LEVEL=full"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the evidence of a failure before any fixture removes it."""
    report = yield
    if report.failed and report.when in ("setup", "call"):
        name = re.sub(r"[^\w.-]+", "_", item.name)
        report.sections.append(("evidence", collect(local_kube(), BUILD / "e2e-logs" / name)))
    return report


@pytest.fixture(scope="session")
def images() -> Images:
    """The images of this checkout as it was when the run began."""
    shutil.rmtree(BUILD / "e2e-logs", ignore_errors=True)
    cluster.up()
    built = build_images()
    load_images()
    return built


@pytest.fixture(scope="session")
def kube(images: Images) -> Iterator[Kube]:
    """The local cluster, healthy, with this checkout's operator on it and nothing left over."""
    faults.heal_all()
    found = local_kube()
    install_chart(found, images)
    remove_namespaces(found)
    yield found
    remove_namespaces(found)


@pytest.fixture
def make_namespace(kube: Kube) -> Iterator[MakeNamespace]:
    """Makes namespaces that are gone after the test."""
    made: list[str] = []

    def make(name: str) -> str:
        create_namespace(kube, name)
        made.append(name)
        return name

    yield make
    for name in made:
        remove_namespace(kube, name)


@pytest.fixture(scope="session")
def creation(kube: Kube) -> tuple[Aurora, float]:
    """The AuroraCluster that most tests share, and how many seconds it took to be available."""
    create_namespace(kube, "e2e-shop")
    aurora = Aurora(kube, "e2e-shop")
    begun = time.monotonic()
    aurora.apply(replicas=1)
    aurora.wait_available(replicas=1)
    return aurora, time.monotonic() - begun


@pytest.fixture
def shop(creation: tuple[Aurora, float]) -> Iterator[Aurora]:
    """The shared AuroraCluster, whole again before each test."""
    aurora, _ = creation
    aurora.wait_available(replicas=int(aurora.object()["spec"]["replicas"]))
    yield aurora
    faults.heal_all()


@pytest.fixture
def start_traffic(request: pytest.FixtureRequest) -> Iterator[StartTraffic]:
    """Starts a writing and a reading client; they end with the test, whatever happens."""
    running: list[Traffic] = []

    def start(aurora: Aurora) -> Traffic:
        name = re.sub(r"\W+", "_", f"{request.node.name}_{len(running)}_{int(time.time())}")
        traffic = Traffic(aurora, BUILD / "e2e-clients", name)
        running.append(traffic)
        return traffic.__enter__()

    yield start
    for traffic in running:
        traffic.stop()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Notes a figure: in the report and in build/e2e-figures.txt, for people."""

    def note(what: str, seconds: float) -> None:
        record_property(what, round(seconds, 3))
        BUILD.mkdir(exist_ok=True)
        with (BUILD / "e2e-figures.txt").open("a") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {what}: {seconds:.2f} s\n")

    return note
