/* ip.h - Ethernet, VLAN, ARP, NDP, IPv4, IPv6 and ICMP of one port queue: frames in, transport packets out, and back.
 *
 * Thread: its queue's.  No clock, no I/O, no malloc: time is `now_us` (monotonic), memory is what ip_init got, frames
 * come from the frame_pool.
 *
 * What is accepted.  Unicast frames to our MAC (and the multicast of NDP, broadcast ARP), of our VLAN, to one of our
 * addresses.  IPv4: options are skipped, source routes dropped; fragments are counted and dropped (mail
 * servers do path MTU discovery; RFC 8900), IPv6 likewise; at most 8 extension headers and 256 bytes of them.  Header
 * checksums are always verified unless the port said GOOD; UNKNOWN is not GOOD.
 *
 * Neighbours (RFC 826, RFC 4861).  A bounded cache; entries are made only for addresses that we asked for: nothing is
 * learnt from what nobody asked.  What an existing entry's address says unasked makes us ask again, it is not believed.
 * Our addresses are probed before use (RFC 5227, RFC 4862) and defended with a limit.  One frame waits for an answer at
 * each entry, the newest.  Router advertisements are not believed: gateways are configured.  The groups that NDP needs
 * are reported (MLD, RFC 3810).
 *
 * ICMP (RFC 792, 1122, 4443).  Echo is answered with a limit a second.  Errors are believed only when the quoted packet
 * is ours: the quoted addresses, ports, and sequence number are handed to TCP, which checks them against its connection
 * (RFC 5927).  Packet-too-big feeds the path MTU cache (RFC 1191, 8201), never below 576 (IPv4) and 1280 (IPv6);
 * entries live 10 minutes.
 *
 * Several queues.  Each has an `ip` of its own; one of them speaks for the port, the others are `quiet`: they neither
 * probe nor answer requests and echo, but ask for their own neighbours.  ARP, NDP and ICMP reach one queue of a device
 * whoever they are meant for, so the port's owner hands a copy of each frame that ip_frame_shared names to every queue.
 */
#pragma once
#include "dataplane/tcp/addr.h"
#include "dataplane/tcp/frame.h"
#include "dataplane/tcp/stats.h"

#define IP_ADDRS_MAX 16u
#define IP_WHY_MAX   256

struct ip_config {
    uint8_t mac[6];
    uint16_t vlan;                        /* 0: untagged frames only */
    uint8_t ttl;                          /* TTL or hop limit of what we send (RFC 9293, MUST-49); 0: 64 */
    uint16_t mtu;                         /* of the link; 576..9216, at least 1280 with IPv6 */
    struct ip_prefix addrs[IP_ADDRS_MAX]; /* ours, with the prefix that is on the link; IPv6 link-local is made from the
                                             MAC beside these */
    uint8_t addrs_n;
    struct ip_addr gateway4, gateway6; /* all zero: none */
    uint32_t neighbours_max;           /* 1024 */
    uint32_t paths_max;                /* entries of the path MTU cache; 1024 */
    uint32_t echo_per_s;               /* 100 */
    bool tx_ip_sum, tx_tcp_sum;        /* the port fills in checksums */
    bool tx_vlan;                      /* the port puts tags in */
    bool dad;                          /* probe our addresses first, announce them then; true outside tests */
    bool announce;                     /* without dad: announce them at once */
    bool quiet;                        /* another queue of the port speaks for it */
    uint8_t key[16];                   /* secret random bytes, for tables and jitter; stack_init fills it in */
};

/* A packet for the transport above. Valid during the call. */
struct ip_packet {
    struct ip_addr src, dst;
    struct frame *frame;
    uint8_t *l4; /* in the frame */
    uint32_t l4_n;
    uint8_t local; /* dst is ip_config.addrs[local] */
    uint8_t proto; /* 6: TCP; others end here */
    uint8_t ecn;   /* RFC 3168: 0 not-ECT, 1 ECT(1), 2 ECT(0), 3 CE */
    uint8_t hops;  /* TTL */
    uint64_t hash; /* TCP's, by tcp_ahead; 0: not made */
    uint8_t guess; /* likewise */
};

/* Where a segment goes. */
struct ip_route {
    struct ip_addr dst;
    uint8_t local; /* our address, by index */
    uint8_t ecn;
};

/* An ICMP error about a packet that we may have sent. */
struct ip_error {
    struct ip_addr dst; /* of the quoted packet */
    uint8_t local;
    uint16_t sport, dport; /* of the quoted packet, host order: sport is ours */
    uint32_t seq;          /* its sequence number, host order */
    bool hard;             /* port, protocol or administratively unreachable */
    uint16_t mtu;          /* not 0: packet too big, with the next hop's MTU (0 in the message: 576 / 1280) */
};

struct ip;
struct guard;

/* Is it usable?  0, or -SATCHEL_EINVAL with why_r (IP_WHY_MAX). */
int ip_config_check(const struct ip_config *cfg, char *why_r);
size_t ip_bytes(const struct ip_config *cfg);
/* mem: ip_bytes bytes, zeroed, aligned to 64, the caller's until the end. 0 or -SATCHEL_EINVAL with why_r (IP_WHY_MAX):
 * what is wrong with cfg. */
int ip_init(struct ip **ip_r, void *mem, const struct ip_config *cfg, const struct frame_pool *pool,
            struct stats *stats, uint64_t now_us, char *why_r);

/* Echo replies ask this guard (guard_stranger, guard_answer); NULL: no limit but echo_per_s. */
void ip_guard(struct ip *ip, struct guard *g);

/* Looks at one received frame.  1: *p_r is for the transport. 2: *e_r is. 0: done with, answered or dropped (counted).
 */
int ip_input(struct ip *ip, struct frame *f, uint64_t now_us, struct ip_packet *p_r, struct ip_error *e_r);

/* Sends a TCP segment: f->p at the TCP header, its checksum field 0. Takes the frame in any case. */
void ip_output(struct ip *ip, struct frame *f, const struct ip_route *to, uint64_t now_us);

/* The largest IP packet towards dst. */
uint16_t ip_mtu(struct ip *ip, const struct ip_addr *dst, uint64_t now_us);
/* A too-big report that TCP found genuine. */
void ip_mtu_learn(struct ip *ip, const struct ip_addr *dst, uint16_t mtu, uint64_t now_us);

/* Timers: neighbours asked again, duplicate address detection. */
void ip_tick(struct ip *ip, uint64_t now_us);
/* When ip_tick has something to do; UINT64_MAX: nothing. */
uint64_t ip_next_us(const struct ip *ip);
/* Our addresses by index: those of ip_config, in their order, then the IPv6 link-local address made from the MAC (with
 * IPv6 only). */
uint8_t ip_addrs_n(const struct ip *ip);
struct ip_addr ip_addr_at(const struct ip *ip, uint8_t i);
/* Is it usable (probed)? */
bool ip_addr_ready(const struct ip *ip, uint8_t i);
/* ARP or ICMP of either version, tagged or not: every queue of the port must see it. */
bool ip_frame_shared(const struct frame *f);
/* A copy of the neighbour cache for `port show`: how many there are; fills at most cap. */
struct ip_neighbour {
    struct ip_addr addr;
    uint8_t mac[6];
    uint8_t state; /* 0 asked, 1 reachable, 2 stale, 3 failed */
    uint32_t age_s;
};
uint32_t ip_neighbours(const struct ip *ip, struct ip_neighbour *out_r, uint32_t cap, uint64_t now_us);
