"""Who exists in the database: the agent, the internal roles, and what RDS users know.

Made once, at birth, and part of the volume from then on. ``rdsadmin`` is the superuser and never
leaves the Unix socket. The master user gets what RDS gives it: databases, roles, monitoring,
signals, checkpoints, trusted extensions, through ``rds_superuser``; it is no superuser, cannot
become one, and cannot get REPLICATION, because a client that streams under a copy's name would
count as an acknowledgement (rule 1).
"""

from __future__ import annotations

from typing import Final, LiteralString

from psycopg import sql

from aurora_operator.engines.postgresql.acceptor import ACCEPTOR_ROLE
from aurora_operator.engines.postgresql.queries import Sql
from aurora_operator.engines.postgresql.scram import matches_verifier, scram_verifier
from aurora_operator.engines.postgresql.settings import AGENT_DATABASE, BASE_ROLE

SUPERUSER_ROLE: Final = "rds_superuser"
DEFAULT_DATABASE: Final = "postgres"
BIRTH_DATABASES: Final = (DEFAULT_DATABASE, "template1")
"""Databases of a new volume; every later one is a copy of ``template1``."""

_MARKER_ROLES: Final = ("rds_password", "rds_iam")
"""Known from RDS; grants of them are accepted and mean nothing yet."""
_GRANTED: Final = ("pg_monitor", "pg_signal_backend", "pg_checkpoint", *_MARKER_ROLES)
_RESERVED_PREFIXES: Final = ("aurora_", "rds", "pg_")
_RESERVED_NAMES: Final = ("public", "none")


class NameReserved(Exception):
    """The name belongs to the cluster itself."""


def check_master_name(username: str) -> None:
    """Refuse names that the cluster uses itself."""
    if username in _RESERVED_NAMES or username.startswith(_RESERVED_PREFIXES):
        raise NameReserved(
            f"{username!r} cannot be the master user: names that begin with aurora_, rds or pg_"
            " belong to the cluster; choose another in spec.masterUsername"
        )


async def create_internal_roles(bootstrap: Sql) -> None:
    """At birth, in ``postgres``: roles, and the agent's own database, which is nobody else's."""
    for name in (ACCEPTOR_ROLE, BASE_ROLE):
        await bootstrap.rows(_on("CREATE ROLE {} LOGIN REPLICATION", name))
    for name in _MARKER_ROLES:
        await bootstrap.rows(_on("CREATE ROLE {} NOLOGIN", name))
    await _create_superuser_role(bootstrap)
    await bootstrap.rows(_on("CREATE DATABASE {}", AGENT_DATABASE))
    await bootstrap.rows(_on("REVOKE ALL ON DATABASE {} FROM PUBLIC", AGENT_DATABASE))


async def create_extensions(database: Sql) -> None:
    """At birth, in each of ``BIRTH_DATABASES``: the extension that RDS has everywhere."""
    await database.rows("CREATE EXTENSION pg_stat_statements SCHEMA public")
    await database.rows(
        _on("GRANT EXECUTE ON FUNCTION public.pg_stat_statements_reset TO {}", SUPERUSER_ROLE)
    )


async def ensure_master(agent: Sql, username: str, password: str) -> bool:
    """The master user is as it should be; true when something had to be changed.

    One question when nothing changed. The server keeps a SCRAM verifier, and is given one: the
    password itself travels nowhere and stands in no log.
    """
    check_master_name(username)
    rows = await agent.rows(
        "SELECT a.rolpassword,"
        " a.rolcanlogin AND a.rolcreatedb AND a.rolcreaterole"
        "  AND NOT (a.rolsuper OR a.rolreplication OR a.rolbypassrls),"
        " EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        "  WHERE m.member = a.oid AND g.rolname = %s AND m.admin_option),"
        " (SELECT datdba = a.oid FROM pg_database WHERE datname = %s)"
        " FROM pg_authid a WHERE a.rolname = %s",
        [SUPERUSER_ROLE, DEFAULT_DATABASE, username],
    )
    if rows:
        verifier, has_attributes, is_member, owns_default = rows[0]
        # Without the database "postgres" (a user may drop it) there is nothing to own.
        is_complete = has_attributes and is_member and owns_default is not False
        if is_complete and verifier and matches_verifier(password, verifier):
            return False
    await _write_master(agent, username, password, exists=bool(rows))
    return True


async def _write_master(agent: Sql, username: str, password: str, *, exists: bool) -> None:
    await agent.rows(
        sql.SQL(
            "{} ROLE {} LOGIN CREATEDB CREATEROLE NOSUPERUSER NOREPLICATION NOBYPASSRLS PASSWORD {}"
        ).format(
            sql.SQL("ALTER" if exists else "CREATE"),
            sql.Identifier(username),
            sql.Literal(scram_verifier(password)),
        )
    )
    if not await _exists(agent, "SELECT 1 FROM pg_roles WHERE rolname = %s", SUPERUSER_ROLE):
        await _create_superuser_role(agent)
    await agent.rows(_on("GRANT {} TO {} WITH ADMIN OPTION", SUPERUSER_ROLE, username))
    if await _exists(agent, "SELECT 1 FROM pg_database WHERE datname = %s", DEFAULT_DATABASE):
        await agent.rows(_on("ALTER DATABASE {} OWNER TO {}", DEFAULT_DATABASE, username))


async def ensure_database(agent: Sql, name: str, owner: str) -> bool:
    """The database exists; true when it had to be made, then owned by the master user."""
    if await _exists(agent, "SELECT 1 FROM pg_database WHERE datname = %s", name):
        return False
    await agent.rows(_on("CREATE DATABASE {} OWNER {}", name, owner), timeout_seconds=60.0)
    return True


async def _create_superuser_role(agent: Sql) -> None:
    await agent.rows(_on("CREATE ROLE {} NOLOGIN", SUPERUSER_ROLE))
    for granted in _GRANTED:
        await agent.rows(_on("GRANT {} TO {} WITH ADMIN OPTION", granted, SUPERUSER_ROLE))


async def _exists(agent: Sql, question: LiteralString, name: str) -> bool:
    return bool(await agent.rows(question, [name]))


def _on(statement: LiteralString, *names: str) -> sql.Composed:
    """A statement with names of objects put in, quoted."""
    return sql.SQL(statement).format(*(sql.Identifier(name) for name in names))
