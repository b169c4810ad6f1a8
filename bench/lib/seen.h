/* seen.h - what has arrived: counts messages, duplicates and broken order by the headers that mint.h wrote.
 *
 *   inversions        neighbours of one domain whose sequence numbers fall: also innocent ones, which were on their way
 *                     at the same time when they were sent
 *   fifo_violations   a message came before one of its domain that had been acknowledged before it was sent
 * Thread: one owner.  Memory: one byte a message. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct seen;
struct bag;

struct seen_counts {
    uint64_t messages;   /* with our headers */
    uint64_t unnumbered; /* without them */
    uint64_t distinct, duplicates, inversions, fifo_violations;
};

struct seen *seen_open(void);
void seen_close(struct seen **s);
/* What the head of a message says of it. */
struct seen_mark {
    char token[64];  /* "": none */
    struct bag *bag; /* NULL: not numbered; lives as long as the seen */
    uint32_t seq, floor;
};

/* header: the head of a message, up to its empty line.  Counts nothing yet: the message may never be finished. */
struct seen_mark seen_read(struct seen *s, const char *header, size_t n);
/* Its final dot has come. */
void seen_add(struct seen *s, const struct seen_mark *m);
struct seen_counts seen_counts(const struct seen *s);
