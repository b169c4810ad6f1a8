/* ledger.c - the promise, checked from outside. */
#include "tests/sim/ledger.h"

#include <assert.h>
#include <stdio.h>

#include "spool/base/wire.h"
#include "tests/sim/trace.h"

void ledger_init(struct ledger *g)
{
    memset(g, 0, sizeof *g);
}

void ledger_life(struct ledger *g)
{
    assert(g->lives_n < SIM_LIVES_MAX);
    g->base[g->lives_n++] = g->msgs_n;
}

struct sim_msg *ledger_new(struct ledger *g, uint64_t wall_us)
{
    if (g->msgs_n == SIM_MSGS_MAX)
        return NULL;
    struct sim_msg *m = &g->msgs[g->msgs_n];
    *m = (struct sim_msg){.number = g->msgs_n};
    memcpy(m->id.incarnation, "simulated-life-", 15);
    m->id.incarnation[15] = (uint8_t)(g->lives_n - 1);
    m->id.counter = g->msgs_n - g->base[g->lives_n - 1] + 1;
    g->arrival_us = wall_us > g->arrival_us ? wall_us : g->arrival_us + 1;
    m->arrival_us = g->arrival_us;
    g->msgs_n++;
    return m;
}

struct sim_msg *ledger_find(struct ledger *g, const struct msgid *id)
{
    uint32_t life = id->incarnation[15];
    if (life >= g->lives_n || id->counter == 0 || id->counter > SIM_MSGS_MAX)
        return NULL;
    uint64_t i = g->base[life] + id->counter - 1;
    return i < g->msgs_n && msgid_eq(&g->msgs[i].id, id) ? &g->msgs[i] : NULL;
}

struct slice sim_domain(uint32_t domain)
{
    static const char *names[SIM_DOMAINS] = {"alpha.example", "beta.example", "gamma.example", "alpha.example.net"};
    return slice_str(names[domain]);
}

void sim_body(const struct sim_msg *m, uint64_t off, uint8_t *out_r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t at = off + i;
        out_r[i] = (uint8_t)((at ^ (at >> 7)) * 31 + m->number * 101 + (at >> 13));
    }
}

/* ---- durable records */

static void durable_end(struct sim_msg *m, uint32_t item, enum item_end end)
{
    if (end == ITEM_LIVE)
        return;
    if (!(m->items[item].asked & 1u << end))
        history_fail("a record ends message %u item %u in a way nobody asked for", m->number, item);
    if (m->items[item].final == ITEM_LIVE)
        m->items[item].final = (uint8_t)end;
}

static void durable_result(struct sim_msg *m, struct slice value)
{
    uint32_t item;
    enum item_end end;
    struct smtp_status st;
    if (result_parse(value, &item, &end, &st) != 0 || item >= m->items_n)
        history_fail("a DONE of message %u names an item it has not", m->number);
    else
        durable_end(m, item, end);
}

/* A state names the ends of all items: it may outlive the DONE that it was written with. */
static void durable_state(struct sim_msg *m, struct slice value)
{
    struct msg_state s;
    if (state_decode(value, &s) != 0 || s.items != m->items_n) {
        history_fail("a state of message %u is not readable", m->number);
        return;
    }
    for (uint32_t i = 0; i < m->items_n; i++)
        durable_end(m, i, state_end(&s, i));
    if (s.seq > m->seq)
        m->seq = s.seq;
}

void ledger_durable(struct ledger *g, const struct record *rec)
{
    if (rec->type != REC_DONE && rec->type != REC_DEFER && rec->type != REC_MSG)
        return;
    struct sim_msg *m = ledger_find(g, &rec->id);
    if (!m) {
        history_fail("a record of type %u names a message that there never was", rec->type);
        return;
    }
    struct wire_rd r = wire_rd(rec->meta);
    struct meta_tlv tlv;
    while (meta_next(&r, &tlv)) {
        if (tlv.tag == RT_RESULT && rec->type == REC_DONE)
            durable_result(m, tlv.value);
        if (tlv.tag == RT_STATE)
            durable_state(m, tlv.value);
    }
}

/* ---- after a start */

struct check {
    struct ledger *g;
    uint8_t seen[SIM_MSGS_MAX];
    uint64_t arrival_us; /* of the entry before, to see the order */
    struct slice domain;
    char domain_name[256];
};

static void check_item(struct check *c, const struct sim_msg *m, uint32_t i, enum item_end end)
{
    const struct sim_item *it = &m->items[i];
    if (end != ITEM_LIVE && !(it->asked & 1u << end))
        history_fail("message %u item %u is final (%d) and nobody asked for that", m->number, i, (int)end);
    if (end == ITEM_DELIVERED && !it->sunk)
        history_fail("message %u item %u counts as delivered, but the primary never got it", m->number, i);
    if (end == ITEM_LIVE && it->final != ITEM_LIVE && !c->g->tainted)
        history_fail("message %u item %u came back although its end was durable", m->number, i);
}

static void check_shape(const struct sim_msg *m, const struct queue_entry *e)
{
    if (!slice_eq(e->domain, sim_domain(m->domain)) || e->arrival_us != m->arrival_us || e->state.items != m->items_n ||
        e->chunks != m->chunks || e->body_bytes != m->body_bytes)
        history_fail("message %u changed: domain %.*s arrival %llu items %u chunks %u body %llu", m->number,
                     SLICE_FMT(e->domain), (unsigned long long)e->arrival_us, e->state.items, e->chunks,
                     (unsigned long long)e->body_bytes);
}

static void check_order(struct check *c, const struct queue_entry *e)
{
    if (slice_eq(c->domain, e->domain) && e->arrival_us < c->arrival_us)
        history_fail("the bag of %.*s is not in order of acceptance", SLICE_FMT(e->domain));
    c->arrival_us = e->arrival_us;
    c->domain = slice_of(c->domain_name, e->domain.n);
    memcpy(c->domain_name, e->domain.p, e->domain.n);
}

static void take_state(struct sim_msg *m, const struct queue_entry *e)
{
    m->applied = true;
    m->claimed = false;
    m->moving = m->ending = 0;
    m->held = e->state.held;
    m->due_us = e->state.due_us;
}

static bool check_entry(void *arg, const struct queue_entry *e)
{
    struct check *c = arg;
    struct sim_msg *m = ledger_find(c->g, &e->id);
    if (!m || m->abandoned) {
        history_fail("the queue has a message that %s", m ? "was aborted" : "there never was");
        return false;
    }
    check_shape(m, e);
    check_order(c, e);
    if (c->seen[m->number]++)
        history_fail("message %u is in the queue twice", m->number);
    if (e->state.seq < m->seq && !c->g->tainted)
        history_fail("message %u forgot a durable DEFER: seq %u, was %u", m->number, e->state.seq, m->seq);
    for (uint32_t i = 0; i < m->items_n && i < e->state.items; i++)
        check_item(c, m, i, state_end(&e->state, i));
    take_state(m, e);
    return !history.failed;
}

/* A message that the queue does not have: every item of it must have been ended by a durable record. */
static void check_missing(struct sim_msg *m)
{
    m->applied = m->claimed = false;
    m->moving = m->ending = 0;
    if (!m->acked || m->damaged)
        return;
    for (uint32_t i = 0; i < m->items_n; i++) {
        const struct sim_item *it = &m->items[i];
        if (it->final == ITEM_LIVE)
            history_fail("LOST: message %u item %u was acknowledged, is not in the queue, and no end of it was durable",
                         m->number, i);
        if (it->final == ITEM_DELIVERED && !it->sunk)
            history_fail("LOST: message %u item %u is gone as delivered, but the primary never got it", m->number, i);
    }
}

void ledger_check(struct ledger *g, struct queue *q)
{
    struct check c = {.g = g};
    int r = queue_list(q, (struct slice){0}, (struct slice){0}, check_entry, &c, NULL, NULL);
    if (r != 0)
        history_fail("queue_list: %d", r);
    for (uint32_t i = 0; i < g->msgs_n; i++)
        if (!c.seen[i])
            check_missing(&g->msgs[i]);
}

void ledger_check_empty(struct ledger *g, struct queue *q)
{
    struct queue_stat st;
    queue_stat(q, &st);
    if (st.messages != 0 || st.claims != 0)
        history_fail("the drained queue counts %llu messages, %llu claims", (unsigned long long)st.messages,
                     (unsigned long long)st.claims);
    ledger_check(g, q);
    for (uint32_t i = 0; i < g->msgs_n; i++)
        if (g->msgs[i].applied)
            history_fail("message %u is still in the drained queue", i);
}
