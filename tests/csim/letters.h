/* letters.h - what was promised and what was kept: every message of a history, seen from outside.  No crash erases it.
 *
 * A letter is one attempt to hand in a message: it has one message ID.  A client that got no 250 tries again with
 * another letter; the first may still be delivered (a duplicate for the recipient, which no promise forbids). */
#pragma once
#include "spool/format/record.h"
#include "spool/format/storageid.h"

#define LETTERS_MAX        1500
#define LETTER_ITEMS_MAX   3
#define LETTER_LIVES_MAX   200
#define LETTER_STORES_MAX  24
#define LETTER_CHUNK_BYTES 3000u

struct letter_item {
    uint32_t sunk;              /* how often the sink took it */
    uint64_t first_us, last_us; /* when */
    uint32_t first_node;
    bool refused; /* the sink will have none of it: bounced */
};

struct letter {
    struct msgid id;
    uint32_t number, domain, client, seq;
    uint32_t items_n, chunks;
    uint64_t body_bytes, arrival_us, sent_us, acked_us;
    bool acked;                           /* a 250 was sent */
    bool failed;                          /* the client was told no, or gave up waiting */
    uint32_t puts_off;                    /* how often the sink will put it off */
    uint32_t stored;                      /* bit s: storage s has had all of it durable */
    bool unowned;                         /* its owner did not have it when it was acknowledged */
    bool unreached;                       /* for a time no machine with a copy was on */
    bool lost;                            /* excused: enough storages were wiped */
    uint64_t known_us[LETTER_STORES_MAX]; /* since when each storage knows its end, or a little later; 0: not yet */
    struct letter_item items[LETTER_ITEMS_MAX];
};

struct letters {
    struct letter all[LETTERS_MAX];
    uint32_t n;
    uint32_t base[LETTER_LIVES_MAX], lives_n; /* number of the first letter of each incarnation */
    uint32_t by_key[LETTERS_MAX];             /* numbers, in order of their IDs' keys */
    uint64_t counter[LETTER_LIVES_MAX];
    uint64_t acked, sunk, duplicates;
};

/* A new incarnation: its number. */
uint32_t letters_life(struct letters *l);
/* NULL: full. */
struct letter *letters_new(struct letters *l, uint32_t life);
/* NULL: there never was one. */
struct letter *letters_find(struct letters *l, const struct msgid *id);

/* Every item is delivered or refused. */
bool letter_final(const struct letter *l);

/* Bytes [off, off + n) of the body: each follows from letter and offset. */
void letter_body(const struct letter *l, uint64_t off, uint8_t *out_r, size_t n);
uint64_t letter_chunk_bytes(const struct letter *l, uint32_t chunk);
/* The meta of its MSG record; returns the length. */
size_t letter_meta(const struct letter *l, struct slice domain, uint8_t *out_r, size_t cap);
