/* dpdk.c - a DPDK port by command line (dpdk.h). */
#include "bench/lib/dpdk.h"
#include "dataplane/tcp/addr_text.h"
#include <err.h>
#include <stdlib.h>
#include <string.h>

static void args_split(struct dpdk_options *o, char *text)
{
    char *save = NULL;
    o->on = true;
    for (char *arg = strtok_r(text, " ", &save); arg; arg = strtok_r(NULL, " ", &save)) {
        if (o->args_n == DPDK_ARGS_MAX)
            errx(2, "--dpdk: at most %u arguments", DPDK_ARGS_MAX);
        o->args[o->args_n++] = arg;
    }
}

static struct ip_addr nth(struct ip_addr a, uint32_t i)
{
    a.w[3] = htobe32(be32toh(a.w[3]) + i);
    return a;
}

static void address_add(struct dpdk_options *o, char *text)
{
    struct ip_prefix p;
    char *x = strchr(text, 'x');
    unsigned long n = x ? strtoul(x + 1, NULL, 10) : 1;
    if (x)
        *x = 0;
    if (!addr_parse_prefix(slice_str(text), &p) || n == 0 || n > IP_ADDRS_MAX - o->addrs_n)
        errx(2, "--address %s: expected ADDRESS/LENGTH, xN behind it for several, %u in all", text, IP_ADDRS_MAX);
    for (uint32_t i = 0; i < n; i++)
        o->addrs[o->addrs_n++] = (struct ip_prefix){nth(p.addr, i), p.bits};
}

void dpdk_option(struct dpdk_options *o, int opt, char *value)
{
    switch (opt) {
    case OPT_DPDK:
        args_split(o, value);
        break;
    case OPT_DEVICE:
        o->device = value;
        break;
    case OPT_ADDRESS:
        address_add(o, value);
        break;
    default:
        if (!addr_parse(slice_str(value), &o->gateway))
            errx(2, "--gateway %s: expected an address", value);
    }
}

struct port *dpdk_open(const struct dpdk_options *o)
{
    char why[PORT_WHY_MAX];
    struct port *p;
    struct port_dpdk_config cfg = {.eal_args = (const char *const *)o->args,
                                   .eal_args_n = o->args_n,
                                   .device = o->device,
                                   .queues = 1,
                                   .rx_ring = 1024,
                                   .tx_ring = 1024,
                                   .offloads = true};
    if (!o->addrs_n)
        errx(2, "--dpdk needs --address");
    if (port_dpdk_open(&p, &cfg, why) < 0)
        errx(1, "%s", why);
    return p;
}
