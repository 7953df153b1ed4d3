"""An instance's server with what belongs to it: data, door, relay, and the local SQL session.

Every server starts shut, whatever it was before (I4). The data directory is a cache: it is filled
from a page store and thrown away without regret, and nothing but the mark decides whether it may
be used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from aurora_operator.agent.place import Place
from aurora_operator.agent.server_output import emit_server_line
from aurora_operator.agent.tier import StorageTier
from aurora_operator.agent.users import os_user
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import Identity, Slot
from aurora_operator.engines.postgresql.endpoint import TlsFiles
from aurora_operator.engines.postgresql.guard_door import Door
from aurora_operator.engines.postgresql.programs import DEBIAN_BINARIES, base_backup
from aurora_operator.engines.postgresql.queries import Sql
from aurora_operator.engines.postgresql.relay import Relay
from aurora_operator.engines.postgresql.roles import ensure_database, ensure_master
from aurora_operator.engines.postgresql.server import Server, StopMode
from aurora_operator.engines.postgresql.settings import (
    LOG_SOCKET_PORT,
    MEMBERS_FILE,
    Purpose,
    ServerSettings,
    configuration_files,
    members_conf,
    sync_names,
)

log = structlog.get_logger()

_LIST_SETTING: Final = "synchronous_standby_names"
_RELOAD_SECONDS: Final = 5.0
_SESSIONS_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.002
_BASE_SECONDS: Final = 3600.0
_START_SECONDS: Final = 300.0


class Machine:
    """The local server and its surroundings."""

    def __init__(self, place: Place, config: AgentConfig, tier: StorageTier) -> None:
        self.data = place.disk / "data"
        self.tls = TlsFiles(place.tls)
        self._place = place
        self._config = config
        self._tier = tier
        self._members: tuple[Identity, ...] = config.birth.identities
        """Whom commits wait for, once it is promoted."""
        self.server = Server(data=self.data, emit=emit_server_line)
        self.sql = Sql(socket_directory=place.run, port=config.port)
        self.door = Door(place.run / "door")
        self._only_refuses = False
        self.relay = Relay(
            socket=place.run / f".s.PGSQL.{LOG_SOCKET_PORT}",
            tls=self.tls,
            gates=lambda: [tier.gate(slot) for slot in preferred_slots(place.pod, tier)],
        )

    @property
    def data_present(self) -> bool:
        """Whether there is a data directory with anything in it."""
        return self.data.is_dir() and any(self.data.iterdir())

    async def take_base(self, slot: Slot) -> None:
        """Copy a base from the page store of ``slot``; what was here is gone before."""
        await self.server.remove_data()
        await base_backup(
            DEBIAN_BINARIES,
            self.data,
            source=self._tier.page_store(slot),
            tls=self.tls,
            application_name=self._place.pod,
            sync=False,
            timeout_seconds=_BASE_SECONDS,
        )

    async def start_replica(self) -> None:
        """Start as a standby of the relay, shut; returns when it can be queried locally."""
        self.door.create_shut()
        self._members = self._config.birth.identities
        self.relay.set_capped()
        self._write_settings()
        self.server.make_standby()
        await self._start()

    async def start_again(self) -> None:
        """Start an ended writer on its own disk, shut (rule 11)."""
        self.door.create_shut()
        self._write_settings()
        await self._start()

    async def prepare_promotion(self, identities: Sequence[Identity]) -> None:
        """Rule 4: before promotion, a slot for each member, and commits wait for any four.

        Harmless for a standby, and quick when it was done before.
        """
        await self.sql.ensure_slots(identities)
        await self._wait_for(identities)

    async def take_out(self, identities: Sequence[Identity]) -> None:
        """Rule 8: commits wait for these only; whoever else streamed is seen to be gone (H1)."""
        await self._wait_for(identities)
        await self.sql.ensure_slots(identities)
        await self.sql.must_not_count_others(identities)

    async def welcome(self, guest: Identity) -> Lsn:
        """Rule 8: give a copy on its way in a slot; how far the log is flushed now (H8)."""
        await self.sql.ensure_slots((*self._members, guest))
        return (await self.sql.writer_facts()).flushed_lsn

    async def _wait_for(self, identities: Sequence[Identity]) -> None:
        self._members = tuple(identities)
        self.server.write_files({MEMBERS_FILE: members_conf(identities)})
        wanted = sync_names(identities)
        if await self.sql.show(_LIST_SETTING) != wanted:
            self.server.reload()
            await self.sql.wait_setting(_LIST_SETTING, wanted, timeout_seconds=_RELOAD_SECONDS)

    async def renew_lost_slots(self) -> None:
        """A copy that was away too long lost its slot's log: it gets a new slot.

        The copy itself then takes what it lacks from its peers, and streams on.
        """
        rows = await self.sql.rows(
            "SELECT slot_name, pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE wal_status = 'lost' AND active_pid IS NULL"
        )
        if rows:
            log.warning("slots had lost their log and are made anew", slots=[r[0] for r in rows])
            await self.sql.ensure_slots(self._members)

    def take_config(self, config: AgentConfig) -> None:
        """The user's parameters may have changed; those that need a restart wait for one."""
        self._config = config
        if self.server.running:
            self._write_settings()
            self.server.reload()

    async def forget_promotion(self) -> None:
        """No promotion after all: a replica's slots would keep log for nobody."""
        await self.sql.ensure_slots(())

    def open_door(self) -> None:
        """Let clients in."""
        self._only_refuses = False
        self.door.open()

    def refuse_new_sessions(self) -> None:
        """Shut the door to new sessions only; those that exist go on until ``shut_door``."""
        self._only_refuses = True
        self.door.shut()

    def renew_stamp(self, stamp_ns: int) -> None:
        """Have the guard hold statements by the age of this moment, as a writer's (rule 12)."""
        self.door.stamp(stamp_ns)

    def shut_door(self) -> None:
        """Refuse new sessions, and have those that exist ended."""
        if self.door.is_open or self._only_refuses:
            self._only_refuses = False
            self.door.shut()
            if self.server.running:
                self.server.reload()

    async def stop(self) -> None:
        """End sessions, then the server; its data is a cache, so it is not tidied up."""
        self.shut_door()
        if not self.server.running:
            return
        try:
            async with asyncio.timeout(_SESSIONS_SECONDS):
                while await self.sql.client_sessions() > 0:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_POLL_SECONDS)
        except Exception as error:
            log.warning("sessions not seen to end; ending the server", reason=str(error))
        await self.sql.close()
        await self.server.stop(StopMode.IMMEDIATE)

    async def wipe(self) -> None:
        """End the server and throw its data away."""
        self.shut_door()
        await self.sql.close()
        await self.server.remove_data()

    async def ensure_database_objects(self) -> None:
        """The master user and the first database are as the cluster says; quick when they are."""
        username = self._config.master_username
        await ensure_master(self.sql, username, self._place.read_password())
        if self._config.database_name is not None:
            await ensure_database(self.sql, self._config.database_name, username)

    async def close(self) -> None:
        """Orderly end of the pod."""
        await self.stop()
        await self.relay.close()

    async def _start(self) -> None:
        await self.sql.close()  # it led to the server before this one
        await self.server.start(timeout_seconds=_START_SECONDS)

    def _write_settings(self) -> None:
        settings = ServerSettings(
            purpose=Purpose.INSTANCE,
            name=self._place.pod,
            socket_directory=self._place.run,
            port=self._config.port,
            listen_addresses=self._place.listen or "*",
            tls=self.tls,
            door=self._place.run / "door",
            log_socket_directory=self._place.run,
            os_user=os_user(),
            parameters=self._config.parameters,
        )
        members = members_conf(self._members)
        self.server.write_files({**configuration_files(settings), MEMBERS_FILE: members})


def preferred_slots(pod: str, tier: StorageTier) -> list[Slot]:
    """All slots, beginning with another one for each instance, by the number in its name."""
    slots = sorted(tier.agents)
    number = pod.rpartition("-")[2]
    first = int(number) % len(slots) if number.isdigit() else 0
    return slots[first:] + slots[:first]
