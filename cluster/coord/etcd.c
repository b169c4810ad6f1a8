/* etcd.c - coordination by etcd 3.4 through its JSON gateway; coord.h is the contract, etcd_int.h the floor plan. */
#include "cluster/coord/etcd_int.h"
#include "spool/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WHY_MAX 256 /* coord_etcd_open's why_r */

static struct etcd *etcd_of(struct coord *c)
{
    return (struct etcd *)c; /* base comes first */
}

/* The smallest key behind all that begin with s: its last byte that can grow, plus one.  None can: to the very end,
 * which etcd writes as one zero byte. */
static struct slice range_end(struct slice s)
{
    uint8_t *to = malloc(s.n + 1);
    if (!to)
        abort();
    if (s.n)
        memcpy(to, s.p, s.n);
    for (size_t n = s.n; n > 0; n--) {
        if (to[n - 1] == 0xff)
            continue;
        to[n - 1]++;
        return slice_of(to, n);
    }
    to[0] = 0;
    return slice_of(to, 1);
}

void etcd_range_of(const struct etcd *e, struct slice prefix, struct slice *from_r, struct slice *to_r)
{
    size_t n = e->prefix.n + prefix.n;
    uint8_t *from = calloc(1, n + 1);
    if (!from)
        abort();
    memcpy(from, e->prefix.p, e->prefix.n);
    if (prefix.n)
        memcpy(from + e->prefix.n, prefix.p, prefix.n);
    *to_r = range_end(slice_of(from, n));
    *from_r = slice_of(from, n ? n : 1); /* etcd knows no empty key; the first is one zero byte */
}

static int etcd_list_since(struct coord *c, struct slice prefix, int64_t since, coord_list_done *done, void *arg)
{
    struct etcd_call *call = etcd_call_new(etcd_of(c), ETCD_LIST, arg);
    if (!call)
        return -SATCHEL_ESHUT;
    call->done.list = done;
    call->since = since;
    etcd_call_list_start(call, prefix);
    return 0;
}

static int etcd_list(struct coord *c, struct slice prefix, coord_list_done *done, void *arg)
{
    return etcd_list_since(c, prefix, 0, done, arg);
}

static int etcd_txn(struct coord *c, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                    size_t ops_n, coord_txn_done *done, void *arg)
{
    struct etcd *e = etcd_of(c);
    if (cmps_n > COORD_TXN_OPS_MAX || ops_n > COORD_TXN_OPS_MAX)
        return -SATCHEL_EINVAL;
    struct etcd_call *call = etcd_call_new(e, ETCD_TXN, arg);
    if (!call)
        return -SATCHEL_ESHUT;
    call->done.txn = done;
    call->body = etcd_json_txn(e->prefix, cmps, cmps_n, ops, ops_n);
    return 0;
}

static int lease_call(struct coord *c, enum etcd_kind kind, int64_t lease, char *body, coord_lease_done *done,
                      void *arg)
{
    struct etcd_call *call = etcd_call_new(etcd_of(c), kind, arg);
    if (!call) {
        free(body);
        return -SATCHEL_ESHUT;
    }
    call->done.lease = done;
    call->lease = lease;
    call->body = body;
    return 0;
}

static int etcd_grant(struct coord *c, uint32_t ttl_s, coord_lease_done *done, void *arg)
{
    return lease_call(c, ETCD_GRANT, 0, etcd_json_grant(ttl_s), done, arg);
}

static int etcd_keepalive(struct coord *c, int64_t lease, coord_lease_done *done, void *arg)
{
    return lease_call(c, ETCD_KEEPALIVE, lease, etcd_json_lease(lease), done, arg);
}

static int etcd_revoke(struct coord *c, int64_t lease, coord_lease_done *done, void *arg)
{
    return lease_call(c, ETCD_REVOKE, lease, etcd_json_lease(lease), done, arg);
}

static int etcd_watch_add(struct coord *c, struct slice prefix, coord_changed *changed, void *arg)
{
    if (etcd_of(c)->closing)
        return -SATCHEL_ESHUT;
    etcd_watch_new(etcd_of(c), prefix, changed, arg);
    return 0;
}

static void etcd_info(struct coord *c, struct coord_info *info_r)
{
    const struct etcd *e = etcd_of(c);
    *info_r = e->info;
    snprintf(info_r->endpoint, sizeof info_r->endpoint, "%s", e->endpoints[e->current]);
}

/* Twice over the network, so that what leaves now begins to connect now. */
static void etcd_poll(struct coord *c)
{
    struct etcd *e = etcd_of(c);
    etcd_http_poll(e->http);
    etcd_calls_run(e);
    etcd_watches_run(e);
    etcd_http_poll(e->http);
}

static uint64_t etcd_next_us(struct coord *c)
{
    const struct etcd *e = etcd_of(c);
    uint64_t next = etcd_http_next_us(e->http), calls = etcd_calls_next_us(e), watches = etcd_watches_next_us(e);
    next = calls < next ? calls : next;
    return watches < next ? watches : next;
}

static void etcd_free(struct etcd *e)
{
    etcd_http_close(&e->http);
    for (size_t i = 0; i < e->endpoints_n; i++)
        free(e->endpoints[i]);
    if (e->password)
        explicit_bzero(e->password, strlen(e->password));
    free(e->endpoints);
    free(e->ca);
    free(e->cert);
    free(e->key);
    free(e->user);
    free(e->password);
    free(e->token);
    free((void *)e->prefix.p);
    free(e);
}

static void etcd_close(struct coord **c)
{
    if (!*c)
        return;
    struct etcd *e = etcd_of(*c);
    e->closing = true;
    etcd_watches_free(e);
    etcd_calls_shut(e);
    etcd_free(e);
    *c = NULL;
}

static const struct coord_ops etcd_ops = {
    .list = etcd_list,
    .list_since = etcd_list_since,
    .txn = etcd_txn,
    .grant = etcd_grant,
    .keepalive = etcd_keepalive,
    .revoke = etcd_revoke,
    .watch = etcd_watch_add,
    .info = etcd_info,
    .poll = etcd_poll,
    .next_us = etcd_next_us,
    .close = etcd_close,
};

__attribute__((format(printf, 2, 3))) static int refuse(char *why_r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why_r, WHY_MAX, fmt, ap);
    va_end(ap);
    return -SATCHEL_ECONFIG;
}

static int endpoint_check(const char *url, char *why_r)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(schemes[i]);
        if (strncmp(url, schemes[i], n) == 0 && url[n] && !strpbrk(url + n, "/?#@ \t\r\n"))
            return 0;
    }
    return refuse(why_r, "etcd endpoint \"%.100s\": write it as http://HOST:PORT or https://HOST:PORT", url);
}

static int file_check(const char *what, const char *path, char *why_r)
{
    if (!path || access(path, R_OK) == 0)
        return 0;
    return refuse(why_r, "%s for etcd, %.120s: %s: correct the path, or let satchel's user read it", what, path,
                  strerror(errno));
}

static int config_check(const struct coord_etcd_config *cfg, char *why_r)
{
    int res = 0;
    if (!cfg->endpoints || !cfg->endpoints[0])
        return refuse(why_r, "no etcd endpoints: name at least one, such as http://127.0.0.1:2379");
    for (size_t i = 0; cfg->endpoints[i] && res == 0; i++)
        res = endpoint_check(cfg->endpoints[i], why_r);
    res = res ? res : file_check("the CA", cfg->ca, why_r);
    res = res ? res : file_check("the certificate", cfg->cert, why_r);
    res = res ? res : file_check("the key", cfg->key, why_r);
    if (res == 0 && !cfg->cert != !cfg->key)
        res = refuse(why_r, "a certificate and its key for etcd belong together: give both or none");
    if (res == 0 && !cfg->user != !cfg->password)
        res = refuse(why_r, "a user and a password for etcd belong together: give both or none");
    if (res == 0 && cfg->timeout_ms == 0)
        res = refuse(why_r, "the timeout of calls to etcd is 0: 3000 ms is usual");
    return res;
}

static char *str_copy(const char *s)
{
    char *copy = s ? strdup(s) : NULL;
    if (s && !copy)
        abort();
    return copy;
}

static void endpoints_copy(struct etcd *e, const struct coord_etcd_config *cfg)
{
    while (cfg->endpoints[e->endpoints_n])
        e->endpoints_n++;
    e->endpoints = calloc(e->endpoints_n, sizeof *e->endpoints);
    if (!e->endpoints)
        abort();
    for (size_t i = 0; i < e->endpoints_n; i++)
        e->endpoints[i] = str_copy(cfg->endpoints[i]);
}

static struct etcd *etcd_new(const struct coord_etcd_config *cfg, const struct clock *clock)
{
    struct etcd *e = calloc(1, sizeof *e);
    uint64_t seed;
    if (!e)
        abort();
    rng_bytes(&seed, sizeof seed);
    rng_seed(&e->rng, seed);
    e->base.ops = &etcd_ops;
    e->clock = clock;
    e->ca = str_copy(cfg->ca);
    e->cert = str_copy(cfg->cert);
    e->key = str_copy(cfg->key);
    e->user = str_copy(cfg->user);
    e->password = str_copy(cfg->password);
    e->prefix = slice_str(str_copy(cfg->prefix));
    e->timeout_ms = cfg->timeout_ms;
    e->keepalive_ms = cfg->keepalive_ms && cfg->keepalive_ms < cfg->timeout_ms ? cfg->keepalive_ms : cfg->timeout_ms;
    e->auth = cfg->user ? AUTH_NEEDED : AUTH_OPEN;
    e->info.since_us = clock_boot_us(clock);
    TAILQ_INIT(&e->waiting);
    TAILQ_INIT(&e->flying);
    LIST_INIT(&e->watches);
    endpoints_copy(e, cfg);
    /* Nodes that start together don't all lean on the first. */
    e->current = rng_below(&e->rng, e->endpoints_n);
    return e;
}

int coord_etcd_open(struct coord **c_r, const struct coord_etcd_config *cfg, const struct clock *clock, char *why_r)
{
    int res = config_check(cfg, why_r);
    if (res != 0)
        return res;
    struct etcd *e = etcd_new(cfg, clock);
    res = etcd_http_open(&e->http,
                         &(struct etcd_http_config){.ca = e->ca, .cert = e->cert, .key = e->key, .clock = clock});
    if (res != 0) {
        refuse(why_r, "cannot make an epoll descriptor for etcd: %s: raise the limit of open files", strerror(-res));
        etcd_free(e);
        return res;
    }
    e->base.fd = etcd_http_fd(e->http);
    *c_r = &e->base;
    return 0;
}
