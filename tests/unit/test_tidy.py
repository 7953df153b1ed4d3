"""House rules that no linter knows: each is short, and its message says what to do."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("operator", "tests", "tools", "images")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
# Paths of a developer's machine and hosts of package registries have no place in what is shared.
# They are put together here, so that this file does not find itself.
MACHINE_FOLDERS = ("work", "root")
REGISTRY_HOSTS = tuple(
    ".".join(words)
    for words in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("proxy", "golang", "org"),
        ("deb", "debian", "org"),
        ("registry", "npmjs", "org"),
    )
)
MACHINE_PATH = re.compile(r"(?<![\w.$})/-])/(?:" + "|".join(MACHINE_FOLDERS) + ")/")
REGISTRY_HOST = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS))


@cache
def committed_files() -> tuple[Path, ...]:
    """Files that git tracks or would track, so that a mistake is seen before it is committed."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    paths = (ROOT / name for name in listed.decode().split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


@cache
def python_files() -> tuple[Path, ...]:
    """Every Python file of ours."""
    bases = tuple(ROOT / folder for folder in CODE_FOLDERS)
    return tuple(
        path
        for path in committed_files()
        if path.suffix == ".py" and any(base in path.parents for base in bases)
    )


def names_a_machine(line: str) -> bool:
    """Whether a line holds a path or a host that only some machines know."""
    return bool(MACHINE_PATH.search(line) or REGISTRY_HOST.search(line))


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions of a file, methods and inner ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_operator_folder_holds_only_the_package() -> None:
    """`operator/` is a source root: an `__init__.py` in it would shadow the standard library."""
    names = {path.name for path in (ROOT / "operator").iterdir() if path.name != "__pycache__"}
    assert names == {"aurora_operator"}


def test_no_test_folder_is_called_operator_as_a_package() -> None:
    """A package `operator` below tests/ breaks the import of the standard library's module."""
    bad = list((ROOT / "tests").rglob("operator/__init__.py"))
    assert not bad, f"rename the folder or remove {bad}"
    assert not (ROOT / "tests" / "operator").exists()


def test_functions_fit_a_screen() -> None:
    """A function that does not fit a screen is split."""
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"
        for path in python_files()
        for node in functions_of(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long, "split:\n" + "\n".join(long)


def test_files_have_one_subject() -> None:
    """A file beyond the limit holds more than one subject."""
    long = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in python_files()
        if (count := len(path.read_text().splitlines())) > FILE_LINES_MAX
    ]
    assert not long, "split:\n" + "\n".join(long)


def test_modules_tell_their_story() -> None:
    """Every module begins with a docstring: what it is, why, and what it is not."""
    mute = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not mute, "no docstring:\n" + "\n".join(mute)


def test_no_path_or_host_of_a_developers_machine() -> None:
    """What is committed works for everybody, so it names no machine."""
    found: list[str] = []
    for path in committed_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if names_a_machine(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        (f"cd /{MACHINE_FOLDERS[0]}/main", True),
        (f"see '/{MACHINE_FOLDERS[1]}/.cache'", True),
        (f"https://{REGISTRY_HOSTS[0]}/simple", True),
        ("kubernetes.io/network/x", False),
        (f"${{HOME}}/{MACHINE_FOLDERS[0]}/", False),
        ("a/framework/b", False),
    ],
)
def test_machine_patterns_catch_what_they_should(line: str, caught: bool) -> None:
    """The two patterns above, tried on lines of both kinds."""
    assert names_a_machine(line) is caught


def test_chart_carries_the_generated_crds() -> None:
    """Helm installs the CRDs from the chart's own copy, so the copy must not differ."""
    ours = {path.name: path.read_bytes() for path in (ROOT / "crds").glob("*.yaml")}
    folder = ROOT / "charts" / "aurora-operator" / "crds"
    packed = {path.name: path.read_bytes() for path in folder.glob("*.yaml")}
    assert ours == packed, "run `make generate`"
