/* seglog.h - append-only segment log: the only place where mail becomes durable.  Format: docs/segment.md.
 *
 * Thread: one owner; call from it only, except where a function says otherwise.
 * Errors: 0 or a negative SATCHEL_E*.
 *
 * Records gather in an open group.  seglog_turn() closes the group when no other is being written (natural batching),
 * when it is full, or when its oldest record has waited as long as its class allows; pads it to 4 KiB; writes and syncs
 * it.  Groups become durable in order.  A record's done runs after the sync of its group, inside disk poll, in the
 * order of appending.
 *
 * A failed write or sync fences the log: every record of that group and all later ones get -SATCHEL_EFENCED (the first
 * group: the disk's own error), nothing is retried, and the log accepts nothing until it is opened anew.  What is being
 * written then is answered when the disk has let go of it, and what comes after it later still. */
#pragma once
#include "spool/base/clock.h"
#include "spool/format/record.h"
#include "spool/segment/disk.h"

struct seglog;

struct seglog_config {
    uint32_t segment_bytes;    /* 64 MiB .. 256 MiB; tests use less (>= 256 KiB) */
    uint32_t spare_segments;   /* pre-written segments to keep ready; they are made when the log is idle, and at open */
    uint64_t max_bytes;        /* most bytes of segments; 0: the disk's room */
    uint32_t reserve_segments; /* kept for ENTRY_RESERVE: DONE, ABORT and moves on a full disk; >= 1 */
    uint32_t group_bytes;      /* a group is closed at this size; 1 MiB */
    uint32_t lazy_us;          /* how long a lazy record may wait for company; 10 ms */
    uint32_t inflight_groups;  /* groups being written at once; completed in order; 1..4 */
    uint8_t *group_memory; /* groups are built here: seglog_group_bytes, on DISK_ALIGN; NULL: the log maps its own */
};
extern const struct seglog_config seglog_config_default;

/* Of all the groups of such a log. */
size_t seglog_group_bytes(const struct seglog_config *cfg);

enum {
    ENTRY_RESERVE = 1 << 0, /* may use the reserve: DONE, ABORT, DEFER, moves */
    ENTRY_LAZY = 1 << 1,    /* does not close a group by itself before lazy_us */
    ENTRY_BORROW = 1 << 2,  /* the disk may write body_parts from where they lie, without a copy: see below */
};

/* With ENTRY_BORROW, parts behind the first that lie on DISK_ALIGN are written from where they are if together they
 * have SEGLOG_BORROW_MIN bytes of whole sectors, and if what stands before them in the record is a multiple of
 * REC_ALIGN (meta_fill).  A REC_FILL record in front of it brings them to a sector of the file.  The rest is copied. */
#define SEGLOG_BORROW_MIN (32u << 10)

struct seglog_entry;
typedef void seglog_done(struct seglog_entry *e, int res);

/* One append.  Embedded by the caller; borrowed with everything it points to until done runs, exactly once. */
struct seglog_entry {
    struct record rec; /* rec.body is ignored where body_parts is set */
    const struct slice *body_parts;
    uint32_t body_parts_n; /* the body in pieces (rec.body.n = their sum; rec.body_sum is the sum over all) */
    uint32_t flags;        /* ENTRY_* */
    seglog_done *done;
    void *arg;
    /* results, valid in done when res == 0 */
    uint64_t pos;  /* where the record lies */
    uint32_t size; /* bytes it takes there */
    /* the log's */
    struct seglog_entry *next;
    uint64_t queued_us;
};

/* What the scan of recovery reports, in log order. */
struct seglog_replay {
    /* A good record.  rec borrows until return.  Called only for positions >= `from` (see seglog_open).  Non-zero ends
     * the open with that error. */
    int (*record)(void *arg, const struct record *rec, uint64_t pos, uint32_t size);
    /* A range that failed its checksums below the durable mark: it is copied to quarantine-<seg>-<off> first. */
    void (*damaged)(void *arg, uint64_t pos, uint64_t bytes);
    void *arg;
};

struct seglog_open_stats {
    uint64_t segments, records, bytes_read;
    uint64_t torn_bytes,
        salvaged_records; /* tail above the durable mark: dropped, and good records found in it (kept) */
    uint64_t damaged_ranges, damaged_bytes;
    uint64_t next_pos; /* where appending goes on */
};

/* Opens or creates the log in the disk's directory, replays records at positions >= from (0: everything, which is the
 * full scan), and is then ready to append, always in a fresh segment. The FORMAT file names format version and storage
 * UUID: -SATCHEL_EVERSION for another version.  */
int seglog_open(struct seglog **l_r, const struct seglog_config *cfg, struct disk *disk, const struct clock *clock,
                const struct seglog_replay *replay, uint64_t from, struct seglog_open_stats *stats_r);
/* Reads everything as seglog_open does and changes nothing on the disk (for `spool check` and `spool dump`). */
int seglog_scan(struct disk *disk, const struct seglog_replay *replay, uint64_t from,
                struct seglog_open_stats *stats_r);
/* As seglog_scan, for logs that others write (cluster/shared): only heads are read and verified, so that long bodies
 * cost nothing; rec->body.p is NULL.  A record whose body was torn or is damaged shows when it is read. */
int seglog_scan_heads(struct disk *disk, const struct seglog_replay *replay, uint64_t from,
                      struct seglog_open_stats *stats_r);
/* The storage UUID in FORMAT, without touching anything.  -SATCHEL_ENOENT, -SATCHEL_EVERSION, -SATCHEL_EDAMAGED. */
int seglog_identify(struct disk *disk, uint8_t storage_r[16]);
/* Writes what is open, waits for what is in flight, and seals the segment: all in it is durable.  NULL is allowed. */
void seglog_close(struct seglog **l);
/* Forgets everything without a write, as a crash would (tests).  Entries' done are not run.  What the disk is writing
 * is waited for (at most 5 s), since the buffers are the log's. */
void seglog_drop(struct seglog **l);

/* Takes an entry into the open group.  0: done will run.  Otherwise nothing was taken:
 * -SATCHEL_EFULL (the caller answers 452 4.3.1), -SATCHEL_EFENCED (451 4.3.0), -SATCHEL_ETOOBIG (over a segment),
 * -SATCHEL_EAGAIN: two groups' worth is waiting; call again after seglog_turn or a completion. */
int seglog_append(struct seglog *l, struct seglog_entry *e);
/* Closes and submits groups that are due.  Call after a batch of appends, after disk poll, and at seglog_next_us. */
void seglog_turn(struct seglog *l);
/* Boot clock at which seglog_turn has something to do; UINT64_MAX: nothing until an append or a completion; 0: now. */
uint64_t seglog_next_us(const struct seglog *l);
/* While the log is idle and spare segments are missing: one step of pre-writing one (create it, 1 MiB of zeros, its
 * label).  Steps are submitted, not waited for: mail that comes meanwhile goes on.  true: did one, call again after
 * disk poll.  false: nothing to do, or a step is still under way. */
bool seglog_refill(struct seglog *l);
/* A group is being written: its completion is to come, soon. */
bool seglog_writing(const struct seglog *l);
/* Nothing open, nothing in flight. */
bool seglog_idle(const struct seglog *l);

/* The segment's records are all dead: it becomes a spare (or is removed beyond what is wanted), durably, before it
 * returns.  Synchronous (completions of other records may run meanwhile); not for the segment being appended to
 * (-SATCHEL_EBUSY). */
int seglog_free_segment(struct seglog *l, uint64_t seg);
/* Ends the segment being appended to, so that it may be reclaimed; the next group opens another. */
void seglog_roll(struct seglog *l);

struct seglog_info {
    uint8_t storage_uuid[16];
    uint64_t durable_pos; /* everything below is durable */
    uint64_t active_seg, oldest_seg;
    uint32_t used_segments, spare_segments;
    uint64_t room_bytes; /* for new mail: without the reserve */
    bool fenced;
    uint64_t groups, records, written_bytes;
};
/* Any thread (atomics or a small lock inside). */
void seglog_info(const struct seglog *l, struct seglog_info *info_r);
/* Numbers of the used segments, oldest first, without the active one; returns how many there are, fills at most cap. */
size_t seglog_segments(const struct seglog *l, uint64_t *segs_r, size_t cap);
