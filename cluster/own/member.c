/* member.c - this node's place in the cluster: registration, lease, deadline.
 *
 * One call to coordination is under way at a time; an answer that finds another state than the one it was asked in is
 * dropped. */
#include "cluster/own/member.h"

#include "cluster/link/peers.h"
#include "cluster/own/registry.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    AGAIN_US = 1000000,         /* after a call without an answer; jitter is added */
    REFUSED_US = 3000000,       /* an operator may have mended it */
    KEEPALIVE_AGAIN_US = 300000 /* a keepalive without an answer is repeated soon */
};

enum member_state { MEMBER_LOOK, MEMBER_JOIN, MEMBER_GRANT, MEMBER_ENTER, MEMBER_IN, MEMBER_REFUSED, MEMBER_LEFT };

static const char *const state_names[] = {"look", "join", "grant", "enter", "in", "refused", "left"};

struct member {
    struct member_config cfg;
    struct member_app app;
    struct coord *coord;
    struct rng *rng;
    const struct clock *clock;
    enum member_state state;
    bool pending; /* a call is under way */
    uint64_t next_us;

    struct storage_id fresh; /* for a cluster that we found */
    struct kvbag found;
    int64_t found_rev;
    uint32_t prefix; /* of registry_prefixes, to be listed next */
    struct registry_plan plan;
    bool was_there, told; /* told: app.lease knows of the lease */

    int64_t lease, joined_rev, entered_rev;
    uint64_t ttl_us, sent_us; /* sent_us: of the newest grant or keepalive that was answered */
    uint64_t deadline_us, losses;
    char refused[REGISTRY_WHY_MAX];

    void (*left)(void *arg);
    void *left_arg;
};

static void member_enter(struct member *m, enum member_state s, uint64_t wait_us)
{
    if (m->state != s)
        log_debug("member.state", "node=%s old=%s new=%s", m->cfg.self.name, state_names[m->state], state_names[s]);
    m->state = s;
    m->next_us = clock_boot_us(m->clock) + wait_us;
}

static uint64_t jittered(struct member *m, uint64_t us)
{
    return us + rng_below(m->rng, us / 2 + 1);
}

/* After a call was made: rc < 0: it was not taken. */
static void called(struct member *m, int rc)
{
    m->pending = rc == 0;
    if (rc < 0)
        m->next_us = clock_boot_us(m->clock) + jittered(m, AGAIN_US);
}

/* ---- deadline and lease, as others see them */

static void set_deadline(struct member *m, uint64_t boot_us)
{
    if (m->deadline_us == boot_us)
        return;
    m->deadline_us = boot_us;
    m->app.deadline(m->app.arg, boot_us);
}

/* Keepalives are answered in order, but a deadline never goes back while the lease stands. */
static void answered(struct member *m, uint32_t ttl_s, uint64_t sent_us)
{
    m->ttl_us = ttl_s * 1000000ull;
    m->sent_us = sent_us;
    uint64_t until = sent_us + (m->ttl_us > m->cfg.margin_us ? m->ttl_us - m->cfg.margin_us : 0);
    if (m->told && until > m->deadline_us)
        set_deadline(m, until);
}

static void tell_lease(struct member *m)
{
    m->told = true;
    m->app.lease(m->app.arg, m->lease);
    answered(m, (uint32_t)(m->ttl_us / 1000000), m->sent_us);
}

/* The gate first, then everybody else. */
static void untell_lease(struct member *m)
{
    if (!m->told)
        return;
    m->told = false;
    set_deadline(m, 0);
    m->app.lease(m->app.arg, 0);
}

static void lose_lease(struct member *m)
{
    log_warning("member.lease", "node=%s lost=%lld action=\"asks for a new one\"", m->cfg.self.name,
                (long long)m->lease);
    m->losses++;
    m->lease = 0;
    untell_lease(m);
    member_enter(m, MEMBER_LOOK, 0);
}

static void tell_refused(struct member *m, const char *why)
{
    char quoted[600];
    if (strcmp(m->refused, why) == 0)
        return;
    snprintf(m->refused, sizeof m->refused, "%s", why);
    if (why[0])
        log_error("member.refused", "node=%s why=%s", m->cfg.self.name,
                  log_quote(slice_str(why), quoted, sizeof quoted));
    m->app.refused(m->app.arg, m->refused);
}

static void on_revoked(void *arg, int res, int64_t lease, uint32_t ttl_s, uint64_t sent_us)
{
    struct member *m = arg;
    m->pending = false;
    (void)res;
    (void)lease;
    (void)ttl_s;
    (void)sent_us;
    m->next_us = clock_boot_us(m->clock) + (m->state == MEMBER_REFUSED ? REFUSED_US : 0);
}

/* With or without an answer the lease is ours no more. */
static void revoke(struct member *m)
{
    int64_t lease = m->lease;
    m->lease = 0;
    untell_lease(m);
    called(m, m->coord->ops->revoke(m->coord, lease, on_revoked, m));
}

/* A lease that we hold is given back by the next step, when no other call is under way. */
static void refuse(struct member *m, const char *why)
{
    tell_refused(m, why);
    untell_lease(m);
    member_enter(m, MEMBER_REFUSED, m->lease ? 0 : jittered(m, REFUSED_US));
}

/* ---- LOOK */

static void joined(struct member *m, int64_t rev)
{
    m->joined_rev = rev;
    m->was_there = true;
    m->cfg.cluster = m->plan.cluster;
    member_enter(m, MEMBER_GRANT, 0);
}

static void look_over(struct member *m)
{
    char why[REGISTRY_WHY_MAX];
    registry_plan_clear(&m->plan);
    int rc = registry_judge(&m->cfg, &m->found, m->found_rev, m->was_there, &m->fresh, &m->plan, why);
    kvbag_clear(&m->found);
    if (rc == -SATCHEL_EINVAL)
        refuse(m, why);
    else if (rc < 0)
        member_enter(m, MEMBER_LOOK, AGAIN_US);
    else if (m->plan.ops_n > 0)
        member_enter(m, MEMBER_JOIN, 0);
    else
        joined(m, m->found_rev);
}

static void call_failed(struct member *m, int res)
{
    if (res == -SATCHEL_EBUSY)
        refuse(m, "etcd does not let this node in: set cluster.etcd_user and its password, or its certificate, right");
    else
        member_enter(m, MEMBER_LOOK, jittered(m, AGAIN_US));
}

static void on_list(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct member *m = arg;
    m->pending = false;
    if (m->state != MEMBER_LOOK)
        return;
    if (res == 0)
        res = kvbag_add(&m->found, kvs, n);
    if (res < 0) {
        kvbag_clear(&m->found);
        m->prefix = 0;
        call_failed(m, res);
        return;
    }
    m->found_rev = rev;
    if (++m->prefix == REGISTRY_PREFIXES) {
        m->prefix = 0;
        look_over(m);
    }
}

static void look(struct member *m)
{
    if (m->prefix == 0)
        kvbag_clear(&m->found);
    called(m, m->coord->ops->list(m->coord, slice_str(registry_prefixes[m->prefix]), on_list, m));
}

/* ---- JOIN */

static void on_joined(void *arg, int res, bool succeeded, int64_t rev)
{
    struct member *m = arg;
    m->pending = false;
    if (m->state != MEMBER_JOIN)
        return;
    if (res < 0) {
        call_failed(m, res);
    } else if (!succeeded) {
        member_enter(m, MEMBER_LOOK, rng_below(m->rng, 100000)); /* others join, too */
    } else {
        log_info("member.joined", "node=%s keys=%zu", m->cfg.self.name, m->plan.ops_n);
        joined(m, rev);
    }
}

static void join(struct member *m)
{
    const struct registry_plan *p = &m->plan;
    called(m, m->coord->ops->txn(m->coord, p->cmps, p->cmps_n, p->ops, p->ops_n, on_joined, m));
}

/* ---- GRANT */

static void on_granted(void *arg, int res, int64_t lease, uint32_t ttl_s, uint64_t sent_us)
{
    struct member *m = arg;
    m->pending = false;
    if (m->state != MEMBER_GRANT)
        return;
    if (res < 0) {
        call_failed(m, res);
        return;
    }
    m->lease = lease;
    answered(m, ttl_s, sent_us);
    member_enter(m, MEMBER_ENTER, 0);
}

static void grant(struct member *m)
{
    if (m->lease) {
        member_enter(m, MEMBER_ENTER, 0);
        return;
    }
    called(m, m->coord->ops->grant(m->coord, m->cfg.ttl_s, on_granted, m));
}

/* ---- ENTER */

static void on_entered(void *arg, int res, bool succeeded, int64_t rev)
{
    struct member *m = arg;
    m->pending = false;
    if (m->state != MEMBER_ENTER)
        return;
    if (res == -SATCHEL_ENOENT) {
        m->lease = 0;
        untell_lease(m);
    }
    if (res < 0) {
        call_failed(m, res);
    } else if (!succeeded) {
        member_enter(m, MEMBER_LOOK, 0);
    } else {
        m->entered_rev = rev;
        member_enter(m, MEMBER_IN, 0);
        m->next_us = m->sent_us + m->ttl_us / 3;
        log_info("member.lease", "node=%s lease=%lld ttl_s=%llu", m->cfg.self.name, (long long)m->lease,
                 (unsigned long long)(m->ttl_us / 1000000));
        tell_refused(m, "");
        tell_lease(m);
    }
}

static void put_live(struct member *m)
{
    char key[CMAP_KEY_MAX], *value = cmap_live_encode(&m->cfg.self, clock_wall_us(m->clock));
    snprintf(key, sizeof key, "live/%s", m->cfg.self.name);
    if (!value) {
        member_enter(m, MEMBER_LOOK, AGAIN_US);
        return;
    }
    struct coord_cmp cmp = {slice_str(key), m->plan.live_rev};
    struct coord_op op = {.kind = COORD_PUT, .key = slice_str(key), .value = slice_str(value), .lease = m->lease};
    called(m, m->coord->ops->txn(m->coord, &cmp, 1, &op, 1, on_entered, m));
    free(value);
}

/* ---- IN */

static void on_kept(void *arg, int res, int64_t lease, uint32_t ttl_s, uint64_t sent_us)
{
    struct member *m = arg;
    m->pending = false;
    if (m->state != MEMBER_IN || lease != m->lease)
        return;
    if (res == -SATCHEL_ENOENT) {
        lose_lease(m);
        return;
    }
    if (res < 0) {
        m->next_us = clock_boot_us(m->clock) + (res == -SATCHEL_EAGAIN ? KEEPALIVE_AGAIN_US : AGAIN_US);
        return;
    }
    /* The same lease, but the deadline had passed.  etcd may have come back from a snapshot, in which others own what
     * was ours: whoever owns under the lease asks anew, before the gate opens. */
    bool late = m->told && m->deadline_us <= clock_boot_us(m->clock);
    if (late)
        untell_lease(m);
    answered(m, ttl_s, sent_us);
    if (late)
        tell_lease(m);
    m->next_us = sent_us + m->ttl_us / 3;
}

static void keep(struct member *m)
{
    called(m, m->coord->ops->keepalive(m->coord, m->lease, on_kept, m));
}

void member_map(struct member *m, const struct cmap *map)
{
    char why[REGISTRY_WHY_MAX];
    if (m->state != MEMBER_IN || map->rev < m->joined_rev || map->rev < m->entered_rev)
        return;
    const struct map_node *n = cmap_node(map, m->cfg.self.name);
    if (registry_still(&m->cfg, map, why) < 0) {
        refuse(m, why);
    } else if (n && !n->live) {
        /* Somebody deleted live/NAME: others may take our shards.  It is put again under the lease that we have. */
        untell_lease(m);
        member_enter(m, MEMBER_LOOK, 0);
    }
}

/* ---- leaving */

static void leave_step(struct member *m)
{
    if (m->lease) {
        member_enter(m, MEMBER_LEFT, 0);
        revoke(m);
        return;
    }
    void (*left)(void *arg) = m->left;
    member_enter(m, MEMBER_LEFT, 0);
    untell_lease(m);
    m->left = NULL;
    if (left)
        left(m->left_arg);
}

void member_leave(struct member *m, void (*done)(void *arg), void *arg)
{
    m->left = done;
    m->left_arg = arg;
    m->next_us = clock_boot_us(m->clock);
}

/* ---- running */

static void step(struct member *m)
{
    switch (m->state) {
    case MEMBER_REFUSED:
        if (m->lease)
            revoke(m);
        else
            member_enter(m, MEMBER_LOOK, 0);
        break;
    case MEMBER_LOOK:
        look(m);
        break;
    case MEMBER_JOIN:
        join(m);
        break;
    case MEMBER_GRANT:
        grant(m);
        break;
    case MEMBER_ENTER:
        put_live(m);
        break;
    case MEMBER_IN:
        keep(m);
        break;
    case MEMBER_LEFT:
        break;
    }
}

void member_tick(struct member *m)
{
    if (m->pending || clock_boot_us(m->clock) < m->next_us)
        return;
    if (m->left)
        leave_step(m);
    else
        step(m);
}

uint64_t member_next_us(const struct member *m)
{
    return m->pending || (m->state == MEMBER_LEFT && !m->left) ? UINT64_MAX : m->next_us;
}

void member_info(const struct member *m, struct member_info *info_r)
{
    *info_r = (struct member_info){
        .registered = m->was_there && m->state != MEMBER_REFUSED,
        .leased = m->told,
        .deadline_us = m->deadline_us,
        .losses = m->losses,
    };
    memcpy(info_r->refused, m->refused, sizeof info_r->refused);
}

/* ---- opening and closing */

static void draw_uuid(struct rng *rng, struct storage_id *id_r)
{
    for (size_t i = 0; i < sizeof id_r->b; i += 8) {
        uint64_t v = rng_u64(rng);
        memcpy(id_r->b + i, &v, 8);
    }
}

int member_open(struct member **m_r, const struct member_config *cfg, const struct member_app *app, struct coord *coord,
                struct rng *rng, const struct clock *clock)
{
    struct member *m = calloc(1, sizeof *m);
    if (!m)
        return -SATCHEL_ENOMEM;
    m->cfg = *cfg;
    m->app = *app;
    m->coord = coord;
    m->rng = rng;
    m->clock = clock;
    draw_uuid(rng, &m->fresh);
    if (!m->cfg.self.pool[0])
        memcpy(m->cfg.self.pool, POOL_SHARED, sizeof POOL_SHARED);
    if (!m->cfg.self.boot)
        m->cfg.self.boot = rng_u64(rng);
    m->cfg.self.proto = PROTO_VERSION;
    *m_r = m;
    return 0;
}

void member_close(struct member **mp)
{
    struct member *m = *mp;
    if (!m)
        return;
    kvbag_clear(&m->found);
    registry_plan_clear(&m->plan);
    free(m);
    *mp = NULL;
}
