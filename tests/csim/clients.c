/* clients.c - mail for the world. */
#include "tests/csim/clients.h"

#include <assert.h>
#include <stdlib.h>

#define PATIENCE_US (15 * SECOND_US)

struct client {
    struct clients *all;
    struct actor *actor;
    uint32_t number, home, domain, seq;
    bool waiting, answered, taken, over;
    struct letter *letter;
    uint32_t node, life; /* where it was handed in */
    uint64_t since_us;
};

struct clients {
    struct world *w;
    struct rng rng;
    struct client each[WORLD_CLIENTS_MAX];
    bool stopped;
};

/* Invariant 10: where nothing but the store is amiss, mail is taken. */
static void check_taken(struct client *c)
{
    const struct world *w = c->all->w;
    if (!c->taken && strcmp(w->plan.name, "store") == 0)
        history_fail("invariant 10: n%u took letter %u not, and nothing was amiss but the store", c->node,
                     c->letter->number);
}

static void on_said(void *arg, struct letter *l, bool taken)
{
    struct client *c = arg;
    if (!c->waiting || c->letter != l)
        return;
    c->answered = true;
    c->taken = taken;
    actor_wake(c->actor, c->all->w->now_us + between(&c->all->rng, 100, 3000));
}

static struct simnode *pick_node(struct client *c)
{
    struct world *w = c->all->w;
    uint32_t i = c->home;
    for (int tries = 0; tries < 8; tries++) {
        struct simnode *n = w->nodes[i];
        if (simnode_state(n) == SIMNODE_RUNNING && !simnode_leaving(n) && !simnode_refused(n)[0]) {
            c->node = i;
            return n;
        }
        i = (uint32_t)rng_below(&c->all->rng, w->plan.nodes);
    }
    return NULL;
}

static void shape(struct client *c, struct letter *l)
{
    struct rng *r = &c->all->rng;
    const struct plan *p = &c->all->w->plan;
    l->client = c->number;
    l->seq = c->seq;
    l->items_n = chance(r, 70) ? 1 : (uint32_t)between(r, 1, LETTER_ITEMS_MAX);
    l->chunks = p->chunked && chance(r, 15) ? (uint32_t)between(r, 1, 4) : 0;
    l->body_bytes =
        l->chunks ? (l->chunks - 1) * LETTER_CHUNK_BYTES + between(r, 1, LETTER_CHUNK_BYTES) : between(r, 0, 700);
    for (uint32_t i = 0; p->quirks && i < l->items_n; i++)
        l->items[i].refused = chance(r, 8);
    l->puts_off = p->quirks && chance(r, 12) ? (uint32_t)between(r, 1, 2) : 0;
}

static void send(struct client *c)
{
    struct world *w = c->all->w;
    struct simnode *n = pick_node(c);
    struct letter *l = n ? simnode_letter(n, c->domain) : NULL;
    if (w->letters.n == LETTERS_MAX)
        c->over = true;
    actor_wake(c->actor, w->now_us + between(&c->all->rng, 50000, 400000));
    if (!l)
        return;
    shape(c, l);
    c->letter = l;
    c->answered = false;
    c->life = simnode_lives(n);
    c->since_us = w->now_us;
    c->waiting = simnode_submit(n, l, on_said, c);
    trace("client %u hands letter %u (seq %u, domain %u, chunks %u) to n%u", c->number, l->number, l->seq, l->domain,
          l->chunks, c->node);
}

static void next_letter(struct client *c, bool taken)
{
    const struct plan *p = &c->all->w->plan;
    uint64_t gap = p->busy_us / (p->letters + 1);
    c->waiting = false;
    c->letter->failed = !taken;
    c->seq += taken;
    c->over = c->over || c->seq == p->letters;
    actor_wake(c->actor, c->all->w->now_us + (taken ? between(&c->all->rng, gap / 20, gap * 2)
                                                    : between(&c->all->rng, 100000, 1500000)));
}

static void wait_on(struct client *c)
{
    const struct world *w = c->all->w;
    const struct simnode *n = w->nodes[c->node];
    if (c->answered) {
        check_taken(c);
        next_letter(c, c->taken);
    } else if (simnode_state(n) == SIMNODE_OFF || simnode_lives(n) != c->life ||
               w->now_us > c->since_us + PATIENCE_US) {
        trace("client %u gives letter %u up", c->number, c->letter->number);
        next_letter(c, false);
    } else {
        actor_wake(c->actor, w->now_us + 250000);
    }
}

static void client_run(void *arg)
{
    struct client *c = arg;
    if (c->waiting)
        wait_on(c);
    else if (!c->over && !c->all->stopped)
        send(c);
}

void clients_start(struct clients *cs)
{
    for (uint32_t i = 0; i < cs->w->plan.clients; i++)
        actor_wake(cs->each[i].actor, cs->w->now_us + between(&cs->rng, 0, SECOND_US));
}

void clients_stop(struct clients *cs)
{
    cs->stopped = true;
}

bool clients_idle(const struct clients *cs)
{
    for (uint32_t i = 0; i < cs->w->plan.clients; i++)
        if (cs->each[i].waiting)
            return false;
    return true;
}

void clients_open(struct clients **cs_r, struct world *w)
{
    struct clients *cs = calloc(1, sizeof *cs);
    assert(cs);
    cs->w = w;
    rng_seed(&cs->rng, rng_u64(&w->rng));
    for (uint32_t i = 0; i < w->plan.clients; i++) {
        struct client *c = &cs->each[i];
        *c = (struct client){.all = cs, .number = i};
        c->home = (uint32_t)rng_below(&cs->rng, w->plan.nodes);
        c->domain = (uint32_t)rng_below(&cs->rng, WORLD_DOMAINS);
        c->actor = world_actor(w, client_run, c);
    }
    *cs_r = cs;
}

void clients_close(struct clients **cs)
{
    free(*cs);
    *cs = NULL;
}
