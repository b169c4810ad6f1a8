/* sendq.c - send queues of sendq.h: a small block holds the replies of a turn, large ones what a slow reader leaves. */
#include "dataplane/net/sendq.h"

#include <stdlib.h>

struct sendblock {
    struct sendblock *next;
    uint32_t at, end, cap; /* unsent: [at, end) */
    uint8_t data[];
};

enum {
    SMALL_BYTES = 2048 - sizeof(struct sendblock),
    LARGE_BYTES = 64 * 1024 - sizeof(struct sendblock),
    SPARE_MAX = 256, /* 512 KiB a worker */
};

static struct sendblock *sendblock_new(struct sendpool *p, size_t cap)
{
    struct sendblock *b = p->spare;
    if (cap == SMALL_BYTES && b) {
        p->spare = b->next;
        p->spare_n--;
    } else {
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
    }
    *b = (struct sendblock){.cap = (uint32_t)cap};
    return b;
}

static void sendblock_free(struct sendpool *p, struct sendblock *b)
{
    if (b->cap != SMALL_BYTES || p->spare_n >= SPARE_MAX) {
        free(b);
        return;
    }
    b->next = p->spare;
    p->spare = b;
    p->spare_n++;
}

static bool sendq_grow(struct sendq *q, struct sendpool *p, size_t n)
{
    struct sendblock *b = sendblock_new(p, !q->head && n <= SMALL_BYTES ? SMALL_BYTES : LARGE_BYTES);
    if (!b)
        return false;
    if (q->tail)
        q->tail->next = b;
    else
        q->head = b;
    q->tail = b;
    return true;
}

bool sendq_put(struct sendq *q, struct sendpool *p, struct slice data)
{
    while (data.n > 0) {
        struct sendblock *b = q->tail;
        if (!b || b->end == b->cap) {
            if (!sendq_grow(q, p, data.n))
                return false;
            b = q->tail;
        }
        size_t n = b->cap - b->end < data.n ? b->cap - b->end : data.n;
        memcpy(b->data + b->end, data.p, n);
        b->end += (uint32_t)n;
        q->bytes += n;
        p->bytes += n;
        data = slice_of(data.p + n, data.n - n);
    }
    return true;
}

struct slice sendq_front(const struct sendq *q)
{
    const struct sendblock *b = q->head;
    return b ? slice_of(b->data + b->at, b->end - b->at) : (struct slice){0};
}

void sendq_take(struct sendq *q, struct sendpool *p, size_t n)
{
    struct sendblock *b = q->head;
    b->at += (uint32_t)n;
    q->bytes -= n;
    p->bytes -= n;
    if (b->at < b->end)
        return;
    q->head = b->next;
    if (!q->head)
        q->tail = NULL;
    sendblock_free(p, b);
}

void sendq_clear(struct sendq *q, struct sendpool *p)
{
    while (q->head)
        sendq_take(q, p, sendq_front(q).n);
}

void sendpool_destroy(struct sendpool *p)
{
    while (p->spare) {
        struct sendblock *b = p->spare;
        p->spare = b->next;
        free(b);
    }
    p->spare_n = 0;
}
