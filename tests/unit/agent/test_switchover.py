"""The writer's part in a switchover, against six copies in one process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aurora_operator.agent.instance import following
from aurora_operator.agent.instance import replica as replica_module
from aurora_operator.agent.instance import switchover as switchover_module
from aurora_operator.agent.instance.switchover import Wish
from aurora_operator.api.messages import HubBeat, InstanceRole, PrevoteAsk
from aurora_operator.core import switchover
from aurora_operator.core.names import AttemptId, InstanceName
from aurora_operator.core.switchover import LIMITS_SECONDS, SwitchoverState
from support.small_machine import SmallInstance, end_tasks, supersede, until
from support.small_volume import SmallVolume


async def writer_and_replica(
    volume: SmallVolume, directory: Path, *, kill_after: int | None = None
) -> tuple[SmallInstance, SmallInstance]:
    writer = SmallInstance(volume, directory / "writer", number=1, kill_after=kill_after)
    replica = SmallInstance(volume, directory / "replica", number=2)
    for one in (writer, replica):
        one.begin()
        await one.become(InstanceRole.REPLICA)
    await writer.open()
    await until("the replica serves", lambda: replica.machine.is_open)
    return writer, replica


async def end(*instances: SmallInstance) -> None:
    for one in instances:
        await one.die()
    await end_tasks("attend ", "beats to ", "announce ", "guard ", "prepare ", "wait ")


def wish(writer: SmallInstance, to: SmallInstance, request: str = "test") -> tuple[bool, str]:
    return writer.life.switchovers.wish(Wish(request, "a test", to.agent))


def last_sentence(writer: SmallInstance) -> str:
    status = writer.life.switchovers.status()
    return "" if status is None or status.running else status.sentence


async def test_the_writer_hands_over_and_follows(volume: SmallVolume, tmp_path: Path) -> None:
    writer, replica = await writer_and_replica(volume, tmp_path)
    before = writer.life.term
    writer.machine.write(30)
    volume.pull()
    accepted, _ = wish(writer, replica)
    assert accepted
    await replica.become(InstanceRole.WRITER)
    await writer.become(InstanceRole.REPLICA)
    assert before is not None
    assert replica.life.term is not None
    assert replica.life.term > before
    assert writer.life.switchovers.status() is None
    await end(writer, replica)


async def test_running_transactions_get_a_moment_and_no_more(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(switchover.LIMITS_SECONDS, SwitchoverState.DRAINING, 0.05)
    writer, replica = await writer_and_replica(volume, tmp_path)
    writer.machine.busy_sessions = 3
    wish(writer, replica)
    await until("new sessions are refused", lambda: not writer.machine.is_open)
    assert writer.machine.busy_sessions == 3
    await replica.become(InstanceRole.WRITER)
    assert writer.machine.busy_sessions == 0
    await end(writer, replica)


async def test_a_session_that_hangs_has_the_door_opened_again(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for state in (SwitchoverState.DRAINING, SwitchoverState.ENDING):
        monkeypatch.setitem(switchover.LIMITS_SECONDS, state, 0.02)
    writer, replica = await writer_and_replica(volume, tmp_path)
    writer.machine.busy_sessions, writer.machine.sessions_hang = 1, True
    wish(writer, replica)
    await until("withdrawn", lambda: "did not end" in last_sentence(writer))
    assert writer.life.role is InstanceRole.WRITER
    await until("the door is open again", lambda: writer.machine.is_open)
    assert replica.life.role is InstanceRole.REPLICA
    await end(writer, replica)


async def test_a_target_that_dies_has_the_consent_withdrawn(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer goes on, and no copy would promise to anybody."""
    monkeypatch.setattr(switchover, "DRAIN_SECONDS", 10)
    writer, replica = await writer_and_replica(volume, tmp_path)
    writer.machine.busy_sessions = 1
    wish(writer, replica)
    await until("the target is ready", lambda: "soon shop-instance-2" in writer.process.steps)
    assert not replica.machine.is_open
    await replica.die()
    writer.machine.busy_sessions = 0
    await until("withdrawn", lambda: "cannot open" in last_sentence(writer))
    await until("the door is open again", lambda: writer.machine.is_open)
    asked = PrevoteAsk(candidate=InstanceName("shop-instance-2"), seen_term=volume.pods[0].promised)

    async def refused() -> bool:
        answers = [await pod.asks.prevote(asked) for pod in volume.pods]
        return not any(answer.granted for answer in answers)

    for _ in range(1000):
        if await refused():
            break
        await asyncio.sleep(0.001)
    assert await refused()
    writer.machine.write(30)
    volume.pull()
    await end(writer)


async def test_a_withdrawn_consent_is_not_left_for_the_next_switchover(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer, replica = await writer_and_replica(volume, tmp_path)
    await replica.die()
    assert writer.life.opened is not None
    hub = writer.life.opened.following
    hub.successor = InstanceName("shop-instance-2")
    hub.consent(True)
    assert hub.beat().consents_to == "shop-instance-2"
    wish(writer, replica)
    await until("over", lambda: last_sentence(writer))
    hub.successor = InstanceName("shop-instance-3")
    assert hub.beat().consents_to is None
    await end(writer)


async def test_a_target_that_is_asked_for_nothing_serves_again(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer died, or withdrew: the readers come back by themselves."""
    monkeypatch.setattr(replica_module, "EXPECT_SECONDS", 0.05)
    replica = SmallInstance(volume, tmp_path / "replica", number=2)
    replica.begin()
    await until("the replica serves", lambda: replica.machine.is_open)
    assert replica.life.expect_opening()[0]
    assert not replica.machine.is_open
    await until("it serves again", lambda: replica.machine.is_open)
    assert replica.life.role is InstanceRole.REPLICA
    await end(replica)


def test_a_target_keeps_its_readers_out_until_the_consent() -> None:
    states = (SwitchoverState.DRAINING, SwitchoverState.ENDING, SwitchoverState.SETTLING)
    assert sum(LIMITS_SECONDS[state] for state in states) < replica_module.EXPECT_SECONDS


async def test_the_same_request_is_carried_out_once(volume: SmallVolume, tmp_path: Path) -> None:
    writer, replica = await writer_and_replica(volume, tmp_path)
    await replica.die()
    assert wish(writer, replica)[0]
    await until("over", lambda: last_sentence(writer))
    assert wish(writer, replica) == (False, last_sentence(writer))
    assert wish(writer, replica, "another")[0]
    await until("over again", lambda: last_sentence(writer))
    assert writer.machine.is_open
    await end(writer)


async def test_three_copies_are_not_enough_to_hand_over(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could open then; clients are not disturbed for it."""
    writer, replica = await writer_and_replica(volume, tmp_path)
    assert writer.life.opened is not None
    monkeypatch.setattr(writer.life.opened.following, "members_heard", lambda _: 3)
    wish(writer, replica)
    await until("not begun", lambda: "3 copies" in last_sentence(writer))
    assert "new sessions refused" not in writer.process.steps
    assert writer.machine.is_open
    await end(writer, replica)


async def test_rule_12_a_cut_off_writer_stays_shut_though_asked_to_hand_over(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switchover that is not begun must not open a door that was shut for another reason."""
    monkeypatch.setattr(switchover_module, "_HEARD_SECONDS", 0.05)
    writer, replica = await writer_and_replica(volume, tmp_path)
    for pod in volume.pods[:4]:
        pod.cut_off()
    await until("shut", lambda: not writer.machine.is_open)
    opened_before = writer.process.steps.count("writer's door open")
    wish(writer, replica)
    await until("not begun", lambda: "copies answer" in last_sentence(writer))
    await asyncio.sleep(0.05)  # nothing must happen; so long the door would have had to open
    assert not writer.machine.is_open
    assert writer.process.steps.count("writer's door open") == opened_before
    await end(writer, replica)


async def test_the_end_of_the_pod_waits_for_the_switchover(
    volume: SmallVolume, tmp_path: Path
) -> None:
    """Nobody named a target: the best of those that Kubernetes shows."""
    writer, replica = await writer_and_replica(volume, tmp_path)
    await writer.life.switchovers.leave()
    assert writer.life.opened is None or writer.life.opened.following.superseded.is_set()
    await replica.become(InstanceRole.WRITER)
    await end(writer, replica)


async def test_the_end_of_a_lone_pod_waits_for_nobody(volume: SmallVolume, tmp_path: Path) -> None:
    writer, replica = await writer_and_replica(volume, tmp_path)
    await replica.die()
    async with asyncio.timeout(1):
        await writer.life.switchovers.leave()
    assert "no other instance" in last_sentence(writer)
    await end(writer)


async def test_the_end_of_a_replicas_pod_hands_nothing_over(
    volume: SmallVolume, tmp_path: Path
) -> None:
    writer, replica = await writer_and_replica(volume, tmp_path)
    async with asyncio.timeout(1):
        await replica.life.switchovers.leave()
    assert writer.life.role is InstanceRole.WRITER
    await end(writer, replica)


async def test_stranded_copies_are_taken_in_by_a_switchover(
    volume: SmallVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_STRANDED_SECONDS", 0.02)
    writer, replica = await writer_and_replica(volume, tmp_path)
    supersede(volume.pods[:2], term=9)
    await replica.become(InstanceRole.WRITER)
    assert replica.life.term == 10
    await until("all six follow", lambda: all(pod.promised == 10 for pod in volume.pods))
    await writer.become(InstanceRole.REPLICA)
    await end(writer, replica)


@pytest.mark.parametrize("step", range(1, 8))
async def test_a_writer_that_dies_in_the_middle_loses_nothing(
    volume: SmallVolume, tmp_path: Path, step: int
) -> None:
    """Cut after each step: whoever opens next holds all that four copies held."""
    writer, replica = await writer_and_replica(volume, tmp_path)
    writer.machine.write(30)
    acknowledged = sorted(volume.pull())[2]
    writer.process.kill_after_more(step)
    wish(writer, replica)
    await until("it died", writer.process.dead.is_set)
    await writer.die()
    await replica.open()
    assert sum(pod.scl > acknowledged for pod in volume.pods) >= 4
    assert replica.machine.history.term_of_byte(acknowledged) is not None
    await end(replica)


def test_rule_2_a_consent_is_for_one_candidate_and_its_own_term(volume: SmallVolume) -> None:
    pod = volume.pods[0]
    attempt = AttemptId("x")
    to = InstanceName("shop-instance-2")

    def consents(candidate: str) -> bool:
        return pod.asks._consent.covers(InstanceName(candidate))

    beat = HubBeat(term=pod.promised, attempt_id=attempt, consents_to=to)
    pod.asks.hear_consent(beat)
    assert consents("shop-instance-2")
    assert not consents("shop-instance-3")
    pod.asks.hear_consent(HubBeat(term=pod.promised, attempt_id=attempt))
    assert not consents("shop-instance-2")
    pod.asks.hear_consent(beat.model_copy(update={"term": pod.promised + 1}))
    assert not consents("shop-instance-2")
