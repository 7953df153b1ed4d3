"""The first process of a node, and the owner of the control plane: starts programs, restarts them.

For a node it makes a process, mount and host-name namespace, so that killing this one process is
pulling the node's plug: the kernel ends everything in it and its mounts vanish, as at a real
power loss. The control plane gets no namespaces, but its programs die with their supervisor.

It decides nothing about Kubernetes: what to run is in the file it is given.
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from localkube import cgroups, layout, volumes

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_RESTART_DELAY_SECONDS = 1.0
_LOG_LIMIT_BYTES = 64 << 20
_SOCKET_WAIT_SECONDS = 30.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Task:
    """A program to keep running, or (`once`) to run to its end before the next one starts."""

    name: str
    argv: list[str]
    wait_for: str = ""
    once: bool = False


@dataclass(frozen=True)
class Spec:
    """All that a supervisor is told."""

    name: str
    cgroup: str
    pid_file: str
    log_folder: str
    tasks: list[Task]
    network_namespace: str = ""
    binds: list[tuple[str, str]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Keep it as a file, for the process that will read it."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def read(path: Path) -> "Spec":
        """What `write` wrote."""
        document = json.loads(path.read_text())
        tasks = [Task(**task) for task in document.pop("tasks")]
        binds = [(source, target) for source, target in document.pop("binds")]
        return Spec(tasks=tasks, binds=binds, **document)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _die_with_parent() -> None:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def _log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Supervisor:
    """Runs a spec's tasks until it is told to end."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._running: dict[int, Task] = {}
        self._due: dict[str, float] = {}
        self._isolated = bool(spec.network_namespace)

    def run(self) -> None:
        """Start all tasks in order, then restart whatever ends; returns on SIGTERM."""
        for task in self._spec.tasks:
            self._wait_for(task)
            if task.once:
                self._run_once(task)
            else:
                self._start(task)
        wake_reader = _wake_on_signals()
        while True:
            ready, _, _ = select.select([wake_reader], [], [], 1.0)
            if ready and signal.SIGTERM in os.read(wake_reader, 512):
                _log("told to end")
                return
            self._reap()
            self._restart_due()
            self._cut_long_logs()

    def _wait_for(self, task: Task) -> None:
        deadline = time.monotonic() + _SOCKET_WAIT_SECONDS
        while task.wait_for and not _answers(task.wait_for):
            if time.monotonic() >= deadline:
                _log(f"{task.name}: {task.wait_for} still does not answer; starting all the same")
                return
            time.sleep(0.05)

    def _run_once(self, task: Task) -> None:
        with self._log_file(task).open("ab") as log:
            done = subprocess.run(task.argv, stdout=log, stderr=log, timeout=120, check=False)
        _log(f"{task.name} ended with {done.returncode}")

    def _start(self, task: Task) -> None:
        with self._log_file(task).open("ab") as log:
            process = subprocess.Popen(
                task.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if self._isolated else _die_with_parent,
            )
        process.returncode = 0  # reaped below by pid, with everybody's orphans; not by Popen
        self._running[process.pid] = task
        _log(f"{task.name} started as {process.pid}")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            task = self._running.pop(pid, None)
            if task is not None:
                _log(f"{task.name} ({pid}) ended with status {status}; it starts again")
                self._due[task.name] = time.monotonic() + _RESTART_DELAY_SECONDS

    def _restart_due(self) -> None:
        now = time.monotonic()
        for task in self._spec.tasks:
            if self._due.get(task.name, now + 1) <= now:
                del self._due[task.name]
                self._start(task)

    def _log_file(self, task: Task) -> Path:
        return Path(self._spec.log_folder) / f"{task.name}.log"

    def _cut_long_logs(self) -> None:
        for task in self._spec.tasks:
            path = self._log_file(task)
            if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
                os.truncate(path, 0)


def _wake_on_signals() -> int:
    """A file descriptor that gets a byte (its number) for each signal that concerns us.

    Signals are handled, not blocked: programs inherit what is blocked.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    return reader


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _enter_namespaces(spec: Spec) -> None:
    with Path(spec.network_namespace).open("rb") as namespace:
        _check(_libc.setns(namespace.fileno(), _CLONE_NEWNET), "setns")
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWUTS), "unshare")


def _prepare_node(spec: Spec) -> None:
    """Mounts of a freshly booted machine: /proc and /run new, the node's own disk, its volumes."""
    socket.sethostname(spec.name)
    for command in (
        ("mount", "--make-rprivate", "/"),
        ("mount", "--make-rshared", "/"),
        ("mount", "-t", "proc", "proc", "/proc"),
        ("mount", "-t", "tmpfs", "-o", "mode=755,size=512m", "tmpfs", "/run"),
        *(("mount", "--bind", source, target) for source, target in spec.binds),
    ):
        subprocess.run(command, check=True, timeout=30)
    for path in volumes.images_of(layout.node_by_name(spec.name)):
        volumes.mount_here(path)


def main(arguments: list[str]) -> None:
    """Become the supervisor of the spec file named on the command line."""
    spec = Spec.read(Path(arguments[0]))
    cgroups.join(spec.cgroup, os.getpid())
    if spec.network_namespace:
        _enter_namespaces(spec)
    child = os.fork()
    if child:
        unfinished = Path(f"{spec.pid_file}.unfinished")
        unfinished.write_text(str(child))
        unfinished.replace(spec.pid_file)
        return
    os.setsid()
    if spec.network_namespace:
        _prepare_node(spec)
    Supervisor(spec).run()


if __name__ == "__main__":
    main(sys.argv[1:])
