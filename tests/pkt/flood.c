/* flood.c - many segments of strangers. */
#include "tests/pkt/flood.h"
#include "tests/pkt/say.h"

#include <stdlib.h>

struct flood {
    int64_t n;
    int flags; /* -1: echo requests */
    enum { BY_PORT, BY_HOST, BY_NETWORK } by;
    struct ip_addr from;
    uint64_t every_us;
    uint16_t dport;
    uint32_t ack;
};

/* Host i: counts in the last bits; network i: above /24 and /48. */
static struct ip_addr source(const struct flood *f, uint32_t i)
{
    struct ip_addr a = f->from;
    bool v4 = ip_addr_is4(&a);
    if (f->by == BY_PORT)
        return a;
    uint8_t *p = f->by == BY_HOST ? a.b + (v4 ? 12 : 4) : a.b + (v4 ? 11 : 2);
    put32(p, get32(p) + i);
    return a;
}

static void one(struct world *w, const struct flood *f, uint32_t i)
{
    struct spec t = {.kind = f->flags < 0 ? PKT_ICMP : PKT_TCP, .vlan = SPEC_DEFAULT};
    t.src = source(f, i);
    t.dst = world_host(w, HOST_US);
    t.sport = (uint16_t)(1024 + i % 60000);
    t.dport = f->dport;
    t.seq = 1000 + i;
    t.flags_tcp = (uint16_t)f->flags;
    t.ack = f->flags >= 0 && f->flags & F_ACK ? f->ack + i : 0;
    t.wnd = 1000;
    t.type = w->variant.v6 ? 128 : 8;
    build_send(w, &t);
}

void flood_line(struct words *s)
{
    struct world *w = s->w;
    struct flood f = {.n = words_int(s), .from = world_host(w, 99), .dport = w->port, .ack = 5000};
    const char *what = words_next(s);
    f.flags = strcmp(what, "echo") != 0 ? words_flags(what) : -1;
    while (words_look(s) && !w->failed) {
        if (words_take(s, "from"))
            f.from = words_addr(s);
        else if (words_take(s, "every"))
            f.every_us = words_seconds(s);
        else if (words_take(s, "dport"))
            f.dport = (uint16_t)words_int(s);
        else if (words_take(s, "hosts"))
            f.by = BY_HOST;
        else if (words_take(s, "networks"))
            f.by = BY_NETWORK;
        else if (!words_take(s, "ports"))
            words_unknown(s, words_next(s));
    }
    bool truncated = w->variant.truncated;
    w->variant.truncated = false; /* a hundred times the same would find nothing more */
    w->flooding = true;
    w->replies_n = 0;
    for (uint32_t i = 0; i < f.n && !w->failed; i++) {
        one(w, &f, i);
        world_until(w, w->now_us + f.every_us);
    }
    w->variant.truncated = truncated;
}

void replied_line(struct words *s)
{
    struct world *w = s->w;
    const char *count = words_next(s), *what = words_next(s);
    bool icmp = !strcmp(what, "icmp");
    int flags = icmp ? 0 : words_flags(what);
    long long low, high, n = 0, others = 0;
    int got = sscanf(count, "%lld..%lld", &low, &high);
    if (got < 1 || flags < 0)
        return words_unknown(s, count);
    high = got == 2 ? high : low;
    for (size_t i = 0; i < w->replies_n; i++) {
        bool fits =
            icmp ? w->replies[i].kind == PKT_ICMP : w->replies[i].kind == PKT_TCP && w->replies[i].flags == flags;
        n += fits;
        others += !fits;
    }
    if (n < low || n > high)
        fail(w, "replied %lld %s, and %lld others", n, what, others);
    for (size_t i = 0, kept = 0; i <= w->replies_n; i++) { /* forget them */
        if (i == w->replies_n) {
            w->replies_n = kept;
            break;
        }
        bool fits =
            icmp ? w->replies[i].kind == PKT_ICMP : w->replies[i].kind == PKT_TCP && w->replies[i].flags == flags;
        if (!fits)
            w->replies[kept++] = w->replies[i];
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Of n random numbers of 32 bits, each eighth of the space has some; neighbours differ by more than the clock (4 us a
 * step) tells. */
void isns_line(struct words *s)
{
    struct world *w = s->w;
    uint32_t *isn = calloc(w->replies_n + 1, sizeof *isn), n = 0, eighths = 0, near = 0;
    if (!words_take(s, "spread"))
        words_unknown(s, "isns");
    for (size_t i = 0; i < w->replies_n; i++)
        if (w->replies[i].flags & F_SYN) {
            near += n > 0 && (uint32_t)(w->replies[i].seq - isn[n - 1] + 500000) < 1000000;
            isn[n++] = w->replies[i].seq;
            eighths |= 1u << (isn[n - 1] >> 29);
        }
    qsort(isn, n, sizeof *isn, by_value);
    for (uint32_t i = 1; i < n; i++)
        if (isn[i] == isn[i - 1])
            fail(w, "two connections have the initial sequence number %u", isn[i]);
    if (n < 50 || eighths != 0xff || near > n / 10)
        fail(w, "initial sequence numbers of %u connections: eighths of the space %02x, %u near the one before", n,
             eighths, near);
    w->replies_n = 0;
    free(isn);
}
