/* neigh.h - the neighbour cache: who on the link has which MAC, as far as we asked (RFC 826, RFC 4861 7).
 *
 * Thread: its queue's; no clock, no I/O, no malloc.  ARP and NDP are beyond `ask`; frames stand at their IP header.
 *
 *   ASKED      no MAC yet; asked 3 times, once a second (RFC 4861 10, RFC 1122 2.3.2.1); without an answer a second
 *              later: FAILED.  One frame waits, the newest
 *   REACHABLE  answered within 30 s
 *   STALE      older: the next frame leaves at once and the neighbour is asked, it alone, up to 3 times; then ASKED.
 *              Not confirmed for 10 minutes: ASKED at the next frame
 *   FAILED     frames are dropped: for 1 s, then 2, 4, 8 and 16 s from failure to failure; then the next frame asks
 *
 * An answer counts only while we ask.  What an address says unasked never replaces a MAC: it makes us ask everybody, at
 * most once a second, and the answer to that replaces it (so that an address may move to another machine).
 *
 * The table: two buckets of 8 an address, by SipHash; the least useful of both makes room for a new one: failed before
 * asked before stale before reachable, then the one not used for longest.  Pinned entries (gateways) stay. */
#pragma once
#include "dataplane/tcp/addr.h"
#include "dataplane/tcp/frame.h"
#include "dataplane/tcp/stats.h"

#define NEIGH_PINNED_MAX 2u

enum neigh_state { NEIGH_NONE, NEIGH_ASKED, NEIGH_REACHABLE, NEIGH_STALE, NEIGH_FAILED };

struct neigh {
    struct ip_addr addr;
    uint64_t used_us, confirmed_us, asked_us;
    uint64_t due_us; /* the next question, or giving up; UINT64_MAX: no question is open */
    uint8_t mac[6];
    uint8_t state; /* enum neigh_state */
    uint8_t asks;  /* questions put and not answered */
    uint8_t fails; /* times it became FAILED in a row */
    uint8_t local; /* of our addresses, the one that asks */
    bool everybody, pinned, waits;
    struct frame waiting;
};

struct neigh_ops {
    /* Puts the question to everybody, or to the neighbour's MAC alone. */
    void (*ask)(void *ctx, const struct neigh *e, bool everybody, uint64_t now_us);
    /* Takes a frame that may leave to mac. */
    void (*send)(void *ctx, struct frame *f, const struct neigh *e);
    /* Takes a frame that can't be sent. */
    void (*drop)(void *ctx, struct frame *f);
    void *ctx;
};

struct neigh_table {
    struct neigh *v;
    uint32_t buckets, pinned;
    uint64_t next_us; /* no due_us is sooner */
    uint8_t key[16];
    struct neigh_ops ops;
};

/* What a neighbour says of itself. */
enum neigh_word {
    NEIGH_ANSWER,      /* to our question */
    NEIGH_ANSWER_WEAK, /* likewise, without the override flag: does not replace another MAC (RFC 4861 7.2.5) */
    NEIGH_CLAIM        /* unasked, or in a question of its own */
};

/* For at least max neighbours. */
size_t neigh_table_bytes(uint32_t max);
/* mem: zeroed. */
void neigh_table_init(struct neigh_table *t, void *mem, uint32_t max, const uint8_t key[16],
                      const struct neigh_ops *ops);
/* Reserves a place for addr for good. At most NEIGH_PINNED_MAX. */
void neigh_pin(struct neigh_table *t, const struct ip_addr *addr);

/* Sends a frame to a neighbour, now or when it answers, or drops it. Takes it in any case. */
void neigh_send(struct neigh_table *t, const struct ip_addr *addr, uint8_t local, struct frame *f, uint64_t now_us);
/* False: we have no entry for it, nothing was learnt. */
bool neigh_hear(struct neigh_table *t, const struct ip_addr *addr, const uint8_t mac[6], enum neigh_word word,
                uint64_t now_us);
void neigh_tick(struct neigh_table *t, uint64_t now_us);
static inline uint64_t neigh_next_us(const struct neigh_table *t)
{
    return t->next_us;
}
/* The entry, or NULL. */
const struct neigh *neigh_find(const struct neigh_table *t, const struct ip_addr *addr);
/* Entries by number, those without a state included; NULL: no more. */
const struct neigh *neigh_at(const struct neigh_table *t, uint32_t i);
