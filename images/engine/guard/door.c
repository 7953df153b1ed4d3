/*
 * The door: whether clients may be in this server.
 *
 * The agent owns the decision and keeps it in the first byte of a small file, which the postmaster
 * maps at start; every backend inherits the mapping. To shut the door the agent writes the byte
 * and sends the postmaster SIGHUP, which passes it on to every backend. The byte is not a setting,
 * because a reload applies nothing at all when any line of the configuration is wrong.
 *
 * The door is shut when the server starts, whatever the file says (invariant I4): the byte may be
 * that of an earlier server whose agent died. Only a byte written after that opens it.
 *
 * The file is written in place, never truncated and never replaced: the mapping stays with the
 * file that was there at start.
 *
 * Not kept out: rdsadmin over a Unix-domain socket, which is the agent, and physical walsenders,
 * which feed the copies and cannot run SQL. Not sessions at all, so not ended: background workers
 * and autovacuum.
 */
#include "guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/interrupt.h"
#include "replication/walsender.h"
#include "storage/fd.h"

#define DOOR_OPEN 'O'
#define DOOR_SHUT "S"
#define AGENT_ROLE "rdsadmin"

/* NULL when there is no usable file: shut for the life of this server. */
static const volatile char *door = NULL;

static bool
door_is_open(void)
{
	return door != NULL && *door == DOOR_OPEN;
}

/* Open, shut and map the file; NULL with errno set when any of it fails. */
static const volatile char *
map_shut_door(const char *path)
{
	struct stat status;
	void	   *mapping = MAP_FAILED;
	int			saved_errno;
	int			fd = BasicOpenFile(path, O_RDWR);

	if (fd < 0)
		return NULL;

	/* The size is asked for, not made: reading a page past the end would kill the server. */
	if (fstat(fd, &status) == 0)
	{
		errno = EINVAL;
		if (status.st_size > 0 && pwrite(fd, DOOR_SHUT, 1, 0) == 1)
			mapping = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
	}

	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return mapping == MAP_FAILED ? NULL : mapping;
}

void
door_init(const char *path)
{
	/* Without a postmaster (initdb, single-user mode) there are no clients. */
	if (!IsPostmasterEnvironment)
		return;

	door = map_shut_door(path);
	if (door == NULL)
		ereport(WARNING,
				(errmsg("aurora_guard cannot use the door file \"%s\": %m", path),
				 errdetail("No client will be let into this server."),
				 errhint("Make a file of at least one byte that the server may write, set aurora_guard.door_file to its path, and restart.")));
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

	if (!door_is_open())
		ereport(FATAL,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("the database is not open for clients"),
				 errdetail("This server is starting, standing down, or waiting for the volume; no data is affected."),
				 errhint("Connect again shortly, through the cluster's Service.")));
}
