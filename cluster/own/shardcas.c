/* shardcas.c - changes of shards in coordination, many in one txn.
 *
 *   CONFIRM   nothing is written: is the shard still as the map says, now that we have our lease?  After a hand-over
 *             whose answer was lost, the same value is written: what may still come of that finds another mod_rev
 *   HAND      owner = to, epoch + 1, next cleared
 *   UNFORMER  former -= us
 *
 * Each compares the shard's mod_rev.  A txn of many that fails is asked again one by one; one that fails alone waits
 * for the map to show what changed.  Without an answer it is asked again until there is one. */
#include "cluster/own/owner_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdlib.h>

enum { BATCHES_UNDER_WAY = 8, AGAIN_US = 500000, REFUSED_US = 5000000 };

static bool holds_nothing(const struct owner *o, uint32_t shard)
{
    uint64_t messages, bytes;
    copies_holds(o->env.copies, shard, &messages, &bytes);
    return messages == 0;
}

enum own_want shardcas_want(const struct owner *o, uint32_t shard)
{
    const struct own_shard *s = &o->shards[shard];
    const struct map_shard *m = owner_mapped(o, shard);
    if (s->asked || !m->mod_rev || s->stale_rev == m->mod_rev)
        return WANT_NOTHING;
    if (s->state == OWNER_MERGING && !s->confirmed)
        return WANT_CONFIRM;
    if (s->state == OWNER_HANDING && s->flushed)
        return WANT_HAND;
    if (s->state == OWNER_NOT_OURS && s->emptied && !cmap_is_member(m, &o->cfg.self) && holds_nothing(o, shard))
        return WANT_UNFORMER;
    return WANT_NOTHING;
}

/* ---- one shard's part */

static void leave_former(const struct owner *o, struct map_shard *m)
{
    uint8_t n = 0;
    for (uint8_t k = 0; k < m->former_n; k++)
        if (!storage_id_eq(&m->former[k], &o->cfg.self))
            m->former[n++] = m->former[k];
    m->former_n = n;
}

/* What is to be written; malloc'ed; NULL: no memory. */
static char *new_value(const struct owner *o, uint32_t shard, enum own_want want)
{
    struct map_shard m = *owner_mapped(o, shard);
    if (want == WANT_HAND) {
        m.owner = o->shards[shard].to;
        m.epoch++;
        m.next = (struct storage_id){0};
    } else if (want == WANT_UNFORMER) {
        leave_former(o, &m);
    }
    return cmap_shard_encode(&m);
}

static void shard_done(struct owner *o, uint32_t shard, enum own_want want, int64_t rev)
{
    struct own_shard *s = &o->shards[shard];
    if (want == WANT_CONFIRM) {
        s->confirmed = true;
    } else if (want == WANT_HAND) {
        handover_done(o, shard, rev);
    } else {
        s->emptied = false;
        log_info("owner.emptied", "shard=%u", shard);
    }
}

static void shard_failed(struct owner *o, struct own_batch *b, uint32_t k)
{
    struct own_shard *s = &o->shards[b->items[k].shard];
    if (b->n > 1)
        s->solo = true;
    else
        s->stale_rev = b->items[k].mod_rev;
}

static void shard_unknown(struct owner *o, struct own_batch *b, uint32_t k, int res)
{
    struct own_shard *s = &o->shards[b->items[k].shard];
    if (b->want == WANT_HAND)
        s->doubt_rev = b->items[k].mod_rev;
    s->retry_us = owner_now(o) + (res == -SATCHEL_EAGAIN ? AGAIN_US : REFUSED_US);
}

/* ---- txns */

static void batch_unlink(struct owner *o, struct own_batch *b)
{
    *(b->prev ? &b->prev->next : &o->batches) = b->next;
    if (b->next)
        b->next->prev = b->prev;
    o->batches_n--;
    free(b);
}

static void batch_answer(struct owner *o, struct own_batch *b, uint32_t k, int res, bool succeeded, int64_t rev)
{
    uint32_t shard = b->items[k].shard;
    if (shard >= o->shards_n || o->shards[shard].turn != b->items[k].turn)
        return;
    o->shards[shard].asked = false;
    if (res < 0)
        shard_unknown(o, b, k, res);
    else if (succeeded)
        shard_done(o, shard, b->want, rev);
    else
        shard_failed(o, b, k);
    owner_work(o, shard);
}

static void on_answer(void *arg, int res, bool succeeded, int64_t rev)
{
    struct own_batch *b = arg;
    struct owner *o = b->o;
    if (res == -SATCHEL_ESHUT)
        return; /* coordination is being closed; the batch goes with the owner */
    if (res < 0 && res != -SATCHEL_EAGAIN)
        log_error("owner.txn", "shards=%u err=\"%s\"", b->n, satchel_strerror(res));
    for (uint32_t k = 0; k < b->n; k++)
        batch_answer(o, b, k, res, succeeded, rev);
    if (res < 0 || !succeeded || b->want != WANT_CONFIRM)
        o->env.changed(o->env.arg);
    batch_unlink(o, b);
    owner_wake(o, 0);
}

/* The arguments of one txn. */
struct txn {
    struct coord_cmp cmps[OWNER_BATCH_MAX];
    struct coord_op ops[OWNER_BATCH_MAX];
    char keys[OWNER_BATCH_MAX][CMAP_KEY_MAX];
    size_t cmps_n, ops_n;
};

static bool txn_add(struct owner *o, struct txn *t, uint32_t shard, enum own_want want)
{
    const struct map_shard *m = owner_mapped(o, shard);
    char *key = t->keys[t->cmps_n];
    struct slice k = slice_of(key, cmap_shard_key(o->map, m, key));
    if (want != WANT_CONFIRM || owner_in_doubt(o, shard)) {
        char *value = new_value(o, shard, want);
        if (!value)
            return false;
        t->ops[t->ops_n++] = (struct coord_op){.kind = COORD_PUT, .key = k, .value = slice_str(value)};
    }
    t->cmps[t->cmps_n++] = (struct coord_cmp){k, m->mod_rev};
    return true;
}

static void txn_free(struct txn *t)
{
    for (size_t i = 0; i < t->ops_n; i++)
        free((void *)t->ops[i].value.p);
    free(t);
}

static void batch_send(struct owner *o, struct own_batch *b)
{
    struct txn *t = calloc(1, sizeof *t);
    uint32_t n = b->n;
    int rc = t ? 0 : -SATCHEL_ENOMEM;
    for (uint32_t k = 0; k < n && rc == 0; k++)
        rc = txn_add(o, t, b->items[k].shard, b->want) ? 0 : -SATCHEL_ENOMEM;
    if (rc == 0)
        rc = o->env.coord->ops->txn(o->env.coord, t->cmps, t->cmps_n, t->ops, t->ops_n, on_answer, b);
    if (t)
        txn_free(t);
    if (rc < 0) {
        for (uint32_t k = 0; k < n; k++)
            o->shards[b->items[k].shard].retry_us = owner_now(o) + AGAIN_US;
        free(b);
        return;
    }
    for (uint32_t k = 0; k < n; k++)
        o->shards[b->items[k].shard].asked = true;
    b->next = o->batches;
    if (b->next)
        b->next->prev = b;
    o->batches = b;
    o->batches_n++;
}

static void batch_add(struct owner *o, struct own_batch *b, uint32_t shard)
{
    b->items[b->n].shard = shard;
    b->items[b->n].turn = o->shards[shard].turn;
    b->items[b->n++].mod_rev = owner_mapped(o, shard)->mod_rev;
}

/* The next txn of this kind, from place *k of the work on; NULL: nothing to ask. */
static struct own_batch *batch_gather(struct owner *o, enum own_want want, uint32_t *k, uint64_t now)
{
    struct own_batch *b = NULL;
    for (; *k < o->work_n && (!b || b->n < OWNER_BATCH_MAX); ++*k) {
        uint32_t shard = o->work[*k];
        const struct own_shard *s = &o->shards[shard];
        if (shardcas_want(o, shard) != want)
            continue;
        if (now < s->retry_us) {
            owner_wake(o, s->retry_us);
            continue;
        }
        if (s->solo && b)
            return b;
        if (!b && !(b = calloc(1, sizeof *b)))
            return NULL;
        b->o = o;
        b->want = want;
        batch_add(o, b, shard);
        if (s->solo) {
            ++*k;
            return b;
        }
    }
    return b;
}

void shardcas_tick(struct owner *o, uint64_t now)
{
    for (enum own_want want = WANT_CONFIRM; want <= WANT_UNFORMER; want++) {
        if (want == WANT_CONFIRM && !o->leased)
            continue;
        struct own_batch *b = NULL;
        uint32_t k = 0;
        while (o->batches_n < BATCHES_UNDER_WAY && (b = batch_gather(o, want, &k, now)))
            batch_send(o, b);
    }
}

void shardcas_close(struct owner *o)
{
    while (o->batches)
        batch_unlink(o, o->batches); /* NOLINT(clang-analyzer-unix.Malloc): it has taken the one before off the list */
}
