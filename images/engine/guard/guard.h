/*
 * The parts of aurora_guard and what they owe each other.
 */
#ifndef AURORA_GUARD_H
#define AURORA_GUARD_H

#include "postgres.h"

#include "libpq/libpq-be.h"

/* settings.c */
extern char *aurora_guard_door_file;
extern bool rds_force_ssl;
extern bool rds_logical_replication;
extern void settings_init(void);

/* door.c */
extern void door_init(const char *path);
extern void door_admit(Port *port);

/* commit.c */
extern void commit_init(void);
extern void commit_leave(void);

/* names.c */
extern void names_init(void);
extern void names_admit(void);

/* Whether the session came over the network rather than a Unix-domain socket. */
static inline bool
came_over_tcp(Port *port)
{
	return port->raddr.addr.ss_family != AF_UNIX;
}

#endif
