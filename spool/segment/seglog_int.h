/* seglog_int.h - inside of the log, shared by seglog.c (life, records), seggroup.c (a group's bytes), segstep.c (what
 * is on its way to the disk) and segroom.c (which slot comes next).  Thread: the log's owner. */
#pragma once
#include "spool/segment/segfile.h"

#include <stdatomic.h>

/* One thing that has to become durable, in order:
 *   STEP_LABEL  the label of the segment that was just begun; written at once
 *   STEP_GROUP  a group; at most cfg.inflight_groups are written at a time
 *   STEP_SEAL   the end of the segment before; written when all groups of it are durable, and not earlier: a seal says
 *               that bad data below it is damage */
enum step_kind { STEP_LABEL, STEP_GROUP, STEP_SEAL };

struct step {
    enum step_kind kind;
    int res;
    struct slot *slot;
    struct disk_io io;
    struct seglog *log;
    struct step *next;
    uint64_t durable_pos; /* the log's, once this is complete and all before it */
    uint8_t *buf;
    bool submitted, complete;
    /* groups */
    bool ordinary; /* holds a record that is not lazy */
    uint32_t records;
    size_t cap;     /* of buf */
    size_t limit;   /* most bytes here: buf and what is left of the segment */
    uint32_t from;  /* offset in the segment */
    uint32_t used;  /* bytes so far, with the head */
    uint32_t lent;  /* of them, those that lie elsewhere than in buf */
    uint32_t fills; /* FILL records */
    size_t stretch; /* bytes of buf that are in pieces already */
    struct iovec pieces[DISK_PIECES];
    uint32_t pieces_n;
    uint64_t begun; /* boot clock, us */
    struct seglog_entry *first, *last;
};

/* A spare being pre-written: zeros in pieces, then its label. */
struct refill {
    struct slot *slot; /* NULL: none under way */
    uint64_t at;
    uint8_t *buf;
    struct disk_io io;
    bool busy;
};

enum { GROUPS_MAX = 4 + 2 };

struct seglog {
    struct seglog_config cfg;
    struct disk *disk;
    const struct clock *clock;
    struct slots slots;
    struct slot *active; /* being appended to; NULL: the next record begins a segment */
    uint32_t at;         /* where the next group of it begins */
    struct step groups[GROUPS_MAX];
    uint8_t *own_groups;       /* their memory; NULL: the caller's */
    struct step *free, *open;  /* groups at rest; the one that records go into */
    struct step *first, *last; /* on the way, in order */
    uint32_t closed, writing;  /* groups in that list; of them, submitted and not complete */
    bool fenced;
    int fence_res;            /* fenced: of the next group that is refused */
    uint64_t create_again_us; /* a slot could not be made: not before this time */
    uint64_t creatable;       /* as last asked */
    uint32_t groups_since_ask;
    struct refill refill;
    /* for seglog_info, any thread */
    atomic_uint_fast64_t info_durable, info_active, info_oldest, info_room, info_groups, info_records, info_written;
    atomic_uint info_used, info_spare;
    atomic_bool info_fenced;
};

/* ---- seggroup.c */
/* The record, size bytes, goes into the open group; the caller knows that it fits. */
void group_put(struct step *g, struct seglog_entry *e, uint32_t size);
/* No more goes in: head, padding, and g->io as it is to be written. */
void group_seal(struct step *g, uint64_t durable_pos);
/* ---- segstep.c */
/* Ends the open group and puts it on its way. */
void step_close_group(struct seglog *l);
/* The active segment ends where it is. */
int step_end_segment(struct seglog *l);
/* t becomes the active segment. */
int step_begin_segment(struct seglog *l, struct slot *t);
/* Submits what may be submitted. */
void step_pump(struct seglog *l);
/* Refuses everything: `res` for the first group's entries, EFENCED for the others; each once the disk is done with it.
 */
void step_fence(struct seglog *l, int res);
void step_free_all(struct seglog *l);

/* ---- segroom.c */
/* May an ordinary (not ENTRY_RESERVE) record go into space that is there? Tops the reserve up if it can. */
bool room_ordinary(struct seglog *l);
/* A slot for the next segment: -SATCHEL_EFULL. */
int room_next_slot(struct seglog *l, bool reserve, struct slot **t_r);
/* Asks the disk again, and publishes. */
void room_ask(struct seglog *l);
/* What seglog_info shows: all of it, or only the room (cheap, at each group). */
void room_publish(struct seglog *l);
void room_publish_bytes(struct seglog *l);
