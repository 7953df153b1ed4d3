/*
 * The names: who counts towards the write quorum.
 *
 * PostgreSQL counts every physical stream whose application_name is in synchronous_standby_names,
 * and anybody can call himself anything: a stream under a copy's name would acknowledge what no
 * copy has (invariant I1). So a stream counts only when its role is that of the copies:
 *
 * - every other walsender has no list of synchronous standbys at all, at its start and after every
 *   change of the list, so it never counts, whatever its name, and never releases a waiter;
 * - a session of another role that takes a listed name, by whatever way, is refused and told why.
 *
 * And the list, once there is one, is not emptied while the server runs: an empty list, as a lost
 * file or line makes it, would let every waiting commit return at once, with success.
 */
#include "guard.h"

#include "access/parallel.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "utils/guc.h"
#include "utils/guc_hooks.h"
#include "utils/guc_tables.h"

#define COPIES_ROLE "aurora_acceptor"

static GucStringCheckHook next_check_application_name = NULL;
static GucStringCheckHook next_check_list = NULL;
static GucStringAssignHook next_assign_list = NULL;

/* The list in force, also in a process that does not go by it. Owned by the setting. */
static const SyncRepConfigData *listed = NULL;

static bool
is_of_the_copies(Port *port)
{
	return port->user_name != NULL && strcmp(port->user_name, COPIES_ROLE) == 0;
}

/* Whether the name is in the list. "*" lists nobody in particular, and does not forbid names. */
static bool
is_listed(const char *name)
{
	const char *member;

	if (listed == NULL)
		return false;

	member = listed->member_names;
	for (int i = 0; i < listed->nmembers; i++)
	{
		if (pg_strcasecmp(member, name) == 0)
			return true;
		member += strlen(member) + 1;
	}
	return false;
}

/* In clients' own processes only: a parallel worker takes over a name that was checked before. */
static bool
check_application_name_is_free(char **newval, void **extra, GucSource source)
{
	if (next_check_application_name && !next_check_application_name(newval, extra, source))
		return false;

	if (MyProcPort == NULL || is_of_the_copies(MyProcPort) || !is_listed(*newval))
		return true;

	GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
	GUC_check_errmsg("application_name \"%s\" belongs to a copy of the volume", *newval);
	GUC_check_errdetail("A session under this name could be taken for a copy's acknowledgement.");
	GUC_check_errhint("Choose another application_name.");
	return false;
}

/* A parallel worker passes through the empty default on its way to its leader's settings. */
static bool
check_list_stays(char **newval, void **extra, GucSource source)
{
	bool		has_list = SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';

	if (next_check_list && !next_check_list(newval, extra, source))
		return false;

	if (!has_list || (*newval != NULL && (*newval)[0] != '\0') || InitializingParallelWorker)
		return true;

	GUC_check_errmsg("synchronous_standby_names cannot be emptied while the server runs");
	GUC_check_errdetail("Every commit that waits for its write quorum would return as if it had it.");
	GUC_check_errhint("Put the members back into the configuration, and reload.");
	return false;
}

/* Whether this process is a stream that must not count. */
static bool
is_foreign_stream(void)
{
	return am_walsender && MyProcPort != NULL && !is_of_the_copies(MyProcPort);
}

static void
assign_list(const char *newval, void *extra)
{
	if (next_assign_list)
		next_assign_list(newval, extra);
	listed = extra;
	if (is_foreign_stream())
		SyncRepConfig = NULL;
}

/*
 * Runs in every new session, before it is given the settings that it asks for; the name among them
 * meets the check above.
 */
void
names_admit(void)
{
	if (is_foreign_stream())
		SyncRepConfig = NULL;
}

static struct config_string *
find_string_setting(const char *name)
{
	struct config_generic *record = find_option(name, false, false, ERROR);

	Assert(record->vartype == PGC_STRING);
	return (struct config_string *) record;
}

void
names_init(void)
{
	struct config_string *name = find_string_setting("application_name");
	struct config_string *list = find_string_setting("synchronous_standby_names");

	next_check_application_name = name->check_hook;
	name->check_hook = check_application_name_is_free;

	next_check_list = list->check_hook;
	list->check_hook = check_list_stays;
	next_assign_list = list->assign_hook;
	list->assign_hook = assign_list;

	/* The configuration was read before this library was loaded. */
	listed = SyncRepConfig;
}
