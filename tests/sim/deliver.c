/* deliver.c - the way out: claims in order, reads and compares, hands to the primary, says how it ended. */
#include <assert.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/sim/trace.h"
#include "tests/sim/work.h"

static uint64_t wall(struct work *w)
{
    return clock_wall_us(simdisk_clock(w->sd));
}

static struct work_claim *claim_slot(struct work *w)
{
    for (uint32_t i = 0; i < WORK_CLAIMS; i++)
        if (!w->claims[i].msg)
            return &w->claims[i];
    return NULL;
}

static uint32_t claim_room(struct work *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < WORK_CLAIMS; i++)
        n += !w->claims[i].msg;
    return n;
}

/* ---- reading */

static bool same_body(const struct sim_msg *m, uint64_t off, struct slice body)
{
    uint8_t *want = malloc(body.n + 1);
    assert(want);
    sim_body(m, off, want, body.n);
    bool same = memcmp(want, body.p, body.n) == 0;
    free(want);
    return same;
}

/* Reads one record and compares its body; the offset in the body goes on behind it. */
static int read_piece(struct work *w, const struct sim_msg *m, uint64_t pos, uint32_t size, uint64_t *off)
{
    struct record rec;
    int res = segread_record(w->h.reader, pos, size, &rec);
    if (res != 0)
        return res;
    if (!msgid_eq(&rec.id, &m->id) || !same_body(m, *off, rec.body))
        history_fail("message %u: the record at %llx has another body", m->number, (unsigned long long)pos);
    *off += rec.body.n;
    return 0;
}

static int read_message(struct work *w, const struct sim_msg *m, const struct claim *c)
{
    uint64_t off = 0, pos;
    uint32_t size;
    int res = read_piece(w, m, c->pos, c->size, &off);
    for (uint32_t i = 0; i < c->chunks && res == 0; i++) {
        res = queue_chunk(w->h.q, &c->id, i, &pos, &size);
        res = res ? res : read_piece(w, m, pos, size, &off);
    }
    if (res == 0 && off != m->body_bytes)
        history_fail("message %u has %llu bytes, not %llu", m->number, (unsigned long long)off,
                     (unsigned long long)m->body_bytes);
    return res;
}

/* ---- claiming */

static void claim_take(struct work *w, const struct claim *c)
{
    struct work_claim *slot = claim_slot(w);
    struct sim_msg *m = ledger_find(w->ledger, &c->id);
    assert(slot);
    if (!m || m->claimed) {
        history_fail("claimed a message that %s", m ? "is claimed" : "there never was");
        return;
    }
    *slot = (struct work_claim){.msg = m, .claim = *c};
    m->claimed = true;
    int res = read_message(w, m, c);
    trace("claim msg %u at %llx live %u: read %d", m->number, (unsigned long long)c->pos, c->state.live, res);
    slot->unreadable = res != 0;
    if (res != 0 && !m->damaged && !simdisk_dead(w->sd))
        history_fail("message %u was claimed and cannot be read: %d", m->number, res);
}

static bool claimable(struct work *w, const struct sim_msg *m, uint32_t domain)
{
    return m->domain == domain && m->applied && !m->claimed && !m->held && m->due_us <= wall(w);
}

/* A flush lets out once what was deferred in the bag, also what is put off again meanwhile. */
static bool let_out(struct work *w, const struct sim_msg *m, uint32_t domain)
{
    return m->domain == domain && m->applied && !m->claimed && !m->held && m->number < w->flushed[m->domain];
}

/* The ledger is in order of acceptance: what is claimed is the first of what may be claimed.  A message that is being
 * moved may stop the bag, so that order is kept. */
static void check_claims(struct work *w, uint32_t domain, const struct claim *claims, size_t n, size_t cap)
{
    size_t k = 0;
    for (uint32_t i = 0; i < w->ledger->msgs_n && k < cap; i++) {
        const struct sim_msg *m = &w->ledger->msgs[i];
        bool may = claimable(w, m, domain), taken = k < n && msgid_eq(&claims[k].id, &m->id);
        if (taken && !may && !let_out(w, m, domain))
            history_fail("message %u was claimed before it is due", m->number);
        if (may && !taken && m->moving == 0)
            history_fail("message %u is the next of its domain and was not claimed (%zu of %zu)", m->number, k, n);
        bool stops = m->moving > 0 && (may || let_out(w, m, domain));
        if (history.failed || (may && !taken && k == n) || (stops && k == n))
            return;
        k += taken;
    }
    if (k < n)
        history_fail("%zu claims, of which only %zu are in order", n, k);
}

void work_claim_due(struct work *w)
{
    struct claim claims[4];
    uint32_t domain = (uint32_t)rng_below(w->rng, SIM_DOMAINS), cap = 1 + (uint32_t)rng_below(w->rng, 4);
    if (claim_room(w) < cap)
        return;
    size_t n = queue_claim(w->h.q, sim_domain(domain), CLAIM_DUE, 0, claims, cap);
    check_claims(w, domain, claims, n, cap);
    for (size_t i = 0; i < n && !history.failed; i++)
        claim_take(w, &claims[i]);
}

/* ---- ending */

struct outcome {
    struct item_result results[SIM_ITEMS_MAX];
    size_t n;
    bool stays;
};

static void outcome_add(struct outcome *o, uint32_t item, enum item_end end)
{
    struct item_result *r = &o->results[o->n++];
    r->item = item;
    r->end = end;
    if (end == ITEM_LIVE)
        status_set(&r->status, 451, 4, 2, 0, "try again");
    else if (end == ITEM_DELIVERED)
        status_set(&r->status, 250, 2, 0, 0, "ok");
    else
        status_set(&r->status, 550, 5, 1, 1, "no such user");
    o->stays = o->stays || end == ITEM_LIVE;
}

static void claim_end(struct work *w, struct work_claim *c, const struct outcome *o, uint64_t due_us, bool held)
{
    struct sim_msg *m = c->msg;
    struct sim_item before[SIM_ITEMS_MAX];
    memcpy(before, m->items, sizeof before);
    for (size_t i = 0; i < o->n; i++)
        if (o->results[i].end != ITEM_LIVE)
            m->items[o->results[i].item].asked |= (uint8_t)(1u << o->results[i].end);
    m->next_due_us = due_us;
    m->next_held = held && o->stays;
    int res = queue_finish(w->h.q, sim_domain(m->domain), &c->claim, o->results, o->n, due_us, held && o->stays, NULL);
    trace("finish msg %u: %zu results, stays %d, held %d, due %llu: %d", m->number, o->n, o->stays, held,
          (unsigned long long)due_us, res);
    if (res == 0 && m->ending == 0)
        history_fail("the end of message %u wrote no record", m->number);
    if (res != 0) {
        memcpy(m->items, before, sizeof before);
        m->claimed = m->ending > 0;
    }
    *c = (struct work_claim){0};
}

/* The primary takes some recipients; that happens before anything is written about it. */
static void hand_over(struct work *w, struct work_claim *c)
{
    uint32_t percent = (uint32_t)rng_below(w->rng, 3) * 50;
    c->handed = true;
    for (uint32_t i = 0; i < c->msg->items_n; i++)
        if (!c->unreadable && state_end(&c->claim.state, i) == ITEM_LIVE && rng_below(w->rng, 100) < percent)
            c->msg->items[i].sunk = true;
    trace("hand over msg %u, %u%%", c->msg->number, percent);
}

static enum item_end item_fate(struct work *w, const struct work_claim *c, uint32_t i)
{
    if (c->unreadable)
        return ITEM_BOUNCED;
    if (c->msg->items[i].sunk)
        return ITEM_DELIVERED;
    return rng_below(w->rng, 4) == 0 ? ITEM_BOUNCED : ITEM_LIVE;
}

static void report(struct work *w, struct work_claim *c)
{
    struct outcome o = {.n = 0};
    for (uint32_t i = 0; i < c->msg->items_n; i++)
        if (state_end(&c->claim.state, i) == ITEM_LIVE)
            outcome_add(&o, i, item_fate(w, c, i));
    claim_end(w, c, &o, wall(w) + rng_below(w->rng, 400000), rng_below(w->rng, 8) == 0);
}

void work_deliver(struct work *w)
{
    struct work_claim *c = &w->claims[rng_below(w->rng, WORK_CLAIMS)];
    if (!c->msg)
        return;
    if (!c->handed && rng_below(w->rng, 10) == 0) {
        trace("unclaim msg %u", c->msg->number);
        queue_unclaim(w->h.q, &c->msg->id);
        c->msg->claimed = false;
        *c = (struct work_claim){0};
    } else if (!c->handed) {
        hand_over(w, c);
    } else {
        report(w, c);
    }
}

static void end_all(struct work *w, struct work_claim *c, enum item_end end)
{
    struct outcome o = {.n = 0};
    for (uint32_t i = 0; i < c->msg->items_n; i++)
        if (state_end(&c->claim.state, i) == ITEM_LIVE)
            outcome_add(&o, i, end);
    claim_end(w, c, &o, 0, false);
}

/* ---- single messages: delete, release, expire */

static struct work_claim *claim_by_id(struct work *w, struct sim_msg *m)
{
    struct claim c;
    char domain[256];
    if (claim_room(w) == 0)
        return NULL;
    bool free_now = m->applied && !m->claimed && m->moving == 0;
    int res = queue_claim_id(w->h.q, &m->id, &c, domain);
    trace("claim by id msg %u: %d", m->number, res);
    if ((res == 0) != free_now)
        history_fail("message %u is %s, but claiming it says %d", m->number, free_now ? "free" : "not free", res);
    if (res != 0 || history.failed)
        return NULL;
    struct work_claim *slot = claim_slot(w);
    claim_take(w, &c);
    return slot;
}

static struct sim_msg *any_message(struct work *w)
{
    return w->ledger->msgs_n ? &w->ledger->msgs[rng_below(w->rng, w->ledger->msgs_n)] : NULL;
}

void work_claim_delete(struct work *w)
{
    struct sim_msg *m = any_message(w);
    struct work_claim *c = m ? claim_by_id(w, m) : NULL;
    if (c)
        end_all(w, c, ITEM_DELETED);
}

void work_claim_release(struct work *w)
{
    struct sim_msg *m = any_message(w);
    struct work_claim *c = m && m->held && m->applied ? claim_by_id(w, m) : NULL;
    if (c)
        end_all(w, c, ITEM_LIVE);
}

void work_claim_old(struct work *w)
{
    struct claim claims[2];
    struct sim_msg *m = any_message(w);
    if (!m || claim_room(w) < 2)
        return;
    size_t n = queue_claim(w->h.q, sim_domain(m->domain), CLAIM_OLDER, m->arrival_us, claims, 2);
    for (size_t i = 0; i < n && !history.failed; i++) {
        struct work_claim *slot = claim_slot(w);
        if (claims[i].arrival_us >= m->arrival_us)
            history_fail("a message was claimed as older than it is");
        claim_take(w, &claims[i]);
        end_all(w, slot, ITEM_EXPIRED);
    }
}

bool work_deliver_id(struct work *w, struct sim_msg *m)
{
    struct work_claim *c = claim_by_id(w, m);
    if (!c)
        return false;
    for (uint32_t i = 0; i < m->items_n; i++)
        if (!c->unreadable && state_end(&c->claim.state, i) == ITEM_LIVE)
            m->items[i].sunk = true;
    end_all(w, c, c->unreadable ? ITEM_BOUNCED : ITEM_DELIVERED);
    return true;
}

void work_claims_drop(struct work *w)
{
    for (uint32_t i = 0; i < WORK_CLAIMS; i++) {
        struct work_claim *c = &w->claims[i];
        if (!c->msg)
            continue;
        queue_unclaim(w->h.q, &c->msg->id);
        c->msg->claimed = false;
        *c = (struct work_claim){0};
    }
}
