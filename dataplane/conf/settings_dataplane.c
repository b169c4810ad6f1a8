/* settings_dataplane.c - `dataplane:`: addresses, gateways, ports and cores as numbers, and whether they fit together.
 *
 * What IP thinks of a configuration (ip_config_check) is asked piece by piece, so that each refusal has its place. */
#include "dataplane/conf/settings_dataplane.h"
#include "dataplane/conf/settings_domains.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/err.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define LIST_FAIL(r, field, i, ...) list_fail(r, SETTING_AT_##field, i, __VA_ARGS__)

/* ---- lists as numbers */

static bool number_parse(const char *text, uint32_t most, uint32_t *v_r)
{
    size_t n = strlen(text);
    if (n == 0 || n > 9 || strspn(text, "0123456789") != n)
        return false;
    *v_r = (uint32_t)strtoul(text, NULL, 10);
    return *v_r <= most;
}

static void addresses_get(const struct settings *st, struct ip_config *cfg_r)
{
    cfg_r->addrs_n = 0;
    for (size_t i = 0; i < st->dataplane_addresses.n && i < IP_ADDRS_MAX; i++)
        addr_parse_prefix(slice_str(st->dataplane_addresses.v[i]), &cfg_r->addrs[cfg_r->addrs_n++]);
}

static void gateways_get(const struct settings *st, struct ip_config *cfg_r)
{
    struct ip_addr a;
    for (size_t i = 0; i < st->dataplane_gateways.n; i++)
        if (addr_parse(slice_str(st->dataplane_gateways.v[i]), &a))
            *(ip_addr_is4(&a) ? &cfg_r->gateway4 : &cfg_r->gateway6) = a;
}

void settings_ip(const struct settings *st, struct ip_config *cfg_r)
{
    addresses_get(st, cfg_r);
    gateways_get(st, cfg_r);
    cfg_r->vlan = (uint16_t)st->dataplane_vlan;
    cfg_r->mtu = (uint16_t)st->dataplane_mtu;
    cfg_r->ttl = (uint8_t)st->dataplane_ttl;
}

uint32_t settings_ports(const struct settings *st, uint16_t ports_r[DATAPLANE_PORTS_MAX])
{
    uint32_t v, n = 0;
    for (size_t i = 0; i < st->dataplane_ports.n && n < DATAPLANE_PORTS_MAX; i++)
        if (number_parse(st->dataplane_ports.v[i], 65535, &v))
            ports_r[n++] = (uint16_t)v;
    return n;
}

int settings_core(const struct settings *st, uint32_t i)
{
    uint32_t v;
    return i < st->dataplane_cores.n && number_parse(st->dataplane_cores.v[i], 65535, &v) ? (int)v : -1;
}

/* ---- refusals with their place */

/* The place of member i of a list, or of the list. */
static const yaml_node_t *member(struct settings_reader *r, enum setting_index at, size_t i)
{
    const yaml_node_t *list = r->seen[at];
    if (!list || list->type != YAML_SEQUENCE_NODE)
        return list;
    const yaml_node_item_t *it = list->data.sequence.items.start + i;
    return it < list->data.sequence.items.top ? yaml_document_get_node(&r->doc, *it) : list;
}

__attribute__((format(printf, 4, 5))) static int list_fail(struct settings_reader *r, enum setting_index at, size_t i,
                                                           const char *fmt, ...)
{
    char why[SETTINGS_WHY_MAX / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return settings_reader_fail(r, member(r, at, i), setting_infos[at].key, "%s", why);
}

/* ---- IP */

static struct ip_config ip_config_begin(void)
{
    return (struct ip_config){.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .neighbours_max = 1, .paths_max = 1};
}

static int addresses_check(struct settings_reader *r, struct ip_config *cfg)
{
    const struct setting_list *l = &r->st->dataplane_addresses;
    char why[IP_WHY_MAX];
    for (size_t i = 0; i < l->n; i++) {
        if (i == IP_ADDRS_MAX)
            return LIST_FAIL(r, dataplane_addresses, i, "expected at most %u addresses", IP_ADDRS_MAX);
        if (!strchr(l->v[i], '/') || !addr_parse_prefix(slice_str(l->v[i]), &cfg->addrs[i]))
            return LIST_FAIL(r, dataplane_addresses, i,
                             "\"%.64s\" is no address with a prefix length; expected one such as 192.0.2.25/24 or "
                             "2001:db8::25/64",
                             l->v[i]);
        cfg->addrs_n = (uint8_t)(i + 1);
        if (ip_config_check(cfg, why) < 0)
            return LIST_FAIL(r, dataplane_addresses, i, "%s", why);
    }
    return 0;
}

static int gateways_check(struct settings_reader *r, struct ip_config *cfg)
{
    const struct setting_list *l = &r->st->dataplane_gateways;
    static const struct ip_addr none;
    char why[IP_WHY_MAX];
    for (size_t i = 0; i < l->n; i++) {
        struct ip_addr a;
        if (!addr_parse(slice_str(l->v[i]), &a))
            return LIST_FAIL(r, dataplane_gateways, i,
                             "\"%.64s\" is no address; expected one such as 192.0.2.1 or fe80::1, without a length",
                             l->v[i]);
        struct ip_addr *to = ip_addr_is4(&a) ? &cfg->gateway4 : &cfg->gateway6;
        if (!ip_addr_eq(to, &none))
            return LIST_FAIL(r, dataplane_gateways, i,
                             "\"%.64s\" is the second one of its kind; expected at most one %s", l->v[i],
                             ip_addr_is4(&a) ? "IPv4 and one IPv6" : "IPv6 and one IPv4");
        if (ip_addr_eq(&a, &none))
            return LIST_FAIL(r, dataplane_gateways, i, "\"%.64s\" is nobody's; leave it out for none", l->v[i]);
        *to = a;
        if (cfg->addrs_n == 0)
            return LIST_FAIL(r, dataplane_gateways, i, "needs dataplane.addresses: on whose link is it");
        if (ip_config_check(cfg, why) < 0)
            return LIST_FAIL(r, dataplane_gateways, i, "%s", why);
    }
    return 0;
}

static int mtu_check(struct settings_reader *r, struct ip_config *cfg)
{
    char why[IP_WHY_MAX];
    uint32_t mtu = r->st->dataplane_mtu;
    if (mtu == 0)
        return 0;
    cfg->mtu = (uint16_t)mtu;
    if (mtu < 576)
        return LIST_FAIL(r, dataplane_mtu, 0, "\"%u\" is too small; expected 0, or 576 and more", mtu);
    return cfg->addrs_n == 0 || ip_config_check(cfg, why) == 0 ? 0 : LIST_FAIL(r, dataplane_mtu, 0, "%s", why);
}

/* ---- the rest */

static int ports_check(struct settings_reader *r)
{
    const struct setting_list *l = &r->st->dataplane_ports;
    uint32_t v;
    for (size_t i = 0; i < l->n; i++) {
        if (i == DATAPLANE_PORTS_MAX)
            return LIST_FAIL(r, dataplane_ports, i, "expected at most %u ports", DATAPLANE_PORTS_MAX);
        if (!number_parse(l->v[i], 65535, &v) || v == 0)
            return LIST_FAIL(r, dataplane_ports, i, "\"%.64s\" is no TCP port; expected a number, 1 to 65535", l->v[i]);
        for (size_t k = 0; k < i; k++)
            if (strcmp(l->v[k], l->v[i]) == 0)
                return LIST_FAIL(r, dataplane_ports, i, "%s is there twice", l->v[i]);
    }
    return 0;
}

static int cores_check(struct settings_reader *r)
{
    const struct setting_list *l = &r->st->dataplane_cores;
    long cores = sysconf(_SC_NPROCESSORS_CONF);
    uint32_t v;
    for (size_t i = 0; i < l->n; i++)
        if (!number_parse(l->v[i], (uint32_t)(cores > 0 ? cores : 1) - 1, &v))
            return LIST_FAIL(r, dataplane_cores, i, "\"%.64s\" is no core of this machine; expected 0 to %ld", l->v[i],
                             cores - 1);
    if (l->n > 0 && l->n != r->st->dataplane_queues)
        return LIST_FAIL(r, dataplane_cores, l->n, "%zu cores for %u queues; expected one each", l->n,
                         r->st->dataplane_queues);
    return 0;
}

static int eal_check(struct settings_reader *r)
{
    const struct setting_list *l = &r->st->dataplane_eal;
    if (l->n > 64)
        return LIST_FAIL(r, dataplane_eal, 64, "expected at most 64 arguments");
    return 0;
}

/* Each queue has a share, in which some windows must fit. */
static int memory_check(struct settings_reader *r)
{
    const struct settings *st = r->st;
    uint64_t least = st->dataplane_window_bytes * 4 * st->dataplane_queues;
    char text[UNITS_TEXT_MAX];
    if (st->dataplane_memory_bytes >= least)
        return 0;
    enum setting_index at = r->seen[SETTING_AT_dataplane_memory_bytes]   ? SETTING_AT_dataplane_memory_bytes
                            : r->seen[SETTING_AT_dataplane_window_bytes] ? SETTING_AT_dataplane_window_bytes
                                                                         : SETTING_AT_dataplane_queues;
    return settings_reader_fail(r, r->seen[at], "dataplane.memory",
                                "is too small; expected at least %s: four windows for each queue",
                                size_format(least, text));
}

static int engine_check(struct settings_reader *r)
{
    const struct settings *st = r->st;
    if (!settings_on_dpdk(st))
        return 0;
    if (st->dataplane_addresses.n == 0)
        return LIST_FAIL(r, dataplane_engine, 0,
                         "dpdk needs dataplane.addresses: the kernel's do not count here; expected some such as "
                         "192.0.2.25/24");
    if (st->dataplane_ports.n == 0)
        return LIST_FAIL(r, dataplane_ports, 0, "is empty; expected a port such as 25");
    return 0;
}

int settings_dataplane_check(struct settings_reader *r)
{
    struct ip_config cfg = ip_config_begin();
    int (*const checks[])(struct settings_reader *) = {engine_check, ports_check, cores_check, eal_check, memory_check};
    int res = addresses_check(r, &cfg);
    if (res == 0)
        res = gateways_check(r, &cfg);
    if (res == 0)
        res = mtu_check(r, &cfg);
    for (size_t i = 0; res == 0 && i < sizeof checks / sizeof *checks; i++)
        res = checks[i](r);
    return res;
}
