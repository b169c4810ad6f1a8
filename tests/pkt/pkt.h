/* pkt.h - a frame taken apart: what the stack sent, or what a script sends, for checks and for people. */
#pragma once
#include "tests/pkt/wire.h"

struct peer;

enum pkt_kind { PKT_OTHER, PKT_TCP, PKT_ICMP, PKT_ARP, PKT_NDP };

enum { F_FIN = 1, F_SYN = 2, F_RST = 4, F_PSH = 8, F_ACK = 16, F_URG = 32, F_ECE = 64, F_CWR = 128 };

struct pkt {
    enum pkt_kind kind;
    /* Ethernet, IP */
    uint8_t smac[6], dmac[6];
    int vlan; /* -1: none */
    bool v6, df;
    struct ip_addr src, dst;
    uint8_t ttl, tos;
    uint32_t ip_n; /* of the IP packet, whole */
    /* TCP */
    uint16_t sport, dport, flags, wnd, urg;
    uint32_t seq, ack;
    bool has_mss, has_ws, has_ts, sackok;
    uint16_t mss;
    uint8_t ws, sack_n;
    uint32_t ts_val, ts_ecr, sack[4][2];
    /* ICMP, NDP: type and code; echo's identifier and number. ARP: op in type */
    uint8_t type, code;
    uint16_t id, number;
    struct ip_addr sender, target; /* ARP, NDP */
    uint8_t option_mac[6];         /* NDP: link-layer address option */
    bool has_option_mac;
    uint32_t na_flags; /* NDP advertisement: R S O, as the upper three bits */
    /* Payload of TCP and ICMP */
    const uint8_t *data;
    uint32_t n;
};

/* Takes p apart and holds it against the formats: lengths, checksums, options. False: why_r (256 bytes) says what is
 * wrong with it. data points into p. */
bool pkt_decode(struct pkt *k, const uint8_t *p, uint32_t n, char *why_r);

/* In the words of the scripts; numbers relative to the peer's connection when it is known. ours: the stack sent it. */
void pkt_text(const struct pkt *k, const struct peer *c, bool ours, char *out, size_t room);
