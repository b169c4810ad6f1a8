/* talk.c - the programs above: each connection carries bytes that can be told from their position, both ways. */
#include "tests/tcpsim/tcpsim.h"

enum { SAY_MAX = 1500 };
#define THIRST_US   1000000ull
#define PATIENCE_US (3600 * 1000000ull) /* then a program gives up, as SMTP's timers would */

struct side {
    struct tcp_conn *c;
    bool opened, up, closing, over, fin, gave_up; /* up: connected */
    uint32_t how;                                 /* TCP_EV_* of the end */
    uint64_t said, heard, read_at_us;
    bool stall;               /* not connected yet, or wrote less than wanted: waits for ACKED, */
    uint64_t thirst_until_us; /* or, with nothing unacknowledged, for blocks: tries again */
};

static struct talk {
    const struct talk_plan *p;
    struct side side[HOSTS]; /* 0: the client */
} talks[256];

struct tag {
    struct talk *talk; /* NULL: nobody knows it (a handshake of a client that has given up) */
    bool stray;
};

size_t talks_conn_bytes(void)
{
    return tcp_conn_bytes() + sizeof(struct tag);
}

static struct tag *tag_of(struct tcp_conn *c)
{
    return (struct tag *)((char *)c + tcp_conn_bytes());
}

static uint8_t byte_at(const struct talk *k, int from, uint64_t pos)
{
    uint64_t x =
        (pos + 1) * 0x9e3779b97f4a7c15ull + (uint64_t)(k - talks) * 0xbf58476d1ce4e5b9ull + (uint64_t)from * 77;
    return (uint8_t)(x >> 37 ^ x >> 11);
}

void talks_open(void)
{
    memset(talks, 0, sizeof talks);
    for (uint32_t i = 0; i < world.plan.talks_n; i++)
        talks[i].p = &world.plan.talk[i];
}

/* ---- what a side does */

static void side_read(struct host *h, struct talk *k, struct side *s)
{
    struct tcp *t = stack_tcp(h->stack);
    uint64_t left = k->p->nap_us[h->id] ? k->p->chunk[h->id] : UINT64_MAX;
    if (s->closing || s->over || world.now_us < s->read_at_us || k->p->end[h->id] == TALK_MUTE)
        return;
    s->read_at_us = 0;
    while (left > 0) {
        struct slice in = tcp_peek(t, s->c);
        if (in.n == 0)
            break;
        size_t n = in.n < left ? in.n : left;
        for (size_t i = 0; i < n; i++)
            if (in.p[i] != byte_at(k, !h->id, s->heard + i)) {
                world_fail("port %u: byte %llu of host %d arrived as another", k->p->port,
                           (unsigned long long)(s->heard + i), !h->id);
                return;
            }
        s->heard += n;
        left -= n;
        world.bytes += n;
        tcp_consume(t, s->c, n);
    }
    if (left == 0)
        s->read_at_us = world.now_us + k->p->nap_us[h->id];
    if (s->heard > k->p->bytes[!h->id])
        world_fail("port %u: host %d heard more than was said", k->p->port, h->id);
}

static void side_say(struct host *h, struct talk *k, struct side *s)
{
    struct tcp *t = stack_tcp(h->stack);
    bool waits = k->p->answer_after && h->id == 1 && s->heard < k->p->bytes[0];
    uint8_t out[SAY_MAX];
    if (s->thirst_until_us && world.now_us >= s->thirst_until_us) {
        s->thirst_until_us = 0;
        s->stall = false;
    }
    while (!s->closing && !waits && !s->over && s->said < k->p->bytes[h->id] && !s->stall) {
        uint64_t left = k->p->bytes[h->id] - s->said;
        uint32_t n = left < SAY_MAX ? (uint32_t)left : SAY_MAX;
        for (uint32_t i = 0; i < n; i++)
            out[i] = byte_at(k, h->id, s->said + i);
        size_t took = tcp_write(t, s->c, slice_of(out, n));
        s->said += took;
        s->stall = took < n;
        if (s->stall)
            tcp_want_acked(s->c);
        s->thirst_until_us = s->stall && tcp_unacked(s->c) == 0 ? world.now_us + THIRST_US : 0;
    }
}

static void side_end(struct host *h, struct talk *k, struct side *s)
{
    struct tcp *t = stack_tcp(h->stack);
    enum talk_end end = k->p->end[h->id];
    bool all = s->said == k->p->bytes[h->id] && s->heard == k->p->bytes[!h->id];
    if (s->closing || s->over || end == TALK_MUTE)
        return;
    if (end != TALK_ORDER && s->heard >= k->p->end_at[h->id]) {
        s->closing = true;
        if (end == TALK_ABORT)
            tcp_abort(t, s->c);
        else
            tcp_close(t, s->c);
    } else if (end == TALK_ORDER && s->up && ((h->id == 0 && all) || (s->fin && tcp_peek(t, s->c).n == 0))) {
        s->closing = true;
        tcp_close(t, s->c);
    }
}

static void side_turn(struct host *h, struct talk *k)
{
    struct side *s = &k->side[h->id];
    if (!s->c || s->over)
        return;
    if (world.now_us >= world.begin_us + PATIENCE_US && !s->gave_up) {
        s->gave_up = s->closing = true;
        tcp_abort(stack_tcp(h->stack), s->c);
        return;
    }
    side_read(h, k, s);
    if (world.failed || s->over)
        return;
    side_say(h, k, s);
    side_end(h, k, s);
}

static void talk_begin(struct talk *k)
{
    struct tcp *t = stack_tcp(hosts[0].stack);
    struct ip_addr server = host_addr(1);
    struct side *s = &k->side[0];
    s->opened = true;
    s->c = tcp_connect(t, 0, k->p->port, &server, 25, world.now_us);
    if (!s->c) { /* the port is still in use */
        s->over = true;
        s->how = TCP_EV_RESET;
        return;
    }
    tag_of(s->c)->talk = k;
    s->stall = true; /* until CONNECTED */
}

void talks_turn(struct host *h)
{
    for (uint32_t i = 0; i < world.plan.talks_n; i++) {
        struct talk *k = &talks[i];
        if (h->id == 0 && !k->side[0].opened && world.now_us >= world.begin_us + k->p->begin_us)
            talk_begin(k);
        side_turn(h, k);
    }
}

/* ---- what TCP tells */

/* Who has connected by now, or it is an older talk of this port whose last segments were late. */
static struct talk *talk_of_port(uint16_t port)
{
    struct talk *found = NULL;
    for (uint32_t i = 0; i < world.plan.talks_n; i++)
        if (talks[i].p->port == port && talks[i].side[0].up && !talks[i].side[1].c && !talks[i].side[1].over &&
            (!found || talks[i].p->begin_us > found->p->begin_us))
            found = &talks[i];
    return found;
}

static void accepted(struct tcp *t, struct tcp_conn *c)
{
    struct ip_addr peer;
    uint16_t port;
    tcp_conn_peer(c, &peer, &port);
    struct ip_addr want = host_addr(0);
    if (!ip_addr_eq(&peer, &want))
        world_fail("a connection from nobody");
    struct talk *k = talk_of_port(port);
    if (!k || k->side[0].over) { /* an old handshake that came true after its client had gone */
        tag_of(c)->stray = true;
        tcp_close(t, c);
        return;
    }
    tag_of(c)->talk = k;
    k->side[1].c = c;
    k->side[1].opened = k->side[1].up = true;
}

void talks_event(struct host *h, struct tcp_conn *c, uint32_t events)
{
    struct tcp *t = stack_tcp(h->stack);
    struct tag *tag = tag_of(c);
    if (events & TCP_EV_ACCEPTED)
        accepted(t, c);
    struct side *s = tag->talk ? &tag->talk->side[h->id] : NULL;
    if (s) {
        s->fin |= (events & TCP_EV_FIN) != 0;
        s->up |= (events & TCP_EV_CONNECTED) != 0;
        if (events & (TCP_EV_ACKED | TCP_EV_CONNECTED))
            s->stall = false;
        if (events & TCP_EV_GONE && !s->closing && !(events & (TCP_EV_RESET | TCP_EV_TIMEOUT)))
            world_fail("port %u: gone in good order without our close", tag->talk->p->port);
    }
    if (!(events & TCP_EV_GONE))
        return;
    if (s) {
        s->how = events;
        s->over = true;
        s->c = NULL;
    }
    tcp_release(t, c);
}

/* ---- the end */

uint64_t talks_next_us(const struct host *h)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < world.plan.talks_n; i++) {
        const struct side *s = &talks[i].side[h->id];
        uint64_t at = UINT64_MAX;
        if (h->id == 0 && !s->opened)
            at = world.begin_us + talks[i].p->begin_us;
        else if (s->c && !s->over && !s->closing && s->read_at_us)
            at = s->read_at_us;
        else if (s->c && !s->over && s->thirst_until_us)
            at = s->thirst_until_us;
        else if (s->c && !s->over && !s->gave_up)
            at = world.begin_us + PATIENCE_US;
        next = at < next ? at : next;
    }
    return next;
}

bool talks_over(void)
{
    bool over = true;
    for (uint32_t i = 0; i < world.plan.talks_n; i++)
        for (int side = 0; side < HOSTS; side++) {
            const struct side *s = &talks[i].side[side];
            over &= s->over || (side == 1 && !s->opened && talks[i].side[0].over);
            over &= s->opened || side == 1;
        }
    return over;
}

static bool good(const struct side *s)
{
    return s->opened && s->over && !s->gave_up && !(s->how & (TCP_EV_RESET | TCP_EV_TIMEOUT));
}

void talks_check(void)
{
    for (uint32_t i = 0; i < world.plan.talks_n && !world.failed; i++) {
        const struct talk *k = &talks[i];
        const struct side *a = &k->side[0], *b = &k->side[1];
        bool orderly = k->p->end[0] == TALK_ORDER && k->p->end[1] == TALK_ORDER;
        bool unlucky =
            !b->opened && (world.plan.net[0].lose > 0 || world.plan.net[0].damage > 0); /* no handshake came through */
        if (world.plan.clean && orderly && !unlucky && (!good(a) || !good(b) || a->gave_up || b->gave_up))
            world_fail("port %u: ended by %s in a mild network", k->p->port,
                       !a->opened || !b->opened             ? "nothing: never opened"
                       : (a->how | b->how) & TCP_EV_TIMEOUT ? "a timeout"
                                                            : "a reset");
        else if (orderly && good(a) && good(b) && (a->heard != k->p->bytes[1] || b->heard != k->p->bytes[0]))
            world_fail("port %u: closed in good order, but %llu of %llu and %llu of %llu bytes arrived", k->p->port,
                       (unsigned long long)b->heard, (unsigned long long)k->p->bytes[0], (unsigned long long)a->heard,
                       (unsigned long long)k->p->bytes[1]);
    }
}
