/* offline.h - a stopped node's spool, opened for looking at it: lock, disk, and names.
 * Nothing is written to the data directory, except a copy of the index beside it while it is compared. */
#pragma once
#include "spool/segment/seglog.h"

#include <stdio.h>

struct offline {
    const char *dir;
    int lock_fd;
    struct disk *disk;
};

/* Takes the directory's lock as satcheld does, so that none starts meanwhile.  false: it is said why on standard error.
 */
bool offline_open(struct offline *o, const char *dir);
void offline_close(struct offline *o);

/* "MSG"; "type 42" for a type of a later version, in buf (16 bytes). */
const char *offline_type_name(uint8_t type, char buf[16]);

/* ---- offline_index.c */

/* Compares the index with what the log says: prints what differs.  0: they agree; 1: they differ, or the index cannot
 * be opened; negative SATCHEL_E*: the comparison failed. */
int offline_index_check(struct offline *o, FILE *out, uint64_t *live_r);
