/*
 * The parts of aurora_guard and what they owe each other.
 */
#ifndef AURORA_GUARD_H
#define AURORA_GUARD_H

#include "postgres.h"

#include "libpq/libpq-be.h"
#include "port/atomics.h"

/* settings.c */
extern char *aurora_guard_door_file;
extern bool rds_force_ssl;
extern bool rds_logical_replication;
extern void settings_init(void);

/* page.c */
typedef struct GuardPage
{
	/* Byte 0, the agent's: DOOR_OPEN lets clients in; anything else keeps them out. */
	volatile char door;
	/* Byte 8, the agent's: nanoseconds of CLOCK_BOOTTIME, or 0 where no statement is held. */
	volatile int64 stamp_ns pg_attribute_aligned(8);
	/* Bytes 16 and 24, the server's: statements that were held, and for how long together. */
	pg_atomic_uint64 held_statements;
	pg_atomic_uint64 held_ns;
} GuardPage;

#define DOOR_OPEN 'O'
#define DOOR_SHUT "S"

extern GuardPage *guard_page;
extern void page_init(const char *path);

/* door.c */
extern void door_admit(Port *port);

/* commit.c */
extern void commit_init(void);
extern void commit_leave(void);

/* stamp.c */
extern void stamp_init(void);
extern void stamp_watch(void);
extern bool stamp_is_lost(void);

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
