/* list.c - looking at bags from any thread, without the lock: only what the index has committed. */
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/queue/queue_impl.h"
#include <stdio.h>
#include <stdlib.h>

struct listing {
    struct queue *q;
    bool (*each)(void *arg, const struct queue_entry *e);
    void *arg;
    uint8_t *cursor_r;
    size_t *cursor_n_r;
    bool stopped;
    int res;
};

static void entry_show(struct queue_entry *out_r, struct slice domain, const struct place *at, const struct entry *e)
{
    *out_r = (struct queue_entry){.domain = domain,
                                  .id = at->id,
                                  .arrival_us = at->arrival_us,
                                  .pos = e->pos,
                                  .size = e->size,
                                  .chunks = e->chunks,
                                  .body_bytes = e->body_bytes,
                                  .state = e->state};
}

static void list_range(struct listing *l, struct slice from, struct slice to)
{
    const struct index_ops *ops = l->q->ix->ops;
    struct index_iter *it = ops->iter(l->q->ix, from, to);
    struct slice key, value, domain;
    struct place at;
    struct entry e;
    struct queue_entry shown;
    if (!it)
        l->res = -SATCHEL_ENOMEM;
    while (it && !l->stopped && ops->next(it, &key, &value)) {
        if (!key_queue_parse(key, &domain, &at) || entry_decode(value, &e)) {
            l->res = -SATCHEL_EDAMAGED;
            continue;
        }
        entry_show(&shown, domain, &at, &e);
        l->stopped = !l->each(l->arg, &shown);
        if (l->cursor_r && key.n <= QUEUE_CURSOR_MAX) {
            memcpy(l->cursor_r, key.p, key.n);
            *l->cursor_n_r = key.n;
        }
    }
    ops->iter_free(&it);
}

/* The bag's low-water mark spares the walk over the tombstones of what is gone. */
static void list_bag(struct listing *l, struct slice domain, struct slice after)
{
    uint8_t value[64];
    struct place low = {0};
    struct key k = key_domain(domain);
    int64_t n = l->q->ix->ops->get(l->q->ix, key_slice(&k), value, sizeof value);
    if (n == BAG_VALUE_BYTES) {
        struct wire_rd r = wire_rd(slice_of(value + BAG_LOW_AT, 8));
        low.arrival_us = wire_u64(&r);
    }
    struct key from = key_queue(domain, &low), to = key_bag_to(KEY_QUEUE, domain);
    if (after.n && after.n < KEY_MAX) {
        memcpy(from.b, after.p, after.n);
        from.n = after.n;
        from = key_after(from);
    }
    list_range(l, key_slice(&from), key_slice(&to));
}

/* Bag by bag; the first one from the cursor on. */
static void list_all(struct listing *l, struct slice after)
{
    const struct index_ops *ops = l->q->ix->ops;
    struct key from = key_kind(KEY_DOMAIN), to = key_kind(KEY_DOMAIN + 1);
    struct slice first = {0}, key, value;
    struct place at;
    if (after.n && key_queue_parse(after, &first, &at)) {
        list_bag(l, first, after);
        from = key_after(key_domain(first));
    }
    struct index_iter *it = ops->iter(l->q->ix, key_slice(&from), key_slice(&to));
    if (!it)
        l->res = -SATCHEL_ENOMEM;
    while (it && !l->stopped && ops->next(it, &key, &value))
        list_bag(l, slice_of(key.p + 1, key.n - 1), (struct slice){0});
    ops->iter_free(&it);
}

int queue_list(struct queue *q, struct slice domain, struct slice after,
               bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r, size_t *cursor_n_r)
{
    struct listing l = {.q = q, .each = each, .arg = arg, .cursor_r = cursor_r, .cursor_n_r = cursor_n_r};
    struct slice in;
    struct place at;
    if (domain.n > KEY_DOMAIN_MAX || after.n >= KEY_MAX || (after.n && !key_queue_parse(after, &in, &at)))
        return -SATCHEL_EINVAL;
    if (domain.n)
        list_bag(&l, domain, after);
    else
        list_all(&l, after);
    return l.res;
}

int queue_find(struct queue *q, const struct msgid *id, struct queue_entry *e_r, char domain_r[256])
{
    uint8_t value[ENTRY_VALUE_MAX];
    struct key k = key_id(id);
    struct place at = {.id = *id};
    struct entry e;
    int64_t n = q->ix->ops->get(q->ix, key_slice(&k), value, sizeof value);
    if (n < 0)
        return (int)n;
    if (!queue_id_parse(slice_of(value, (size_t)n), domain_r, &at.arrival_us))
        return -SATCHEL_EDAMAGED;
    k = key_queue(slice_str(domain_r), &at);
    n = q->ix->ops->get(q->ix, key_slice(&k), value, sizeof value);
    if (n < 0)
        return (int)n;
    if (n > ENTRY_VALUE_MAX || entry_decode(slice_of(value, (size_t)n), &e))
        return -SATCHEL_EDAMAGED;
    entry_show(e_r, slice_str(domain_r), &at, &e);
    return 0;
}

/* ---- digest */

struct digest {
    void (*line)(void *arg, const char *text);
    void *arg;
};

static bool digest_entry(void *arg, const struct queue_entry *e)
{
    const struct digest *d = arg;
    const struct msg_state *s = &e->state;
    char id[MSGID_TEXT_MAX], ends[STATE_ITEMS_MAX + 1], text[KEY_DOMAIN_MAX + MSGID_TEXT_MAX + sizeof ends + 256];
    msgid_format(&e->id, id);
    for (uint32_t i = 0; i < s->items; i++)
        ends[i] = "0123456789abcdef"[state_end(s, i)];
    ends[s->items] = 0;
    snprintf(text, sizeof text,
             "%.*s %s arrival=%llu items=%u live=%u seq=%u attempts=%u due=%llu held=%d body=%llu ends=%s",
             SLICE_FMT(e->domain), id, (unsigned long long)e->arrival_us, s->items, s->live, s->seq, s->attempts,
             (unsigned long long)s->due_us, s->held, (unsigned long long)e->body_bytes, ends);
    d->line(d->arg, text);
    return true;
}

/* Every entry, also below the low-water marks: what they say is checked with it. */
int queue_digest(struct queue *q, void (*line)(void *arg, const char *text), void *arg)
{
    struct digest d = {line, arg};
    struct listing l = {.q = q, .each = digest_entry, .arg = &d};
    struct key from = key_kind(KEY_QUEUE), to = key_kind(KEY_QUEUE + 1);
    list_range(&l, key_slice(&from), key_slice(&to));
    return l.res;
}
