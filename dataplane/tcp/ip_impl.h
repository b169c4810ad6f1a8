/* ip_impl.h - inside IP.  Nobody outside of dataplane/tcp's ip*.c, ours.c, arp.c, ndp.c, icmp.c and their unit tests
 * includes this.
 *
 *   ip.c     making; a frame in, a packet out: next hop, neighbour, Ethernet
 *   ip4.c, ip6.c  headers parsed and pushed;  icmp.c  echo and errors of both versions
 *   ours.c   our addresses: probed, announced, defended;  arp.c, ndp.c  the words for it, and for neighbours (neigh.h)
 */
#pragma once
#include "dataplane/tcp/be.h"
#include "dataplane/tcp/bucket.h"
#include "dataplane/tcp/ether.h"
#include "dataplane/tcp/ip.h"
#include "dataplane/tcp/neigh.h"
#include "dataplane/tcp/path.h"

#define IP4_BYTES 20u
#define IP6_BYTES 40u

enum { IP_PROTO_ICMP4 = 1, IP_PROTO_TCP = 6, IP_PROTO_ICMP6 = 58 };

/* One of our addresses.
 *
 *   WAIT -> PROBE -> ANNOUNCE -> READY; without ip_config.dad ANNOUNCE or READY from the start
 *   WAIT, PROBE -> TAKEN   somebody else has it; after a minute WAIT again: an operator may have mended it
 * Once announced it is kept and defended: other hosts and connections rely on it (RFC 5227 2.4 (c)). */
enum ours_state { OURS_WAIT, OURS_PROBE, OURS_ANNOUNCE, OURS_READY, OURS_TAKEN };

struct ours {
    struct ip_prefix prefix; /* the address whole, and the bits that are on the link */
    uint8_t state;           /* enum ours_state */
    uint8_t sent;            /* probes, or announcements */
    uint64_t due_us;         /* UINT64_MAX: nothing to do */
    uint64_t defend_us;      /* the next defence not before */
};

struct ip {
    struct ip_config cfg;
    struct frame_pool pool;
    struct stats *stats;
    struct guard *guard;
    struct ours ours[IP_ADDRS_MAX + 1];
    uint8_t ours_n;
    uint64_t draws; /* numbers drawn for jitter */
    struct bucket_rate echo_rate;
    uint64_t echo_full_ns;
    uint64_t report_us; /* an MLD report is due; UINT64_MAX: none */
    struct neigh_table neigh;
    struct path_table paths;
};

/* A packet whose IP header was believed. */
struct ip_in {
    struct ip_packet p;
    const uint8_t *mac; /* Ethernet's source */
    bool multicast;     /* to a group; src may be unspecified or ours then and only then */
};

/* Counts a dropped frame; returns 0, as ip_input does. */
static inline int ip_drop(struct ip *ip, int stat)
{
    stat_add(ip->stats, (enum stat_id)stat, 1);
    return 0;
}

/* Likewise one that every queue hears: the queue that speaks counts it. */
static inline int ip_drop_shared(struct ip *ip, int stat)
{
    return ip->cfg.quiet ? 0 : ip_drop(ip, stat);
}

/* ---- ip.c */
/* An empty frame; false (counted): none left. */
bool ip_frame(struct ip *ip, struct frame *f_r);
/* Takes a frame that stands at its IP header, f->l3 and f->l4 from there, to its next hop. */
void ip_send(struct ip *ip, struct frame *f, const struct ip_addr *dst, uint8_t local, uint64_t now_us);
/* A keyed number below n. */
uint64_t ip_draw(struct ip *ip, uint64_t n);
/* May a packet come from here?  Never: groups, nobody, loopback, ourselves, a network's broadcast address. */
bool ip_source_valid(const struct ip *ip, const struct ip_addr *src);

static inline struct ip_addr ip4_addr_at(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return ip_addr_of4(w);
}

/* TTL or hop limit of what we send beyond the link. */
static inline uint8_t ip_ttl(const struct ip *ip)
{
    return ip->cfg.ttl ? ip->cfg.ttl : 64;
}

/* ---- ip4.c, ip6.c: 0, or the STAT_DROP_* to count */
int ip4_parse(struct ip *ip, const struct ether *e, struct frame *f, struct ip_in *in_r);
int ip6_parse(struct ip *ip, const struct ether *e, struct frame *f, struct ip_in *in_r);
/* Push the header before what stands at f->p; set f->l3 and f->l4. */
void ip4_push(struct ip *ip, struct frame *f, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
              uint8_t ecn);
void ip6_push(struct frame *f, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint8_t ecn,
              uint8_t hops);

/* ---- icmp.c: what ip_input returns */
int icmp4_input(struct ip *ip, const struct ip_in *in, uint64_t now_us, struct ip_error *e_r);
int icmp6_input(struct ip *ip, const struct ip_in *in, uint64_t now_us, struct ip_error *e_r);

/* ---- ours.c */
void ours_init(struct ip *ip, uint64_t now_us);
/* By index; -1: not ours. */
int ours_find(const struct ip *ip, const struct ip_addr *a);
static inline bool ours_ready(const struct ours *o)
{
    return o->state == OURS_ANNOUNCE || o->state == OURS_READY;
}
/* Somebody else says that our address i is his. */
void ours_conflict(struct ip *ip, uint8_t i, const uint8_t mac[6], uint64_t now_us);
void ours_tick(struct ip *ip, uint64_t now_us);
uint64_t ours_next_us(const struct ip *ip);

/* ---- arp.c, ndp.c */
void arp_input(struct ip *ip, const struct ether *e, uint64_t now_us);
void arp_probe(struct ip *ip, const struct ip_addr *ours);
void arp_announce(struct ip *ip, const struct ip_addr *ours);
/* to: a MAC, or NULL for everybody. */
void arp_ask(struct ip *ip, const struct ip_addr *ours, const struct ip_addr *whom, const uint8_t *to);
void ndp_input(struct ip *ip, const struct ip_in *in, uint64_t now_us);
void ndp_probe(struct ip *ip, const struct ip_addr *ours);
void ndp_announce(struct ip *ip, const struct ip_addr *ours);
void ndp_ask(struct ip *ip, const struct ip_addr *ours, const struct ip_addr *whom, const uint8_t *to);
/* ff02::1:ffXX:XXXX of a (RFC 4291 2.7.1). */
struct ip_addr ndp_group_of(const struct ip_addr *a);
static inline bool ip_addr_is_link_local6(const struct ip_addr *a)
{
    return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

/* ---- mld.c */
enum mld_record { MLD_IS_EXCLUDE = 2, MLD_TO_EXCLUDE = 4 }; /* we listen, as asked; from now on (RFC 3810 5.2.12) */
void mld_report(struct ip *ip, enum mld_record type);
/* False: no query that we believe. */
bool mld_query(struct ip *ip, const struct ip_in *in, uint64_t now_us);
void mld_tick(struct ip *ip, uint64_t now_us);
