/* txn.c - recipients and envelopes. */
#include "dataplane/smtp/txn.h"

struct smtp_txn *smtp_txn_new(struct arena *a, const struct smtp_path *sender)
{
    struct smtp_txn *t = arena_alloc(a, sizeof *t);
    if (!t)
        return NULL;
    struct slice address = arena_copy(a, sender->address);
    if (!address.p)
        return NULL;
    *t = (struct smtp_txn){.sender = {.address = address, .null = sender->null, .literal = sender->literal}};
    t->last = &t->first;
    if (!sender->null) {
        t->sender.local = slice_of(address.p, sender->local.n);
        t->sender.domain = slice_of(address.p + sender->local.n + 1, sender->domain.n);
    }
    return t;
}

static void lower(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] |= 0x20;
}

struct smtp_rcpt *smtp_rcpt_new(struct arena *a, const struct smtp_path *path, struct slice domain)
{
    if (path->domain.n)
        domain = path->domain;
    struct smtp_rcpt *r = arena_alloc(a, sizeof *r);
    size_t local_n = path->local.n, n = local_n + 1 + domain.n;
    uint8_t *p = r ? arena_alloc(a, n) : NULL;
    if (!p)
        return NULL;
    memcpy(p, path->local.p, local_n);
    p[local_n] = '@';
    memcpy(p + local_n + 1, domain.p, domain.n);
    lower(p + local_n + 1, domain.n);
    *r = (struct smtp_rcpt){.path = {.address = slice_of(p, n),
                                     .local = slice_of(p, local_n),
                                     .domain = slice_of(p + local_n + 1, domain.n),
                                     .literal = path->literal}};
    return r;
}

static struct smtp_group *txn_group(const struct smtp_txn *t, struct slice domain)
{
    struct smtp_group *g = t->first;
    while (g && !slice_eq(g->domain, domain))
        g = g->next;
    return g;
}

bool smtp_txn_has(const struct smtp_txn *t, const struct smtp_rcpt *r)
{
    const struct smtp_group *g = txn_group(t, r->path.domain);
    for (const struct smtp_rcpt *o = g ? g->first : NULL; o; o = o->next)
        if (slice_eq(o->path.local, r->path.local))
            return true;
    return false;
}

static struct smtp_group *txn_group_new(struct smtp_txn *t, struct arena *a, struct slice domain)
{
    struct smtp_group *g = arena_alloc(a, sizeof *g);
    if (!g)
        return NULL;
    *g = (struct smtp_group){.domain = domain};
    g->last = &g->first;
    *t->last = g;
    t->last = &g->next;
    t->groups_n++;
    return g;
}

bool smtp_txn_add(struct smtp_txn *t, struct arena *a, struct smtp_rcpt *r)
{
    struct smtp_group *g = txn_group(t, r->path.domain);
    if (!g)
        g = txn_group_new(t, a, r->path.domain);
    if (!g)
        return false;
    r->next = NULL;
    *g->last = r;
    g->last = &r->next;
    g->rcpts_n++;
    t->rcpts_n++;
    return true;
}

static const struct slice *group_addresses(const struct smtp_group *g, struct arena *a)
{
    struct slice *list = arena_alloc(a, g->rcpts_n * sizeof *list);
    size_t i = 0;
    for (const struct smtp_rcpt *r = g->first; list && r; r = r->next)
        list[i++] = r->path.address;
    return list;
}

bool smtp_txn_seal(struct smtp_txn *t, struct arena *a, struct slice helo, struct slice client)
{
    struct envelope *e = arena_alloc(a, t->groups_n * sizeof *e);
    t->envs = e;
    for (const struct smtp_group *g = t->first; e && g; g = g->next, e++) {
        *e = (struct envelope){.domain = g->domain,
                               .sender = t->sender.address,
                               .rcpts = group_addresses(g, a),
                               .rcpts_n = g->rcpts_n,
                               .helo = helo,
                               .client = client,
                               .flags = t->flags};
        if (!e->rcpts)
            return false;
    }
    return t->envs != NULL;
}
