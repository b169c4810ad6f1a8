/* shed.c - mail here that is not ours: of a stand-in, a drained node, a pool that was lent, or made here (DSNs).
 *
 * Of each shard that we hold mail of and are no member of: batches of messages, oldest first, are offered (IDS_SHED) to
 * every member that is linked, so that the owner has them to deliver.  A batch that *all* registered members, and at
 * least `acks` of them, have confirmed to hold or to know as final is forgotten here.
 *
 * The owner is asked last, with what then is still live here: it delivers at once, and the others may know the end of a
 * message that came here when the owner of that time had it already, so that nobody is owed the news for us.  A member
 * that lives and is not linked yet, as after a start, is waited for a little.
 *
 * Why nothing is lost when maps differ: a member vouches only if it is one by its own map, and a change of our map
 * drops what was confirmed before it.  So of two nodes neither forgets because of the other's word while the other
 * forgets because of its own. */
#include "cluster/copies/copies_impl.h"

enum {
    SHEDS_MAX = 8,
    BATCH_MAX = 512,
    LOOK_US = 250000,
    AGAIN_AFTER_US = 1000000,
    SHED_RETRY_US = 30000000, /* nothing changed and somebody is not reachable */
    LINKS_WAIT_US = 3000000,
    EMPTIED_LOOK_US = 1000000,
    EMPTIED_AGAIN_US = 5000000,
    PROXY_WAIT_US = 60000000,
};

struct shed {
    enum obj_kind kind;
    uint64_t token;
    struct dlist link;
    uint32_t shard;
    uint64_t digest; /* of the shard when the pass began */
    uint8_t domain[WIRE_NAME_MAX];
    uint8_t domain_n;
    uint8_t cursor[QUEUE_CURSOR_MAX];
    size_t cursor_n;
    struct offer_entry batch[BATCH_MAX];
    uint32_t n, asked, open, ok;
    bool whole;      /* all registered members were asked, but the owner while `others` */
    bool others;     /* the owner is still to be asked */
    bool incomplete; /* some batch of this pass was not confirmed by all */
    bool bag_end;
};

static void shed_free(struct copies *c, struct shed *s)
{
    if (s->shard < c->shards_n)
        c->shards[s->shard].shedding = false;
    slots_del(&c->slots, s->token);
    dlist_del(&s->link);
    c->sheds_n--;
    free(s);
}

/* ---- one batch */

static bool batch_each(void *arg, const struct queue_entry *e)
{
    struct shed *s = arg;
    s->batch[s->n++] = (struct offer_entry){e->id, e->arrival_us};
    return s->n < BATCH_MAX;
}

/* The next bag of the shard behind the one we are at; false: none. */
static bool bag_after(struct copies *c, struct shed *s)
{
    uint32_t n;
    sums_now(c);
    const struct sum_bag *bags = sums_bags(c, s->shard, &n);
    for (uint32_t i = 0; i < n; i++) {
        struct slice d = bags[i].domain, at = slice_of(s->domain, s->domain_n);
        int x = memcmp(d.p, at.p, d.n < at.n ? d.n : at.n);
        if (x < 0 || (x == 0 && d.n <= at.n))
            continue;
        memcpy(s->domain, d.p, d.n);
        s->domain_n = (uint8_t)d.n;
        s->cursor_n = 0;
        return true;
    }
    return false;
}

/* false: the pass is over. */
static bool batch_fill(struct copies *c, struct shed *s)
{
    s->n = 0;
    while (s->n == 0) {
        if (s->bag_end && !bag_after(c, s))
            return false;
        if (c->env.storage->ops->list(c->env.storage, slice_of(s->domain, s->domain_n),
                                      slice_of(s->cursor, s->cursor_n), batch_each, s, s->cursor, &s->cursor_n) < 0)
            return false;
        s->bag_end = s->n < BATCH_MAX;
    }
    return true;
}

static void batch_end(struct copies *c, struct shed *s)
{
    struct msgid ids[BATCH_MAX];
    uint32_t acks = cmap_shard_pool(c->map, c->shards[s->shard].map)->acks;
    if (!s->whole || s->ok < s->asked || s->ok < acks || shard_ours(c, s->shard)) {
        s->incomplete = true;
        return;
    }
    for (uint32_t i = 0; i < s->n; i++)
        ids[i] = s->batch[i].id;
    c->env.storage->ops->forget(c->env.storage, ids, s->n);
    c->shards[s->shard].forgot_us = copies_now(c);
    sums_dirty(c);
}

static void batch_answered(struct copies *c, uint64_t arg, int res)
{
    struct shed *s = slots_get(&c->slots, arg);
    if (!s || s->kind != OBJ_SPREAD)
        return;
    s->ok += res == 0;
    s->open--;
    copies_wake(c, 0);
}

/* Offers the batch to whoever is reachable: the owner, or the others. */
static void batch_offer(struct copies *c, struct shed *s, bool owner)
{
    const struct map_shard *m = c->shards[s->shard].map;
    s->others = !owner;
    for (uint32_t i = 0; i < m->members_n; i++) {
        struct cpeer *p = peer_find(c, &m->members[i]);
        if (!storage_registered(c, &m->members[i]) || storage_id_eq(&m->members[i], &m->owner) != owner)
            continue;
        s->asked++;
        if (p && p->up &&
            job_offer(c, p, IDS_SHED, slice_of(s->domain, s->domain_n), s->batch, s->n, batch_answered, s->token))
            s->open++;
        else
            s->whole = false;
    }
}

/* ---- one pass over a shard */

static void pass_end(struct copies *c, struct shed *s, uint64_t now)
{
    struct cshard *sh = &c->shards[s->shard];
    sh->shed_digest = s->incomplete ? s->digest : 0;
    sh->shed_at_us = now + AGAIN_AFTER_US;
    if (s->incomplete && sums_now(c)->digest[s->shard] == s->digest)
        sh->shed_at_us = now + SHED_RETRY_US;
    shed_free(c, s);
}

/* The next batch, from the start; false: there is none. */
static bool batch_begin(struct copies *c, struct shed *s)
{
    if (!batch_fill(c, s))
        return false;
    s->asked = s->ok = 0;
    s->whole = true;
    batch_offer(c, s, false);
    return true;
}

static void pass_step(struct copies *c, struct shed *s, uint64_t now)
{
    while (s->open == 0) {
        if (s->n && s->others) {
            bool any = s->ok > 0;
            batch_offer(c, s, true);
            if (s->open || any)
                continue;
            s->incomplete = true; /* nobody can be asked */
            pass_end(c, s, now);
            return;
        }
        if (s->n)
            batch_end(c, s);
        if (!batch_begin(c, s)) {
            pass_end(c, s, now);
            return;
        }
    }
}

static void pass_start(struct copies *c, uint32_t shard)
{
    struct shed *s = calloc(1, sizeof *s);
    uint64_t token = s ? slots_add(&c->slots, s) : 0;
    if (!token) {
        free(s);
        return;
    }
    s->kind = OBJ_SPREAD;
    s->token = token;
    s->shard = shard;
    s->bag_end = true;
    s->digest = sums_now(c)->digest[shard];
    c->shards[shard].shedding = true;
    c->sheds_n++;
    dlist_add(&c->sheds, &s->link);
}

/* Somebody lives whose link may come up in a moment. */
static bool links_come(struct copies *c, uint32_t shard, uint64_t now)
{
    struct cshard *s = &c->shards[shard];
    bool comes = false;
    for (uint32_t i = 0; i < s->map->members_n && !comes; i++) {
        const struct cpeer *p = peer_find(c, &s->map->members[i]);
        comes = p && p->node && p->node->live && !p->up;
    }
    if (!comes || !s->links_until_us)
        s->links_until_us = now + LINKS_WAIT_US;
    return comes && now < s->links_until_us;
}

/* What changed since the last pass does not wait for SHED_RETRY_US. */
static bool pass_due(const struct copies *c, uint32_t shard, const struct sums *sums, uint64_t now)
{
    const struct cshard *s = &c->shards[shard];
    bool moved = s->shed_digest && s->shed_digest != sums->digest[shard];
    return !s->shedding && s->map->members_n &&
           (now >= s->shed_at_us || (moved && now + SHED_RETRY_US >= s->shed_at_us + AGAIN_AFTER_US));
}

static void passes_start(struct copies *c, uint64_t now)
{
    const struct sums *sums = sums_now(c);
    for (uint32_t i = 0; i < c->shards_n && c->sheds_n < SHEDS_MAX; i++)
        if (sums->count[i] && !shard_ours(c, i) && pass_due(c, i, sums, now) && !links_come(c, i, now))
            pass_start(c, i);
}

void shed_up(struct copies *c)
{
    for (uint32_t i = 0; i < c->shards_n; i++)
        c->shards[i].shed_at_us = 0;
    c->shed_at_us = 0;
}

/* ---- nothing left */

struct owing {
    struct copies *c;
    uint32_t n;
    bool full;
};

static bool owing_each(void *arg, const struct storage_state *st)
{
    struct owing *o = arg;
    if (o->n++ == STEP_ENTRIES) {
        o->full = true;
        return false;
    }
    uint32_t shard = shard_of(o->c, st->domain);
    o->c->owing_after = st->id;
    if (shard != UINT32_MAX)
        o->c->shards[shard].owing = true;
    return true;
}

bool shed_proxies(const struct copies *c, uint32_t shard, const struct storage_id *to)
{
    return shard < c->shards_n && c->shards[shard].proxies && cmap_is_member(c->shards[shard].map, to);
}

static void proxy_told(void *arg, uint32_t shard, int res)
{
    struct copies *c = arg;
    if (shard >= c->shards_n || c->shards[shard].proxies == 0)
        return;
    struct cshard *s = &c->shards[shard];
    s->proxy_bad |= res < 0;
    if (--s->proxies == 0) {
        s->proxied = !s->proxy_bad;
        s->proxy_bad = false;
    }
}

/* Somebody who cannot be reached is owed ends of it.  When all members know them, they will say so in our place. */
static void proxy_start(struct copies *c, uint32_t shard)
{
    struct cshard *s = &c->shards[shard];
    if (s->proxies || s->proxied)
        return;
    for (uint32_t i = 0; i < s->map->members_n; i++)
        if (storage_registered(c, &s->map->members[i])) {
            s->proxies++;
            flush_start(c, shard, &s->map->members[i], true, PROXY_WAIT_US, proxy_told, c);
        }
}

static bool emptied_asked(const struct copies *c, uint32_t shard, const struct sums *sums)
{
    const struct cshard *s = &c->shards[shard];
    return cmap_is_former(s->map, &c->cfg.self) && !shard_ours(c, shard) && sums->count[shard] == 0 && !s->shedding;
}

static bool emptied_due(const struct copies *c, uint32_t shard, const struct sums *sums, uint64_t now)
{
    return emptied_asked(c, shard, sums) && now >= c->shards[shard].emptied_at_us;
}

static void emptied_say(struct copies *c, uint32_t shard, uint64_t now)
{
    struct cshard *s = &c->shards[shard];
    if (s->owing && !s->proxied) {
        proxy_start(c, shard);
        return;
    }
    s->emptied_at_us = now + EMPTIED_AGAIN_US;
    c->env.emptied(c->env.arg, shard);
}

/* A look over all that is owed, in slices; what it found of shards that are due is said at its end. */
static void emptied_step(struct copies *c, uint64_t now)
{
    struct owing o = {c, 0, false};
    c->env.storage->ops->owed(c->env.storage, NULL, c->owing_after.counter ? &c->owing_after : NULL, owing_each, &o);
    if (o.full) {
        copies_wake(c, now + 1000);
        return;
    }
    const struct sums *sums = sums_now(c);
    c->owing_walk = false;
    c->owing_at_us = now + EMPTIED_LOOK_US;
    for (uint32_t i = 0; i < c->shards_n; i++)
        if (emptied_due(c, i, sums, now))
            emptied_say(c, i, now);
}

static void emptied_look(struct copies *c, uint64_t now)
{
    const struct sums *sums = sums_now(c);
    if (now < c->owing_at_us)
        return;
    for (uint32_t i = 0; i < c->shards_n; i++) {
        c->owing_walk |= emptied_due(c, i, sums, now);
        c->shards[i].owing = false;
    }
    c->owing_after = (struct msgid){.counter = 0};
    copies_wake(c, c->owing_walk ? 0 : UINT64_MAX);
}

/* ---- ends that wait for their DSN */

enum { HOLDS_MAX = 4096, HOLD_RETRY_US = 500000, HOLD_UNKNOWN_TRIES = 20 };

struct hold {
    enum obj_kind kind;
    uint64_t token;
    struct dlist link;
    struct msgid id, dsn;
    uint32_t open, ok, need, tries;
    uint64_t at_us;
    uint32_t n;
    uint8_t state[]; /* as on the wire */
};

bool shed_hold(struct copies *c, const struct storage_state *st)
{
    uint8_t text[WIRE_STATE_REC_MAX];
    struct wire_wr w = wire_wr(text, sizeof text);
    wire_put_state(&w, st);
    struct hold *h = w.bad || c->holds_n >= HOLDS_MAX || st->owed.n == 0 ? NULL : calloc(1, sizeof *h + wire_len(&w));
    if (!h)
        return false;
    h->kind = OBJ_HOLD;
    h->token = slots_add(&c->slots, h);
    h->id = st->id;
    h->dsn = st->dsn;
    h->n = (uint32_t)wire_len(&w);
    memcpy(h->state, text, h->n);
    dlist_add(&c->holds, &h->link);
    c->holds_n++;
    copies_wake(c, 0);
    return true;
}

bool shed_held(const struct copies *c, const struct msgid *id)
{
    for (const struct dlist *it = c->holds.next; it != &c->holds; it = it->next)
        if (msgid_eq(&dlist_of(it, struct hold, link)->id, id))
            return true;
    return false;
}

static void hold_state(struct hold *h, struct storage_state *st_r)
{
    struct wire_rd r = wire_rd(slice_of(h->state, h->n));
    wire_state(&r, st_r);
}

bool shed_holds_shard(const struct copies *c, uint32_t shard)
{
    struct storage_state st;
    for (struct dlist *it = c->holds.next; it != &c->holds; it = it->next) {
        hold_state(dlist_of(it, struct hold, link), &st);
        if (shard_of(c, st.domain) == shard)
            return true;
    }
    return false;
}

static void hold_free(struct copies *c, struct hold *h)
{
    slots_del(&c->slots, h->token);
    dlist_del(&h->link);
    c->holds_n--;
    free(h);
}

static void hold_release(struct copies *c, struct hold *h)
{
    struct storage_state st;
    hold_state(h, &st);
    dlist_del(&h->link); /* so that it is not held any more when it is pushed */
    ends_push(c, &st);
    hold_free(c, h);
}

static void hold_answered(struct copies *c, uint64_t arg, int res)
{
    struct hold *h = slots_get(&c->slots, arg);
    if (!h || h->kind != OBJ_HOLD)
        return;
    h->ok += res == 0;
    h->open--;
    copies_wake(c, 0);
}

/* Offers the DSN to the members of its shard; our own copy counts. */
static void hold_offer(struct copies *c, struct hold *h, const struct queue_entry *e, struct slice domain)
{
    uint32_t shard = shard_of(c, domain);
    const struct map_shard *m = shard == UINT32_MAX ? NULL : c->shards[shard].map;
    struct offer_entry entry = {h->dsn, e->arrival_us};
    h->ok = 1;
    h->open = 0;
    h->need = m ? cmap_shard_pool(c->map, m)->acks : 1;
    for (uint32_t i = 0; m && i < m->members_n; i++) {
        struct cpeer *p = peer_find(c, &m->members[i]);
        if (p && p->up && job_offer(c, p, IDS_OFFER, domain, &entry, 1, hold_answered, h->token))
            h->open++;
    }
}

static void hold_step(struct copies *c, struct hold *h, uint64_t now)
{
    struct queue_entry e;
    struct storage_state st;
    char domain[256];
    if (h->need && h->ok >= h->need) {
        hold_release(c, h);
        return;
    }
    if (h->open)
        return;
    if (now < h->at_us) {
        copies_wake(c, h->at_us);
        return;
    }
    h->at_us = now + HOLD_RETRY_US;
    copies_wake(c, h->at_us);
    if (c->env.storage->ops->find(c->env.storage, &h->dsn, &e, domain) == 0) {
        hold_offer(c, h, &e, slice_str(domain));
        return;
    }
    /* Final already, or a DSN that never came to be. */
    if (c->env.storage->ops->tomb(c->env.storage, &h->dsn, &st) == 0 || ++h->tries >= HOLD_UNKNOWN_TRIES)
        hold_release(c, h);
}

/* ---- map and time */

void shed_map(struct copies *c, const uint32_t *remap)
{
    struct dlist *it, *tmp;
    (void)remap; /* whatever was confirmed was confirmed under another map */
    flush_cancel(c, proxy_told);
    c->owing_walk = false;
    c->owing_at_us = 0;
    dlist_each(it, tmp, &c->sheds)
    {
        struct shed *s = dlist_of(it, struct shed, link);
        s->shard = UINT32_MAX;
        shed_free(c, s);
    }
    c->shed_at_us = 0;
}

void shed_tick(struct copies *c, uint64_t now)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->holds) hold_step(c, dlist_of(it, struct hold, link), now);
    dlist_each(it, tmp, &c->sheds) pass_step(c, dlist_of(it, struct shed, link), now);
    if (now >= c->shed_at_us) {
        c->shed_at_us = now + LOOK_US;
        passes_start(c, now);
        if (!c->owing_walk)
            emptied_look(c, now);
        if (!dlist_empty(&c->sheds))
            copies_wake(c, 0);
    }
    if (c->owing_walk)
        emptied_step(c, now);
    copies_wake(c, c->shed_at_us);
}

void shed_close(struct copies *c)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->sheds) shed_free(c, dlist_of(it, struct shed, link));
    dlist_each(it, tmp, &c->holds) hold_free(c, dlist_of(it, struct hold, link));
}
