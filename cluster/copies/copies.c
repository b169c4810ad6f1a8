/* copies.c - opening, the map, links, frames, time: hands each to the file that knows. */
#include "cluster/copies/copies_impl.h"

const struct copies_config copies_config_default = {.standin_us = 1000000,
                                                    .giveup_us = 8000000,
                                                    .push_us = 20000,
                                                    .compare_us = 5000000,
                                                    .sync_bytes = 8u << 20,
                                                    .scrub_bytes_s = 4u << 20};

/* ---- peers */

struct cpeer *peer_find(const struct copies *c, const struct storage_id *id)
{
    uint32_t lo = 0, hi = c->peers_n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        int d = memcmp(c->peers[mid]->id.b, id->b, sizeof id->b);
        if (d == 0)
            return c->peers[mid];
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* Never taken out: what is under way points to it, and there are only as many as storages were ever seen. */
static struct cpeer *peer_need(struct copies *c, const struct storage_id *id)
{
    struct cpeer *p = peer_find(c, id);
    if (p || copies_is_self(c, id))
        return p;
    if (c->peers_n == c->peers_cap) {
        uint32_t cap = c->peers_cap ? c->peers_cap * 2 : 16;
        struct cpeer **peers = realloc(c->peers, cap * sizeof *peers);
        if (!peers)
            return NULL;
        c->peers = peers;
        c->peers_cap = cap;
    }
    p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->id = *id;
    dlist_init(&p->feeds);
    uint32_t at = c->peers_n++;
    for (; at > 0 && memcmp(c->peers[at - 1]->id.b, id->b, sizeof id->b) > 0; at--)
        c->peers[at] = c->peers[at - 1];
    c->peers[at] = p;
    return p;
}

bool peer_up(const struct copies *c, const struct storage_id *id)
{
    if (copies_is_self(c, id))
        return true;
    const struct cpeer *p = peer_find(c, id);
    return p && p->up;
}

bool storage_registered(const struct copies *c, const struct storage_id *id)
{
    if (copies_is_self(c, id))
        return c->self != NULL;
    const struct cpeer *p = peer_find(c, id);
    return p && p->node;
}

int peer_send(struct copies *c, struct cpeer *p, struct fbuf *f)
{
    if (!f)
        return -SATCHEL_ENOMEM;
    int rc = p->up ? c->env.peers->ops->send(c->env.peers, &p->id, f) : -SATCHEL_ENOENT;
    fbuf_unref(f);
    return rc;
}

void frame_bad(struct copies *c, struct cpeer *p, const char *what)
{
    char id[STORAGE_ID_TEXT_MAX];
    metric_add(M_COPIES_BAD_FRAMES, 1);
    if (p->bad_us && copies_now(c) - p->bad_us < 1000000)
        return; /* one a second is enough to see it */
    p->bad_us = copies_now(c);
    storage_id_format(&p->id, id);
    log_warning("copies.frame_bad", "peer=%s storage=%s frame=%s remedy=\"compare the versions of both nodes\"",
                p->node ? p->node->name : "-", id, what);
}

/* ---- shards */

uint32_t shard_of(const struct copies *c, struct slice domain)
{
    uint32_t s = c->map ? c->env.shard_of(c->env.arg, c->map, domain) : UINT32_MAX;
    return s < c->shards_n ? s : UINT32_MAX;
}

static uint32_t shard_in(const struct cmap *m, struct slice pool, uint32_t number)
{
    for (uint32_t i = 0; m && i < m->pools_n; i++)
        if (slice_eq(slice_str(m->pools[i].name), pool))
            return number < m->pools[i].shards ? m->pools[i].first + number : UINT32_MAX;
    return UINT32_MAX;
}

uint32_t shard_named(const struct copies *c, struct slice pool, uint32_t number)
{
    return shard_in(c->map, pool, number);
}

void shard_put_name(const struct copies *c, struct wire_wr *w, uint32_t shard)
{
    const struct map_shard *s = c->shards[shard].map;
    wire_put_name(w, slice_str(c->map->pools[s->pool].name));
    wire_put_u32(w, s->number);
}

bool shard_ours(const struct copies *c, uint32_t shard)
{
    return cmap_is_member(c->shards[shard].map, &c->cfg.self);
}

/* ---- the map */

/* For each shard of the old map its index in the new one, or UINT32_MAX; malloc'ed. */
static uint32_t *map_indexes(const struct cmap *old, const struct cmap *map)
{
    uint32_t n = old ? old->shards_n : 0, *to = malloc((n + 1) * sizeof *to);
    if (!to)
        abort(); /* a few bytes a shard */
    for (uint32_t i = 0; i < n; i++) {
        const struct map_shard *s = &old->shards[i];
        to[i] = shard_in(map, slice_str(old->pools[s->pool].name), s->number);
    }
    return to;
}

static void map_peers(struct copies *c, const struct cmap *map)
{
    for (uint32_t i = 0; i < c->peers_n; i++)
        c->peers[i]->node = NULL;
    c->self = NULL;
    for (uint32_t i = 0; i < map->nodes_n; i++) {
        struct cpeer *p = peer_need(c, &map->nodes[i].storage);
        if (p)
            p->node = &map->nodes[i];
        else if (copies_is_self(c, &map->nodes[i].storage))
            c->self = &map->nodes[i];
    }
}

/* A storage that an operator took out of the cluster is owed nothing. */
static void map_gone(struct copies *c, const struct cmap *old, const struct cmap *map)
{
    for (uint32_t i = 0; old && i < old->nodes_n; i++) {
        const struct storage_id *id = &old->nodes[i].storage;
        if (!copies_is_self(c, id) && !storage_registered(c, id) && map->nodes_n)
            c->env.storage->ops->retire(c->env.storage, id);
    }
}

/* The next owner of a shard hears at once what it is owed: it may be that we alone know. */
static void tell_owner(struct copies *c, const struct map_shard *old, const struct map_shard *s)
{
    struct cpeer *p = old && !storage_id_eq(&old->owner, &s->owner) ? peer_find(c, &s->owner) : NULL;
    if (p && p->up)
        ends_again(c, p);
}

static void map_shards(struct copies *c, const struct cmap *map, const uint32_t *remap)
{
    struct cshard *old = c->shards, *now = calloc(map->shards_n + 1, sizeof *now);
    uint32_t old_n = c->shards_n;
    if (!now)
        abort();
    const struct cshard **from = calloc(map->shards_n + 1, sizeof(*from));
    if (!from)
        abort();
    for (uint32_t i = 0; i < old_n; i++)
        if (remap[i] < map->shards_n) /* NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): old_n of them */
            from[remap[i]] = &old[i];
    c->shards = now;
    c->shards_n = map->shards_n;
    for (uint32_t i = 0; i < map->shards_n; i++) {
        const struct map_shard *s = &map->shards[i];
        now[i].map = s;
        now[i].name_hash = (uint32_t)(record_body_sum(slice_str(map->pools[s->pool].name)) + s->number * 2654435761u);
        now[i].forgot_us = from[i] ? from[i]->forgot_us : 0;
        compare_shard(c, i, from[i]);
        tell_owner(c, from[i] ? from[i]->map : NULL, s);
    }
    for (uint32_t i = 0; i < old_n; i++)
        free(old[i].sync);
    free(from);
    free(old);
}

void copies_map(struct copies *c, const struct cmap *map)
{
    const struct cmap *old = c->map;
    uint32_t *remap = map_indexes(old, map);
    c->map = map;
    map_peers(c, map);
    map_shards(c, map, remap);
    map_gone(c, old, map);
    sums_drop(c);
    flush_map(c, remap);
    sessions_map(c, remap);
    compare_map(c, remap);
    shed_map(c, remap);
    requests_map(c, remap);
    free(remap);
    copies_wake(c, 0);
}

/* ---- links */

void copies_up(struct copies *c, const struct storage_id *peer)
{
    struct cpeer *p = peer_need(c, peer);
    if (!p || p->up)
        return;
    p->up = true;
    p->epoch++;
    ends_again(c, p);
    compare_up(c, p);
    shed_up(c);
}

void copies_down(struct copies *c, const struct storage_id *peer)
{
    struct cpeer *p = peer_find(c, peer);
    if (!p || !p->up)
        return;
    p->up = false;
    p->epoch++;
    ends_down(c, p);
    feed_down(c, p);
    compare_down(c, p);
    sessions_down(c, p);
    jobs_down(c, p);
    request_down(c, peer);
    copies_wake(c, 0);
}

void copies_room(struct copies *c, const struct storage_id *peer)
{
    struct cpeer *p = peer_find(c, peer);
    if (!p || !p->up)
        return;
    request_room(c);
    feed_run(c, p);
    copies_wake(c, 0);
}

/* ---- frames */

static void take_put_ack(struct copies *c, struct cpeer *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t request = wire_u64(&r);
    int res = (int)wire_u32(&r);
    uint64_t newest_us = wire_u64(&r);
    struct msgid id = wire_id(&r);
    if (r.bad || res > 0) {
        frame_bad(c, from, "PUT_ACK");
        return;
    }
    copies_heard(c, newest_us);
    const enum obj_kind *kind = slots_get(&c->slots, request);
    if (kind && *kind == OBJ_FEED_PUT)
        feed_acked(c, from, slots_get(&c->slots, request), res);
    else
        request_acked(c, request, &from->id, &id, res);
}

/* An answer finds its question by the token; one that is over is dropped. */
static void take_answer(struct copies *c, struct cpeer *from, uint16_t type, uint64_t token, struct wire_rd *r)
{
    enum obj_kind *obj = slots_get(&c->slots, token);
    if (!obj)
        return;
    if (*obj == OBJ_ROUND && type == FRAME_SUMS)
        compare_round_reply(c, from, obj, r);
    else if (*obj == OBJ_SESSION && type == FRAME_SUMS)
        session_sums(c, from, obj, r);
    else if (*obj == OBJ_SESSION && type == FRAME_BAGS)
        session_bags(c, from, obj, r);
    else if (*obj == OBJ_SESSION && type == FRAME_WINDOWS)
        session_windows(c, from, obj, r);
    else if (*obj == OBJ_SESSION && type == FRAME_IDS)
        session_ids(c, from, obj, r);
}

static void take_question(struct copies *c, struct cpeer *from, uint16_t type, uint8_t kind, uint64_t token,
                          struct wire_rd *r)
{
    if (type == FRAME_SUMS)
        answer_sums(c, from, token, r);
    else if (type == FRAME_BAGS)
        answer_bags(c, from, token, r);
    else if (type == FRAME_WINDOWS)
        answer_windows(c, from, token, r);
    else if (kind == IDS_ASK)
        answer_ids(c, from, token, r);
    else
        answer_offer(c, from, token, (enum ids_kind)kind, r);
}

/* SUMS, BAGS, WINDOWS, IDS: u8 kind (1: an answer) and the token come first. */
static void take_compare(struct copies *c, struct cpeer *from, uint16_t type, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint8_t kind = wire_u8(&r);
    uint64_t token = wire_u64(&r);
    if (!r.bad && kind == IDS_LIST)
        take_answer(c, from, type, token, &r);
    else if (!r.bad && kind <= (type == FRAME_IDS ? IDS_SHED : IDS_ASK))
        take_question(c, from, type, kind, token, &r);
    else
        r.bad = true;
    if (r.bad)
        frame_bad(c, from, frame_name(type));
}

void copies_frame(struct copies *c, const struct storage_id *from, uint16_t type, uint16_t version,
                  struct slice payload)
{
    struct cpeer *p = peer_find(c, from);
    (void)version; /* a newer one only appends */
    if (!p || !p->up)
        return;
    switch (type) {
    case FRAME_PUT:
        holder_put(c, p, payload);
        break;
    case FRAME_PUT_ACK:
        take_put_ack(c, p, payload);
        break;
    case FRAME_STATE:
        merge_state(c, p, payload);
        break;
    case FRAME_STATE_ACK:
        ends_ack(c, p, payload);
        break;
    case FRAME_STATE_TAKEN:
        ends_taken_frame(c, p, payload);
        break;
    case FRAME_SETTLED:
        ends_settled(c, p, payload);
        break;
    case FRAME_FORGET:
        holder_forget(c, p, payload);
        break;
    case FRAME_WANT:
        feed_want(c, p, payload);
        break;
    case FRAME_SUMS:
    case FRAME_BAGS:
    case FRAME_WINDOWS:
    case FRAME_IDS:
        take_compare(c, p, type, payload);
        break;
    case FRAME_SYNC_END:
        job_end(c, p, payload);
        break;
    default: /* of a later version */
        break;
    }
}

/* ---- time */

/* Arrivals order a bag over all nodes: what is accepted after it was heard of comes after it. */
void copies_heard(struct copies *c, uint64_t arrival_us)
{
    if (arrival_us <= c->newest_us || arrival_us > clock_wall_us(c->env.clock) + OBSERVE_AHEAD_US)
        return;
    c->newest_us = arrival_us;
    c->env.storage->ops->observe(c->env.storage, arrival_us);
}

void copies_wake(struct copies *c, uint64_t at_us)
{
    if (at_us < c->tick_at_us)
        c->tick_at_us = at_us;
}

void copies_tick(struct copies *c)
{
    uint64_t now = copies_now(c);
    c->tick_at_us = UINT64_MAX;
    request_tick(c, now);
    if (!c->map)
        return;
    merge_tick(c, now);
    jobs_tick(c, now);
    flush_tick(c, now);
    ends_tick(c, now);
    for (uint32_t i = 0; i < c->peers_n; i++)
        feed_run(c, c->peers[i]);
    sessions_tick(c, now);
    compare_tick(c, now);
    shed_tick(c, now);
    scrub_tick(c, now);
    gone_tick(c, now);
    copies_wake(c, now + 500000); /* whatever else needs only an eye now and then */
}

uint64_t copies_next_us(const struct copies *c)
{
    return c->tick_at_us;
}

/* ---- looking */

static uint32_t copies_of(const struct copies *c, uint32_t shard)
{
    uint32_t n = 1;
    const struct cshard *s = &c->shards[shard];
    for (uint32_t i = 0; s->sync && i < s->map->members_n; i++)
        n += s->sync[i].synced && !copies_is_self(c, &s->sync[i].id);
    return n;
}

void copies_info(const struct copies *c, struct copies_info *info_r)
{
    const struct sums *s = &c->sums;
    *info_r = c->info;
    info_r->under_replicated = info_r->unowned = 0;
    for (uint32_t i = 0; s->valid && i < s->shards_n && i < c->shards_n; i++) {
        const struct map_shard *m = c->shards[i].map;
        if (!cmap_is_member(m, &c->cfg.self))
            info_r->unowned += s->count[i];
        else if (storage_id_eq(&m->owner, &c->cfg.self) && copies_of(c, i) < cmap_shard_pool(c->map, m)->copies)
            info_r->under_replicated += s->count[i];
    }
}

void copies_holds(struct copies *c, uint32_t shard, uint64_t *messages_r, uint64_t *bytes_r)
{
    *messages_r = *bytes_r = 0;
    if (shard >= c->shards_n)
        return;
    const struct sums *s = sums_now(c);
    *messages_r = s->count[shard];
    *bytes_r = s->bytes[shard];
}

/* ---- life */

int copies_open(struct copies **c_r, const struct copies_config *cfg, const struct copies_env *env)
{
    struct copies *c = calloc(1, sizeof *c);
    if (!c)
        return -SATCHEL_ENOMEM;
    c->cfg = *cfg;
    c->env = *env;
    struct dlist *lists[] = {&c->reqs,     &c->putops, &c->merging, &c->busy,  &c->jobs,
                             &c->sessions, &c->merges, &c->flushes, &c->sheds, &c->holds};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        dlist_init(lists[i]);
    for (int i = 0; i < 256; i++)
        dlist_init(&c->plans[i]);
    c->slots.gen = (uint32_t)rng_u64(env->rng);
    env->storage->ops->tap(env->storage, ends_tap, c);
    *c_r = c;
    return 0;
}

void copies_close(struct copies **cp)
{
    struct copies *c = *cp;
    if (!c)
        return;
    c->env.storage->ops->tap(c->env.storage, NULL, NULL);
    request_close(c);
    shed_close(c);
    scrub_close(c);
    gone_close(c);
    compare_close(c);
    sessions_close(c);
    flush_close(c);
    jobs_close(c);
    merge_close(c);
    holder_close(c);
    for (uint32_t i = 0; i < c->peers_n; i++) {
        ends_down(c, c->peers[i]);
        feed_down(c, c->peers[i]);
        free(c->peers[i]->settled);
        free(c->peers[i]);
    }
    for (uint32_t i = 0; i < c->shards_n; i++)
        free(c->shards[i].sync);
    free(c->shards);
    free(c->peers);
    sums_drop(c);
    slots_drop(&c->slots);
    free(c);
    *cp = NULL;
}
