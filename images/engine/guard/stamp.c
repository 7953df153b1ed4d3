/*
 * The stamp: a writer that the volume may have left behind answers nobody (rule 12).
 *
 * A writer that is cut off cannot commit, but it could go on reading what another writer changes
 * meanwhile. So its agent writes into the page (page.c) the last moment at which three members
 * still belonged to its term, when no four can have made another writer; and a client's statement
 * waits here while that moment is more than 200 ms ago. Fresh again, the statement goes on; after a
 * second without a fresh stamp the session ends, and new ones are refused, also when the agent
 * itself stands still and cannot shut the door. Ages are of CLOCK_BOOTTIME, which no pause of a
 * process or machine holds up.
 *
 * A statement is held where it begins to read, after its snapshot was taken (ExecutorRun,
 * ProcessUtility, a function called by the fast path). So a stamp that is fresh then speaks for the
 * snapshot, however long the process slept between any two of its steps; and a portal that was
 * bound earlier is held at each Execute. What was found missing while a query was parsed, an error,
 * is not held.
 *
 * Held are the sessions that the door keeps out, and only while there is a stamp: a replica has
 * none, for the gates bound what it reads.
 */
#include "guard.h"

#include <time.h>

#include "catalog/objectaccess.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/wait_event.h"

#define MILLISECOND_NS INT64CONST(1000000)
#define FRESH_NS (200 * MILLISECOND_NS)
#define LOST_NS (1000 * MILLISECOND_NS)
#define LOOK_AGAIN_MS 10

/* Set in the sessions that are held. */
static bool is_watched = false;

static ExecutorRun_hook_type next_executor_run_hook = NULL;
static ProcessUtility_hook_type next_process_utility_hook = NULL;
static object_access_hook_type next_object_access_hook = NULL;

static int64
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64) now.tv_sec * 1000 * MILLISECOND_NS + now.tv_nsec;
}

/* How old the stamp is; 0 when there is none, or no page at all. */
static int64
stamp_age_ns(void)
{
	int64		stamp_ns = guard_page == NULL ? 0 : guard_page->stamp_ns;

	return stamp_ns == 0 ? 0 : now_ns() - stamp_ns;
}

/* Whether three members have been silent for so long that nobody new may come in. */
bool
stamp_is_lost(void)
{
	return stamp_age_ns() > LOST_NS;
}

/* From here on this session's statements need a fresh stamp. */
void
stamp_watch(void)
{
	is_watched = true;
}

static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("AuroraGuardStamp");
	return event;
}

/*
 * Wait until the stamp is fresh; cancel, timeouts and the door end the wait.
 *
 * What counts towards the end is the time that this process was awake: after a pause of the whole
 * machine the agent has its chance to renew the stamp.
 */
static void
hold(void)
{
	int64		awake_ns = 0;
	int64		looked_at = now_ns();

	pg_atomic_fetch_add_u64(&guard_page->held_statements, 1);
	while (stamp_age_ns() > FRESH_NS)
	{
		int64		passed_ns;

		if (awake_ns > LOST_NS - FRESH_NS)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("terminating connection because this writer is cut off from its volume"),
					 errdetail("For a second it has not heard from three copies, so another writer may be open; an answer could be out of date."),
					 errhint("Connect again shortly, through the cluster's Service.")));

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_AGAIN_MS, wait_event());
		ResetLatch(MyLatch);

		passed_ns = now_ns() - looked_at;
		looked_at += passed_ns;
		pg_atomic_fetch_add_u64(&guard_page->held_ns, passed_ns);
		awake_ns += Min(passed_ns, 2 * LOOK_AGAIN_MS * MILLISECOND_NS);

		CHECK_FOR_INTERRUPTS();
	}
}

/* Costs a load and a reading of the clock. */
static inline void
hold_unless_fresh(void)
{
	if (is_watched && stamp_age_ns() > FRESH_NS)
		hold();
}

static void
run_when_fresh(QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once)
{
	hold_unless_fresh();
	if (next_executor_run_hook)
		next_executor_run_hook(queryDesc, direction, count, execute_once);
	else
		standard_ExecutorRun(queryDesc, direction, count, execute_once);
}

static void
utility_when_fresh(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				   ProcessUtilityContext context, ParamListInfo params,
				   QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type run =
		next_process_utility_hook ? next_process_utility_hook : standard_ProcessUtility;

	hold_unless_fresh();
	run(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

/* The fast path, by which libpq reads large objects, calls functions outside of any statement. */
static void
function_when_fresh(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, classId, objectId, subId, arg);
	if (access == OAT_FUNCTION_EXECUTE)
		hold_unless_fresh();
}

/* After commit_init: a held COMMIT must not have begun. */
void
stamp_init(void)
{
	next_executor_run_hook = ExecutorRun_hook;
	ExecutorRun_hook = run_when_fresh;
	next_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_when_fresh;
	next_object_access_hook = object_access_hook;
	object_access_hook = function_when_fresh;
}
