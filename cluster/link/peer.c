/* peer.c - see peer.h. */
#include "cluster/link/peer.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    BACKOFF_MIN_US = 50 * 1000,
    BACKOFF_MAX_US = 2 * 1000 * 1000,
    STEADY_US = 1000 * 1000,     /* a link that stood for so long was no failure */
    RESOLVE_LOOK_US = 20 * 1000, /* while a name is being looked up */
    COMPLAIN_US = 60 * 1000 * 1000,
};

struct peer *peer_new(const struct storage_id *self, const struct peer_addr *addr, uint64_t now_us)
{
    struct peer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->addr = *addr;
    p->dials = memcmp(self->b, addr->storage.b, sizeof self->b) < 0;
    p->hello.storage = addr->storage;
    snprintf(p->hello.name, sizeof p->hello.name, "%s", addr->name);
    p->since_us = p->due_us = now_us;
    why_say(p->why, "%s",
            p->dials ? "connecting" : "waiting for it to connect: it dials, for its UUID is the smaller one");
    return p;
}

void peer_free(struct peer *p)
{
    resolve_drop(&p->resolve);
    free(p);
}

void peer_move(struct peer *p, const struct peer_addr *addr, uint64_t now_us)
{
    p->addr = *addr;
    resolve_drop(&p->resolve);
    p->found.n = p->tried = 0;
    p->due_us = now_us;
    p->backoff_us = 0;
}

static void peer_back_off(struct peer *p, struct rng *rng, uint64_t now_us)
{
    uint64_t us = p->backoff_us ? 2 * p->backoff_us : BACKOFF_MIN_US;
    p->backoff_us = us < BACKOFF_MAX_US ? us : BACKOFF_MAX_US;
    p->due_us = now_us + p->backoff_us - rng_below(rng, p->backoff_us / 2);
}

/* 0: found is filled.  -SATCHEL_EAGAIN: not yet.  -SATCHEL_ENOENT: the name leads nowhere. */
static int peer_resolve(struct peer *p)
{
    if (!p->resolve)
        p->resolve = resolve_start(p->addr.address);
    if (!p->resolve || !resolve_done(p->resolve, &p->found))
        return -SATCHEL_EAGAIN;
    resolve_drop(&p->resolve);
    p->tried = 0;
    return p->found.n ? 0 : -SATCHEL_ENOENT;
}

static void peer_dial(struct peer *p, struct links *ls, struct rng *rng, uint64_t now_us)
{
    const struct sock_addr *to = &p->found.addrs[p->tried++];
    char at[SOCK_TEXT_MAX], why[WHY_MAX];
    int fd = link_sock_connect(to);
    tls_refresh(ls->tls);
    p->dial = fd < 0 ? NULL : link_new(ls, fd, true, to);
    if (p->dial) {
        p->dial->peer = p;
        return;
    }
    sock_format(to, at);
    why_say(why, "%s: %s", at, satchel_strerror(fd < 0 ? fd : -SATCHEL_ENOMEM));
    peer_lost(p, rng, now_us, why);
}

uint64_t peer_tick(struct peer *p, struct links *ls, struct rng *rng, uint64_t now_us)
{
    if (!p->dials || p->link || p->dial)
        return UINT64_MAX;
    if (now_us < p->due_us)
        return p->due_us;
    int rc = p->tried < p->found.n ? 0 : peer_resolve(p);
    if (rc == -SATCHEL_EAGAIN)
        return now_us + RESOLVE_LOOK_US;
    if (rc < 0) {
        peer_lost(p, rng, now_us, p->found.why);
        peer_complain(p, "link.down", now_us);
    } else {
        peer_dial(p, ls, rng, now_us);
    }
    return p->dial ? UINT64_MAX : p->due_us;
}

void peer_linked(struct peer *p, struct link *l, uint64_t now_us)
{
    p->link = l;
    p->dial = NULL;
    p->hello = l->hello;
    p->found.n = p->tried = 0; /* looked up anew next time */
    p->since_us = p->up_us = now_us;
    p->why[0] = 0;
}

void peer_lost(struct peer *p, struct rng *rng, uint64_t now_us, const char *why)
{
    snprintf(p->why, sizeof p->why, "%s", why);
    if (p->up_us) {
        p->since_us = now_us;
        if (now_us - p->up_us >= STEADY_US)
            p->backoff_us = 0;
    }
    p->up_us = 0;
    if (p->tried < p->found.n)
        p->due_us = now_us; /* another address of the same name */
    else
        peer_back_off(p, rng, now_us);
}

void peer_complain(struct peer *p, const char *event, uint64_t now_us)
{
    char id[STORAGE_ID_TEXT_MAX], why[2 * WHY_MAX];
    if (p->complained_us && now_us - p->complained_us < COMPLAIN_US)
        return;
    p->complained_us = now_us;
    storage_id_format(&p->addr.storage, id);
    log_warning(event, "node=%s storage=%s address=%s why=%s", p->addr.name, id, p->addr.address,
                log_quote(slice_str(p->why), why, sizeof why));
}

void peer_info(const struct peer *p, struct peer_info *info_r)
{
    const struct link *l = p->link;
    *info_r = (struct peer_info){.hello = p->hello, .since_us = p->since_us, .sent = p->sent, .received = p->received};
    info_r->up = l && l->state == LINK_UP;
    if (l) {
        info_r->queued = l->out.bytes;
        info_r->sent += l->sent;
        info_r->received += l->received;
        info_r->rtt_us = l->rtt_us;
        info_r->skew_us = l->skew_us;
    }
    snprintf(info_r->why, sizeof info_r->why, "%s", l && !info_r->up ? l->why : p->why);
}
