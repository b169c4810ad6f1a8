/* segwalk.h - going through a segment from group to group, whatever state it is in.  For spool/segment only.
 *
 * What is good is reported as records, what is not as bad ranges; what a bad range means (damage, torn tail, never
 * written) is the caller's to judge.  A group whose head is gone is searched for records; where no group is, the walk
 * goes on at the next 4 KiB boundary at which one verifies.  Sectors that cannot be read count as zeros.
 *
 * Thread: its owner's. Errors: -SATCHEL_ENOMEM, and what the callbacks return. */
#pragma once
#include "spool/segment/segfile.h"

struct segwalk {
    struct disk *disk;
    int file;
    uint64_t seg;
    uint32_t bytes; /* of the slot */
    uint8_t *buf;   /* a window of the file */
    size_t cap, n;
    uint64_t at;
    uint64_t read_bytes;
    bool no_memory;
    bool heads; /* bodies are neither read nor verified: rec->body.p is NULL, body.n its length */
    bool far;   /* the last body was long: what comes behind it is read in small pieces */
};

struct segwalk_sink {
    /* Verified, header and body, no REC_FILL; rec borrows until return. Non-zero ends the walk. */
    int (*record)(void *arg, const struct record *rec, uint64_t pos, uint32_t size);
    /* Nothing good in [from, to); may be NULL. */
    int (*bad)(void *arg, uint32_t from, uint32_t to);
    void *arg;
};

void segwalk_begin(struct segwalk *w, struct disk *disk, int file, uint64_t seg, uint32_t bytes);
void segwalk_end(struct segwalk *w);
/* From the first group to `limit`. */
int segwalk_run(struct segwalk *w, uint32_t limit, const struct segwalk_sink *sink);
/* The highest durable mark of the groups in it; 0: there are none. */
uint64_t segwalk_mark(struct segwalk *w);
/* How many bytes a torn group at `off` says it has; 0: there is no sign of one. */
uint32_t segwalk_claim(struct segwalk *w, uint32_t off);
/* The segment's number by its groups, for a slot that lost both labels; 0: none found. */
uint64_t segwalk_guess(struct segwalk *w);
