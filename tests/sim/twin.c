/* twin.c - a second queue, built from nothing but the log. */
#include "tests/sim/twin.h"

#include <stdio.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/sim/house.h"
#include "tests/sim/trace.h"

struct twin {
    struct house *h;
    struct index *ix;
    struct queue *q;
    struct segread *reader;
};

struct text {
    char *p;
    size_t n, cap;
};

static void text_line(void *arg, const char *line)
{
    struct text *t = arg;
    size_t n = strlen(line);
    if (t->n + n + 2 > t->cap) {
        t->cap = (t->cap + n + 2) * 2;
        t->p = realloc(t->p, t->cap);
    }
    memcpy(t->p + t->n, line, n);
    t->n += n;
    t->p[t->n++] = '\n';
    t->p[t->n] = 0;
}

/* The twin only looks: it may not ask anything of the log. */
static int twin_append(void *ctx, struct seglog_entry *e)
{
    (void)ctx;
    history_fail("a queue that only recovers appends a record of type %u", e->rec.type);
    return -SATCHEL_EIO;
}

static void twin_free(void *ctx, uint64_t seg)
{
    (void)ctx;
    history_fail("a queue that only recovers frees segment %llu", (unsigned long long)seg);
}

static void twin_ready(void *ctx, struct slice domain)
{
    (void)ctx;
    (void)domain;
}

static int twin_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct twin *t = arg;
    trace("scan type %u flags %x counter %llu at %llx", rec->type, rec->flags, (unsigned long long)rec->id.counter,
          (unsigned long long)pos);
    if (t->h->ledger)
        ledger_durable(t->h->ledger, rec);
    int res = queue_apply(t->q, rec, pos, size);
    return res ? res : queue_commit(t->q, pos + size);
}

static void twin_damaged(void *arg, uint64_t pos, uint64_t bytes)
{
    struct twin *t = arg;
    if (!t->h->ledger || !t->h->ledger->tainted)
        history_fail("the scan calls %llu bytes at %llx damaged; nobody damaged them", (unsigned long long)bytes,
                     (unsigned long long)pos);
}

static int twin_build(struct twin *t)
{
    struct seglog_replay replay = {twin_record, twin_damaged, t};
    struct seglog_open_stats stats;
    struct queue_port port = {twin_append, twin_free, twin_ready, t, NULL};
    struct disk *d = simdisk_disk(t->h->sd);
    int res = index_ram_open(&t->ix);
    res = res ? res : segread_open(&t->reader, d);
    res = res ? res : queue_open(&t->q, &t->h->queue_config, t->ix, simdisk_clock(t->h->sd), t->reader, &port);
    res = res ? res : seglog_scan(d, &replay, 0, &stats);
    return res ? res : queue_recovered(t->q, t->h->segs, t->h->segs_n);
}

static void twin_drop(struct twin *t)
{
    queue_close(&t->q);
    segread_close(&t->reader);
    t->ix->ops->close(&t->ix);
}

/* Says which line is the first that only one of them has. */
static void explain(const struct text *ours, const struct text *scan)
{
    const char *a = ours->p ? ours->p : "", *b = scan->p ? scan->p : "";
    while (*a && *b) {
        size_t la = strcspn(a, "\n"), lb = strcspn(b, "\n");
        if (la != lb || memcmp(a, b, la) != 0)
            break;
        a += la + 1;
        b += lb + 1;
    }
    history_fail("the recovered index is not what a full scan says: index \"%.*s\", scan \"%.*s\"",
                 (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
}

void twin_check(struct house *h)
{
    struct twin t = {.h = h};
    struct text ours = {0}, scan = {0};
    int res = twin_build(&t);
    if (res != 0)
        history_fail("the full scan failed: %d", res);
    if (res == 0 && queue_digest(h->q, text_line, &ours) + queue_digest(t.q, text_line, &scan) != 0)
        history_fail("queue_digest failed");
    bool same = ours.n == scan.n && (ours.n == 0 || memcmp(ours.p, scan.p, ours.n) == 0);
    if (!same && !(h->ledger && h->ledger->tainted))
        explain(&ours, &scan);
    free(ours.p);
    free(scan.p);
    twin_drop(&t);
}
