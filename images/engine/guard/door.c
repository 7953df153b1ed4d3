/*
 * The door: whether clients may be in this server.
 *
 * The agent owns the decision and keeps it in the first byte of the page (page.c). To shut the door
 * it writes the byte and sends the postmaster SIGHUP, which passes it on to every backend. The byte
 * is not a setting, because a reload applies nothing at all when any line of the configuration is
 * wrong. It is read when a session begins, so whoever comes after the byte is refused, however late
 * the postmaster handles the signal.
 *
 * The door is shut when the server starts, whatever the file says (invariant I4): the byte may be
 * that of an earlier server whose agent died. Only a byte written after that opens it.
 *
 * Not kept out: rdsadmin over a Unix-domain socket, which is the agent, and physical walsenders,
 * which feed the copies and cannot run SQL. Not sessions at all, so not ended: background workers
 * and autovacuum.
 */
#include "guard.h"

#include <signal.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "replication/walsender.h"

#define AGENT_ROLE "rdsadmin"

static bool
door_is_open(void)
{
	return guard_page != NULL && guard_page->door == DOOR_OPEN;
}

/*
 * SIGHUP in a client's backend: reload, and leave if the door has been shut. The session ends with
 * 57P01 at its next safe point, idle or busy; a commit that waits for its quorum goes on waiting,
 * and its client is told at once.
 */
static void
reload_or_leave(SIGNAL_ARGS)
{
	SignalHandlerForConfigReload(postgres_signal_arg);
	if (!door_is_open())
		commit_leave();
}

static bool
is_exempt(Port *port)
{
	if (am_walsender && !am_db_walsender)
		return true;
	return !came_over_tcp(port) && strcmp(port->user_name, AGENT_ROLE) == 0;
}

/*
 * Let the session in, or end it with 57P03.
 *
 * The handler comes before the look at the byte, so that no shutting is missed: if the byte was
 * written before the look, this sees it; if after, its SIGHUP finds the handler in place.
 */
void
door_admit(Port *port)
{
	if (is_exempt(port))
		return;

	pqsignal(SIGHUP, reload_or_leave);
	pg_memory_barrier();

	stamp_watch();
	if (!door_is_open() || stamp_is_lost())
		ereport(FATAL,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("the database is not open for clients"),
				 errdetail("This server is starting, standing down, or waiting for the volume; no data is affected."),
				 errhint("Connect again shortly, through the cluster's Service.")));
}
