"""Cut cables: which node may not send to which, as one nftables table of the bridge.

The cuts in force are a file; the table is always made anew from all of them in one step, so there
is no moment with half a cut, and removing the table heals everything. Frames are simply lost, as
on a broken cable: nobody gets a reset.
"""

import json
from collections.abc import Callable, Iterable
from typing import Literal

from localkube import layout, shell
from localkube.errors import LocalKubeError
from localkube.layout import CONTROL_PEER, NODES
from localkube.locks import exclusive

Direction = Literal["both", "in", "out"]
Pair = tuple[str, str]
_TABLE = "aurora_localkube"
_LOCK_LIMIT_SECONDS = 30.0
_FILE = layout.RUN / "cuts.json"


def pairs(targets: Iterable[str], direction: Direction, peers: Iterable[str] | None) -> list[Pair]:
    """(sender, receiver) for a cut between the targets as a group and their peers.

    Without peers these are everybody else: all other nodes, the client and the control plane.
    """
    inside = [node.name for node in layout.nodes_of(list(targets))]
    everybody = [*(node.name for node in NODES), CONTROL_PEER]
    if peers is None:
        outside = [name for name in everybody if name not in inside]
    else:
        named = list(peers)
        outside = [node.name for node in layout.nodes_of([p for p in named if p != CONTROL_PEER])]
        outside += [CONTROL_PEER] if CONTROL_PEER in named else []
    both_sides = set(inside) & set(outside)
    if both_sides:
        raise LocalKubeError(f"{', '.join(sorted(both_sides))} cannot be cut off from itself")
    found: list[Pair] = []
    for one in inside:
        for other in outside:
            found += [(one, other)] if direction in ("both", "out") else []
            found += [(other, one)] if direction in ("both", "in") else []
    return found


def table(all_pairs: Iterable[Pair]) -> str:
    """The nftables program that replaces our table by one that drops these pairs."""
    chains: dict[str, list[str]] = {"forward": [], "input": [], "output": []}
    for sender, receiver in sorted(set(all_pairs)):
        if receiver == CONTROL_PEER:
            chains["input"].append(f'iifname "lk-{sender}" drop')
        elif sender == CONTROL_PEER:
            chains["output"].append(f'oifname "lk-{receiver}" drop')
        else:
            chains["forward"].append(f'iifname "lk-{sender}" oifname "lk-{receiver}" drop')
    lines = [f"table bridge {_TABLE}", f"delete table bridge {_TABLE}"]
    if any(chains.values()):
        lines.append(f"table bridge {_TABLE} {{")
        for hook, rules in chains.items():
            lines.append(f"chain {hook} {{ type filter hook {hook} priority 0; policy accept;")
            lines += rules
            lines.append("}")
        lines.append("}")
    return "\n".join(lines) + "\n"


def add(name: str, new_pairs: list[Pair]) -> None:
    """Cut these pairs until the cut of that name is removed."""
    _change(lambda cuts: cuts.update({name: new_pairs}))


def remove(name: str) -> None:
    """Undo one cut; pairs that another cut holds stay cut."""
    _change(lambda cuts: cuts.pop(name, None))


def remove_all() -> None:
    """Undo every cut, also those that no file remembers."""
    if _FILE.parent.exists():
        _change(lambda cuts: cuts.clear())
    elif leftovers():
        shell.run("nft", "delete", "table", "bridge", _TABLE)


def in_force() -> dict[str, list[Pair]]:
    """The cuts by name."""
    if not _FILE.exists():
        return {}
    return {name: [(a, b) for a, b in cut] for name, cut in json.loads(_FILE.read_text()).items()}


def leftovers() -> list[str]:
    """Our table, if it exists."""
    exists = shell.succeeds("nft", "list", "table", "bridge", _TABLE)
    return [f"nftables table bridge {_TABLE}"] if exists else []


def _change(change: Callable[[dict[str, list[Pair]]], object]) -> None:
    with exclusive(_FILE.with_suffix(".lock"), _LOCK_LIMIT_SECONDS):
        cuts = in_force()
        change(cuts)
        program = table(pair for cut in cuts.values() for pair in cut)
        shell.run("nft", "-f", "-", input_text=program)
        unfinished = _FILE.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(cuts))
        unfinished.replace(_FILE)
