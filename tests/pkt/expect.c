/* expect.c - what the owner sees, what was counted, and silence. */
#include "tests/pkt/expect.h"
#include "tests/pkt/owner.h"

#include <stdlib.h>

void expect_clean(struct world *w)
{
    struct sent *s = world_unexpected(w);
    char text[512];
    if (!s || w->failed)
        return;
    pkt_text(&s->k, s->peer, true, text, sizeof text);
    fail(w, "before this, at %.3f, sent and not asked for: %s", (double)(s->at_us - w->start_us) / 1e6, text);
}

/* expect nothing [SECONDS] */
static void nothing(struct words *s, struct peer *c)
{
    (void)c;
    expect_clean(s->w);
    if (words_look(s))
        world_until(s->w, s->w->now_us + words_seconds(s));
    expect_clean(s->w);
}

/* expect event NAME: it happened, and is forgotten. */
static void event(struct words *s, struct peer *c)
{
    char had[128];
    uint16_t bit = owner_event_named(words_next(s));
    owner_events_text(c->events, had, sizeof had);
    if (!(c->events & bit))
        fail(s->w, "events: %s", *had ? had : "none");
    c->events &= (uint16_t)~bit;
}

/* expect no NAME */
static void no(struct words *s, struct peer *c)
{
    char had[128];
    uint16_t bit = owner_event_named(words_next(s));
    owner_events_text(c->events, had, sizeof had);
    if (!bit || c->events & bit)
        fail(s->w, "events: %s", had);
}

static enum stat_id stat_named(struct words *s, const char *name)
{
    for (int i = 0; i < STAT_N; i++)
        if (!strcmp(stat_rows[i].name, name))
            return (enum stat_id)i;
    words_unknown(s, name);
    return STAT_RX_FRAMES;
}

static void hold_number(struct words *s, const char *what, int64_t got)
{
    const char *word = words_next(s);
    long long low, high;
    int n = sscanf(word, "%lld..%lld", &low, &high);
    bool ok = n >= 1 && got >= low && got <= (n == 2 ? high : low);
    if (sscanf(word, ">=%lld", &low) == 1)
        ok = got >= low;
    else if (sscanf(word, "<=%lld", &low) == 1)
        ok = got <= low;
    if (!ok)
        fail(s->w, "%s is %lld", what, (long long)got);
}

/* expect stat NAME N|A..B|>=N.  Truncated frames are counted as drops: what counts drops is not looked at then. */
static void stat(struct words *s, struct peer *c)
{
    (void)c;
    const char *name = words_next(s);
    enum stat_id id = stat_named(s, name);
    if (s->w->variant.truncated && (!strncmp(name, "drop_", 5) || !strncmp(name, "rx_", 3)))
        words_next(s);
    else
        hold_number(s, name, (int64_t)stat_get(&s->w->stats, id));
}

static void state(struct words *s, struct peer *c)
{
    const char *want = words_next(s), *is = c->conn ? tcp_conn_state(c->conn) : "none";
    if (strcmp(want, is) != 0)
        fail(s->w, "the state is %s", is);
}

static void unacked(struct words *s, struct peer *c)
{
    hold_number(s, "unacknowledged", c->conn ? tcp_unacked(c->conn) : 0);
}

/* Memory beyond the connection's object. */
static void held(struct words *s, struct peer *c)
{
    hold_number(s, "held", c->conn ? tcp_conn_held(stack_tcp(s->w->stack), c->conn) : 0);
}

static void neighbours(struct words *s, struct peer *c)
{
    (void)c;
    struct ip_neighbour list[64];
    hold_number(s, "neighbours", ip_neighbours(stack_ip(s->w->stack), list, 64, s->w->now_us));
}

/* expect mtu N: as over IPv4; over IPv6 it is 20 more. */
static void mtu(struct words *s, struct peer *c)
{
    uint16_t n = ip_mtu(stack_ip(s->w->stack), &c->addr, s->w->now_us);
    hold_number(s, "mtu", n - (s->w->variant.v6 ? WIRE_IP6 - WIRE_IP4 : 0));
}

static void rawmtu(struct words *s, struct peer *c)
{
    hold_number(s, "mtu", ip_mtu(stack_ip(s->w->stack), &c->addr, s->w->now_us));
}

/* expect ready|unready: our address of the family that is running. */
static void ready(struct words *s, struct peer *c)
{
    (void)c;
    if (!ip_addr_ready(stack_ip(s->w->stack), s->w->local))
        fail(s->w, "the address is not ready");
}

static void unready(struct words *s, struct peer *c)
{
    (void)c;
    if (ip_addr_ready(stack_ip(s->w->stack), s->w->local))
        fail(s->w, "the address is ready");
}

/* expect isn-clock: since `forget`, our initial sequence number moved by 250,000 a second (RFC 6528). */
static void isn_clock(struct words *s, struct peer *c)
{
    (void)s;
    uint64_t us = c->our_isn_us - c->isn_before_us;
    int32_t off = (int32_t)(c->our_isn - c->isn_before - (uint32_t)(us / 4));
    if (abs(off) > 2500) /* 10 ms */
        fail(s->w, "in %.3f s it moved by %u, not by %llu", (double)us / 1e6, c->our_isn - c->isn_before,
             (unsigned long long)us / 4);
}

/* expect isn-above: ... is above the last number that we used before (RFC 9293 3.10.7.4, TIME-WAIT). */
static void isn_above(struct words *s, struct peer *c)
{
    if ((int32_t)(c->our_isn - c->our_next_before) < 0)
        fail(s->w, "it is %u, used before was up to %u", c->our_isn, c->our_next_before);
}

/* expect ts-differ NAME: the clocks of our timestamps towards two peers say nothing of each other. */
static void ts_differ(struct words *s, struct peer *c)
{
    const struct peer *other = world_peer(s->w, words_next(s));
    int32_t off = (int32_t)(c->ts_ours - other->ts_ours);
    if (abs(off) < 60000)
        fail(s->w, "timestamps %u and %u", c->ts_ours, other->ts_ours);
}

static const struct {
    const char *name;
    void (*run)(struct words *s, struct peer *c);
} things[] = {{"nothing", nothing},     {"event", event},           {"no", no},
              {"stat", stat},           {"state", state},           {"unacked", unacked},
              {"held", held},           {"neighbours", neighbours}, {"mtu", mtu},
              {"rawmtu", rawmtu},       {"ready", ready},           {"unready", unready},
              {"isn-clock", isn_clock}, {"isn-above", isn_above},   {"ts-differ", ts_differ}};

void expect_line(struct words *s, struct peer *c)
{
    const char *what = words_next(s);
    for (size_t i = 0; i < sizeof things / sizeof *things; i++)
        if (!strcmp(things[i].name, what))
            return things[i].run(s, c);
    words_unknown(s, what);
}
