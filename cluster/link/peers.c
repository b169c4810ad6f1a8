/* peers.c - the links of a node over TLS: the table of peers, the listening socket, one epoll, and the turns.
 *
 * A turn (poll): events, then the work of the links that have some, then timers, then what callbacks queued goes out.
 * Input comes before timers, so that a process that was stopped does not take its own pause for the others' silence.
 *
 * Log: link.up, link.down (a link ended), link.refused (by either side; at most once a minute a peer), link.stranger
 * (who never became a peer; a few a minute in all), link.replaced, tls.renewed, tls.refused. */
#include "cluster/link/peers.h"

#include "cluster/link/peer.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    EVENTS = 64,
    STRANGERS_MAX = 64,              /* accepted, and not up yet */
    ACCEPTS_MAX = 64,                /* a turn */
    ACCEPT_REST_US = 1000 * 1000,    /* when the process has no more descriptors */
    GRAIN_US = 5000,                 /* timers are not looked at more often */
    STRANGER_LOGS_MAX = 8,           /* lines in */
    STRANGER_LOGS_US = 60 * 1000000, /* so long */
};

struct peers_tls {
    struct peers base;
    struct links ls;
    struct peers_tls_config cfg;
    struct peers_app app;
    struct rng rng;
    struct peer **peers; /* by storage */
    size_t n;
    struct peer *unwanted; /* to be freed when their links are buried */
    uint64_t up;
    int listener;
    uint64_t accept_us; /* no accepting before; 0: accepting */
    uint64_t stranger_us, stranger_lines, stranger_hushed;
};

static struct peers_tls *peers_of(struct peers *p)
{
    return (struct peers_tls *)p;
}

static uint64_t peers_now(const struct peers_tls *p)
{
    return clock_boot_us(p->ls.clock);
}

static struct peer *peers_find(const struct peers_tls *p, const struct storage_id *id)
{
    size_t lo = 0, hi = p->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = memcmp(p->peers[mid]->addr.storage.b, id->b, sizeof id->b);
        if (c == 0)
            return p->peers[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static struct peer *peers_find_name(const struct peers_tls *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->peers[i]->addr.name, name) == 0)
            return p->peers[i];
    return NULL;
}

/* ---- who may be a peer */

static bool peers_certified(const struct link *l, const char *name, char *why_r)
{
    char subject[WHY_MAX];
    if (tls_conn_names(l->tls, name))
        return true;
    tls_conn_subject(l->tls, subject);
    why_say(why_r, "the certificate shown at %s is for '%.64s', but node %s is expected: make one with cluster-certs",
            l->from, subject, name);
    return false;
}

static bool peers_greets(void *arg, struct link *l, char *why_r)
{
    (void)arg;
    return peers_certified(l, l->peer->addr.name, why_r);
}

/* A name that the map knows, on a storage that it does not. */
static void peers_say_new_disk(const struct peer *peer, const struct peer_hello *h, char *why_r)
{
    char there[STORAGE_ID_TEXT_MAX], wanted[STORAGE_ID_TEXT_MAX];
    storage_id_format(&h->storage, there);
    storage_id_format(&peer->addr.storage, wanted);
    why_say(why_r,
            "node %s shows storage %s, but the map says %s: if its disk was replaced, `satchelctl node replace %s`; "
            "else it needs another name",
            h->name, there, wanted, h->name);
}

static bool peers_judges_dialed(const struct link *l, const struct peer_hello *h, char *why_r)
{
    if (storage_id_eq(&h->storage, &l->peer->addr.storage))
        return true;
    peers_say_new_disk(l->peer, h, why_r);
    return false;
}

static bool peers_judges_caller(struct peers_tls *p, struct link *l, const struct peer_hello *h, char *why_r)
{
    char there[STORAGE_ID_TEXT_MAX];
    struct peer *peer = peers_find(p, &h->storage), *named = peers_find_name(p, h->name);
    storage_id_format(&h->storage, there);
    l->peer = peer ? peer : named;
    if (!l->peer)
        why_say(why_r, "%s knows no node %s with storage %s: has it joined, or was it removed? (satchelctl node list)",
                p->cfg.hello.name, h->name, there);
    else if (!peer)
        peers_say_new_disk(named, h, why_r);
    else if (peer != named)
        why_say(why_r, "storage %s calls itself node %s, but %s knows it as node %s (satchelctl node list)", there,
                h->name, p->cfg.hello.name, peer->addr.name);
    else if (peer->dials)
        why_say(why_r, "%s dialed %s, but the smaller UUID dials: is one of the two of another release?", h->name,
                p->cfg.hello.name);
    else
        return peers_certified(l, peer->addr.name, why_r);
    return false;
}

static bool peers_judges(void *arg, struct link *l, const struct peer_hello *h, char *why_r)
{
    struct peers_tls *p = arg;
    if (!hello_agrees(&p->cfg.hello, h, why_r)) {
        if (!l->peer)
            l->peer = peers_find(p, &h->storage);
        return false;
    }
    return l->dialer ? peers_judges_dialed(l, h, why_r) : peers_judges_caller(p, l, h, why_r);
}

/* ---- up and down */

static void peers_tell_down(struct peers_tls *p, struct peer *peer)
{
    if (!peer->told)
        return;
    peer->told = false;
    metric_set(M_LINK_UP, --p->up);
    metric_add(M_LINK_ENDED, 1);
    p->app.down(p->app.arg, &peer->addr.storage);
}

static void peers_tell_up(struct peers_tls *p, struct peer *peer)
{
    struct peer_info info;
    peer->told = true;
    metric_set(M_LINK_UP, ++p->up);
    peer_info(peer, &info);
    p->app.up(p->app.arg, &info);
}

/* The newer connection wins: whoever dials again has given the older one up. */
static void peers_replace(struct peer *peer, struct link *by)
{
    struct link *old = peer->link;
    if (!old || old->state == LINK_DEAD)
        return;
    log_warning("link.replaced", "node=%s from=%s was=%s boot=%s", peer->addr.name, by->from, old->from,
                by->hello.boot == old->hello.boot ? "same" : "\"other: restarted, or two processes on one storage\"");
    link_die(old, LINK_END_LOST, "replaced by a newer connection of the same storage");
}

static void peers_link_up(void *arg, struct link *l)
{
    struct peers_tls *p = arg;
    struct peer *peer = l->peer;
    char id[STORAGE_ID_TEXT_MAX];
    peers_replace(peer, l);
    peer_linked(peer, l, peers_now(p));
    storage_id_format(&peer->addr.storage, id);
    log_info("link.up", "node=%s storage=%s from=%s dialed=%s", peer->addr.name, id, l->from, l->dialer ? "us" : "it");
    peers_tell_down(p, peer);
    if (l->state == LINK_UP)
        peers_tell_up(p, peer);
}

static void peers_link_frame(void *arg, struct link *l, const struct frame *f)
{
    struct peers_tls *p = arg;
    p->app.frame(p->app.arg, &l->peer->addr.storage, f->type, f->version, f->payload);
}

static void peers_link_room(void *arg, struct link *l)
{
    struct peers_tls *p = arg;
    p->app.room(p->app.arg, &l->peer->addr.storage);
}

static const struct link_app peers_link_app = {peers_greets, peers_judges, peers_link_up, peers_link_frame,
                                               peers_link_room};

/* ---- burying */

static void peers_log_stranger(struct peers_tls *p, const struct link *l)
{
    char why[2 * WHY_MAX];
    uint64_t now = peers_now(p);
    if (now - p->stranger_us >= STRANGER_LOGS_US) {
        p->stranger_us = now;
        p->stranger_lines = 0;
    }
    if (l->end == LINK_END_LOST)
        return; /* a port scan, a health check */
    if (p->stranger_lines >= STRANGER_LOGS_MAX) {
        p->stranger_hushed++;
        return;
    }
    p->stranger_lines++;
    log_warning("link.stranger", "from=%s node=%s hushed=%llu why=%s", l->from, l->hello.name[0] ? l->hello.name : "-",
                (unsigned long long)p->stranger_hushed, log_quote(slice_str(l->why), why, sizeof why));
    p->stranger_hushed = 0;
}

static void peers_bury_link(struct peers_tls *p, struct link *l)
{
    struct peer *peer = l->peer;
    char why[2 * WHY_MAX];
    peer->link = NULL;
    peer->sent += l->sent;
    peer->received += l->received;
    peer_lost(peer, &p->rng, peers_now(p), l->why);
    log_warning("link.down", "node=%s from=%s why=%s", peer->addr.name, l->from,
                log_quote(slice_str(l->why), why, sizeof why));
    peers_tell_down(p, peer);
}

static void peers_bury_attempt(struct peers_tls *p, struct link *l)
{
    struct peer *peer = l->peer;
    if (peer->dial == l) {
        peer->dial = NULL;
        peer_lost(peer, &p->rng, peers_now(p), l->why);
    } else if (peer->link || peer->dial) {
        return; /* it called beside our own attempt, whose end will say more */
    } else {
        why_say(peer->why, "%s", l->why); /* it called, and may not be linked */
    }
    if (!peer->link && l->end != LINK_END_UNWANTED)
        peer_complain(peer, l->end == LINK_END_REFUSED ? "link.refused" : "link.down", peers_now(p));
}

static void peers_bury(struct peers_tls *p)
{
    struct link *l;
    while ((l = p->ls.deaths)) {
        p->ls.deaths = l->dead_next;
        if (l->end == LINK_END_REFUSED)
            metric_add(M_LINK_REFUSED, 1);
        if (!l->peer)
            peers_log_stranger(p, l);
        else if (l->peer->link == l)
            peers_bury_link(p, l);
        else
            peers_bury_attempt(p, l);
        link_free(l);
        p->ls.due_us = 0; /* another attempt may be due */
    }
    while (p->unwanted) {
        struct peer *peer = p->unwanted;
        p->unwanted = peer->next;
        peer_free(peer);
    }
}

/* ---- whom we want */

static int peers_order(const void *a, const void *b)
{
    const struct peer *const *x = a, *const *y = b;
    return memcmp((*x)->addr.storage.b, (*y)->addr.storage.b, sizeof(*x)->addr.storage.b);
}

static void peers_unlink(struct peers_tls *p, struct peer *peer, const char *why)
{
    for (struct link *l = p->ls.all; l; l = l->next)
        if (l->peer == peer)
            link_die(l, LINK_END_UNWANTED, "%s", why);
}

static void peers_drop(struct peers_tls *p, struct peer *peer)
{
    peers_unlink(p, peer, "not in the map any more");
    peer->next = p->unwanted;
    p->unwanted = peer;
}

/* The peer of this address: kept where storage and name are the same. */
static struct peer *peers_keep(struct peers_tls *p, const struct peer_addr *a)
{
    struct peer *peer = peers_find(p, &a->storage);
    if (!peer || strcmp(peer->addr.name, a->name) != 0)
        return peer_new(&p->cfg.hello.storage, a, peers_now(p));
    if (strcmp(peer->addr.address, a->address) != 0) {
        peer_move(peer, a, peers_now(p));
        if (peer->dial)
            link_die(peer->dial, LINK_END_UNWANTED, "its address has changed");
    }
    return peer;
}

static bool peers_has(struct peer *const *peers, size_t n, const struct storage_id *id)
{
    for (size_t i = 0; i < n; i++)
        if (storage_id_eq(&peers[i]->addr.storage, id))
            return true;
    return false;
}

static void peers_want(struct peers *base, const struct peer_addr *addrs, size_t n)
{
    struct peers_tls *p = peers_of(base);
    struct peer **now = calloc(n ? n : 1, sizeof *now);
    size_t now_n = 0;
    if (!now)
        return; /* as it was; the next map asks again */
    for (size_t i = 0; i < n; i++) {
        if (storage_id_eq(&addrs[i].storage, &p->cfg.hello.storage) || peers_has(now, now_n, &addrs[i].storage))
            continue;
        struct peer *peer = peers_keep(p, &addrs[i]);
        if (peer)
            now[now_n++] = peer;
    }
    qsort(now, now_n, sizeof *now, peers_order);
    struct peer **before = p->peers;
    size_t before_n = p->n;
    p->peers = now;
    p->n = now_n;
    for (size_t i = 0; i < before_n; i++)
        if (peers_find(p, &before[i]->addr.storage) != before[i])
            peers_drop(p, before[i]);
    free(before);
    p->ls.due_us = 0;
}

/* ---- accepting */

static void peers_accept_on(struct peers_tls *p, bool on)
{
    struct epoll_event ev = {.events = on ? EPOLLIN : 0, .data.ptr = NULL};
    epoll_ctl(p->ls.epoll, EPOLL_CTL_MOD, p->listener, &ev);
    p->accept_us = on ? 0 : peers_now(p) + ACCEPT_REST_US;
    if (!on && p->accept_us < p->ls.due_us)
        p->ls.due_us = p->accept_us;
}

/* Who holds a connection without becoming a peer makes room for the next: the oldest first. */
static void peers_make_room(struct peers_tls *p)
{
    struct link *oldest = NULL;
    size_t n = 0;
    for (struct link *l = p->ls.all; l; l = l->next)
        if (!l->dialer && l->state != LINK_UP && l->state != LINK_DEAD) {
            oldest = l;
            n++;
        }
    if (n >= STRANGERS_MAX)
        link_die(oldest, LINK_END_LOST, "%s: too many connections that do not become links", oldest->from);
}

static void peers_accept(struct peers_tls *p)
{
    tls_refresh(p->ls.tls);
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sock_addr from = {.n = sizeof from.ss};
        int fd = accept4(p->listener, (struct sockaddr *)&from.ss, &from.n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            log_error("link.accept", "error=%s remedy=\"raise the limit of open files\"", strerrorname_np(errno));
            peers_accept_on(p, false);
        }
        if (fd < 0)
            return;
        peers_make_room(p);
        link_sock_tune(fd);
        struct link *l = link_new(&p->ls, fd, false, &from);
        if (l)
            link_work(l);
    }
}

/* ---- the turn */

static void peers_events(struct peers_tls *p)
{
    struct epoll_event ev[EVENTS];
    int n;
    do {
        n = epoll_wait(p->ls.epoll, ev, EVENTS, 0);
        for (int i = 0; i < n; i++)
            if (ev[i].data.ptr)
                link_event(ev[i].data.ptr, ev[i].events);
            else
                peers_accept(p);
    } while (n == EVENTS);
}

static void peers_work(struct peers_tls *p, bool reads)
{
    struct link *todo = p->ls.work;
    p->ls.work = NULL;
    while (todo) {
        struct link *l = todo;
        todo = l->work_next;
        link_run(l, reads);
    }
}

static void peers_timers(struct peers_tls *p)
{
    uint64_t now = peers_now(p), due = UINT64_MAX;
    if (now < p->ls.due_us)
        return;
    p->ls.due_us = UINT64_MAX;
    if (p->accept_us && now >= p->accept_us)
        peers_accept_on(p, true);
    if (p->accept_us)
        due = p->accept_us;
    for (struct link *l = p->ls.all; l; l = l->next) {
        uint64_t us = link_tick(l, now);
        due = us < due ? us : due;
    }
    for (size_t i = 0; i < p->n; i++) {
        uint64_t us = peer_tick(p->peers[i], &p->ls, &p->rng, now);
        due = us < due ? us : due;
    }
    due = due < p->ls.due_us ? due : p->ls.due_us;
    p->ls.due_us = due < now + GRAIN_US ? now + GRAIN_US : due;
}

static void peers_poll(struct peers *base)
{
    struct peers_tls *p = peers_of(base);
    peers_bury(p); /* down is told before anything newer */
    peers_events(p);
    peers_work(p, true);
    peers_bury(p);
    peers_timers(p);
    peers_work(p, false);
    peers_bury(p);
}

static uint64_t peers_next_us(struct peers *base)
{
    const struct peers_tls *p = peers_of(base);
    return p->ls.work || p->ls.deaths ? 0 : p->ls.due_us;
}

static int peers_send(struct peers *base, const struct storage_id *to, struct fbuf *f)
{
    const struct peer *peer = peers_find(peers_of(base), to);
    return peer && peer->link ? link_send(peer->link, f) : -SATCHEL_ENOENT;
}

static bool peers_info(struct peers *base, const struct storage_id *id, struct peer_info *info_r)
{
    const struct peer *peer = peers_find(peers_of(base), id);
    if (!peer)
        return false;
    peer_info(peer, info_r);
    return true;
}

/* ---- beginning and end */

static void peers_close(struct peers **base)
{
    struct peers_tls *p = peers_of(*base);
    struct link *l;
    while ((l = p->ls.all)) {
        if (l->state == LINK_UP) {
            l->starved = false; /* no callbacks any more */
            link_run(l, false); /* what is queued, as far as the socket takes it */
            if (l->tls)
                tls_conn_end(l->tls);
        }
        link_free(l);
    }
    for (size_t i = 0; i < p->n; i++)
        peer_free(p->peers[i]);
    while (p->unwanted) {
        struct peer *peer = p->unwanted;
        p->unwanted = peer->next;
        peer_free(peer);
    }
    if (p->listener >= 0)
        close(p->listener);
    if (p->ls.epoll >= 0)
        close(p->ls.epoll);
    tls_close(&p->ls.tls);
    free(p->peers);
    free(p->ls.rx);
    free(p->ls.tx);
    free(p);
    *base = NULL;
}

static void peers_join(struct peers *base, const struct storage_id *cluster)
{
    peers_of(base)->cfg.hello.cluster = *cluster;
}

static const struct peers_ops peers_tls_ops = {
    .send = peers_send,
    .join = peers_join,
    .want = peers_want,
    .info = peers_info,
    .poll = peers_poll,
    .next_us = peers_next_us,
    .close = peers_close,
};

static int peers_prepare(struct peers_tls *p, const struct peers_tls_config *cfg, char *why_r)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    int rc = tls_open(&p->ls.tls, cfg->ca, cfg->cert, cfg->key, p->ls.clock, why_r);
    if (rc < 0)
        return rc;
    p->listener = link_sock_listen(cfg->listen, why_r);
    if (p->listener < 0)
        return p->listener;
    p->ls.epoll = p->base.fd = epoll_create1(EPOLL_CLOEXEC);
    p->ls.rx = malloc(LINK_READ_BYTES);
    p->ls.tx = malloc(TLS_RECORD_BYTES);
    p->peers = calloc(1, sizeof(struct peer *));
    if (p->ls.epoll >= 0 && p->ls.rx && p->ls.tx && p->peers &&
        epoll_ctl(p->ls.epoll, EPOLL_CTL_ADD, p->listener, &ev) == 0)
        return 0;
    why_say(why_r, "no memory or descriptors for the links between nodes: raise the limits");
    return -SATCHEL_ENOMEM;
}

int peers_tls_open(struct peers **p_r, const struct peers_tls_config *cfg, const struct peers_app *app,
                   const struct clock *clock, char *why_r)
{
    struct peers_tls *p = calloc(1, sizeof *p);
    uint64_t seed;
    if (!p) {
        why_say(why_r, "no memory");
        return -SATCHEL_ENOMEM;
    }
    p->base = (struct peers){&peers_tls_ops, -1};
    p->cfg = *cfg;
    p->app = *app;
    p->listener = -1;
    p->ls = (struct links){.clock = clock, .cfg = &p->cfg, .app = &peers_link_app, .arg = p, .epoll = -1};
    p->ls.due_us = UINT64_MAX;
    rng_bytes(&seed, sizeof seed);
    rng_seed(&p->rng, seed);
    struct peers *base = &p->base;
    int rc = peers_prepare(p, cfg, why_r);
    if (rc < 0) {
        peers_close(&base);
        return rc;
    }
    *p_r = base;
    return 0;
}

uint16_t peers_tls_port(const struct peers *p)
{
    return link_sock_port(((const struct peers_tls *)p)->listener);
}
