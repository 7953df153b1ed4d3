"""Short executions by hand, each the shortest that a rule was found to need."""

from __future__ import annotations

from aurora_operator.core.copy import Promise
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from support.copies import history
from support.simulation.attempt import Attempt, Role
from support.simulation.world import World


def test_rule_4_part_of_a_record_that_its_term_never_finished() -> None:
    """I6: what a replica received is as long as the chosen log, and is not the chosen log.

    The VDL of term 2 lay inside a record (b, c), and a replica received b. The writer of term 2
    died, and its successor of term 3 wrote its first record, a, where b had begun; it was
    acknowledged. Then the replica becomes the candidate of term 4: it has as many bytes as the
    choice.
    """
    world = World(0)
    replica = world.instances[0]
    born = list(world.pods[0].log)
    begin = len(born)
    two = world.ledger.new_record(Term(2))
    while len(two) == 1:
        two = world.ledger.new_record(Term(2))
    three = world.ledger.new_record(Term(3))
    while len(three) != 1:
        three = world.ledger.new_record(Term(3))
    terms = history((1, 0), (2, begin), (3, begin))
    for pod in world.pods:
        pod.become(Promise(Term(3), AttemptId("three")), terms, [*born, *three])
    world.tell([*born, *three], begin + 1, Term(3), "acknowledged")
    replica.log, replica.timelines = [*born, two[0]], history((1, 0), (2, begin))
    replica.on_wish("open")
    world.make_fair()
    while replica.attempt is None or replica.attempt.phase != "open":
        world.step()
        if replica.role is Role.REPLICA and not replica.log:
            return  # it threw its data away
    assert isinstance(replica.attempt, Attempt)
    assert replica.log[: begin + 1] == [*born, *three], "what was acknowledged is lost"
