/* impair.c - a wire that loses, doubles, reorders, delays, damages and marks what passes, by a seed.
 *
 *   impair [--vlan N] TAP-A TAP-B
 *
 * Makes two taps and carries frames between them.  Only TCP suffers, so that nobody waits for a second because ARP was
 * lost.  What comes from A gets a tag of VLAN N, what comes from B loses it, or is dropped where it has none.
 *
 * Lines on standard input set it, each is answered: `loss 10000` and the like (RULES below), `seed 7` (begins anew,
 * both directions by one generator each), `stats` (JSON).  Ends with standard input.
 *
 * At most QUEUE_MAX frames are under way; what comes then is dropped and counted. */
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/sum.h"
#include "spool/base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { QUEUE_MAX = 16384, FRAME_MAX = 2048, BATCH = 64, LINE_MAX_ = 256 };

/* ---- rules: name, what it is at the start, meaning.  ppm: of a million frames */
#define RULES(X)                                                                                                       \
    X(loss, 0, "ppm: dropped")                                                                                         \
    X(twice, 0, "ppm: sent twice")                                                                                     \
    X(reorder, 0, "ppm: held back by reorder_us")                                                                      \
    X(reorder_us, 3000, "microseconds")                                                                                \
    X(damage, 0, "ppm: one bit of the TCP segment turned")                                                             \
    X(mark, 0, "ppm: of frames that allow it, congestion experienced (RFC 3168)")                                      \
    X(delay_us, 0, "microseconds that every frame takes")

enum rule {
#define X(name, start, help) RULE_##name,
    RULES(X)
#undef X
        RULE_N
};

static uint64_t rules[RULE_N] = {
#define X(name, start, help) start,
    RULES(X)
#undef X
};

static const char *const rule_names[RULE_N] = {
#define X(name, start, help) #name,
    RULES(X)
#undef X
};

struct held {
    uint64_t due_us, order;
    uint32_t n;
    uint8_t b[FRAME_MAX];
};

/* From one end to the other. */
struct way {
    int from, to;
    bool adds_tag;
    struct rng rng;
    struct held *heap[QUEUE_MAX]; /* the next one due first */
    uint32_t heap_n;
    uint64_t frames, lost, twice, reordered, damaged, marked, overflow, not_tagged;
};

static struct way ways[2];
static uint64_t order;
static uint16_t vlan;

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static bool chance(struct way *w, enum rule r)
{
    return rng_below(&w->rng, 1000000) < rules[r];
}

/* ---- frames under way */

static bool before(const struct held *a, const struct held *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void heap_put(struct way *w, struct held *h)
{
    uint32_t i = w->heap_n++;
    for (; i > 0 && before(h, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = h;
}

static struct held *heap_take(struct way *w)
{
    struct held *first = w->heap[0], *last = w->heap[--w->heap_n];
    uint32_t i = 0;
    for (uint32_t k = 1; k < w->heap_n; k = 2 * i + 1) {
        if (k + 1 < w->heap_n && before(w->heap[k + 1], w->heap[k]))
            k++;
        if (!before(w->heap[k], last))
            break;
        w->heap[i] = w->heap[k];
        i = k;
    }
    w->heap[i] = last;
    return first;
}

static void hold(struct way *w, const struct held *h, uint64_t due_us)
{
    struct held *copy = w->heap_n < QUEUE_MAX ? malloc(sizeof *copy) : NULL;
    if (!copy) {
        w->overflow++;
        return;
    }
    memcpy(copy, h, sizeof *h - sizeof h->b + h->n);
    copy->due_us = due_us;
    copy->order = order++;
    heap_put(w, copy);
}

/* ---- what happens to one */

/* Where TCP begins; 0: it is something else. */
static uint32_t tcp_at(const struct held *h)
{
    uint16_t type = be16_get(h->b + 12);
    if (type == 0x0800 && h->n > 54 && h->b[23] == 6)
        return 14 + (h->b[14] & 15u) * 4;
    return type == 0x86dd && h->n > 74 && h->b[20] == 6 ? 54 : 0;
}

static bool mark(struct held *h)
{
    uint16_t was, is;
    if (h->b[12] == 0x86) {
        if (!(h->b[15] & 0x30))
            return false;
        h->b[15] |= 0x30;
        return true;
    }
    if (!(h->b[15] & 3))
        return false;
    memcpy(&was, h->b + 14, 2);
    h->b[15] |= 3;
    memcpy(&is, h->b + 14, 2);
    uint16_t field;
    memcpy(&field, h->b + 24, 2);
    field = sum_replace(field, was, is);
    memcpy(h->b + 24, &field, 2);
    return true;
}

static void damage(struct way *w, struct held *h, uint32_t at)
{
    h->b[at + rng_below(&w->rng, h->n - at)] ^= (uint8_t)(1u << rng_below(&w->rng, 8));
    w->damaged++;
}

/* False: it is not for the other side. */
static bool retag(const struct way *w, struct held *h)
{
    if (vlan == 0)
        return true;
    if (w->adds_tag) {
        memmove(h->b + 16, h->b + 12, h->n - 12);
        be16_put(h->b + 12, 0x8100);
        be16_put(h->b + 14, vlan);
        h->n += 4;
        return true;
    }
    if (h->n < 18 || be16_get(h->b + 12) != 0x8100 || (be16_get(h->b + 14) & 0xfff) != vlan)
        return false;
    memmove(h->b + 12, h->b + 16, h->n - 16);
    h->n -= 4;
    return true;
}

static void suffer(struct way *w, struct held *h, uint32_t at, uint64_t due_us)
{
    if (chance(w, RULE_loss)) {
        w->lost++;
        return;
    }
    if (chance(w, RULE_damage))
        damage(w, h, at);
    if (chance(w, RULE_mark) && mark(h))
        w->marked++;
    bool twice = chance(w, RULE_twice), later = chance(w, RULE_reorder);
    w->twice += twice;
    w->reordered += later;
    if (w->adds_tag && !retag(w, h))
        return;
    for (int i = 0; i <= twice; i++)
        hold(w, h, due_us + (later ? rules[RULE_reorder_us] : 0));
}

static void frame_in(struct way *w, struct held *h)
{
    uint64_t due_us = now_us() + rules[RULE_delay_us];
    w->frames++;
    if (!w->adds_tag && !retag(w, h)) {
        w->not_tagged++;
        return;
    }
    uint32_t at = h->n > 20 ? tcp_at(h) : 0;
    if (at > 0)
        suffer(w, h, at, due_us);
    else if (!w->adds_tag || retag(w, h))
        hold(w, h, due_us);
}

static void way_in(struct way *w)
{
    struct held h;
    for (int i = 0; i < BATCH; i++) {
        ssize_t n = read(w->from, h.b, FRAME_MAX - 4);
        if (n <= 0)
            return;
        h.n = (uint32_t)n;
        frame_in(w, &h);
    }
}

static void way_out(struct way *w, uint64_t now)
{
    while (w->heap_n > 0 && w->heap[0]->due_us <= now) {
        struct held *h = heap_take(w);
        if (write(w->to, h->b, h->n) < 0)
            w->overflow++;
        free(h);
    }
}

/* ---- commands */

static void say_stats(void)
{
    printf("{");
    for (int i = 0; i < 2; i++) {
        const struct way *w = &ways[i];
        printf("%s\"%s\": {\"frames\": %llu, \"lost\": %llu, \"twice\": %llu, \"reordered\": %llu, \"damaged\": %llu, "
               "\"marked\": %llu, \"overflow\": %llu, \"not_tagged\": %llu}",
               i ? ", " : "", i ? "b" : "a", (unsigned long long)w->frames, (unsigned long long)w->lost,
               (unsigned long long)w->twice, (unsigned long long)w->reordered, (unsigned long long)w->damaged,
               (unsigned long long)w->marked, (unsigned long long)w->overflow, (unsigned long long)w->not_tagged);
    }
    printf("}\n");
}

static bool rule_set(const char *name, uint64_t v)
{
    for (int i = 0; i < RULE_N; i++)
        if (strcmp(name, rule_names[i]) == 0) {
            rules[i] = v;
            return true;
        }
    return false;
}

static void command(const char *line)
{
    char name[LINE_MAX_];
    unsigned long long v = 0;
    int n = sscanf(line, "%255s %llu", name, &v);
    bool known = n > 0;
    if (known && strcmp(name, "stats") == 0) {
        say_stats();
        return;
    }
    if (known && strcmp(name, "seed") == 0) {
        rng_seed(&ways[0].rng, v);
        rng_seed(&ways[1].rng, ~v);
    } else {
        known = n == 2 && rule_set(name, v);
    }
    puts(known ? "ok" : "what?");
}

/* False: standard input has ended. */
static bool commands(void)
{
    static char text[LINE_MAX_];
    static size_t at;
    ssize_t n = read(STDIN_FILENO, text + at, sizeof text - 1 - at);
    if (n <= 0)
        return false;
    at += (size_t)n;
    text[at] = 0;
    for (char *lf; (lf = strchr(text, '\n')) != NULL;) {
        *lf = 0;
        command(text);
        at -= (size_t)(lf + 1 - text);
        memmove(text, lf + 1, at + 1);
    }
    fflush(stdout);
    return at < sizeof text - 1;
}

/* ---- the wire */

static int tap(const char *name)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0)
        return fd;
    fprintf(stderr, "impair: %s: %s\n", name, strerror(errno));
    exit(1);
}

static int wait_ms(uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < 2; i++)
        if (ways[i].heap_n > 0 && ways[i].heap[0]->due_us < next)
            next = ways[i].heap[0]->due_us;
    return next == UINT64_MAX ? -1 : next <= now ? 0 : (int)((next - now + 999) / 1000);
}

static void carry(void)
{
    struct pollfd fds[3] = {{ways[0].from, POLLIN, 0}, {ways[1].from, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (;;) {
        if (poll(fds, 3, wait_ms(now_us())) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < 2; i++)
            if (fds[i].revents)
                way_in(&ways[i]);
        if (fds[2].revents && !commands())
            return;
        uint64_t now = now_us();
        way_out(&ways[0], now);
        way_out(&ways[1], now);
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--vlan") == 0) {
        vlan = (uint16_t)atoi(argv[2]);
        argv += 2;
        argc -= 2;
    }
    if (argc != 3 || vlan > 4094) {
        fprintf(stderr, "usage: impair [--vlan N] TAP-A TAP-B\n");
        return 2;
    }
    ways[0].from = ways[1].to = tap(argv[1]);
    ways[0].to = ways[1].from = tap(argv[2]);
    ways[0].adds_tag = true;
    command("seed 1");
    fflush(stdout);
    carry();
    for (int i = 0; i < 2; i++)
        while (ways[i].heap_n > 0)
            free(heap_take(&ways[i]));
    return 0;
}
