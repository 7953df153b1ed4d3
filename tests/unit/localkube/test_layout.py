"""Names and addresses of the nodes."""

import ipaddress

import pytest

from localkube import layout


def test_nodes_of_takes_zones_and_names_each_once() -> None:
    names = [node.name for node in layout.nodes_of(["node-b1", "zone-b", "client"])]

    assert names == ["node-b1", "node-b2", "client"]


def test_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(KeyError, match="node-c2"):
        layout.nodes_of(["node-d1"])


def test_two_nodes_in_each_of_three_zones() -> None:
    zones = [node.zone for node in layout.FAULT_NODES]

    assert sorted(zones, key=str) == [z for zone in layout.ZONES for z in (zone, zone)]
    assert layout.CLIENT.zone is None


def test_addresses_are_distinct_and_inside_their_ranges() -> None:
    addresses = {ipaddress.ip_address(node.address) for node in layout.NODES}
    pods = [ipaddress.ip_network(node.pod_cidr) for node in layout.NODES]
    whole = ipaddress.ip_network(layout.POD_CIDR)

    assert len(addresses) == len(set(pods)) == len(layout.NODES)
    assert all(address in ipaddress.ip_network(layout.NODE_CIDR) for address in addresses)
    assert all(net.subnet_of(whole) for net in map(ipaddress.IPv4Network, map(str, pods)))


def test_link_names_fit_the_kernels_fifteen_characters() -> None:
    assert all(len(node.link) <= 15 for node in layout.NODES)


def test_cache_is_outside_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURORA_CACHE", "/somewhere")
    assert str(layout.cache_root()) == "/somewhere"

    monkeypatch.delenv("AURORA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(layout.cache_root()) == "/x/aurora-operator"
