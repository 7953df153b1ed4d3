/*
 * The page: what the agent and this server tell each other without a word over a socket.
 *
 * It is the beginning of a small file, which the postmaster maps at start; every backend inherits
 * the mapping. The agent writes the door's byte and the stamp, the server writes the counts.
 * guard.h names the fields, and aurora_operator.engines.postgresql.guard_door on the other side.
 *
 * The file is written in place, never truncated and never replaced: the mapping stays with the
 * file that was there at start. What it has not of the page's bytes reads as zero.
 */
#include "guard.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

/* NULL when there is no usable file: shut for the life of this server. */
GuardPage  *guard_page = NULL;

/* Open, shut and map the file; NULL with errno set when any of it fails. */
static GuardPage *
map_shut_page(const char *path)
{
	struct stat status;
	void	   *mapping = MAP_FAILED;
	int			saved_errno;
	int			fd = BasicOpenFile(path, O_RDWR);

	if (fd < 0)
		return NULL;

	/* The size is asked for, not made: touching a page past the end would kill the server. */
	if (fstat(fd, &status) == 0)
	{
		errno = EINVAL;
		if (status.st_size > 0 && pwrite(fd, DOOR_SHUT, 1, 0) == 1)
			mapping = mmap(NULL, sizeof(GuardPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}

	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return mapping == MAP_FAILED ? NULL : mapping;
}

void
page_init(const char *path)
{
	/* Without a postmaster (initdb, single-user mode) there are no clients. */
	if (!IsPostmasterEnvironment)
		return;

	guard_page = map_shut_page(path);
	if (guard_page == NULL)
		ereport(WARNING,
				(errmsg("aurora_guard cannot use the door file \"%s\": %m", path),
				 errdetail("No client will be let into this server."),
				 errhint("Make a file of at least one byte that the server may write, set aurora_guard.door_file to its path, and restart.")));
}
