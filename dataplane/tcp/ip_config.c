/* ip_config.c - is a configuration of IP usable, and if not, why. */
#include "dataplane/tcp/addr_text.h"
#include "dataplane/tcp/ip_impl.h"
#include "spool/base/err.h"

#include <stdarg.h>
#include <stdio.h>

#define MTU_MIN4  576u
#define MTU_MIN6  1280u
#define MTU_MAX   9216u
#define TABLE_MAX (1u << 20)

struct check {
    const struct ip_config *cfg;
    char *why_r;
};

__attribute__((format(printf, 2, 3))) static bool refuse(const struct check *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->why_r, IP_WHY_MAX, fmt, args);
    va_end(args);
    return false;
}

static bool link_fine(const struct check *c)
{
    const struct ip_config *cfg = c->cfg;
    static const uint8_t none[6];
    if ((cfg->mac[0] & 1) || memcmp(cfg->mac, none, 6) == 0)
        return refuse(c, "the port's MAC %02x:%02x:%02x:%02x:%02x:%02x is no station's", cfg->mac[0], cfg->mac[1],
                      cfg->mac[2], cfg->mac[3], cfg->mac[4], cfg->mac[5]);
    if (cfg->vlan > 4094)
        return refuse(c, "vlan %u: expected 1 to 4094, or 0 for none", cfg->vlan);
    if (cfg->mtu < MTU_MIN4 || cfg->mtu > MTU_MAX)
        return refuse(c, "mtu %u: expected %u to %u", cfg->mtu, MTU_MIN4, MTU_MAX);
    if (cfg->addrs_n == 0 || cfg->addrs_n > IP_ADDRS_MAX)
        return refuse(c, "%u addresses: expected 1 to %u", cfg->addrs_n, IP_ADDRS_MAX);
    return true;
}

static bool tables_fine(const struct check *c)
{
    if (c->cfg->neighbours_max == 0 || c->cfg->neighbours_max > TABLE_MAX)
        return refuse(c, "neighbours %u: expected 1 to %u", c->cfg->neighbours_max, TABLE_MAX);
    if (c->cfg->paths_max == 0 || c->cfg->paths_max > TABLE_MAX)
        return refuse(c, "paths %u: expected 1 to %u", c->cfg->paths_max, TABLE_MAX);
    return true;
}

/* A host's address: no group, nobody's, no loopback. */
static bool is_host(const struct ip_addr *a)
{
    if (ip_addr_is4(a))
        return a->b[12] != 0 && a->b[12] != 127 && a->b[12] < 224;
    return a->b[0] != 0xff && (a->q[0] != 0 || be64toh(a->q[1]) > 1);
}

/* The first or the last address of an IPv4 network stands for all of it. */
static bool is_network_itself(const struct ip_prefix *p)
{
    uint32_t hosts = ip_mask4_hosts(p->bits), w = be32toh(p->addr.w[3]) & hosts;
    return ip_addr_is4(&p->addr) && hosts > 1 && (w == 0 || w == hosts); /* RFC 3021: a /31 is two hosts */
}

static bool address_fine(const struct check *c, uint8_t i)
{
    const struct ip_prefix *p = &c->cfg->addrs[i];
    char text[ADDR_TEXT_MAX];
    bool is4 = ip_addr_is4(&p->addr);
    addr_format_prefix(p, text);
    if (p->bits > 128 || p->bits < (is4 ? 97 : 1))
        return refuse(c, "address %s: expected a prefix length of 1 to %d", text, is4 ? 32 : 128);
    if (!is_host(&p->addr))
        return refuse(c, "address %s: no host may have it", text);
    if (is_network_itself(p))
        return refuse(c, "address %s: it is the network's own; expected a host's in it", text);
    if (!is4 && c->cfg->mtu < MTU_MIN6)
        return refuse(c, "mtu %u: IPv6 (%s) needs %u", c->cfg->mtu, text, MTU_MIN6);
    for (uint8_t k = 0; k < i; k++)
        if (ip_addr_eq(&c->cfg->addrs[k].addr, &p->addr))
            return refuse(c, "address %s: twice", text);
    return true;
}

static bool gateway_fine(const struct check *c, const struct ip_addr *gateway, bool is4)
{
    char text[ADDR_TEXT_MAX];
    bool on_link = !is4 && ip_addr_is_link_local6(gateway), family = false;
    if (gateway->q[0] == 0 && gateway->q[1] == 0)
        return true;
    addr_format(gateway, text);
    if (ip_addr_is4(gateway) != is4 || !is_host(gateway))
        return refuse(c, "gateway %s: expected an %s address of a host", text, is4 ? "IPv4" : "IPv6");
    for (uint8_t i = 0; i < c->cfg->addrs_n; i++) {
        const struct ip_prefix *p = &c->cfg->addrs[i];
        if (ip_addr_eq(&p->addr, gateway))
            return refuse(c, "gateway %s: it is our own address", text);
        family |= ip_addr_is4(&p->addr) == is4;
        on_link |= ip_addr_is4(&p->addr) == is4 && ip_prefix_has(p, gateway);
    }
    if (!family)
        return refuse(c, "gateway %s: there is no %s address to go with it", text, is4 ? "IPv4" : "IPv6");
    return on_link ||
           refuse(c, "gateway %s: it is in none of our networks; are the addresses' prefix lengths right?", text);
}

int ip_config_check(const struct ip_config *cfg, char *why_r)
{
    struct check c = {cfg, why_r};
    if (!link_fine(&c) || !tables_fine(&c))
        return -SATCHEL_EINVAL;
    for (uint8_t i = 0; i < cfg->addrs_n; i++)
        if (!address_fine(&c, i))
            return -SATCHEL_EINVAL;
    if (!gateway_fine(&c, &cfg->gateway4, true) || !gateway_fine(&c, &cfg->gateway6, false))
        return -SATCHEL_EINVAL;
    return 0;
}
