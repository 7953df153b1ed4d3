"""Configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_operator.core.names import Identity
from aurora_operator.engines.postgresql.endpoint import TlsFiles
from aurora_operator.engines.postgresql.settings import (
    Purpose,
    ServerSettings,
    members_conf,
    pg_hba,
    pg_ident,
    postgresql_conf,
    quoted,
    sync_names,
)

TLS = TlsFiles(Path("/etc/aurora/tls"))


def values_of(text: str) -> dict[str, str]:
    """What PostgreSQL would take from a file: the last line of a name wins."""
    pairs = (line.partition(" = ") for line in text.splitlines() if " = " in line)
    return {name: value[1:-1].replace("''", "'") for name, _, value in pairs}


def conf(purpose: Purpose, **changes: object) -> dict[str, str]:
    base: dict[str, object] = {
        "purpose": purpose,
        "name": "shop-instance-1",
        "socket_directory": Path("/run/aurora"),
        "tls": TLS,
        "door": Path("/run/aurora/door"),
        "log_socket_directory": Path("/run/aurora"),
    }
    return values_of(postgresql_conf(ServerSettings(**{**base, **changes})))  # type: ignore[arg-type]


def test_what_standbys_compare_is_equal_everywhere() -> None:
    """T7: whatever the purpose, and whatever a user asks for."""
    names = (
        "max_connections",
        "max_wal_senders",
        "max_worker_processes",
        "max_prepared_transactions",
        "max_locks_per_transaction",
        "wal_level",
    )
    parameters = {"max_connections": "7", "work_mem": "8MB"}
    files = [conf(purpose, parameters=parameters) for purpose in Purpose]
    assert len({tuple(file[name] for name in names) for file in files}) == 1
    assert files[0]["max_connections"] != "7"
    assert files[0]["work_mem"] == "8MB"


def test_an_instance_is_a_cache_and_a_page_store_is_not() -> None:
    assert conf(Purpose.INSTANCE)["fsync"] == "off"
    assert conf(Purpose.PAGE_STORE)["fsync"] == "on"
    assert {conf(purpose)["full_page_writes"] for purpose in Purpose} == {"on"}
    assert {conf(purpose)["restart_after_crash"] for purpose in Purpose} == {"off"}


def test_a_user_cannot_weaken_what_holds() -> None:
    weak = {"synchronous_commit": "off", "fsync": "off", "primary_conninfo": "host=elsewhere"}
    file = conf(Purpose.PAGE_STORE, parameters=weak)
    assert file["synchronous_commit"] == "on"
    assert file["fsync"] == "on"
    assert file["primary_conninfo"].startswith("host=/run/aurora port=5433 ")


def test_the_guard_is_loaded_first_wherever_there_is_a_door() -> None:
    assert conf(Purpose.INSTANCE)["shared_preload_libraries"] == "aurora_guard,pg_stat_statements"
    assert "aurora_guard" not in conf(Purpose.BIRTH, door=None)["shared_preload_libraries"]


def test_the_member_list_waits_for_any_four() -> None:
    members = [Identity(f"s{slot}_a") for slot in range(6)]
    expected = 'ANY 4 ("s0_a", "s1_a", "s2_a", "s3_a", "s4_a", "s5_a")'
    assert sync_names(members) == expected
    assert values_of(members_conf(members)) == {"synchronous_standby_names": expected}
    assert values_of(members_conf([])) == {"synchronous_standby_names": ""}


@pytest.mark.parametrize("value", ["it's", "back\\slash", "", "plain"])
def test_values_are_quoted(value: str) -> None:
    text = quoted(value)
    assert text[0] == text[-1] == "'"
    assert text[1:-1].replace("''", "'").replace("\\\\", "\\") == value


def test_only_internal_roles_get_a_stream_and_only_by_certificate() -> None:
    for purpose in Purpose:
        rules = [line.split() for line in pg_hba(purpose).splitlines()]
        for kind, database, _, *rest in rules:
            if database == "replication":
                assert rest[-1] == "reject" or (kind == "hostssl" and "cert" in rest)
        assert rules[-1][0] == "host", "the last rule speaks of everybody else"
    assert pg_hba(Purpose.PAGE_STORE).splitlines()[-1] == "host all all all reject"


def test_certificates_are_mapped_to_roles() -> None:
    lines = {tuple(line.split()) for line in pg_ident("postgres").splitlines()}
    assert ("aurora", "storage", "aurora_acceptor") in lines
    assert ("aurora", "instance", "aurora_acceptor") not in lines
    assert ("aurora", "instance", "aurora_base") in lines
    assert [role for _, name, role in lines if role == "rdsadmin"] == ["rdsadmin"]


@pytest.mark.parametrize(
    "parameters",
    [{"work_mem = 1\ninclude": "x"}, {"work_mem": "1\nfsync = off"}, {"": "x"}, {"a.b.c": "x"}],
)
def test_what_is_no_setting_is_not_written(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is no setting"):
        conf(Purpose.INSTANCE, parameters=parameters)
