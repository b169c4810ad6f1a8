/* leader_step.c - the next change of one shard, the most urgent first. */
#include "cluster/map/leader_step.h"

static bool live(const struct step_input *in, const struct storage_id *id)
{
    const struct map_node *n = storage_id_zero(id) ? NULL : cmap_storage(in->map, id);
    return n && n->live;
}

static bool stays(const struct step_input *in, const struct storage_id *id)
{
    const struct map_node *n = cmap_storage(in->map, id);
    return n && (n->state == NODE_ACTIVE || n->state == NODE_CORDONED);
}

static bool wanted(const struct step_input *in, const struct storage_id *id)
{
    for (uint8_t i = 0; i < in->want->members_n; i++)
        if (storage_id_eq(&in->want->members[i], id))
            return true;
    return false;
}

static int member_at(const struct map_shard *s, const struct storage_id *id)
{
    for (uint8_t i = 0; i < s->members_n; i++)
        if (storage_id_eq(&s->members[i], id))
            return i;
    return -1;
}

static bool in_sync(const struct step_input *in, const struct storage_id *id)
{
    int at = member_at(in->shard, id);
    return at >= 0 && (in->synced >> at & 1);
}

/* ---- changes */

static void former_drop(struct map_shard *s, const struct storage_id *id)
{
    uint8_t n = 0;
    for (uint8_t i = 0; i < s->former_n; i++)
        if (!storage_id_eq(&s->former[i], id))
            s->former[n++] = s->former[i];
    s->former_n = n;
}

static bool member_add(struct map_shard *s, const struct storage_id *id)
{
    if (s->members_n == MEMBERS_MAX || member_at(s, id) >= 0)
        return false;
    s->members[s->members_n++] = *id;
    former_drop(s, id);
    return true;
}

/* It becomes a former member, if it is registered; false: the list of those is full. */
static bool member_drop(const struct step_input *in, struct map_shard *s, const struct storage_id *id)
{
    struct storage_id gone = *id; /* id may lie in the list that moves */
    int at = member_at(s, &gone);
    bool registered = cmap_storage(in->map, &gone) != NULL;
    if (at < 0 || (registered && s->former_n == FORMER_MAX))
        return false;
    s->members_n--;
    memmove(&s->members[at], &s->members[at + 1], (size_t)(s->members_n - at) * sizeof *s->members);
    if (registered)
        s->former[s->former_n++] = gone;
    return true;
}

static void own(struct map_shard *s, const struct storage_id *owner)
{
    s->owner = *owner;
    s->next = (struct storage_id){0};
    s->epoch++;
}

/* ---- without an owner */

static enum leader_step create(const struct step_input *in, struct map_shard *after)
{
    if (storage_id_zero(&in->want->owner))
        return STEP_NONE;
    after->members_n = 0;
    for (uint8_t i = 0; i < in->want->members_n; i++)
        member_add(after, &in->want->members[i]);
    own(after, &in->want->owner);
    return STEP_CREATE;
}

/* Among those in sync the wanted owner, then one that is not being drained.  Where nothing is known of any, the order
 * of members decides: who joined last, and may have least, is last. */
static int fitness(const struct step_input *in, const struct storage_id *id)
{
    return in_sync(in, id) ? 4 + 2 * storage_id_eq(id, &in->want->owner) + stays(in, id) : 0;
}

static const struct storage_id *successor(const struct step_input *in)
{
    const struct storage_id *best = NULL;
    for (uint8_t i = 0; i < in->shard->members_n; i++) {
        const struct storage_id *id = &in->shard->members[i];
        if (live(in, id) && (!best || fitness(in, id) > fitness(in, best)))
            best = id;
    }
    return best;
}

static bool any_registered(const struct step_input *in)
{
    for (uint8_t i = 0; i < in->shard->members_n; i++)
        if (cmap_storage(in->map, &in->shard->members[i]))
            return true;
    return false;
}

static bool of_fallback(const struct step_input *in)
{
    const struct map_node *n = cmap_storage(in->map, &in->want->owner);
    return n && strcmp(n->pool, cmap_shard_pool(in->map, in->shard)->name) != 0;
}

/* New mail must flow: the wanted become members beside those that are gone, as many of those as there is room for. */
static enum leader_step start(const struct step_input *in, struct map_shard *after, enum leader_step step)
{
    for (uint8_t i = 0; i < in->shard->members_n; i++) {
        const struct storage_id *id = &in->shard->members[i];
        bool room = in->shard->members_n + in->want->members_n <= MEMBERS_MAX;
        if (!wanted(in, id) && (!room || !cmap_storage(in->map, id)))
            member_drop(in, after, id);
    }
    for (uint8_t i = 0; i < in->want->members_n; i++)
        member_add(after, &in->want->members[i]);
    if (member_at(after, &in->want->owner) < 0)
        return STEP_NONE;
    own(after, &in->want->owner);
    return step;
}

/* May it read the logs of all members that there still are? */
static bool reads_all(const struct step_input *in, const struct map_node *n)
{
    for (uint8_t i = 0; i < in->shard->members_n; i++) {
        const struct map_node *m = cmap_storage(in->map, &in->shard->members[i]);
        if (m && !storage_id_eq(&m->shared, &n->shared))
            return false;
    }
    return n->live && stays(in, &n->storage) && !storage_id_zero(&n->shared);
}

/* The wanted owner, or nodes of its pool in turn. */
static const struct map_node *adopter(const struct step_input *in)
{
    const struct map_node *want = cmap_storage(in->map, &in->want->owner), *n;
    if (want && reads_all(in, want))
        return want;
    const char *pool = want ? want->pool : cmap_shard_pool(in->map, in->shard)->name;
    for (uint32_t i = 0; i < in->map->nodes_n; i++) {
        n = &in->map->nodes[(in->shard->number + i) % in->map->nodes_n];
        if (strcmp(n->pool, pool) == 0 && reads_all(in, n))
            return n;
    }
    return NULL;
}

/* Members stay, so that the node knows whose logs it has to read; they leave in the planned way. */
static enum leader_step adopt(const struct step_input *in, const struct map_node *to, struct map_shard *after)
{
    for (uint8_t i = 0; after->members_n == MEMBERS_MAX && i < in->shard->members_n; i++)
        member_drop(in, after, &in->shard->members[i]);
    if (!member_add(after, &to->storage))
        return STEP_NONE;
    own(after, &to->storage);
    return STEP_ADOPT;
}

static enum leader_step take_over(const struct step_input *in, struct map_shard *after)
{
    const struct storage_id *to = successor(in);
    if (to) {
        own(after, to);
        return STEP_TAKE_OVER;
    }
    const struct map_node *reader = any_registered(in) ? adopter(in) : NULL;
    if (reader)
        return adopt(in, reader, after);
    if (!live(in, &in->want->owner))
        return STEP_NONE;
    if (!any_registered(in))
        return start(in, after, STEP_START_ANEW);
    return of_fallback(in) ? start(in, after, STEP_FALL_BACK) : STEP_NONE;
}

/* ---- planned */

static enum leader_step next_check(const struct step_input *in, struct map_shard *after)
{
    const struct storage_id *next = &in->shard->next;
    if (storage_id_zero(next) || (live(in, next) && stays(in, next) && member_at(in->shard, next) >= 0 &&
                                  !storage_id_eq(next, &in->shard->owner)))
        return STEP_NONE;
    after->next = (struct storage_id){0};
    return STEP_CLEAR_NEXT;
}

static bool removable(const struct step_input *in, const struct storage_id *id)
{
    return !wanted(in, id) && !storage_id_eq(id, &in->shard->owner) && !storage_id_eq(id, &in->shard->next);
}

static enum leader_step join(const struct step_input *in, struct map_shard *after)
{
    bool joined = false, missing = false;
    for (uint8_t i = 0; i < in->want->members_n; i++) {
        missing |= member_at(in->shard, &in->want->members[i]) < 0;
        joined |= member_add(after, &in->want->members[i]);
    }
    if (joined || !missing)
        return joined ? STEP_JOIN : STEP_NONE;
    for (uint8_t i = 0; i < in->shard->members_n; i++) {
        const struct storage_id *id = &in->shard->members[i];
        if (removable(in, id) && !in_sync(in, id) && member_drop(in, after, id))
            return STEP_MAKE_ROOM;
    }
    return STEP_NONE;
}

static enum leader_step hand(const struct step_input *in, struct map_shard *after)
{
    const struct storage_id *to = &in->want->owner;
    if (storage_id_eq(to, &in->shard->owner) || !storage_id_zero(&in->shard->next) || !live(in, to) || !in_sync(in, to))
        return STEP_NONE;
    after->next = *to;
    return STEP_HAND;
}

bool leader_step_synced(const struct step_input *in)
{
    for (uint8_t i = 0; i < in->want->members_n; i++)
        if (!in_sync(in, &in->want->members[i]))
            return false;
    return in->want->members_n > 0;
}

/* Enough of those that stay are in sync to keep what acknowledgements promised.  Not while a hand-over is under way:
 * its CAS is not made to fail for what can wait. */
static enum leader_step leave(const struct step_input *in, struct map_shard *after)
{
    bool left = false;
    if (!storage_id_zero(&in->shard->next) || !leader_step_synced(in) ||
        in->want->members_n < cmap_shard_pool(in->map, in->shard)->acks)
        return STEP_NONE;
    for (uint8_t i = 0; i < in->shard->members_n; i++)
        if (removable(in, &in->shard->members[i]))
            left |= member_drop(in, after, &in->shard->members[i]);
    return left ? STEP_LEAVE : STEP_NONE;
}

static enum leader_step forget(const struct step_input *in, struct map_shard *after)
{
    bool struck = false;
    if (!storage_id_zero(&in->shard->next))
        return STEP_NONE;
    for (uint8_t i = 0; i < in->shard->former_n; i++) {
        if (cmap_storage(in->map, &in->shard->former[i]))
            continue;
        former_drop(after, &in->shard->former[i]);
        struck = true;
    }
    return struck ? STEP_FORGET : STEP_NONE;
}

enum leader_step leader_step(const struct step_input *in, struct map_shard *after_r)
{
    typedef enum leader_step change(const struct step_input *in, struct map_shard *after);
    static change *const planned[] = {next_check, join, hand, leave, forget};
    *after_r = *in->shard;
    if (in->shard->members_n == 0)
        return create(in, after_r);
    if (!live(in, &in->shard->owner))
        return take_over(in, after_r);
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++) {
        enum leader_step step = planned[i](in, after_r);
        if (step != STEP_NONE)
            return step;
    }
    return STEP_NONE;
}

/* ---- about a step, and about a shard */

bool leader_step_starts(enum leader_step s)
{
    static const bool starts[STEPS_N] = {
#define X(name, starts, text) starts,
        LEADER_STEPS(X)
#undef X
    };
    return starts[s];
}

const char *leader_step_text(enum leader_step s)
{
    static const char *const texts[STEPS_N] = {
#define X(name, starts, text) text,
        LEADER_STEPS(X)
#undef X
    };
    return texts[s];
}

bool leader_step_settled(const struct step_input *in)
{
    if (!storage_id_eq(&in->shard->owner, &in->want->owner) || in->shard->members_n != in->want->members_n)
        return false;
    for (uint8_t i = 0; i < in->shard->members_n; i++)
        if (!wanted(in, &in->shard->members[i]))
            return false;
    return true;
}

bool leader_step_under_way(const struct step_input *in)
{
    if (!storage_id_zero(&in->shard->next))
        return true;
    for (uint8_t i = 0; i < in->want->members_n; i++)
        if (member_at(in->shard, &in->want->members[i]) < 0)
            return false;
    return in->want->members_n > 0 && in->shard->members_n > in->want->members_n;
}

bool leader_step_owned(const struct step_input *in)
{
    return live(in, &in->shard->owner);
}
