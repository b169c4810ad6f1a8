/* relay.c - the relay's thread: one epoll loop for all domains.
 *
 *   a turn: kicks and announcements -> bags; timers that are due; lists of bags and connections with something to do;
 *           sleep until a socket, the outlet, a kick or a timer has news */
#include "dataplane/relay/relay_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICK_US     250000ull /* deadlines of connections are looked at this often */
#define WORK_MAX    2000      /* steps of a turn, before sockets are looked at again */
#define PAUSE_US    10000000ull
#define EVENTS_MAX  64
#define BRISK_US    100
#define WAIT_MAX_US 3600000000ull

const struct relay_config relay_config_default = {
    .hostname = "localhost",
    .max_connections = 512,
    .connect_timeout_us = 30000000,
    .probe_min_us = 5000000,
    .probe_max_us = 60000000,
    .retry_min_us = 60000000,
    .retry_max_us = 3600000000,
    .dsn = true,
};

/* ---- the table of bags */

static size_t hash(struct slice s)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ s.p[i]) * 1099511628211u;
    return (size_t)(h ^ (h >> 32));
}

static struct bag **place_of(const struct relay *r, struct slice domain)
{
    struct bag **at = &r->table[hash(domain) & (r->table_n - 1)];
    while (*at && !slice_eq(bag_name(*at), domain))
        at = &(*at)->hash_next;
    return at;
}

/* Under the lock. */
static void grow_table(struct relay *r)
{
    size_t n = r->table_n * 2;
    struct bag **table = calloc(n, sizeof(struct bag *));
    if (!table)
        return; /* longer chains do too */
    for (size_t i = 0; i < r->table_n; i++)
        for (struct bag *b = r->table[i], *next; b; b = next) {
            next = b->hash_next;
            struct bag **at = &table[hash(bag_name(b)) & (n - 1)];
            b->hash_next = *at;
            *at = b;
        }
    free(r->table);
    r->table = table;
    r->table_n = n;
}

struct bag *relay_bag(struct relay *r, struct slice domain)
{
    struct bag *b = *place_of(r, domain); /* only this thread changes the table */
    if (b || domain.n == 0 || domain.n > 255 || !(b = bag_new(r, domain)))
        return b;
    pthread_mutex_lock(&r->lock);
    if (++r->bags_n > r->table_n)
        grow_table(r);
    *place_of(r, domain) = b;
    pthread_mutex_unlock(&r->lock);
    return b;
}

static void forget_bag(struct relay *r, struct bag *b)
{
    pthread_mutex_lock(&r->lock);
    *place_of(r, bag_name(b)) = b->hash_next;
    r->bags_n--;
    pthread_mutex_unlock(&r->lock);
    r->down_n -= b->st.state == RELAY_DOWN; /* its mail went elsewhere */
    metric_set(M_RELAY_DOMAINS_DOWN, r->down_n);
    bag_free(b);
}

/* ---- other threads */

void relay_wake_thread(struct relay *r)
{
    eventfd_write(r->wake_watch.fd, 1);
}

bool relay_domain(struct relay *r, struct slice domain, struct relay_domain_info *info_r)
{
    pthread_mutex_lock(&r->lock);
    const struct bag *b = *place_of(r, domain);
    if (b)
        *info_r = b->pub;
    pthread_mutex_unlock(&r->lock);
    return b != NULL;
}

void relay_kick(struct relay *r, struct slice domain)
{
    struct kick *k = domain.n < sizeof k->name ? calloc(1, sizeof *k) : NULL;
    if (!k)
        return;
    memcpy(k->name, domain.p, domain.n);
    pthread_mutex_lock(&r->lock);
    k->next = r->kicks;
    r->kicks = k;
    pthread_mutex_unlock(&r->lock);
    relay_wake_thread(r);
}

/* ---- a turn */

static void take_kicks(struct relay *r)
{
    pthread_mutex_lock(&r->lock);
    struct kick *list = r->kicks;
    r->kicks = NULL;
    pthread_mutex_unlock(&r->lock);
    while (list) {
        struct kick *k = list;
        list = k->next;
        struct bag *b = relay_bag(r, slice_str(k->name));
        if (b) {
            b->more = true;
            b->version = UINT64_MAX - 1; /* look the domain up again: a held one may be ours once more */
            bag_event(b, BAG_KICK, 0, NULL);
            bag_soon(b);
        }
        free(k);
    }
}

static void on_wake(void *arg, uint32_t events)
{
    struct relay *r = arg;
    eventfd_t v;
    (void)events;
    eventfd_read(r->wake_watch.fd, &v);
    take_kicks(r);
}

static void on_outlet(void *arg, uint32_t events)
{
    (void)arg;
    (void)events; /* asked each turn anyway */
}

static void take_ready(struct relay *r)
{
    struct slice domain;
    while (r->outlet->ops->ready(r->outlet, &domain)) {
        struct bag *b = relay_bag(r, domain);
        if (!b)
            continue;
        b->more = true;
        bag_soon(b);
    }
}

static void take_registry(struct relay *r)
{
    uint64_t v = domains_version(r->domains);
    if (v == r->version)
        return;
    r->version = v;
    for (size_t i = 0; i < r->table_n; i++)
        for (struct bag *b = r->table[i]; b; b = b->hash_next)
            bag_soon(b);
}

static void take_timers(struct relay *r)
{
    struct wake *w;
    while ((w = wake_due(&r->wakes, r->now_us))) {
        struct bag *b = w->owner;
        if (bag_idle(b) && r->now_us - b->quiet_us >= RELAY_FORGET_US) {
            forget_bag(r, b);
            continue;
        }
        b->more = true;
        bag_soon(b);
    }
    if (r->now_us - r->tick_us < TICK_US)
        return;
    r->tick_us = r->now_us;
    for (struct conn *c = r->all, *next; c; c = next) {
        next = c->all_next;
        conn_tick(c, r->now_us);
    }
}

static struct bag *pop_run(struct relay *r)
{
    struct bag *b = r->run_head;
    if (!b)
        return NULL;
    r->run_head = b->run_next;
    if (!r->run_head)
        r->run_tail = NULL;
    b->in_run = false;
    return b;
}

static struct conn *pop_soon(struct relay *r)
{
    struct conn *c = r->soon_head;
    if (!c)
        return NULL;
    r->soon_head = c->soon_next;
    if (!r->soon_head)
        r->soon_tail = NULL;
    c->in_soon = false;
    return c;
}

static void bury(struct relay *r)
{
    struct conn **at = &r->graves;
    while (*at) {
        struct conn *c = *at;
        if (c->in_soon) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        free(c);
    }
}

void relay_work(struct relay *r)
{
    for (int i = 0; i < WORK_MAX; i++) {
        struct conn *c = pop_soon(r);
        if (c) {
            conn_run(c);
            continue;
        }
        struct bag *b = pop_run(r);
        if (!b)
            break;
        bag_run(b);
    }
    bury(r);
}

void relay_pause(struct relay *r, int err)
{
    if (r->now_us >= r->paused_until_us)
        log_error("relay.paused", "for_s=%llu err=\"%s\"", PAUSE_US / 1000000, satchel_strerror(err));
    r->paused_until_us = r->now_us + PAUSE_US;
}

/* ---- the loop */

static int wait_ms(struct relay *r)
{
    if (r->run_head || r->soon_head || !r->outlet->ops->sleep(r->outlet))
        return 0;
    uint64_t now = clock_boot_us(r->clock), at = wake_next_us(&r->wakes);
    if (r->conns_n && at > r->tick_us + TICK_US)
        at = r->tick_us + TICK_US;
    if (at > now + WAIT_MAX_US)
        at = now + WAIT_MAX_US;
    int ms = at > now ? (int)((at - now + 999) / 1000) : 0, dns = resolver_wait_ms(r->resolver);
    return dns >= 0 && dns < ms ? dns : ms;
}

/* Over a short path a drain is a game of ping-pong: the answer is here sooner than a core falls asleep and wakes.  So
 * while answers come that fast, look for them a little before sleeping.  One wait that took longer ends it. */
static int wait_events(struct relay *r, struct epoll_event *events)
{
    int n, ms = wait_ms(r);
    uint64_t from = clock_boot_us(r->clock);
    do
        n = epoll_wait(r->epfd, events, EVENTS_MAX, ms && r->brisk ? 0 : ms);
    while (n == 0 && ms && r->brisk && clock_boot_us(r->clock) < from + BRISK_US);
    if (n == 0 && ms && r->brisk)
        n = epoll_wait(r->epfd, events, EVENTS_MAX, ms);
    r->now_us = clock_boot_us(r->clock);
    r->brisk = n > 0 && r->conns_n && r->now_us - from < BRISK_US;
    return n;
}

/* What is known first, sleep last: a door announces only after it was asked once. */
static void turn(struct relay *r)
{
    struct epoll_event events[EVENTS_MAX];
    take_ready(r);
    take_registry(r);
    take_timers(r);
    relay_work(r);
    int n = wait_events(r, events);
    for (int i = 0; i < n; i++) {
        struct watch *w = events[i].data.ptr;
        if (w->fd >= 0)
            w->fn(w->arg, events[i].events);
    }
    resolver_tick(r->resolver);
}

/* Idle connections say QUIT, those that have not begun are dropped; messages under way may end. */
static void begin_stop(struct relay *r)
{
    for (struct conn *c = r->all, *next; c; c = next) {
        next = c->all_next;
        if (c->ready)
            conn_soon(c);
        else
            conn_abort(c);
    }
}

static void end_stop(struct relay *r)
{
    while (r->all)
        conn_abort(r->all);
    for (size_t i = 0; i < r->table_n; i++)
        for (struct bag *b = r->table[i]; b; b = b->hash_next)
            bag_release_all(b);
    while (pop_soon(r))
        ;
    while (pop_run(r))
        ;
    bury(r);
}

static void *thread_main(void *arg)
{
    struct relay *r = arg;
    pthread_setname_np(pthread_self(), "relay");
    while (!atomic_load(&r->stopping))
        turn(r);
    begin_stop(r);
    while (r->conns_n && clock_boot_us(r->clock) < atomic_load(&r->stop_at_us))
        turn(r);
    end_stop(r);
    return NULL;
}

/* ---- opening and closing */

static void relay_free(struct relay *r)
{
    for (size_t i = 0; r->table && i < r->table_n; i++)
        while (r->table[i]) {
            struct bag *b = r->table[i];
            r->table[i] = b->hash_next;
            bag_free(b);
        }
    while (r->kicks) {
        struct kick *k = r->kicks;
        r->kicks = k->next;
        free(k);
    }
    while (r->spare) {
        struct relay_msg *x = r->spare;
        r->spare = x->next;
        free(x);
    }
    resolver_close(&r->resolver);
    if (r->wake_watch.fd >= 0)
        close(r->wake_watch.fd);
    if (r->epfd >= 0)
        close(r->epfd);
    wakes_free(&r->wakes);
    pthread_mutex_destroy(&r->lock);
    free(r->table);
    free(r->results);
    free(r->recv_buf);
    free(r);
}

static struct relay *relay_new(const struct relay_config *cfg)
{
    struct relay *r = calloc(1, sizeof *r);
    uint64_t seed;
    if (!r)
        return NULL;
    r->cfg = *cfg;
    r->state_cfg = bagstate_config_default;
    r->state_cfg.probe_min_us = cfg->probe_min_us;
    r->state_cfg.probe_max_us = cfg->probe_max_us;
    r->version = UINT64_MAX;
    rng_bytes(&seed, sizeof seed);
    rng_seed(&r->rng, seed);
    pthread_mutex_init(&r->lock, NULL);
    r->table_n = 64;
    r->table = calloc(r->table_n, sizeof(struct bag *));
    r->results = calloc(RELAY_RCPTS_MAX, sizeof *r->results);
    r->recv_buf = malloc(CLIENT_INPUT_MAX);
    r->wake_watch = (struct watch){eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), on_wake, r};
    r->epfd = epoll_create1(EPOLL_CLOEXEC);
    return r;
}

static int relay_start(struct relay *r)
{
    if (!r->table || !r->results || !r->recv_buf)
        return -SATCHEL_ENOMEM;
    if (r->epfd < 0 || r->wake_watch.fd < 0)
        return -errno;
    r->outlet_watch = (struct watch){r->outlet->fd, on_outlet, r};
    int rc = watch_add(r->epfd, &r->wake_watch, EPOLLIN);
    if (rc == 0)
        rc = watch_add(r->epfd, &r->outlet_watch, EPOLLIN);
    if (rc < 0)
        return -errno;
    rc = resolver_open(&r->resolver, r->epfd, r->cfg.nameservers);
    return rc < 0 ? rc : -pthread_create(&r->thread, NULL, thread_main, r);
}

int relay_open(struct relay **r_r, const struct relay_config *cfg, struct outlet *outlet, struct domains *domains,
               const struct clock *clock)
{
    struct relay *r = relay_new(cfg);
    if (!r)
        return -SATCHEL_ENOMEM;
    r->outlet = outlet;
    r->domains = domains;
    r->clock = clock;
    r->now_us = clock_boot_us(clock);
    int rc = relay_start(r);
    if (rc < 0) {
        relay_free(r);
        return rc;
    }
    *r_r = r;
    return 0;
}

void relay_close(struct relay **r, uint64_t drain_us)
{
    if (!*r)
        return;
    atomic_store(&(*r)->stop_at_us, clock_boot_us((*r)->clock) + drain_us);
    atomic_store(&(*r)->stopping, true);
    relay_wake_thread(*r);
    pthread_join((*r)->thread, NULL);
    (*r)->outlet->ops->close(&(*r)->outlet);
    relay_free(*r);
    *r = NULL;
}
