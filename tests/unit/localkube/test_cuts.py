"""Which frames a cut drops, and the nftables program that does it."""

import pytest

from localkube import cuts
from localkube.errors import LocalKubeError


def test_cut_of_a_zone_spares_the_links_inside_it() -> None:
    pairs = cuts.pairs(["zone-a"], "both", None)

    assert ("node-a1", "node-a2") not in pairs
    assert ("node-a1", "node-b1") in pairs
    assert ("node-b1", "node-a1") in pairs
    assert ("client", "node-a2") in pairs
    assert ("control", "node-a2") in pairs
    assert len(pairs) == len(set(pairs)) == 2 * 2 * 6


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("out", {("node-a1", "node-b1")}),
        ("in", {("node-b1", "node-a1")}),
        ("both", {("node-a1", "node-b1"), ("node-b1", "node-a1")}),
    ],
)
def test_direction_is_seen_from_the_target(
    direction: cuts.Direction, expected: set[cuts.Pair]
) -> None:
    assert set(cuts.pairs(["node-a1"], direction, ["node-b1"])) == expected


def test_peers_may_be_zones_client_and_control() -> None:
    pairs = cuts.pairs(["node-a1"], "out", ["zone-b", "client", "control"])

    assert {receiver for _, receiver in pairs} == {"node-b1", "node-b2", "client", "control"}


def test_a_node_cannot_be_cut_off_from_itself() -> None:
    with pytest.raises(LocalKubeError, match="node-a1"):
        cuts.pairs(["zone-a"], "both", ["node-a1"])


def test_table_drops_frames_where_they_pass() -> None:
    program = cuts.table([("node-a1", "node-b1"), ("node-a1", "control"), ("control", "node-a1")])

    assert 'iifname "lk-node-a1" oifname "lk-node-b1" drop' in program
    assert 'hook input priority 0; policy accept;\niifname "lk-node-a1" drop' in program
    assert 'hook output priority 0; policy accept;\noifname "lk-node-a1" drop' in program


def test_no_cut_means_no_table() -> None:
    lines = cuts.table([]).splitlines()

    assert lines[-1].startswith("delete table bridge")
