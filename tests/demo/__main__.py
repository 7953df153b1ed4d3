"""The demo from the first step to the verdict; it ends with 0 only when all of it truly happened.

Every step can be repeated: a run that was stopped half-way, at any point, is taken up by the next.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from demo import ground
from demo.client_pod import ClientPod
from demo.progress import say, show
from localkube.errors import LocalKubeError
from support.aurora import KIND, Aurora
from support.checker import Attempt, History, find_violations, last_server
from support.kube import Kube, Object, existing_kube, local_kube
from support.namespaces import create_namespace, remove_namespace
from support.waiting import Failed, NotYet, wait_for

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "shop.yaml"
NAMESPACE = "aurora-demo"
ROWS_BEFORE = 200
ROWS_AFTER = 100
AVAILABLE_TIMEOUT_SECONDS = 300.0
HEAL_TIMEOUT_SECONDS = 120.0
FAILOVER_TIMEOUT_SECONDS = 60.0
# Runs inside the writer's pod: the server's process id stands in the first line of this file.
KILL = "import os; os.kill(int(open('/var/lib/aurora/data/postmaster.pid').readline()), 9)"


def run() -> None:
    """All of it."""
    kube, images = ground.lay()
    aurora = Aurora(kube, NAMESPACE)
    bring_up(aurora)
    client = ClientPod(aurora, images.engine)
    say("a client writes rows through the Service, one commit each")
    client.start()
    before = client.wait_rows(ROWS_BEFORE)
    say(f"{len(before.acked)} rows acknowledged")
    outage_seconds = kill_writer(aurora, client)
    after = client.wait_rows(len(client.history().acked) + ROWS_AFTER)
    # The client goes on meanwhile: rows that are newer than the log just read are left aside.
    highest = max(attempt.id for attempt in after.attempts)
    broken = find_violations(after, [number for number in client.table_ids() if number <= highest])
    client.remove()
    if broken:
        raise Failed("; ".join(broken))
    say(f"every one of the {len(after.acked)} acknowledged rows is in the table, none twice")
    wait_available(aurora)
    finish(aurora, outage_seconds)


def bring_up(aurora: Aurora) -> None:
    """The example, available. One that an earlier run left and that does not heal is made anew.

    It may have been left by another version of this project, and holds nothing but demo rows.
    """
    left = aurora.kube.find(KIND, aurora.name, NAMESPACE) is not None
    apply(aurora)
    try:
        wait_available(aurora, HEAL_TIMEOUT_SECONDS if left else AVAILABLE_TIMEOUT_SECONDS)
    except Failed as error:
        if not left:
            raise
        say(f"what an earlier run left does not heal, so it is made anew: {error}")
        remove_namespace(aurora.kube, NAMESPACE)
        apply(aurora)
        wait_available(aurora)


def apply(aurora: Aurora) -> None:
    """What a person would type."""
    say(f"kubectl apply --namespace {NAMESPACE} --filename examples/shop.yaml")
    create_namespace(aurora.kube, NAMESPACE)
    aurora.kube.run("apply", "--namespace", NAMESPACE, "--filename", str(EXAMPLE))


def wait_available(aurora: Aurora, timeout_seconds: float = AVAILABLE_TIMEOUT_SECONDS) -> None:
    """Wait until all of it is there, and say what changes meanwhile."""
    wanted = int(aurora.object()["spec"].get("replicas", 1))
    shown = ""

    def problem(status: Object) -> str | None:
        nonlocal shown
        words = (
            f"{status.get('status') or 'new'}: writer {status.get('writer') or '-'},"
            f" replicas {status.get('replicasReady') or '-'},"
            f" copies {status.get('copiesReady') or '-'}"
        )
        if words != shown:
            shown = words
            say(f"  {words}")
        whole = (
            status.get("status") == "available"
            and status.get("replicasReady") == f"{wanted}/{wanted}"
            and status.get("copiesReady") == "6/6"
        )
        return None if whole else words

    aurora.wait("is available", problem, timeout_seconds=timeout_seconds)


def kill_writer(aurora: Aurora, client: ClientPod) -> float:
    """SIGKILL of the writer's server; the seconds without an acknowledged write."""
    writer = aurora.writer()
    old = last_server(client.history())
    say(f"kill -9 of PostgreSQL in the writer, {writer}")
    words = ("exec", writer, "--namespace", aurora.namespace, "--", "python3", "-c", KILL)
    aurora.kube.run(*words)

    def replaced() -> tuple[Attempt, History]:
        history = client.history()
        found = [attempt for attempt in history.acked if attempt.server != old]
        if not found:
            raise NotYet(f"last attempt: {history.attempts[-1:]}")
        return found[0], history

    first, history = wait_for(
        "another writer acknowledges", replaced, timeout_seconds=FAILOVER_TIMEOUT_SECONDS
    )
    last = [a.end_seconds for a in history.acked if a.end_seconds < first.end_seconds][-1]
    say(f"the first write is acknowledged by {first.server} instead of {old}")

    def named() -> str:
        now = aurora.status().get("writer")
        if now in (None, writer):
            raise NotYet(f"status.writer is {now}")
        return str(now)

    new = wait_for("the status names it", named, timeout_seconds=FAILOVER_TIMEOUT_SECONDS)
    say(f"the writer is {new} now")
    return first.end_seconds - last


def finish(aurora: Aurora, outage_seconds: float) -> None:
    """What a person wants to see at the end."""
    say()
    say("kubectl get auroracluster")
    show(aurora.kube.run("get", "auroracluster", "--namespace", NAMESPACE))
    say(f"write outage of the kill, as the client saw it: {outage_seconds:.2f} s")
    secret = aurora.secret()
    say("connect:  make psql" + (" KUBE=existing" if not aurora.kube.local else ""))
    if aurora.kube.local:
        address = aurora.service_address()
        say("or, with a psql of your own (the password is in the Secret shop-master):")
        uri = f"host={address} port={secret['port']} user={secret['username']}"
        say(f'          psql "{uri} dbname={secret["dbname"]} sslmode=require"')
        say('kubectl:  eval "$(PYTHONPATH=tests python3 -m localkube env)"')
        say("the end:  make cluster-down")


def psql(kube: Kube) -> None:
    """Become psql: this machine's own through the Service's address, else the engine image's."""
    aurora = Aurora(kube, NAMESPACE)
    secret = aurora.secret()
    own = shutil.which("psql")
    words = ["--port", secret["port"], "--username", secret["username"], secret["dbname"]]
    if own and kube.local:
        argv = [own, "--host", aurora.service_address(), *words]
        os.execve(own, argv, kube.environment() | {"PGPASSWORD": secret["password"]})
    script = 'PGPASSWORD=$(cat /etc/aurora/master/password) exec psql "$@"'
    terminal = ["--stdin", *(["--tty"] if sys.stdin.isatty() else [])]
    inside = ["sh", "-c", script, "psql", "--host", aurora.name, *words]
    argv = ["exec", *terminal, aurora.writer(), "--namespace", NAMESPACE, "--", *inside]
    os.execve(kube.kubectl, [str(kube.kubectl), *argv], kube.environment())


def main() -> int:
    """The exit code: 0 only when it truly worked."""
    try:
        if sys.argv[1:] == ["psql"]:
            psql(existing_kube() if os.environ.get("KUBE") == "existing" else local_kube())
        run()
    except (Failed, LocalKubeError) as error:
        say(f"FAILED: {error}")
        return 1
    except subprocess.SubprocessError as error:
        say(f"FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; run it again, it takes up what is there")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
