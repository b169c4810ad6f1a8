/* compare.c - when shards are compared, who is in sync, and taking in before delivering.
 *
 * As owner: every compare_us a round with each member that is linked: one SUMS with the digests of all shards that it
 * shares with us.  Where they differ, a session follows: at once if it is the first look since the link came up or
 * since it became a member; if nothing moved on either side since the last round; if it is not in sync; and now and
 * then for one that is in sync and never quiet (mail that is coming in makes digests differ all the time, and a session
 * costs a walk over the bags that differ).
 *
 * In sync: digests were equal, or a session ended well, and nothing that we sent it since went unanswered; and it is a
 * member by its own map, too.  One whose map is older would shed what it was just given.
 *
 * A record that cannot be read is asked for elsewhere (scrub.c) at once; one that nobody has any more keeps its two
 * storages apart for DAMAGED_ROUNDS, and nothing after that: whatever else there is has been compared. */
#include "cluster/copies/copies_impl.h"

enum { BUSY_ROUNDS = 12, DAMAGED_ROUNDS = 12, RETRY_US = 200000 };

struct round {
    enum obj_kind kind;
    uint64_t token;
    struct cpeer *peer;
    uint64_t asked_us;
    uint32_t n;
    struct round_shard {
        uint32_t shard;
        uint64_t count, digest;
    } shards[];
};

/* copies_merge */
struct merge_job {
    enum obj_kind kind;
    uint64_t token;
    struct dlist link;
    uint32_t shard, n;
    uint64_t deadline_us;
    void (*done)(void *arg, uint32_t shard, int res);
    void *arg;
    uint32_t got; /* messages that these brought */
    struct who {
        struct storage_id id;
        enum { WHO_TODO, WHO_ASKED, WHO_OK } state;
        uint32_t got_then, brought; /* got when it was asked; what it brought itself since */
    } who[MEMBERS_MAX + FORMER_MAX];
};

/* ---- in sync */

struct msync *sync_of(struct copies *c, uint32_t shard, const struct storage_id *id)
{
    struct cshard *s = shard < c->shards_n ? &c->shards[shard] : NULL;
    for (uint32_t i = 0; s && s->sync && i < s->map->members_n; i++)
        if (storage_id_eq(&s->sync[i].id, id))
            return &s->sync[i];
    return NULL;
}

static void sync_set(struct copies *c, uint32_t shard, struct msync *m, bool synced)
{
    if (m->synced == synced)
        return;
    m->synced = synced;
    c->shards[shard].changed = c->sync_changed = true;
    copies_wake(c, 0);
}

uint32_t copies_synced(struct copies *c, uint32_t shard)
{
    uint32_t mask = 0;
    const struct cshard *s = shard < c->shards_n ? &c->shards[shard] : NULL;
    for (uint32_t i = 0; s && i < s->map->members_n; i++)
        if (copies_is_self(c, &s->map->members[i]) || (s->sync && s->sync[i].synced))
            mask |= 1u << i;
    return mask;
}

static void missed_one(struct copies *c, uint32_t shard, const struct storage_id *to)
{
    struct msync *m = sync_of(c, shard, to);
    if (!m)
        return;
    m->missed++;
    sync_set(c, shard, m, false);
    uint64_t soon = copies_now(c) + RETRY_US;
    if (soon < c->compare_at_us)
        c->compare_at_us = soon;
}

void compare_missed(struct copies *c, uint32_t shard, const struct storage_id *to)
{
    for (uint32_t i = 0; shard == UINT32_MAX && i < c->shards_n; i++)
        missed_one(c, i, to);
    missed_one(c, shard, to);
}

/* ---- sessions of rounds */

static void session_ended(struct copies *c, uint64_t arg, uint32_t shard, const struct storage_id *peer, int res)
{
    (void)arg;
    struct msync *m = sync_of(c, shard, peer);
    if (!m)
        return;
    m->busy = false;
    m->damaged = res == -SATCHEL_EDAMAGED ? m->damaged + 1 : 0;
    if (m->damaged >= DAMAGED_ROUNDS)
        res = 0;
    if (res == 0 && m->missed == m->missed_then && m->vouches)
        sync_set(c, shard, m, true);
    if (res < 0)
        m->asked = false;
    sums_dirty(c);
}

static bool session_due(const struct copies *c, const struct msync *m, uint64_t mine, uint64_t theirs, uint64_t now)
{
    bool quiet = m->mine == mine && m->theirs == theirs;
    return !m->asked || !m->synced || quiet || now - m->session_us >= BUSY_ROUNDS * c->cfg.compare_us;
}

static void round_one(struct copies *c, struct round *r, const struct round_shard *q, uint64_t count, uint64_t digest)
{
    struct msync *m = sync_of(c, q->shard, &r->peer->id);
    uint64_t now = copies_now(c);
    if (!m || m->busy)
        return;
    if (count == q->count && digest == q->digest) {
        m->asked = true;
        m->damaged = 0;
        if (m->missed == m->missed_then && m->vouches)
            sync_set(c, q->shard, m, true);
        return;
    }
    bool due = session_due(c, m, q->digest, digest, now);
    m->mine = q->digest;
    m->theirs = digest;
    if (!due)
        return;
    m->busy = session_start(c, r->peer, q->shard, false, session_ended, 0);
    m->asked = m->busy;
    if (m->busy)
        m->session_us = now;
    else
        c->compare_at_us = now + RETRY_US;
}

/* Asked again soon: its map will come. */
static void round_vouch(struct copies *c, uint32_t shard, const struct storage_id *peer, bool vouches)
{
    struct msync *m = sync_of(c, shard, peer);
    if (!m)
        return;
    m->vouches = vouches;
    if (vouches)
        return;
    sync_set(c, shard, m, false);
    uint64_t soon = copies_now(c) + RETRY_US;
    c->compare_at_us = soon < c->compare_at_us ? soon : c->compare_at_us;
}

static void round_free(struct copies *c, struct round *r)
{
    slots_del(&c->slots, r->token);
    r->peer->round = 0;
    free(r);
}

void compare_round_reply(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r)
{
    struct round *q = obj;
    if (q->peer != from)
        return;
    uint32_t n = wire_count(r, WIRE_SUMS_MAX, 16);
    if (n == q->n) {
        struct wire_rd flags = *r;
        from->round = 0; /* sessions that start now are not of this round */
        wire_get(&flags, n * (size_t)16);
        for (uint32_t i = 0; i < n; i++) /* an older peer says nothing of it */
            round_vouch(c, q->shards[i].shard, &from->id, wire_left(&flags) == 0 || wire_u8(&flags));
        for (uint32_t i = 0; i < n; i++) {
            uint64_t count = wire_u64(r), digest = wire_u64(r);
            round_one(c, q, &q->shards[i], count, digest);
        }
    }
    round_free(c, q);
}

static struct fbuf *round_frame(struct copies *c, const struct round *q)
{
    struct fbuf *f = fbuf_new(FRAME_SUMS, FRAME_SUMS_VERSION, 13 + q->n * (21u + POOL_NAME_MAX));
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u8(&w, IDS_ASK);
    wire_put_u64(&w, q->token);
    wire_put_u32(&w, q->n);
    for (uint32_t i = 0; i < q->n; i++) {
        shard_put_name(c, &w, q->shards[i].shard);
        wire_put_u64(&w, q->shards[i].count);
        wire_put_u64(&w, q->shards[i].digest);
    }
    if (fbuf_end(f, &w) == 0)
        return f;
    fbuf_unref(f);
    return NULL;
}

static void round_fill(struct copies *c, struct round *q)
{
    const struct sums *sums = sums_now(c);
    uint32_t i = q->peer->round_from < c->shards_n ? q->peer->round_from : 0;
    for (uint32_t k = 0; k < c->shards_n && q->n < WIRE_SUMS_MAX; k++, i = i + 1 < c->shards_n ? i + 1 : 0) {
        struct msync *m = sync_of(c, i, &q->peer->id);
        if (!m || m->busy)
            continue;
        m->missed_then = m->missed;
        q->shards[q->n++] = (struct round_shard){i, sums->count[i], sums->digest[i]};
    }
    q->peer->round_from = i;
}

static void round_start(struct copies *c, struct cpeer *p, uint64_t now)
{
    uint32_t most = c->shards_n < WIRE_SUMS_MAX ? c->shards_n : WIRE_SUMS_MAX;
    struct round *q = calloc(1, sizeof *q + most * sizeof *q->shards);
    if (!q)
        return;
    q->kind = OBJ_ROUND;
    q->peer = p;
    q->asked_us = now;
    round_fill(c, q);
    q->token = q->n ? slots_add(&c->slots, q) : 0;
    p->round = q->token;
    if (!q->token || peer_send(c, p, round_frame(c, q)) < 0)
        round_free(c, q);
}

static void round_drop(struct copies *c, struct cpeer *p)
{
    struct round *q = slots_get(&c->slots, p->round);
    if (p->round && q)
        round_free(c, q);
}

static void rounds_tick(struct copies *c, uint64_t now)
{
    if (now < c->compare_at_us) {
        copies_wake(c, c->compare_at_us);
        return;
    }
    c->compare_at_us = now + c->cfg.compare_us;
    copies_wake(c, c->compare_at_us);
    for (uint32_t i = 0; i < c->peers_n; i++) {
        struct cpeer *p = c->peers[i];
        struct round *q = slots_get(&c->slots, p->round);
        if (p->round && q && now - q->asked_us > 2 * c->cfg.compare_us)
            round_drop(c, p);
        if (p->up && p->node && !p->round)
            round_start(c, p, now);
    }
}

/* ---- merging before delivering */

void copies_merge(struct copies *c, uint32_t shard, uint64_t wait_us, void (*done)(void *arg, uint32_t shard, int res),
                  void *arg)
{
    struct merge_job *j = calloc(1, sizeof *j);
    if (!j || !(j->token = slots_add(&c->slots, j)))
        abort(); /* a few words: there is nothing to say this with */
    j->kind = OBJ_MERGE;
    j->shard = shard;
    j->deadline_us = copies_now(c) + wait_us;
    j->done = done;
    j->arg = arg;
    const struct map_shard *s = shard < c->shards_n ? c->shards[shard].map : NULL;
    for (uint32_t i = 0; s && i < (uint32_t)s->members_n + s->former_n; i++) {
        const struct storage_id *id = i < s->members_n ? &s->members[i] : &s->former[i - s->members_n];
        if (!copies_is_self(c, id) && storage_registered(c, id))
            j->who[j->n++].id = *id;
    }
    dlist_add(&c->merges, &j->link);
    copies_wake(c, 0);
}

void compare_brought(struct copies *c, const struct storage_id *by, struct slice domain)
{
    struct dlist *it, *tmp;
    uint32_t shard = dlist_empty(&c->merges) ? UINT32_MAX : shard_of(c, domain);
    dlist_each(it, tmp, &c->merges)
    {
        struct merge_job *j = dlist_of(it, struct merge_job, link);
        j->got += shard != UINT32_MAX && j->shard == shard;
        for (uint32_t i = 0; i < j->n && j->shard == shard; i++)
            j->who[i].brought += storage_id_eq(&j->who[i].id, by);
    }
}

/* What another one brought meanwhile, it may know to be over: it said nothing of that, since we did not have it. */
static bool asked_in_vain(const struct merge_job *j, const struct who *w)
{
    return w->state == WHO_OK && j->got - w->got_then != w->brought;
}

static void merge_session_ended(struct copies *c, uint64_t arg, uint32_t shard, const struct storage_id *peer, int res)
{
    struct merge_job *j = slots_get(&c->slots, arg);
    struct msync *m = sync_of(c, shard, peer);
    bool told = res == 0 || res == -SATCHEL_EDAMAGED; /* what cannot be read there, waiting does not mend */
    if (res == 0 && m && m->missed == m->missed_then && m->vouches) {
        m->asked = true;
        sync_set(c, shard, m, true);
    }
    for (uint32_t i = 0; j && j->kind == OBJ_MERGE && i < j->n; i++)
        if (storage_id_eq(&j->who[i].id, peer))
            j->who[i].state = told ? WHO_OK : WHO_TODO;
    copies_wake(c, 0);
}

/* A node whose lease ended and whose link is down says nothing, however long one waits. */
static bool can_answer(const struct copies *c, const struct storage_id *id)
{
    const struct cpeer *p = peer_find(c, id);
    return p && (p->up || (p->node && p->node->live));
}

/* Returns how many are still to answer; *silent_r: how many never will. */
static uint32_t merge_ask(struct copies *c, struct merge_job *j, uint32_t *silent_r)
{
    uint32_t open = 0;
    *silent_r = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        struct cpeer *p = peer_find(c, &j->who[i].id);
        if (asked_in_vain(j, &j->who[i]))
            j->who[i].state = WHO_TODO;
        if (j->who[i].state != WHO_OK && !can_answer(c, &j->who[i].id)) {
            ++*silent_r;
            continue;
        }
        open += j->who[i].state != WHO_OK;
        if (j->who[i].state != WHO_TODO || !p || !p->up)
            continue;
        struct msync *m = sync_of(c, j->shard, &p->id);
        if (!session_start(c, p, j->shard, true, merge_session_ended, j->token))
            continue;
        j->who[i].state = WHO_ASKED;
        j->who[i].got_then = j->got;
        j->who[i].brought = 0;
        if (m)
            m->missed_then = m->missed;
    }
    return open;
}

static void merge_end(struct copies *c, struct merge_job *j, int res)
{
    slots_del(&c->slots, j->token);
    dlist_del(&j->link);
    j->done(j->arg, j->shard, res);
    free(j);
}

static void merges_tick(struct copies *c, uint64_t now)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->merges)
    {
        struct merge_job *j = dlist_of(it, struct merge_job, link);
        bool there = j->shard < c->shards_n;
        uint32_t silent = 0;
        if (there && merge_ask(c, j, &silent) == 0)
            merge_end(c, j, silent ? -SATCHEL_EAGAIN : 0);
        else if (!there || now >= j->deadline_us)
            merge_end(c, j, -SATCHEL_EAGAIN);
        else
            copies_wake(c, now + 50000 < j->deadline_us ? now + 50000 : j->deadline_us);
    }
}

/* ---- links, map, time */

void compare_up(struct copies *c, struct cpeer *p)
{
    for (uint32_t i = 0; i < c->shards_n; i++) {
        struct msync *m = sync_of(c, i, &p->id);
        if (m)
            m->asked = false;
    }
    c->compare_at_us = 0;
    copies_wake(c, 0);
}

void compare_down(struct copies *c, struct cpeer *p)
{
    round_drop(c, p);
    compare_missed(c, UINT32_MAX, &p->id);
}

void compare_shard(struct copies *c, uint32_t shard, const struct cshard *old)
{
    struct cshard *s = &c->shards[shard];
    const struct map_shard *m = s->map;
    if (!storage_id_eq(&m->owner, &c->cfg.self) || m->members_n == 0)
        return;
    s->sync = calloc(m->members_n, sizeof *s->sync);
    if (!s->sync)
        abort(); /* a few words */
    for (uint32_t i = 0; i < m->members_n; i++) {
        s->sync[i] = (struct msync){.id = m->members[i], .fresh = !copies_is_self(c, &m->members[i])};
        for (uint32_t k = 0; old && old->sync && k < old->members_n; k++)
            if (storage_id_eq(&old->sync[k].id, &m->members[i]))
                s->sync[i] = old->sync[k];
    }
    s->members_n = m->members_n;
    s->changed = c->sync_changed = true;
}

/* Members that are new to us are to know the ends that others are owed. */
static void tell_fresh(struct copies *c, const struct cshard *s)
{
    for (uint32_t i = 0; s->sync && i < s->members_n; i++) {
        struct cpeer *p = s->sync[i].fresh ? peer_find(c, &s->sync[i].id) : NULL;
        if (p && p->up)
            ends_again(c, p);
    }
}

void compare_map(struct copies *c, const uint32_t *remap)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->merges)
    {
        struct merge_job *j = dlist_of(it, struct merge_job, link);
        j->shard = j->shard == UINT32_MAX ? UINT32_MAX : remap[j->shard];
    }
    for (uint32_t i = 0; i < c->peers_n; i++)
        round_drop(c, c->peers[i]);
    for (uint32_t i = 0; i < c->shards_n; i++)
        tell_fresh(c, &c->shards[i]);
    c->compare_at_us = 0;
}

void compare_tick(struct copies *c, uint64_t now)
{
    merges_tick(c, now);
    rounds_tick(c, now);
    bool any = c->sync_changed;
    c->sync_changed = false;
    for (uint32_t i = 0; any && i < c->shards_n; i++) {
        if (!c->shards[i].changed)
            continue;
        c->shards[i].changed = false;
        if (c->shards[i].sync)
            c->env.synced(c->env.arg, i);
    }
}

void compare_close(struct copies *c)
{
    struct dlist *it, *tmp;
    dlist_each(it, tmp, &c->merges)
    {
        struct merge_job *j = dlist_of(it, struct merge_job, link);
        dlist_del(it);
        slots_del(&c->slots, j->token);
        free(j);
    }
    for (uint32_t i = 0; i < c->peers_n; i++)
        round_drop(c, c->peers[i]);
}
