/* nowhere.c - the door of nowhere.h. */
#include "bench/lib/nowhere.h"
#include "spool/base/bell.h"
#include "spool/base/err.h"
#include <err.h>
#include <stdlib.h>

#define BLOCK_BYTES 65536u
#define TRACE_MAX   1024u
#define ENVS_MAX    64u

struct intake_txn {
    struct nowhere *door;
    struct intake_txn *next;
    const struct envelope *envs; /* the session's; they live as long as the transaction */
    size_t envs_n;
    intake_trace *trace;
    void *trace_arg;
    intake_done *done; /* NULL: the session died */
    void *done_arg;
    uint64_t bytes;
};

struct nowhere {
    struct intake in; /* first */
    struct nowhere_counts *counts;
    struct bell bell; /* never rung: what was committed is done at the next poll */
    struct intake_txn *free, *committed, **last;
    uint64_t counter;
    size_t at;
    uint8_t block[BLOCK_BYTES];
};

static struct nowhere *nowhere_of(struct intake *in)
{
    return (struct nowhere *)in;
}

static int nowhere_admit(struct intake *in, uint64_t size_hint)
{
    (void)in;
    (void)size_hint;
    return 0;
}

static int nowhere_begin(struct intake *in, const struct envelope *envs, size_t n, intake_trace *trace, void *trace_arg,
                         struct intake_txn **txn_r)
{
    struct nowhere *w = nowhere_of(in);
    struct intake_txn *t = w->free;
    if (n > ENVS_MAX)
        return -SATCHEL_ENOMEM;
    if (t)
        w->free = t->next;
    else if (!(t = malloc(sizeof *t)))
        err(1, "door");
    *t = (struct intake_txn){.door = w, .envs = envs, .envs_n = n, .trace = trace, .trace_arg = trace_arg};
    *txn_r = t;
    return 0;
}

static int nowhere_append(struct intake_txn *t, struct slice data, intake_room *room, void *arg)
{
    struct nowhere *w = t->door;
    (void)room;
    (void)arg;
    t->bytes += data.n;
    while (data.n) {
        size_t room_n = BLOCK_BYTES - w->at, n = data.n < room_n ? data.n : room_n;
        memcpy(w->block + w->at, data.p, n);
        w->at = (w->at + n) % BLOCK_BYTES;
        data = slice_of(data.p + n, data.n - n);
    }
    return 0;
}

static int nowhere_commit(struct intake_txn *t, intake_done *done, void *arg)
{
    struct nowhere *w = t->door;
    t->done = done;
    t->done_arg = arg;
    t->next = NULL;
    *w->last = t;
    w->last = &t->next;
    return 0;
}

static void txn_free(struct intake_txn *t)
{
    t->next = t->door->free;
    t->door->free = t;
}

static void nowhere_abort(struct intake_txn *t)
{
    if (t->done)
        t->done = NULL; /* committed: poll frees it */
    else
        txn_free(t);
}

static void txn_finish(struct intake_txn *t)
{
    struct nowhere *w = t->door;
    struct msgid ids[ENVS_MAX];
    char trace[TRACE_MAX];
    for (size_t i = 0; t->done && i < t->envs_n; i++) {
        ids[i] = (struct msgid){.counter = ++w->counter};
        t->trace(t->trace_arg, &t->envs[i], &ids[i], trace, sizeof trace);
    }
    atomic_store_explicit(&w->counts->messages, w->counts->messages + t->envs_n, memory_order_relaxed);
    atomic_store_explicit(&w->counts->bytes, w->counts->bytes + t->bytes, memory_order_relaxed);
    if (t->done)
        t->done(t->done_arg, 0, ids, t->envs_n);
    txn_free(t);
}

static void nowhere_poll(struct intake *in)
{
    struct nowhere *w = nowhere_of(in);
    struct intake_txn *t = w->committed, *next;
    w->committed = NULL;
    w->last = &w->committed;
    for (; t; t = next) {
        next = t->next;
        txn_finish(t);
    }
}

static bool nowhere_sleep(struct intake *in)
{
    return nowhere_of(in)->committed == NULL;
}

static void nowhere_close(struct intake **in)
{
    struct nowhere *w = nowhere_of(*in);
    for (struct intake_txn *t = w->free, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    bell_destroy(&w->bell);
    free(w);
    *in = NULL;
}

static const struct intake_ops nowhere_ops = {
    .admit = nowhere_admit,
    .begin = nowhere_begin,
    .append = nowhere_append,
    .commit = nowhere_commit,
    .abort = nowhere_abort,
    .poll = nowhere_poll,
    .sleep = nowhere_sleep,
    .close = nowhere_close,
};

struct intake *nowhere_open(struct nowhere_counts *counts)
{
    struct nowhere *w = calloc(1, sizeof *w);
    if (!w || bell_init(&w->bell))
        err(1, "door");
    w->in.ops = &nowhere_ops;
    w->in.fd = w->bell.fd;
    w->counts = counts;
    w->last = &w->committed;
    return &w->in;
}
