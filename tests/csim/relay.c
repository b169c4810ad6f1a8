/* relay.c - lanes from the bags to the sinks. */
#include "tests/csim/relay.h"

#include <stdlib.h>

#include "tests/csim/checks.h"
#include "tests/csim/simnode.h"

#define RETRY_US 700000u
#define LOOK_US  500000u

static void lane_enter(struct relay *r, uint32_t d, enum relay_state state, uint64_t wait_us)
{
    r->lanes[d].state = state;
    r->lanes[d].at_us = r->w->now_us + wait_us;
}

static void lane_release(struct relay *r, uint32_t d, uint64_t wait_us)
{
    struct relay_lane *l = &r->lanes[d];
    r->outlet->ops->release(r->outlet, l->msg);
    l->msg = NULL;
    l->hot = true;
    lane_enter(r, d, RELAY_IDLE, wait_us);
}

/* What was put off a moment ago is not due at any time yet: its DEFER is on its way. While the bag has mail, look. */
static void lane_sleep(struct relay *r, uint32_t d)
{
    struct relay_lane *l = &r->lanes[d];
    struct bag_stat st;
    uint64_t wall = clock_wall_us(r->clock), due = r->outlet->ops->next_due(r->outlet, world_domain(r->w, d));
    r->outlet->ops->stat(r->outlet, world_domain(r->w, d), &st);
    l->hot = st.messages > 0;
    lane_enter(r, d, RELAY_IDLE, due > wall && due - wall < LOOK_US ? due - wall + 1 : LOOK_US);
}

static void lane_claim(struct relay *r, uint32_t d)
{
    struct relay_lane *l = &r->lanes[d];
    if (r->outlet->ops->claim(r->outlet, world_domain(r->w, d), CLAIM_DUE, 0, &l->msg, 1) == 0) {
        l->msg = NULL;
        lane_sleep(r, d);
        return;
    }
    l->letter = letters_find(&r->w->letters, &l->msg->id);
    trace("n%u claims letter %u", r->node, l->letter->number);
    lane_enter(r, d, RELAY_CONNECT, between(&r->rng, 50, chance(&r->rng, 80) ? 500 : 20000));
}

/* What comes out is what went in.  false: it cannot be read, which puts an end to the attempt. */
static bool check_body(struct relay *r, struct relay_lane *l)
{
    uint64_t off = 0;
    uint8_t want[LETTER_CHUNK_BYTES];
    for (struct slice part;;) {
        int n = r->outlet->ops->read(r->outlet, l->msg, off, sizeof want, &part);
        if (n < 0)
            return false;
        if (n == 0 || part.n == 0)
            break;
        letter_body(l->letter, off, want, part.n);
        if (memcmp(want, part.p, part.n) != 0)
            history_fail("letter %u is delivered with another body", l->letter->number);
        off += part.n;
    }
    if (off < l->letter->body_bytes)
        history_fail("invariant 1: letter %u is delivered from n%u with %llu of %llu bytes", l->letter->number, r->node,
                     (unsigned long long)off, (unsigned long long)l->letter->body_bytes);
    return true;
}

static void lane_connect(struct relay *r, uint32_t d)
{
    if (r->w->sink_down[d] || !r->outlet->ops->may(r->outlet, r->lanes[d].msg)) {
        lane_release(r, d, between(&r->rng, RETRY_US / 2, RETRY_US));
        return;
    }
    /* A primary that takes its time, perhaps longer than our lease. */
    bool crawls = !r->w->healing && chance(&r->rng, r->w->plan.crawl_pct);
    uint64_t most = crawls ? 15 * SECOND_US : chance(&r->rng, 90) ? 5000 : 400000;
    lane_enter(r, d, RELAY_DATA, between(&r->rng, crawls ? 3 * SECOND_US : 100, most));
}

/* The final dot: from here on the sink may have the message, whatever happens to us. */
static void lane_dot(struct relay *r, uint32_t d)
{
    struct relay_lane *l = &r->lanes[d];
    if (r->w->sink_down[d] || !r->outlet->ops->may(r->outlet, l->msg)) {
        lane_release(r, d, between(&r->rng, 1000, RETRY_US));
        return;
    }
    if (!check_body(r, l)) {
        lane_release(r, d, between(&r->rng, 1000, RETRY_US));
        return;
    }
    l->put_off = l->letter->puts_off > 0;
    l->letter->puts_off -= l->put_off;
    for (uint32_t i = 0; i < l->letter->items_n; i++) {
        bool live = state_end(&l->msg->state, i) == ITEM_LIVE;
        bool late = l->put_off && i + 1 == l->letter->items_n;
        l->taken[i] = live && !late && !l->letter->items[i].refused;
    }
    check_dot(r->w, r->w->nodes[r->node], l->letter, l->taken);
    lane_enter(r, d, RELAY_DOT, between(&r->rng, 100, chance(&r->rng, 90) ? 10000 : 600000));
}

static void lane_finish(struct relay *r, uint32_t d)
{
    struct relay_lane *l = &r->lanes[d];
    struct item_result results[LETTER_ITEMS_MAX];
    size_t n = 0;
    for (uint32_t i = 0; i < l->letter->items_n; i++) {
        if (state_end(&l->msg->state, i) != ITEM_LIVE)
            continue;
        bool refused = l->letter->items[i].refused;
        results[n] = (struct item_result){.item = i,
                                          .end = l->taken[i] ? ITEM_DELIVERED
                                                 : refused   ? ITEM_BOUNCED
                                                             : ITEM_LIVE};
        status_set(&results[n].status,
                   l->taken[i] ? 250
                   : refused   ? 550
                               : 451,
                   l->taken[i] ? 2
                   : refused   ? 5
                               : 4,
                   0, 0, "sink");
        n++;
    }
    uint64_t due = clock_wall_us(r->clock) + between(&r->rng, 200000, 2000000);
    int res = r->outlet->ops->finish(r->outlet, l->msg, results, n, l->put_off ? due : 0, false, NULL);
    trace("n%u finishes letter %u: %d", r->node, l->letter->number, res);
    l->msg = NULL;
    l->hot = true;
    lane_enter(r, d, RELAY_IDLE, res == 0 ? between(&r->rng, 20, 200) : RETRY_US);
}

static void lane_step(struct relay *r, uint32_t d)
{
    switch (r->lanes[d].state) {
    case RELAY_IDLE:
        if (r->lanes[d].hot)
            lane_claim(r, d);
        break;
    case RELAY_CONNECT:
        lane_connect(r, d);
        break;
    case RELAY_DATA:
        lane_dot(r, d);
        break;
    case RELAY_DOT:
        lane_finish(r, d);
        break;
    }
}

void relay_turn(struct relay *r)
{
    struct slice name;
    while (r->outlet->ops->ready(r->outlet, &name))
        for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
            r->lanes[d].hot = r->lanes[d].hot || slice_eq(name, world_domain(r->w, d));
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if (r->lanes[d].at_us <= r->w->now_us)
            lane_step(r, d);
}

uint64_t relay_next_us(const struct relay *r)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if ((r->lanes[d].state != RELAY_IDLE || r->lanes[d].hot) && r->lanes[d].at_us < next)
            next = r->lanes[d].at_us;
    return next;
}

void relay_open(struct relay *r, struct world *w, uint32_t node, struct outlet *outlet, const struct clock *clock)
{
    *r = (struct relay){.w = w, .node = node, .outlet = outlet, .clock = clock};
    rng_seed(&r->rng, rng_u64(&w->rng));
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        r->lanes[d].hot = true;
}

void relay_drop(struct relay *r)
{
    for (uint32_t d = 0; d < WORLD_DOMAINS; d++)
        if (r->lanes[d].msg)
            r->outlet->ops->release(r->outlet, r->lanes[d].msg);
    *r = (struct relay){0};
}
