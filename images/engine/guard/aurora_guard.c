/*
 * aurora_guard: what a quorum volume needs of PostgreSQL and stock PostgreSQL does not have.
 *
 * The door (door.c) keeps clients out of a server that may not answer yet, or may not answer any
 * longer: invariant I4, nobody reads a new writer before its first record is on four copies.
 * The stamp (stamp.c) holds statements of a writer that the volume may have left: rule 12.
 * The commit (commit.c) keeps a client from being told, or from showing anybody, what is not on
 * four copies: invariant I7. The names (names.c) let only the copies count as copies: I1.
 * The settings (settings.c) are those by which Aurora's users and drivers know their server.
 *
 * Load it through shared_preload_libraries, before every other library: transaction callbacks run
 * last-registered first, and a guard must have the last word.
 *
 * Consult docs/design/ for the protocol that opens and shuts the door.
 */
#include "guard.h"

#include "fmgr.h"
#include "libpq/auth.h"
#include "miscadmin.h"
#include "replication/walsender.h"

PG_MODULE_MAGIC;

static ClientAuthentication_hook_type next_client_authentication_hook = NULL;

/*
 * Who is refused whatever the door says.
 *
 * Logical decoding reads the local log, which may hold rows that are not on four copies yet, so
 * no session may begin it. (With wal_level = replica the server refuses logical slots and their
 * streams itself; this refuses the session, and says why.)
 */
static void
refuse_forbidden_sessions(Port *port)
{
	if (am_db_walsender && !rds_logical_replication)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("logical replication is not available on this cluster"),
				 errdetail("It could send rows that are not durable on four copies yet."),
				 errhint("Connect without \"replication=database\".")));

	if (rds_force_ssl && came_over_tcp(port) && !port->ssl_in_use)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("this cluster takes connections over TLS only"),
				 errhint("Connect with sslmode=require or stronger (rds.force_ssl is on).")));
}

/*
 * Runs in every new session once the client's identity is settled. A failed authentication is
 * left to PostgreSQL: whoever cannot log in learns nothing about the door.
 */
static void
admit_session(Port *port, int status)
{
	if (next_client_authentication_hook)
		next_client_authentication_hook(port, status);

	if (status != STATUS_OK)
		return;

	refuse_forbidden_sessions(port);
	names_admit();
	door_admit(port);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("aurora_guard must be loaded via shared_preload_libraries")));

	settings_init();
	page_init(aurora_guard_door_file);
	commit_init();
	stamp_init();
	names_init();

	next_client_authentication_hook = ClientAuthentication_hook;
	ClientAuthentication_hook = admit_session;
}
