/* segfile.h - what lies in a slot file, and the table of slots.  For spool/segment only.  Format: docs/segment.md.
 *
 *   0      label: which segment lives here (0: none, a spare)
 *   4096   the same label again, and the segment's end once it is sealed
 *   8192   groups, each at a multiple of 4 KiB
 *
 * Thread: the log's owner, except segfile_read_label (any). */
#pragma once
#include "spool/format/record.h"
#include "spool/segment/disk.h"
#include "spool/segment/seglog.h"

#define SEG_VERSION   1
#define SEG_LABELS    2
#define SEG_DATA_FROM (SEG_LABELS * DISK_ALIGN)

/* Opens each group, on disk. */
struct group_head {
    uint64_t sum; /* XXH3-64 of the rest, seeded with pos */
    uint32_t magic;
    uint8_t version;
    uint8_t type;         /* REC_GROUP */
    uint16_t flags;       /* written as zero, read past */
    uint32_t records;     /* how many follow */
    uint32_t bytes;       /* with this head, without the padding to 4 KiB */
    uint64_t pos;         /* its own place */
    uint64_t durable_pos; /* when this was written, everything below was durable */
    uint8_t zero[24];     /* written as zero, read past */
};
_Static_assert(sizeof(struct group_head) == 64, "on-disk size");
#define GROUP_MAGIC 0x47435453u /* "STCG" */

static inline uint32_t seg_align(uint64_t n)
{
    return (uint32_t)((n + DISK_ALIGN - 1) & ~(uint64_t)(DISK_ALIGN - 1));
}

uint64_t group_head_sum(const struct group_head *h);

/* A label, in memory. */
struct seg_label {
    uint64_t seg;         /* 0: spare */
    uint64_t next_seg;    /* above every number that was ever given out when this was written */
    uint64_t durable_pos; /* as in a group */
    uint64_t bytes;       /* of the slot */
    uint8_t storage[16];
    bool prewritten;      /* every block was written once: writes change no metadata */
    bool sealed;          /* end is known, and all below was durable or judged before this was written */
    uint32_t end;         /* no group begins at or behind it, except: */
    uint32_t salvage_end; /* records above end that recovery found good end here; 0: none */
};

/* One of the two labels: DISK_ALIGN bytes at out_r. */
void seg_label_encode(const struct seg_label *l, int which, uint8_t *out_r);

struct seg_label_read {
    struct seg_label label;
    bool bad[SEG_LABELS]; /* failed its checksum */
    bool blank;           /* never labelled: zeros */
    bool lost;            /* no label is left: label.seg is 0 and means nothing */
};
/* 0, -SATCHEL_EVERSION, or what the read said. */
int segfile_read_label(struct disk *disk, int file, struct seg_label_read *r_r);

#define SLOT_NAME_MAX 32
void slot_name(uint32_t index, char out_r[SLOT_NAME_MAX]);
/* The slot's index, or -1 if the name is none of a slot. */
int64_t slot_index(const char *name);

/* ---- the table of slots */

struct slot {
    uint32_t index;
    int file; /* handle; -1: closed */
    uint64_t bytes;
    struct seg_label label;
    struct seg_label_read found; /* at open */
    bool foreign;                /* not of the configured size, and no segment in it: left alone or removed */
    bool filling;                /* being pre-written */
};

struct slots {
    struct disk *disk;
    uint8_t storage[16];
    uint64_t segment_bytes, max_bytes;
    uint32_t reserve, wanted; /* spare segments */
    struct slot **v;
    size_t n, cap;
    uint64_t next_seg;
    uint32_t used, spare;
    /* of slot_write_label */
    struct disk_io io;
    uint8_t *io_buf;
    bool io_busy;
    int io_res;
};

/* Reads the labels of all slots. */
int slots_load(struct slots *s);
void slots_free(struct slots *s);
/* Used slots first, by segment number. */
void slots_sort(struct slots *s);
struct slot *slots_find(struct slots *s, uint64_t seg);
/* Its handle, opened if it is not. */
int slot_open(struct slots *s, struct slot *t);
void slot_close(struct slots *s, struct slot *t);
/* How many more slots the limit and the disk allow. */
uint64_t slots_creatable(const struct slots *s);
/* A new slot, blank, reserved but not pre-written, with its handle open; counted nowhere.  -SATCHEL_EFULL. */
int slots_create(struct slots *s, struct slot **t_r);
/* Deletes the file and forgets the slot. */
int slots_remove(struct slots *s, struct slot *t);
/* Writes t->label, durably, and waits for it: both labels, or only the second (to seal).  Runs disk poll. */
enum label_part { LABEL_BOTH, LABEL_SEAL };
int slot_write_label(struct slots *s, struct slot *t, enum label_part part);
/* A spare to be used, the pre-written ones first; NULL: none.  Still counted as a spare. */
struct slot *slots_pick(struct slots *s);
