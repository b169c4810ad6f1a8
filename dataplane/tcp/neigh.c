/* neigh.c - the neighbour cache. */
#include "dataplane/tcp/neigh.h"
#include "dataplane/tcp/siphash.h"

#define WAYS 8u

#define ASK_US       1000000u
#define ASKS_MAX     3u
#define REACHABLE_US 30000000u
#define FORGET_US    600000000u
#define FAILED_US    1000000u
#define DOUBLINGS    4u
#define DOUBT_US     1000000u
#define NO_DEADLINE  UINT64_MAX

/* ---- the table */

static uint32_t buckets_for(uint32_t max)
{
    uint32_t n = 2;
    while (n * WAYS < max)
        n *= 2;
    return n;
}

static uint32_t hashed_n(const struct neigh_table *t)
{
    return t->buckets * WAYS;
}

size_t neigh_table_bytes(uint32_t max)
{
    return (buckets_for(max) * WAYS + NEIGH_PINNED_MAX) * sizeof(struct neigh);
}

void neigh_table_init(struct neigh_table *t, void *mem, uint32_t max, const uint8_t key[16],
                      const struct neigh_ops *ops)
{
    *t = (struct neigh_table){.v = mem, .buckets = buckets_for(max), .next_us = NO_DEADLINE, .ops = *ops};
    memcpy(t->key, key, sizeof t->key);
}

void neigh_pin(struct neigh_table *t, const struct ip_addr *addr)
{
    assert(t->pinned < NEIGH_PINNED_MAX);
    struct neigh *e = &t->v[hashed_n(t) + t->pinned++];
    e->addr = *addr;
    e->pinned = true;
    e->due_us = NO_DEADLINE;
}

static void buckets_of(const struct neigh_table *t, const struct ip_addr *addr, struct neigh *bucket_r[2])
{
    uint64_t hash = siphash(t->key, addr->q, 2, 1, 3);
    bucket_r[0] = &t->v[(hash & (t->buckets - 1)) * WAYS];
    bucket_r[1] = &t->v[(hash >> 32 & (t->buckets - 1)) * WAYS];
}

static struct neigh *find(const struct neigh_table *t, const struct ip_addr *addr, struct neigh *bucket[2])
{
    struct neigh *pinned = &t->v[hashed_n(t)];
    for (uint32_t i = 0; i < t->pinned; i++)
        if (ip_addr_eq(&pinned[i].addr, addr))
            return &pinned[i];
    buckets_of(t, addr, bucket);
    for (int b = 0; b < 2; b++)
        for (struct neigh *e = bucket[b]; e < bucket[b] + WAYS; e++)
            if (e->state != NEIGH_NONE && ip_addr_eq(&e->addr, addr))
                return e;
    return NULL;
}

const struct neigh *neigh_find(const struct neigh_table *t, const struct ip_addr *addr)
{
    struct neigh *bucket[2];
    return find(t, addr, bucket);
}

const struct neigh *neigh_at(const struct neigh_table *t, uint32_t i)
{
    return i < hashed_n(t) + t->pinned ? &t->v[i] : NULL;
}

/* More useful entries have larger ones. */
static int usefulness(const struct neigh *e, uint64_t now_us)
{
    static const int of_state[] = {
        [NEIGH_NONE] = 0, [NEIGH_FAILED] = 1, [NEIGH_ASKED] = 2, [NEIGH_STALE] = 3, [NEIGH_REACHABLE] = 4};
    bool aged = e->state == NEIGH_REACHABLE && now_us - e->confirmed_us > REACHABLE_US;
    return of_state[aged ? NEIGH_STALE : e->state];
}

static struct neigh *least_useful(struct neigh *bucket[2], uint64_t now_us)
{
    struct neigh *worst = bucket[0];
    for (int b = 0; b < 2; b++)
        for (struct neigh *e = bucket[b]; e < bucket[b] + WAYS; e++) {
            int more = usefulness(e, now_us) - usefulness(worst, now_us);
            if (more < 0 || (more == 0 && e->used_us < worst->used_us))
                worst = e;
        }
    return worst;
}

/* ---- states */

static void enter(struct neigh *e, enum neigh_state s)
{
    e->state = (uint8_t)s;
    e->asks = 0;
    e->due_us = NO_DEADLINE;
}

static void waiting_drop(struct neigh_table *t, struct neigh *e)
{
    if (e->waits)
        t->ops.drop(t->ops.ctx, &e->waiting);
    e->waits = false;
}

static void waiting_keep(struct neigh_table *t, struct neigh *e, const struct frame *f)
{
    waiting_drop(t, e);
    e->waiting = *f;
    e->waits = true;
}

static void waiting_send(struct neigh_table *t, struct neigh *e)
{
    if (e->waits)
        t->ops.send(t->ops.ctx, &e->waiting, e);
    e->waits = false;
}

static void ask(struct neigh_table *t, struct neigh *e, uint64_t now_us)
{
    e->asks++;
    e->asked_us = now_us;
    e->due_us = now_us + ASK_US;
    if (e->due_us < t->next_us)
        t->next_us = e->due_us;
    t->ops.ask(t->ops.ctx, e, e->everybody, now_us);
}

static void ask_anew(struct neigh_table *t, struct neigh *e, enum neigh_state s, bool everybody, uint64_t now_us)
{
    enter(e, s);
    e->everybody = everybody;
    ask(t, e, now_us);
}

static struct neigh *make(struct neigh_table *t, const struct ip_addr *addr, struct neigh *bucket[2], uint64_t now_us)
{
    struct neigh *e = least_useful(bucket, now_us);
    waiting_drop(t, e);
    *e = (struct neigh){.addr = *addr, .due_us = NO_DEADLINE};
    return e;
}

/* How long a failure is remembered. */
static uint64_t failed_for_us(const struct neigh *e)
{
    uint32_t doublings = e->fails - 1u;
    return (uint64_t)FAILED_US << (doublings < DOUBLINGS ? doublings : DOUBLINGS);
}

/* What a frame to be sent makes of an entry's age. */
static void use(struct neigh_table *t, struct neigh *e, uint64_t now_us)
{
    uint64_t age = now_us - e->confirmed_us;
    if (e->state == NEIGH_NONE || (e->state == NEIGH_FAILED && now_us - e->asked_us >= failed_for_us(e)))
        ask_anew(t, e, NEIGH_ASKED, true, now_us);
    else if (e->state == NEIGH_REACHABLE && age > REACHABLE_US)
        enter(e, NEIGH_STALE);
    if (e->state == NEIGH_STALE && e->asks == 0)
        ask_anew(t, e, age > FORGET_US ? NEIGH_ASKED : NEIGH_STALE, age > FORGET_US, now_us);
    e->used_us = now_us;
}

void neigh_send(struct neigh_table *t, const struct ip_addr *addr, uint8_t local, struct frame *f, uint64_t now_us)
{
    struct neigh *bucket[2], *e = find(t, addr, bucket);
    if (!e)
        e = make(t, addr, bucket, now_us);
    e->local = local;
    use(t, e, now_us);
    if (e->state == NEIGH_ASKED)
        waiting_keep(t, e, f);
    else if (e->state == NEIGH_FAILED)
        t->ops.drop(t->ops.ctx, f);
    else
        t->ops.send(t->ops.ctx, f, e);
}

/* ---- what neighbours say */

static void take(struct neigh_table *t, struct neigh *e, const uint8_t mac[6], bool confirmed, uint64_t now_us)
{
    memcpy(e->mac, mac, 6);
    enter(e, confirmed ? NEIGH_REACHABLE : NEIGH_STALE);
    e->confirmed_us = now_us;
    e->fails = 0;
    waiting_send(t, e);
}

/* Another MAC than the one we know: everybody is asked, the known one is used until there is an answer. */
static void doubt(struct neigh_table *t, struct neigh *e, uint64_t now_us)
{
    if (now_us - e->asked_us >= DOUBT_US)
        ask_anew(t, e, NEIGH_STALE, true, now_us);
}

bool neigh_hear(struct neigh_table *t, const struct ip_addr *addr, const uint8_t mac[6], enum neigh_word word,
                uint64_t now_us)
{
    struct neigh *bucket[2], *e = find(t, addr, bucket);
    if (!e || e->state == NEIGH_NONE)
        return false;
    bool answer = word != NEIGH_CLAIM && e->asks > 0;
    if (e->state == NEIGH_ASKED || e->state == NEIGH_FAILED)
        take(t, e, mac, answer, now_us);
    else if (memcmp(e->mac, mac, 6) == 0 ? answer : answer && word == NEIGH_ANSWER)
        take(t, e, mac, true, now_us);
    else if (memcmp(e->mac, mac, 6) != 0)
        doubt(t, e, now_us);
    return true;
}

/* ---- time */

static void give_up(struct neigh_table *t, struct neigh *e, uint64_t now_us)
{
    if (e->state == NEIGH_STALE) { /* it may have moved */
        ask_anew(t, e, NEIGH_ASKED, true, now_us);
        return;
    }
    enter(e, NEIGH_FAILED);
    e->fails += e->fails < UINT8_MAX;
    e->asked_us = now_us;
    waiting_drop(t, e);
}

void neigh_tick(struct neigh_table *t, uint64_t now_us)
{
    if (now_us < t->next_us)
        return;
    uint64_t next = NO_DEADLINE;
    for (struct neigh *e = t->v; e < t->v + hashed_n(t) + t->pinned; e++) {
        if (e->state == NEIGH_NONE || e->due_us == NO_DEADLINE)
            continue;
        if (e->due_us <= now_us) {
            if (e->asks < ASKS_MAX)
                ask(t, e, now_us);
            else
                give_up(t, e, now_us);
        }
        if (e->due_us < next)
            next = e->due_us;
    }
    t->next_us = next;
}
