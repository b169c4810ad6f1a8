/* checks.c - the judge. */
#include "tests/csim/checks.h"

#include <stdio.h>

/* A fault so long before a delivery may still explain that it is the second: a lease, a silent link, a restart. */
#define EXCUSE_US (25 * SECOND_US)
#define KNOWN_US  (2 * SECOND_US)

static uint32_t bits(uint32_t v)
{
    return (uint32_t)__builtin_popcount(v);
}

static uint32_t acks_of(struct world *w, const struct letter *l)
{
    const struct cmap *m = simcoord_truth(w->coord);
    uint32_t shard =
        m ? cmap_shard_of(m, world_pool_of(w, world_domain(w, l->domain)), world_domain(w, l->domain)) : UINT32_MAX;
    return shard == UINT32_MAX ? w->plan.acks : cmap_shard_pool(m, &m->shards[shard])->acks;
}

static const struct map_shard *shard_of(struct world *w, const struct letter *l)
{
    const struct cmap *m = simcoord_truth(w->coord);
    struct slice domain = world_domain(w, l->domain);
    uint32_t shard = m ? cmap_shard_of(m, world_pool_of(w, domain), domain) : UINT32_MAX;
    return shard == UINT32_MAX ? NULL : &m->shards[shard];
}

void check_ack(struct world *w, struct simnode *n, struct letter *l)
{
    uint32_t acks = acks_of(w, l);
    if (bits(l->stored) < acks && !letter_final(l))
        history_fail("invariant 2: %s says 250 to letter %u, which %u storages have (%x), not %u", simnode_name(n),
                     l->number, bits(l->stored), l->stored, acks);
    const struct map_shard *s = shard_of(w, l);
    uint32_t owner = s ? world_store(w, &s->owner) : UINT32_MAX;
    l->unowned = owner == UINT32_MAX || !(l->stored & 1u << owner);
    l->acked = true;
    l->acked_us = w->now_us;
    w->letters.acked++;
}

static uint32_t holders(const struct world *w, const struct letter *l, bool undamaged)
{
    uint32_t held = 0;
    for (uint32_t s = 0; s < w->stores_n; s++) {
        struct depot *d = w->stores[s].depot;
        if (!w->stores[s].gone && d->ops->has(d, l) == DEPOT_LIVE && !(undamaged && d->ops->damaged(d, l)))
            held |= 1u << s;
    }
    return held;
}

/* Where all machines with a copy are switched off (a pool of one node), nobody can send it. */
static bool in_reach(const struct world *w, const struct letter *l)
{
    uint32_t held = holders(w, l, true);
    for (uint32_t s = 0; s < w->stores_n; s++)
        if (held & 1u << s && simnode_state(w->nodes[w->stores[s].node]) != SIMNODE_OFF)
            return true;
    return false;
}

/* ---- final dots */

static void check_lease(struct world *w, struct simnode *n, const struct letter *l)
{
    struct node_info info;
    simnode_info(n, &info);
    if (w->now_us >= info.member.deadline_us)
        history_fail("invariant 8: %s sends the final dot of letter %u at %llu, its deadline is %llu", simnode_name(n),
                     l->number, (unsigned long long)w->now_us, (unsigned long long)info.member.deadline_us);
    if (!simcoord_lives(w->coord, simnode_name(n), simnode_storage(n)))
        history_fail("invariant 8: %s sends the final dot of letter %u, and its lease has ended", simnode_name(n),
                     l->number);
}

static void check_owner(struct world *w, struct simnode *n, const struct letter *l)
{
    const struct cmap *m = simcoord_truth(w->coord);
    struct slice domain = world_domain(w, l->domain);
    uint32_t shard = m ? cmap_shard_of(m, world_pool_of(w, domain), domain) : UINT32_MAX;
    if (shard == UINT32_MAX || !storage_id_eq(&m->shards[shard].owner, simnode_storage(n)))
        history_fail("invariant 8: %s sends the final dot of letter %u and does not own its shard %u", simnode_name(n),
                     l->number, shard);
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        if (w->nodes[i] != n && simnode_state(w->nodes[i]) != SIMNODE_OFF && simnode_may(w->nodes[i], l->domain))
            history_fail("invariant 8: %s sends the final dot of letter %u, and n%u may, too", simnode_name(n),
                         l->number, i);
}

static bool faulty_history(const struct world *w)
{
    return w->plan.faults;
}

/* The node `i`, a member of the shard, knows the end and has known it for a while, during which it ran and was linked
 * with the node `self`: then `self` must have asked before it delivered. */
static bool must_have_told(struct world *w, uint32_t i, uint32_t self, const struct letter *l)
{
    struct simnode *n = w->nodes[i];
    const struct map_shard *s = shard_of(w, l);
    uint64_t since = w->now_us > KNOWN_US ? w->now_us - KNOWN_US : 0, known = l->known_us[simnode_store(n)];
    if (!s || !cmap_is_member(s, simnode_storage(n)) || simnode_state(n) != SIMNODE_RUNNING)
        return false;
    return known && known < since && simnode_since_us(n) < since && simnet_linked_us(w->net, self, i) < since;
}

/* NULL: nobody.  Not where disks are slow: asking has its time, too. */
static const char *knower(struct world *w, struct simnode *n, const struct letter *l)
{
    uint32_t self = w->stores[simnode_store(n)].node;
    bool slow = strcmp(w->plan.name, "disks") == 0 || strcmp(w->plan.name, "storm") == 0;
    for (uint32_t i = 0; i < w->plan.nodes && !slow; i++)
        if (i != self && must_have_told(w, i, self, l))
            return simnode_name(w->nodes[i]);
    return NULL;
}

static void check_over(struct world *w, struct simnode *n, const struct letter *l)
{
    struct depot *d = w->stores[simnode_store(n)].depot;
    if (d->ops->over(d, l) || d->ops->has(d, l) == DEPOT_FINAL)
        history_fail("letter %u is delivered by %s, which was told meanwhile that it is over", l->number,
                     simnode_name(n));
}

static void note_item(struct world *w, struct simnode *n, struct letter *l, uint32_t i)
{
    struct letter_item *it = &l->items[i];
    trace("%s delivers letter %u item %u, time %u", simnode_name(n), l->number, i, it->sunk + 1);
    if (it->sunk > 0) {
        w->letters.duplicates++;
        uint64_t since = it->last_us > EXCUSE_US ? it->last_us - EXCUSE_US : 0;
        const char *who = knower(w, n, l);
        if (who)
            history_fail("letter %u item %u is delivered by %s again, and %s knew that it was", l->number, i,
                         simnode_name(n), who);
        if (!faulty_history(w) || !world_faulty_since(w, since))
            history_fail("letter %u item %u is delivered by %s again, and nothing explains it", l->number, i,
                         simnode_name(n));
    }
    if (it->sunk++ == 0)
        it->first_us = w->now_us;
    it->last_us = w->now_us;
    w->letters.sunk++;
}

/* What a client got a 250 for before it sent this one must have left before.  Not so a large message: its last record
 * goes to the owner only when the owner has confirmed the others, and by then acks of others may have settled it.  Nor
 * in a pool of one node: while that is away, stand-ins take its mail, until others own the shard.  Nor what was
 * acknowledged without its owner by a node that was just started and has no link with it yet. */
static void check_order(struct world *w, const struct letter *l)
{
    bool alone = w->plan.dedicated == 1 && world_pool_of(w, world_domain(w, l->domain)).n > 0;
    if (faulty_history(w) || w->plan.quirks || alone)
        return;
    for (uint32_t i = 0; i < w->letters.n; i++) {
        const struct letter *k = &w->letters.all[i];
        if (k->client == l->client && k->acked && k->acked_us < l->sent_us && !letter_final(k) && k->chunks == 0 &&
            !(w->plan.planned && k->unowned) && !k->unreached && in_reach(w, k))
            history_fail("letter %u of client %u is delivered before letter %u, which was acknowledged before",
                         l->number, l->client, k->number);
    }
}

void check_dot(struct world *w, struct simnode *n, struct letter *l, const bool *taken)
{
    check_lease(w, n, l);
    check_owner(w, n, l);
    check_order(w, l);
    check_over(w, n, l);
    for (uint32_t i = 0; i < l->items_n; i++)
        if (taken[i])
            note_item(w, n, l, i);
}

/* ---- storages */

/* Storages whose copy is lost for good, whatever happens: wiped, or rotten. */
static uint32_t gone(const struct world *w, const struct letter *l)
{
    uint32_t mask = 0;
    for (uint32_t s = 0; s < w->stores_n; s++) {
        struct depot *d = w->stores[s].depot;
        mask |= w->stores[s].gone || d->ops->damaged(d, l) ? 1u << s : 0;
    }
    return mask;
}

static void note_known(struct world *w, struct letter *l)
{
    for (uint32_t s = 0; s < w->stores_n; s++) {
        struct depot *d = w->stores[s].depot;
        if (!l->known_us[s] && d->ops->has(d, l) == DEPOT_FINAL)
            l->known_us[s] = w->now_us;
    }
}

void check_held(struct world *w)
{
    for (uint32_t i = 0; i < w->letters.n; i++) {
        struct letter *l = &w->letters.all[i];
        if (l->items[0].sunk)
            note_known(w, l);
        if (!l->acked || l->lost || letter_final(l))
            continue;
        l->unreached = l->unreached || !in_reach(w, l);
        if (holders(w, l, true))
            continue;
        uint32_t acks = acks_of(w, l);
        if (bits(l->stored & gone(w, l)) >= acks)
            l->lost = true;
        else
            history_fail("invariant 1: LOST: letter %u was acknowledged, is not final, and no storage has it (had: %x, "
                         "gone: %x)",
                         l->number, l->stored, gone(w, l));
    }
}

static void check_drained(struct world *w, const struct map_node *n)
{
    uint32_t self = world_store(w, &n->storage);
    for (uint32_t i = 0; i < w->letters.n && self != UINT32_MAX; i++) {
        struct letter *l = &w->letters.all[i];
        if (!l->acked || l->lost || letter_final(l))
            continue;
        uint32_t held = holders(w, l, true), others = held & ~(1u << self);
        if (held & 1u << self)
            history_fail("invariant 7: %s is called drained and still has letter %u", n->name, l->number);
        if (bits(others) < acks_of(w, l) && !(l->stored & gone(w, l)))
            history_fail("invariant 7: %s is called drained, and letter %u is on %u other storages only", n->name,
                         l->number, bits(others));
    }
}

void check_store_change(struct world *w, struct slice key)
{
    static const char nodes[] = "nodes/";
    if (key.n <= sizeof nodes - 1 || memcmp(key.p, nodes, sizeof nodes - 1) != 0)
        return;
    const struct cmap *m = simcoord_truth(w->coord);
    for (uint32_t i = 0; m && i < m->nodes_n; i++)
        if (m->nodes[i].state == NODE_DRAINED && slice_eq(slice_str(m->nodes[i].name), slice_of(key.p + 6, key.n - 6)))
            check_drained(w, &m->nodes[i]);
}

/* ---- the end */

static bool letters_done(struct world *w, char *why_r, size_t cap)
{
    for (uint32_t i = 0; i < w->letters.n; i++) {
        const struct letter *l = &w->letters.all[i];
        if (l->acked && !l->lost && !letter_final(l)) {
            snprintf(why_r, cap, "letter %u (domain %u) is acknowledged and not delivered; storages that have it: %x",
                     l->number, l->domain, holders(w, l, false));
            return false;
        }
    }
    return true;
}

/* Only rotten copies are left, of one that was acknowledged (then it is excused) or of one that was not. */
static bool hopeless(const struct world *w, const struct letter *l)
{
    return l->lost || (holders(w, l, false) && !holders(w, l, true));
}

/* A rotten copy, the last one, cannot be given to anybody: its storage is never empty. */
static uint32_t lost(const struct world *w)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->letters.n; i++)
        count += hopeless(w, &w->letters.all[i]);
    return count;
}

static bool shards_done(struct world *w, char *why_r, size_t cap)
{
    const struct cmap *m = simcoord_truth(w->coord);
    for (uint32_t i = 0; m && i < m->shards_n; i++) {
        const struct map_shard *s = &m->shards[i];
        const struct map_node *owner = cmap_storage(m, &s->owner);
        const char *what = !owner || !owner->live        ? "has no live owner"
                           : s->former_n > 0 && !lost(w) ? "has former members"
                           : !storage_id_zero(&s->next)  ? "is being handed over"
                                                         : NULL;
        if (what) {
            snprintf(why_r, cap, "shard %u %s", i, what);
            return false;
        }
    }
    return m != NULL;
}

/* Of a letter that is lost a rotten copy may stay. */
static uint32_t left(struct world *w, struct simnode *n)
{
    struct depot *d = w->stores[simnode_store(n)].depot;
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->letters.n; i++)
        count += !hopeless(w, &w->letters.all[i]) && d->ops->has(d, &w->letters.all[i]) == DEPOT_LIVE;
    return count;
}

static bool node_done(struct world *w, struct simnode *n, char *why_r, size_t cap)
{
    struct node_info info;
    simnode_info(n, &info);
    const char *what = info.copies.under_replicated > lost(w) ? "knows of too few copies"
                       : info.copies.requests                 ? "has requests under way"
                       : info.copies.states_unpushed          ? "has states that were not pushed"
                       : left(w, n)                           ? "has messages left"
                       : info.storage.tombs_owed              ? "owes ends"
                       : simnode_claims(n)                    ? "has claims"
                       : info.owner.merging                   ? "merges"
                       : info.owner.handing                   ? "hands over"
                                                              : NULL;
    if (what)
        snprintf(why_r, cap, "%s %s (messages %llu, tombs owed %llu)", simnode_name(n), what,
                 (unsigned long long)info.storage.messages, (unsigned long long)info.storage.tombs_owed);
    return !what;
}

static bool drains_done(struct world *w, char *why_r, size_t cap)
{
    const struct cmap *m = simcoord_truth(w->coord);
    for (uint32_t i = 0; m && i < m->nodes_n; i++)
        if (m->nodes[i].state == NODE_DRAINING && !lost(w)) {
            snprintf(why_r, cap, "%s is still draining", m->nodes[i].name);
            return false;
        }
    return true;
}

bool check_converged(struct world *w, char *why_r, size_t cap)
{
    if (!letters_done(w, why_r, cap) || !shards_done(w, why_r, cap))
        return false;
    for (uint32_t i = 0; i < w->plan.nodes; i++)
        if (simnode_state(w->nodes[i]) == SIMNODE_RUNNING && !simnode_refused(w->nodes[i])[0] &&
            !node_done(w, w->nodes[i], why_r, cap))
            return false;
    return drains_done(w, why_r, cap);
}
