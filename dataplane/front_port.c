/* front_port.c - the DPDK port of the front-end: opened while privileges last, a transport on each of its queues, the
 * block list, and what others want to know about it. */
#include "dataplane/front_impl.h"

#include "dataplane/conf/settings_dataplane.h"
#include "dataplane/net/user.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdlib.h>

#define BLOCKED_MAX (1u << 20) /* networks on the list */

enum { RING_FRAMES = 1024 };

/* ---- the block list */

static int blocked_read(const struct settings *st, struct blocklist *b_r, char *why_r)
{
    *b_r = (struct blocklist){0};
    return st->dataplane_block_list[0] ? blocklist_read(st->dataplane_block_list, BLOCKED_MAX, b_r, why_r) : 0;
}

int front_check(const struct settings *st, char *why_r)
{
    struct blocklist b;
    if (settings_on_dpdk(st) && !port_dpdk_built())
        return port_dpdk_open(NULL, NULL, why_r); /* says why not */
    int rc = blocked_read(st, &b, why_r);
    if (rc == 0)
        blocklist_free(&b);
    return rc;
}

static void block(void *arg, struct stack *s)
{
    const struct blocklist *b = arg;
    int rc = guard_block(stack_guard(s), b->v, b->n);
    if (rc < 0) /* blocklist.h made it fit: a defect */
        log_error("port.block_list", "reason=\"%s\"", satchel_strerror(rc));
}

static struct transport *queue_transport(const struct front *f, uint32_t queue)
{
    return f->workers[f->sockets_n + queue].transport;
}

/* The earlier list is freed when no queue looks at it any more. */
void front_port_reload(struct front *f, const struct settings *loaded)
{
    struct blocklist b, earlier = f->blocked;
    char why[FRONT_WHY_MAX], quoted[2 * FRONT_WHY_MAX];
    if (!f->port)
        return;
    if (blocked_read(loaded, &b, why) < 0) {
        log_error("port.block_list", "refused=%s action=\"the earlier list stays\"",
                  log_quote(slice_str(why), quoted, sizeof quoted));
        return;
    }
    for (uint32_t i = 0; i < f->queues_n; i++)
        transport_user_call(queue_transport(f, i), block, &b);
    pthread_mutex_lock(&f->lock);
    f->blocked = b;
    pthread_mutex_unlock(&f->lock);
    blocklist_free(&earlier);
    log_info("port.block_list", "networks=%u", b.n);
}

/* ---- the port */

int front_port_open(struct front *f, char *why_r)
{
    const struct settings *st = f->st;
    if (f->queues_n == 0)
        return 0;
    const struct port_dpdk_config cfg = {
        .eal_args = (const char *const *)st->dataplane_eal.v,
        .eal_args_n = (uint32_t)st->dataplane_eal.n,
        .device = st->dataplane_device[0] ? st->dataplane_device : NULL,
        .queues = f->queues_n,
        .rx_ring = RING_FRAMES,
        .tx_ring = RING_FRAMES,
        .mtu = (uint16_t)st->dataplane_mtu,
        .offloads = st->dataplane_offloads,
        .vlan = (uint16_t)st->dataplane_vlan,
    };
    int rc = blocked_read(st, &f->blocked, why_r);
    if (rc == 0)
        rc = port_dpdk_open(&f->port, &cfg, why_r);
    if (rc < 0)
        return rc;
    f->stats = aligned_alloc(64, f->queues_n * sizeof *f->stats);
    if (!f->stats)
        abort();
    memset(f->stats, 0, f->queues_n * sizeof *f->stats);
    return 0;
}

void front_port_close(struct front *f)
{
    if (f->port)
        f->port->ops->close(&f->port);
    blocklist_free(&f->blocked);
    free(f->stats);
    f->stats = NULL;
}

/* ---- a queue's transport */

static void guard_settings(const struct settings *st, struct guard_config *g)
{
    g->bogons = st->dataplane_bogons;
    g->host_per_s = st->dataplane_host_rate;
    g->host_burst = st->dataplane_host_burst;
    g->network_per_s = st->dataplane_network_rate;
    g->network_burst = st->dataplane_network_burst;
    g->answers_per_s = st->dataplane_answers_rate;
    g->blocked_max = BLOCKED_MAX;
}

/* Limits of all queues together are shared out among them. */
static void queue_settings(const struct front *f, uint32_t queue, struct user_config *cfg_r)
{
    const struct settings *st = f->st;
    struct smtp_server_config smtp;
    front_smtp_config(f, st, true, &smtp);
    user_config_default(cfg_r);
    cfg_r->queue = f->port->ops->queue(f->port, queue);
    cfg_r->stats = &f->stats[queue].s;
    settings_ip(st, &cfg_r->stack.ip);
    cfg_r->stack.ip.dad = st->dataplane_probe;
    cfg_r->stack.ip.announce = true;
    guard_settings(st, &cfg_r->stack.guard);
    cfg_r->stack.tcp.pages_max = (uint32_t)(st->dataplane_memory_bytes / f->queues_n / TCP_PAGE_BYTES);
    cfg_r->stack.tcp.window_bytes = (uint32_t)st->dataplane_window_bytes;
    cfg_r->ports_n = settings_ports(st, cfg_r->ports);
    cfg_r->max_conns = smtp.max_sessions;
    cfg_r->early_talker_ms = (uint32_t)(st->dataplane_early_talker_us / 1000);
    cfg_r->tarpit_ms = (uint32_t)(st->dataplane_tarpit_us / 1000);
    if (!st->dataplane_sleep)
        cfg_r->idle_polls = 0;
}

int front_queue_open(struct front *f, uint32_t queue, const struct transport_app *app, struct transport **t_r,
                     char *why_r)
{
    struct user_config cfg;
    queue_settings(f, queue, &cfg);
    int rc = transport_user_open(t_r, &cfg, app, why_r);
    if (rc == 0 && f->blocked.n > 0)
        transport_user_call(*t_r, block, &f->blocked);
    return rc;
}

/* ---- looking */

static void look_at_stack(void *arg, struct stack *s)
{
    struct front_port *l = arg;
    const struct ip *ip = stack_ip(s);
    for (; l->addrs_n < ip_addrs_n(ip); l->addrs_n++)
        l->addrs[l->addrs_n].ready = ip_addr_ready(ip, (uint8_t)l->addrs_n);
    for (uint32_t i = 0; i < l->addrs_n; i++)
        l->addrs[i].at = (struct ip_prefix){ip_addr_at(ip, (uint8_t)i), 128};
}

static void look_at_settings(const struct front *f, struct front_port *l)
{
    struct user_config cfg;
    struct transport *t = queue_transport(f, 0);
    queue_settings(f, 0, &cfg);
    const struct ip_config *ip = &cfg.stack.ip;
    for (uint32_t i = 0; i < l->addrs_n; i++)
        l->addrs[i].at.bits = i < ip->addrs_n ? ip->addrs[i].bits : 64; /* link-local */
    l->mtu = ip->mtu && ip->mtu < l->info.mtu ? ip->mtu : l->info.mtu;
    l->vlan = ip->vlan;
    l->gateway4 = ip->gateway4;
    l->gateway6 = ip->gateway6;
    l->conns_max = cfg.max_conns;
    l->conn_bytes = (uint32_t)transport_user_conn_bytes(t);
    l->pages_max = cfg.stack.tcp.pages_max;
    l->blocks_max = cfg.stack.tcp.txblocks_max;
    l->mapped_bytes = transport_user_mapped(t);
}

int front_port_look(struct front *f, struct front_port *look_r)
{
    if (f->queues_n == 0)
        return -SATCHEL_ENOENT;
    pthread_mutex_lock(&f->lock);
    int rc = f->serving ? 0 : -SATCHEL_EAGAIN;
    if (rc == 0) {
        *look_r = (struct front_port){.blocked = f->blocked.n};
        f->port->ops->info(f->port, &look_r->info);
        transport_user_call(queue_transport(f, 0), look_at_stack, look_r);
        look_at_settings(f, look_r);
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}

bool front_port_link_up(struct front *f)
{
    struct port_info info = {.link_up = false};
    pthread_mutex_lock(&f->lock);
    if (f->queues_n > 0 && f->serving)
        f->port->ops->info(f->port, &info);
    pthread_mutex_unlock(&f->lock);
    return info.link_up;
}

uint32_t front_port_queues(const struct front *f)
{
    return f->queues_n;
}

uint64_t front_port_stat(const struct front *f, uint32_t queue, enum stat_id id)
{
    return stat_get(&f->stats[queue].s, id);
}

struct neighbours {
    struct ip_neighbour *v;
    uint32_t n, cap;
};

static void look_at_neighbours(void *arg, struct stack *s)
{
    struct neighbours *n = arg;
    n->n = ip_neighbours(stack_ip(s), n->v, n->cap, clock_boot_us(clock_system()));
}

uint32_t front_port_neighbours(struct front *f, uint32_t queue, struct ip_neighbour *v_r, uint32_t cap)
{
    struct neighbours n = {.v = v_r, .cap = cap};
    pthread_mutex_lock(&f->lock);
    if (f->serving && queue < f->queues_n)
        transport_user_call(queue_transport(f, queue), look_at_neighbours, &n);
    pthread_mutex_unlock(&f->lock);
    return n.n;
}

uint32_t front_port_device(struct front *f, char (*names_r)[64], uint64_t *values_r, uint32_t cap)
{
    return f->port ? f->port->ops->device_stats(f->port, names_r, values_r, cap) : 0;
}
