/* ours.c - our addresses: probed before use, announced, defended.
 *
 * IPv4 by RFC 5227, with its times: a wait of up to 1 s, 3 probes 1 to 2 s apart, 2 s of silence, 2 announcements 2 s
 * apart.  IPv6 by RFC 4862 5.4: a wait of up to 1 s, one probe, 1 s of silence; announcements likewise (RFC 4861
 * 7.2.6).  A quiet queue goes through the same states and says nothing. */
#include "dataplane/tcp/addr_text.h"
#include "dataplane/tcp/ip_impl.h"
#include "spool/base/log.h"

#define SECOND_US     1000000u
#define WAIT_MAX_US   SECOND_US
#define PROBES4       3u
#define PROBE4_US     SECOND_US /* and up to as much again */
#define SILENCE4_US   (2 * SECOND_US)
#define PROBES6       1u
#define SILENCE6_US   SECOND_US
#define ANNOUNCEMENTS 2u
#define ANNOUNCE_US   (2 * SECOND_US)
#define DEFEND_US     (10 * SECOND_US) /* RFC 5227 2.4: DEFEND_INTERVAL */
#define TAKEN_US      (60 * SECOND_US)
#define NO_DEADLINE   UINT64_MAX

/* RFC 4291 appendix A: the MAC, ff:fe in its middle, the universal bit turned. */
static struct ip_prefix link_local_of(const uint8_t mac[6])
{
    return (struct ip_prefix){
        .addr = {.b = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}},
        .bits = 64};
}

static void ours_enter(struct ours *o, enum ours_state s, uint64_t due_us)
{
    char text[ADDR_TEXT_MAX];
    log_debug("ip.address", "addr=%s from=%d to=%d", addr_format(&o->prefix.addr, text), o->state, s);
    o->state = (uint8_t)s;
    o->sent = 0;
    o->due_us = due_us;
}

static void add(struct ip *ip, const struct ip_prefix *prefix, uint64_t now_us)
{
    struct ours *o = &ip->ours[ip->ours_n++];
    o->prefix = *prefix;
    if (ip->cfg.dad)
        ours_enter(o, OURS_WAIT, now_us + ip_draw(ip, WAIT_MAX_US));
    else if (ip->cfg.announce)
        ours_enter(o, OURS_ANNOUNCE, now_us);
    else
        ours_enter(o, OURS_READY, NO_DEADLINE);
}

void ours_init(struct ip *ip, uint64_t now_us)
{
    bool has6 = false, has_link_local = false;
    for (uint8_t i = 0; i < ip->cfg.addrs_n; i++) {
        has6 |= !ip_addr_is4(&ip->cfg.addrs[i].addr);
        has_link_local |= ip_addr_is_link_local6(&ip->cfg.addrs[i].addr);
        add(ip, &ip->cfg.addrs[i], now_us);
    }
    struct ip_prefix link_local = link_local_of(ip->cfg.mac);
    if (has6 && !has_link_local)
        add(ip, &link_local, now_us);
}

int ours_find(const struct ip *ip, const struct ip_addr *a)
{
    for (int i = 0; i < ip->ours_n; i++)
        if (ip_addr_eq(&ip->ours[i].prefix.addr, a))
            return i;
    return -1;
}

static void announce(struct ip *ip, const struct ours *o)
{
    if (ip->cfg.quiet)
        return;
    if (ip_addr_is4(&o->prefix.addr)) {
        arp_announce(ip, &o->prefix.addr);
        return;
    }
    mld_report(ip, MLD_TO_EXCLUDE);
    ndp_announce(ip, &o->prefix.addr);
}

static void probe(struct ip *ip, const struct ours *o)
{
    if (ip->cfg.quiet)
        return;
    if (ip_addr_is4(&o->prefix.addr)) {
        arp_probe(ip, &o->prefix.addr);
        return;
    }
    mld_report(ip, MLD_TO_EXCLUDE); /* or the answer would not reach us (RFC 4862 5.4.2) */
    ndp_probe(ip, &o->prefix.addr);
}

/* ---- conflicts */

static void conflict_log(const struct ip *ip, const struct ours *o, const uint8_t mac[6], const char *then)
{
    char text[ADDR_TEXT_MAX];
    if (!ip->cfg.quiet)
        log_warning("ip.address_conflict",
                    "addr=%s mac=%02x:%02x:%02x:%02x:%02x:%02x then=%s remedy=\"one of both must get another address\"",
                    addr_format(&o->prefix.addr, text), mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], then);
}

void ours_conflict(struct ip *ip, uint8_t i, const uint8_t mac[6], uint64_t now_us)
{
    struct ours *o = &ip->ours[i];
    if (!ip->cfg.quiet)
        stat_add(ip->stats, STAT_ADDR_CONFLICT, 1);
    if (o->state == OURS_WAIT || o->state == OURS_PROBE) {
        conflict_log(ip, o, mac, "not_used_for_a_minute");
        ours_enter(o, OURS_TAKEN, now_us + TAKEN_US);
    } else if (ours_ready(o) && now_us >= o->defend_us) {
        conflict_log(ip, o, mac, "defended");
        o->defend_us = now_us + DEFEND_US;
        announce(ip, o);
    }
}

/* ---- time */

static void probe_next(struct ip *ip, struct ours *o, uint64_t now_us)
{
    bool is4 = ip_addr_is4(&o->prefix.addr);
    if (o->sent < (is4 ? PROBES4 : PROBES6)) {
        probe(ip, o);
        o->sent++;
    }
    if (is4)
        o->due_us = now_us + (o->sent < PROBES4 ? PROBE4_US + ip_draw(ip, PROBE4_US) : SILENCE4_US);
    else
        o->due_us = now_us + SILENCE6_US;
}

static void announce_next(struct ip *ip, struct ours *o, uint64_t now_us)
{
    announce(ip, o);
    if (++o->sent < ANNOUNCEMENTS)
        o->due_us = now_us + ANNOUNCE_US;
    else
        ours_enter(o, OURS_READY, NO_DEADLINE);
}

static void due(struct ip *ip, struct ours *o, uint64_t now_us)
{
    uint32_t probes = ip_addr_is4(&o->prefix.addr) ? PROBES4 : PROBES6;
    switch ((enum ours_state)o->state) {
    case OURS_WAIT:
        ours_enter(o, OURS_PROBE, now_us);
        probe_next(ip, o, now_us);
        return;
    case OURS_PROBE:
        if (o->sent < probes) {
            probe_next(ip, o, now_us);
            return;
        }
        ours_enter(o, OURS_ANNOUNCE, now_us);
        announce_next(ip, o, now_us);
        return;
    case OURS_ANNOUNCE:
        announce_next(ip, o, now_us);
        return;
    case OURS_TAKEN:
        ours_enter(o, OURS_WAIT, now_us + ip_draw(ip, WAIT_MAX_US));
        return;
    case OURS_READY:
        return;
    }
}

void ours_tick(struct ip *ip, uint64_t now_us)
{
    for (int i = 0; i < ip->ours_n; i++)
        if (ip->ours[i].due_us <= now_us)
            due(ip, &ip->ours[i], now_us);
}

uint64_t ours_next_us(const struct ip *ip)
{
    uint64_t next = NO_DEADLINE;
    for (int i = 0; i < ip->ours_n; i++)
        if (ip->ours[i].due_us < next)
            next = ip->ours[i].due_us;
    return next;
}
