/* census.h - what a log of another node holds, message by message, made from its records in log order.
 *
 * An end stays an end, whatever comes behind it; of several records of one message the last one written counts; an
 * ABORT takes back what lies before it.  So the census says what the queue of that node would say of the same log
 * (spool/queue/apply.c), without its index.  It can be continued: records that came later are added.
 *
 * No I/O.  Thread: whoever holds it.  Memory: about 100 bytes a message. */
#pragma once
#include "spool/format/record.h"

struct census;

enum census_flags {
    CENSUS_MSG = 1 << 0,   /* its record is there, at pos */
    CENSUS_FINAL = 1 << 1, /* it ended; pos and size are those of the DONE that says so */
    CENSUS_TAKEN = 1 << 2, /* the reader's of the census: nothing is left to do with it */
    CENSUS_BAD = 1 << 3,   /* the same: it cannot be read */
};

struct census_entry {
    struct msgid id;
    uint64_t arrival_us, pos;
    uint32_t size;   /* of the record at pos */
    uint32_t chunks; /* that the message consists of beside its MSG */
    uint32_t domain; /* index of its name; UINT32_MAX: not known */
    uint32_t chunk;  /* the last of its CHUNKs that was seen, counted from 1; 0: none */
    uint16_t items;  /* recipients; 0: its MSG was not seen */
    uint8_t flags;
    uint8_t *state; /* u16 length, state_encode(); NULL: nothing was tried yet */
};

int census_open(struct census **c_r);
void census_close(struct census **c);

/* The next record.  Unknown types are passed over.  0 or -SATCHEL_ENOMEM. */
int census_record(struct census *c, const struct record *rec, uint64_t pos, uint32_t size);
/* Orders what is live by arrival: before census_live is asked. */
int census_sort(struct census *c);

uint32_t census_n(const struct census *c);
struct census_entry *census_at(struct census *c, uint32_t i);
/* NULL: not known. */
struct census_entry *census_find(struct census *c, const struct msgid *id);
/* Messages that have their MSG and did not end, oldest first, as of the last census_sort: entry of place i. */
uint32_t census_live_n(const struct census *c);
struct census_entry *census_live(struct census *c, uint32_t i);
/* Entries that ended, or whose state changed, in order of being noticed: entry of place i.  Some come twice. */
uint32_t census_ends_n(const struct census *c);
struct census_entry *census_end(struct census *c, uint32_t i);
uint32_t census_names_n(const struct census *c);
struct slice census_name(const struct census *c, uint32_t i);
/* Place of a chunk; false: it is not there. */
bool census_chunk(const struct census *c, const struct census_entry *e, uint32_t index, uint64_t *pos_r,
                  uint32_t *size_r);
/* What is known of its state; false: nothing was tried. */
bool census_state(const struct census_entry *e, struct msg_state *s_r);
