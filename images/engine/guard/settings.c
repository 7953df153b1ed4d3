/*
 * The settings that pg_settings shows: our own, and those of RDS that drivers and tools ask for.
 *
 * The AWS drivers recognise Aurora by rds.extensions in pg_settings, which hides what no library
 * has registered; a line in postgresql.conf alone is not enough.
 */
#include "guard.h"

#include "utils/guc.h"

char	   *aurora_guard_door_file = NULL;
bool		rds_force_ssl = false;
bool		rds_logical_replication = false;

static char *rds_extensions = NULL;

static bool
check_logical_replication(bool *newval, void **extra, GucSource source)
{
	if (!*newval)
		return true;

	GUC_check_errcode(ERRCODE_FEATURE_NOT_SUPPORTED);
	GUC_check_errmsg("rds.logical_replication cannot be turned on yet");
	GUC_check_errdetail("Logical decoding could send rows that are not durable on four copies.");
	return false;
}

void
settings_init(void)
{
	DefineCustomStringVariable("aurora_guard.door_file",
							   "File whose first byte opens the server for clients.",
							   "Byte 'O' means open; any other byte, or no file, means shut. The writer's stamp stands behind it.",
							   &aurora_guard_door_file,
							   "",
							   PGC_POSTMASTER,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("rds.extensions",
							   "The extensions that this server has.",
							   NULL,
							   &rds_extensions,
							   RDS_EXTENSIONS,
							   PGC_INTERNAL,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   NULL, NULL, NULL);

	DefineCustomBoolVariable("rds.force_ssl",
							 "Refuses network connections without TLS.",
							 NULL,
							 &rds_force_ssl,
							 false,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("rds.logical_replication",
							 "Allows logical replication (not available yet).",
							 NULL,
							 &rds_logical_replication,
							 false,
							 PGC_POSTMASTER,
							 0,
							 check_logical_replication, NULL, NULL);

	MarkGUCPrefixReserved("aurora_guard");
	MarkGUCPrefixReserved("rds");
}
