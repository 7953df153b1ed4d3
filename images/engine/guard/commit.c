/*
 * The commit: an acknowledged one is on four copies, whatever the client asks for.
 *
 * Invariant I7 has two halves. A client cannot ask for less: just before any transaction commits
 * or is prepared, synchronous_commit is set to `on`, in the variable itself, so it does not matter
 * by which of a dozen ways it got another value. Nobody is exempt, rdsadmin included; autovacuum
 * workers keep the `local` that the server gives them, since they change no row that anybody
 * wrote and would stop cleaning whenever a quorum is missing.
 *
 * remote_apply is lowered to `on` too: it waits until a listed standby has applied the commit,
 * and the copies that are listed only store the log; such a commit would wait for ever.
 *
 * And a client cannot end the wait: PostgreSQL ends it, with a word of success and the row there to
 * be seen, when the session is cancelled or terminated. All of statement_timeout, lock_timeout and
 * cancel requests arrive as SIGINT, pg_terminate_backend as SIGTERM. From the moment a transaction
 * can no longer be stopped cleanly until its wait is over, SIGINT is dropped and SIGTERM kept for
 * later. The postmaster's own SIGTERM is a shutdown, and passes.
 *
 * Not held, because no library can: SIGKILL, SIGQUIT, the postmaster's death. Then no success is
 * sent, and the next start begins with the door shut.
 */
#include "guard.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access/xact.h"
#include "libpq/libpq.h"
#include "libpq/protocol.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "postmaster/autovacuum.h"
#include "replication/syncrep.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc_hooks.h"

/* Fields of an ErrorResponse, each ended by a zero byte; the string's own zero ends the last. */
#define GOODBYE_FIELDS \
	"SFATAL\0" "VFATAL\0" "C57P01\0" \
	"Mthe server stands down while this commit waits for its write quorum\0" \
	"DWhether the transaction is committed is not decided yet; it is shown to nobody before it is on four copies.\0" \
	"HConnect again, and look for the transaction's effect before repeating it.\0"

typedef enum CommitStage
{
	NOT_COMMITTING,
	COMMITTING,
	/* COMMIT PREPARED and ROLLBACK PREPARED: the transaction is not this session's own. */
	COMMITTING_PREPARED
} CommitStage;

/* What the signal handlers and the transaction share. */
static volatile sig_atomic_t stage = NOT_COMMITTING;
static volatile sig_atomic_t end_kept = false;

/* PostgreSQL's own handlers, under ours. */
static struct sigaction next_interrupt;
static struct sigaction next_terminate;

static ProcessUtility_hook_type next_process_utility_hook = NULL;

/*
 * SIGINT: a cancel that comes too late to stop the commit is dropped, not kept: it was meant for
 * this statement, not for the next one.
 */
static void
drop_or_cancel(int signal_number, siginfo_t *info, void *context)
{
	if (stage == NOT_COMMITTING || MyProcPid != (int) getpid())
		next_interrupt.sa_handler(signal_number);
}

/*
 * SIGTERM: kept until the commit is done, unless the postmaster itself shuts the server down.
 * (A child between fork and exec has its parent's variables but another pid; PostgreSQL's handler
 * knows what to do there.)
 */
static void
keep_or_terminate(int signal_number, siginfo_t *info, void *context)
{
	if (stage != NOT_COMMITTING && info->si_pid != PostmasterPid && MyProcPid == (int) getpid())
		end_kept = true;
	else
		next_terminate.sa_handler(signal_number);
}

typedef void (*SignalHandler) (int, siginfo_t *, void *);

/* Lay our handler over the one that is there, unless it is ours already or none. */
static void
lay_over(int signal_number, SignalHandler handler, struct sigaction *next)
{
	struct sigaction present;
	struct sigaction ours;

	if (sigaction(signal_number, NULL, &present) != 0)
		ereport(ERROR, (errmsg("could not ask for the handler of signal %d: %m", signal_number)));
	if (present.sa_sigaction == handler || present.sa_handler == SIG_IGN ||
		present.sa_handler == SIG_DFL)
		return;

	*next = present;
	memset(&ours, 0, sizeof(ours));
	ours.sa_sigaction = handler;
	sigemptyset(&ours.sa_mask);
	ours.sa_flags = SA_RESTART | SA_SIGINFO;
	if (sigaction(signal_number, &ours, NULL) != 0)
		ereport(ERROR, (errmsg("could not set the handler of signal %d: %m", signal_number)));
}

/*
 * From here on nothing ends the commit.
 *
 * The order closes the gap: first the handlers, then the stage, then a look at what came before.
 * A signal before the stage is set is seen by CHECK_FOR_INTERRUPTS and aborts the transaction
 * cleanly; a later one meets the stage. A cancel that is pending where it cannot be served would
 * end the wait, so none is left.
 */
static void
begin_commit(CommitStage begun)
{
	lay_over(SIGINT, drop_or_cancel, &next_interrupt);
	lay_over(SIGTERM, keep_or_terminate, &next_terminate);

	stage = begun;
	pg_compiler_barrier();
	CHECK_FOR_INTERRUPTS();
	QueryCancelPending = false;

	if (synchronous_commit != SYNCHRONOUS_COMMIT_ON && !AmAutoVacuumWorkerProcess())
	{
		synchronous_commit = SYNCHRONOUS_COMMIT_ON;
		assign_synchronous_commit(SYNCHRONOUS_COMMIT_ON, NULL);
	}
}

/* The commit is done, or will not be: what was kept takes its course. */
static void
end_commit(void)
{
	stage = NOT_COMMITTING;
	pg_compiler_barrier();

	if (end_kept)
	{
		end_kept = false;
		die(SIGTERM);
	}
}

static void
watch_transaction(XactEvent event, void *argument)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			begin_commit(COMMITTING);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			end_commit();
			break;
		default:
			/* Parallel workers commit nothing of their own. */
			break;
	}
}

static bool
finishes_prepared_transaction(Node *statement)
{
	TransactionStmtKind kind;

	if (!IsA(statement, TransactionStmt))
		return false;
	kind = ((TransactionStmt *) statement)->kind;
	return kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED;
}

/*
 * COMMIT PREPARED and ROLLBACK PREPARED wait inside the statement, before any callback. They stand
 * alone in a transaction of their own, whose end, either way, ends the hold.
 */
static void
watch_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			  ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *queryEnv,
			  DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type run =
		next_process_utility_hook ? next_process_utility_hook : standard_ProcessUtility;

	if (finishes_prepared_transaction(pstmt->utilityStmt))
		begin_commit(COMMITTING_PREPARED);
	run(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

static bool
is_encrypted(Port *port)
{
#ifdef ENABLE_GSS
	if (be_gssapi_get_enc(port))
		return true;
#endif
	return port->ssl_in_use;
}

/*
 * Tell the client of a waiting commit that it will get no answer here, and let go of it.
 *
 * Runs in a signal handler. The message goes out only while the process does nothing but wait, and
 * nothing else of it is half on its way; otherwise, and always under TLS, whose state a handler
 * must not touch, the client sees the connection end. Shutting down only the sending half lets
 * what was sent arrive, and makes a second telling say nothing.
 */
static void
tell_client(void)
{
	static const char fields[] = GOODBYE_FIELDS;
	char		message[1 + sizeof(uint32) + sizeof(fields)];
	uint32		length = pg_hton32(sizeof(uint32) + sizeof(fields));

	if (MyProc->syncRepState == SYNC_REP_WAITING && !is_encrypted(MyProcPort) &&
		!pq_is_send_pending())
	{
		message[0] = PqMsg_ErrorResponse;
		memcpy(message + 1, &length, sizeof(length));
		memcpy(message + 1 + sizeof(length), fields, sizeof(fields));
		(void) send(MyProcPort->sock, message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	(void) shutdown(MyProcPort->sock, SHUT_WR);
}

/*
 * The door was shut: end this session. Runs in a signal handler.
 *
 * A commit that waits, or is about to, goes on waiting, so that nobody sees its row before the
 * quorum has it; only its client is sent away. A transaction without an xid is over in a moment
 * and its session ends in the ordinary way.
 */
void
commit_leave(void)
{
	if (stage == NOT_COMMITTING)
	{
		die(SIGTERM);
		return;
	}
	end_kept = true;
	if (stage == COMMITTING_PREPARED || TransactionIdIsValid(MyProc->xid))
		tell_client();
}

void
commit_init(void)
{
	RegisterXactCallback(watch_transaction, NULL);

	next_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = watch_utility;
}
