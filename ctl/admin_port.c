/* admin_port.c - the DPDK port: /v1/port, and its counters among the metrics. */
#include "ctl/admin_impl.h"
#include "dataplane/front.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/err.h"
#include "spool/base/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { NEIGHBOURS_MAX = 256, DEVICE_MAX = 512 };

/* ---- parts of the answer */

static json_t *mac_json(const uint8_t mac[6])
{
    return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static json_t *device_json(const struct port_info *i)
{
    json_t *offloads =
        json_pack("{sb sb sb sb sb sb}", "verify_ip", i->rx_ip_sum, "verify_tcp", i->rx_l4_sum, "make_ip", i->tx_ip_sum,
                  "make_tcp", i->tx_tcp_sum, "take_tag", i->rx_vlan, "put_tag", i->tx_vlan);
    return json_pack("{ss ss so sb sI sI sI sI sb sb so}", "name", i->name, "driver", i->driver, "mac",
                     mac_json(i->mac), "link_up", i->link_up, "mtu", (json_int_t)i->mtu, "queues",
                     (json_int_t)i->queues, "receive_queues", (json_int_t)i->rx_queues, "send_queues",
                     (json_int_t)i->tx_queues, "spreads_flows", i->rss, "interrupts", i->rx_interrupt, "offloads",
                     offloads);
}

static json_t *addresses_json(const struct front_port *l)
{
    json_t *list = json_array();
    char text[ADDR_TEXT_MAX];
    for (uint32_t i = 0; i < l->addrs_n; i++)
        json_array_append_new(list, json_pack("{ss sb}", "address", addr_format_prefix(&l->addrs[i].at, text), "ready",
                                              l->addrs[i].ready));
    return list;
}

static json_t *gateways_json(const struct front_port *l)
{
    json_t *list = json_array();
    char text[ADDR_TEXT_MAX];
    const struct ip_addr *const both[] = {&l->gateway4, &l->gateway6};
    for (int i = 0; i < 2; i++)
        if (both[i]->q[0] || both[i]->q[1])
            json_array_append_new(list, json_string(addr_format(both[i], text)));
    return list;
}

/* Of all queues together. */
static json_t *memory_json(const struct front_port *l)
{
    json_int_t n = l->info.queues;
    return json_pack("{sI sI sI sI sI sI sI}", "buffers", (json_int_t)l->info.buffers, "buffers_used",
                     (json_int_t)l->info.buffers_used, "connections", n * (json_int_t)l->conns_max, "connection_bytes",
                     (json_int_t)l->conn_bytes, "receive_pages", n * (json_int_t)l->pages_max, "send_blocks",
                     n * (json_int_t)l->blocks_max, "mapped_bytes", n * (json_int_t)l->mapped_bytes);
}

static uint64_t stat_sum(const struct front *f, enum stat_id id)
{
    uint64_t sum = 0;
    for (uint32_t q = 0; q < front_port_queues(f); q++)
        sum += front_port_stat(f, q, id);
    return sum;
}

static json_t *totals_json(const struct front *f)
{
    json_t *j = json_object();
    for (int i = 0; i < STAT_N; i++)
        json_object_set_new(j, stat_rows[i].name, json_integer((json_int_t)stat_sum(f, (enum stat_id)i)));
    return j;
}

static json_t *queues_json(const struct front *f)
{
    json_t *list = json_array();
    for (uint32_t q = 0; q < front_port_queues(f); q++) {
        json_t *j = json_object();
        for (int i = 0; i < STAT_N; i++)
            json_object_set_new(j, stat_rows[i].name, json_integer((json_int_t)front_port_stat(f, q, (enum stat_id)i)));
        json_array_append_new(list, j);
    }
    return list;
}

static json_t *neighbours_json(struct front *f)
{
    static const char *const states[] = {"asked", "reachable", "stale", "failed"};
    struct ip_neighbour *v = calloc(NEIGHBOURS_MAX, sizeof *v);
    json_t *list = json_array();
    char text[ADDR_TEXT_MAX];
    for (uint32_t q = 0; v && q < front_port_queues(f); q++) {
        uint32_t n = front_port_neighbours(f, q, v, NEIGHBOURS_MAX);
        for (uint32_t i = 0; i < n && i < NEIGHBOURS_MAX; i++)
            json_array_append_new(list, json_pack("{sI ss so ss sI}", "queue", (json_int_t)q, "address",
                                                  addr_format(&v[i].addr, text), "mac", mac_json(v[i].mac), "state",
                                                  states[v[i].state & 3], "age_s", (json_int_t)v[i].age_s));
    }
    free(v);
    return list;
}

static json_t *counted_json(struct front *f)
{
    char(*names)[64] = calloc(DEVICE_MAX, sizeof *names);
    uint64_t *values = calloc(DEVICE_MAX, sizeof *values);
    json_t *j = json_object();
    uint32_t n = names && values ? front_port_device(f, names, values, DEVICE_MAX) : 0;
    for (uint32_t i = 0; i < n; i++)
        json_object_set_new(j, names[i], json_integer((json_int_t)values[i]));
    free(names);
    free(values);
    return j;
}

/* The port opens after the admin socket, and closes before it. */
static enum MHD_Result not_there(struct admin_request *r, int rc)
{
    const struct admin_deps *d = &r->a->deps;
    if (rc == -SATCHEL_ENOENT)
        return admin_reply_error(r, MHD_HTTP_NOT_FOUND, "this node has no DPDK port",
                                 "set dataplane.engine to dpdk; see docs/dpdk.md");
    if (d->shutting_down && d->shutting_down(d->arg))
        return admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "the DPDK port is closed: satcheld is shutting down",
                                 "start satcheld again when it has ended");
    return admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "the DPDK port is being started",
                             "ask again in a moment");
}

enum MHD_Result admin_port_get(struct admin_request *r)
{
    struct front *f = r->a->deps.front;
    struct front_port l;
    int rc = f ? front_port_look(f, &l) : -SATCHEL_ENOENT;
    if (rc < 0)
        return not_there(r, rc);
    return admin_reply_json(r, MHD_HTTP_OK,
                            json_pack("{so so so sI sI sI so so so so so}", "device", device_json(&l.info), "addresses",
                                      addresses_json(&l), "gateways", gateways_json(&l), "mtu", (json_int_t)l.mtu,
                                      "vlan", (json_int_t)l.vlan, "blocked_networks", (json_int_t)l.blocked, "limits",
                                      memory_json(&l), "counters", totals_json(f), "queues", queues_json(f),
                                      "neighbours", neighbours_json(f), "device_counters", counted_json(f)));
}

/* ---- metrics */

static const char *kind_of(int id)
{
    return stat_is_now((enum stat_id)id) ? "gauge" : "counter";
}

static const char *ending_of(int id)
{
    return stat_is_now((enum stat_id)id) ? "" : "_total";
}

#define LINK_NAME "satchel_port_link_up"
#define LINK_HELP "1: the device has a link; 0: no cable, or nobody at the other end of its socket"

void admin_port_metrics(struct front *f, FILE *out)
{
    if (f && front_port_queues(f))
        fprintf(out, "# HELP " LINK_NAME " " LINK_HELP "\n# TYPE " LINK_NAME " gauge\n" LINK_NAME " %d\n",
                front_port_link_up(f));
    for (int i = 0; f && front_port_queues(f) && i < STAT_N; i++) {
        const char *name = stat_rows[i].name;
        fprintf(out, "# HELP satchel_port_%s%s %s\n# TYPE satchel_port_%s%s %s\n", name, ending_of(i),
                stat_rows[i].help, name, ending_of(i), kind_of(i));
        for (uint32_t q = 0; q < front_port_queues(f); q++)
            fprintf(out, "satchel_port_%s%s{queue=\"%u\"} %llu\n", name, ending_of(i), q,
                    (unsigned long long)front_port_stat(f, q, (enum stat_id)i));
    }
}

void admin_metrics_doc(FILE *out)
{
    metrics_doc(out);
    fputs("\n## The DPDK port\n\n"
          "With `dataplane.engine: dpdk`, each but the first with a label `queue`; from `dataplane/tcp/stats.def`. "
          "`satchelctl port show` shows the same.\n\n"
          "| name | kind | what it says |\n|---|---|---|\n"
          "| `" LINK_NAME "` | gauge | " LINK_HELP " |\n",
          out);
    for (int i = 0; i < STAT_N; i++)
        fprintf(out, "| `satchel_port_%s%s` | %s | %s |\n", stat_rows[i].name, ending_of(i), kind_of(i),
                stat_rows[i].help);
}
