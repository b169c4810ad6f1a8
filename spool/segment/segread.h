/* segread.h - reading records by position, beside a running log.
 * Thread: a reader belongs to one thread; make as many as are wanted.  It opens segments itself and keeps a few open.
 * A segment may be recycled under a reader: the checksum, seeded with the segment's number, then fails and the read
 * says -SATCHEL_ENOENT; the caller asks the index again where the message is now. */
#pragma once
#include "spool/format/record.h"
#include "spool/segment/disk.h"

struct segread;

int segread_open(struct segread **r_r, struct disk *disk);
void segread_close(struct segread **r);

/* Reads and verifies the record at pos (size as the index has it).  The record borrows from the reader's buffer until
 * the next call.  0, -SATCHEL_ENOENT (recycled or not there), -SATCHEL_EDAMAGED (right place, bad checksum),
 * -SATCHEL_EIO. Sequential reads are served from a read-ahead window, so that a drain costs far fewer system calls than
 * messages. */
int segread_record(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r);
/* Only header, copyset and meta (for listings); the body is left unread: rec_r->body.p NULL. */
int segread_head(struct segread *r, uint64_t pos, uint32_t size, struct record *rec_r);
/* Records of [pos, pos + bytes) will be asked for: reads them at once, at most 1 MiB.  A hint; failures show later. */
void segread_prefetch(struct segread *r, uint64_t pos, uint32_t bytes);
/* Every record of a segment in order (reclaim, dump); each non-zero return ends it with that value.  Damaged stretches
 * are skipped by resynchronising at the next group. */
int segread_segment(struct segread *r, uint64_t seg,
                    int (*each)(void *arg, const struct record *rec, uint64_t pos, uint32_t size), void *arg);
