/* recover.h - opening: which records are there, and what is wrong with the rest.  For spool/segment only.
 * Thread: the log's owner. */
#pragma once
#include "spool/segment/segfile.h"

/* Reads FORMAT.  A directory without it and without slots gets one (make) or is -SATCHEL_ENOENT. */
int recover_format(struct disk *disk, uint8_t storage_r[16], bool make);
/* Judges all segments of `s`, in order.  RECOVER_OPEN: every segment is sealed afterwards, and those
 * without a record are spares; the others write nothing. */
enum recover_how { RECOVER_OPEN, RECOVER_SCAN, RECOVER_HEADS /* bodies are not looked at */ };
int recover_run(struct slots *s, const struct seglog_replay *replay, uint64_t from, struct seglog_open_stats *stats,
                enum recover_how how);
