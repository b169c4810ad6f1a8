/* build.h - frames that peers send, right or wrong in every way that a script can name. */
#pragma once
#include "tests/pkt/world.h"

enum { SPEC_DEFAULT = -2, SPEC_NONE = -1 };

struct spec_ext {
    uint8_t type;
    uint8_t body[264]; /* from the length byte on */
    uint16_t n;
};

struct spec {
    enum pkt_kind kind; /* PKT_OTHER: raw, the bytes are the frame */
    /* ---- Ethernet */
    bool has_smac, has_dmac;
    uint8_t smac[6], dmac[6];
    int vlan;            /* SPEC_DEFAULT: the link's; SPEC_NONE: untagged */
    bool vlan_taken_off; /* the port took the tag off */
    uint16_t ethertype;  /* 0: what fits */
    uint16_t flags;      /* FRAME_*: what the port says of checksums */
    uint32_t pad;        /* bytes behind the packet */
    bool has_truncate;
    uint32_t truncate; /* bytes of the frame that arrive */
    /* ---- IP */
    struct ip_addr src, dst;
    uint8_t ttl, tos, proto; /* 0: 64, and what fits */
    uint8_t options[40], options_n;
    struct spec_ext *ext;
    unsigned ext_n;
    bool frag, more;
    uint32_t frag_at;
    bool bad_ip_sum, has_version, has_ihl;
    uint8_t version, ihl;
    int ip_extra; /* added to the length field */
    /* ---- TCP */
    uint16_t sport, dport, flags_tcp, wnd, urg;
    uint32_t seq, ack;
    uint8_t opts[256];
    unsigned opts_n;
    bool has_doff;
    uint8_t doff;
    uint32_t payload_rel, payload_n; /* bytes made from this relative number on */
    bool junk;                       /* ... or others */
    bool zero_sum, bad_sum;
    /* ---- ICMP, NDP: type, code and the bytes behind them; ARP: op */
    uint8_t type, code, rest[4];
    const uint8_t *body; /* ICMP; NDP options */
    uint32_t body_n;
    struct ip_addr sender, target;
    uint8_t mac[6];
    bool no_mac_option;
    uint32_t na_flags;
    /* ---- raw */
    uint8_t raw[2048];
    uint32_t raw_n;
};

/* Builds the frame and gives it to the stack, its truncations before it when the variant says so. */
void build_send(struct world *w, const struct spec *s);
/* The head of a TCP packet as an ICMP error quotes it: IP header, ports, sequence number, up to tcp_n bytes of TCP. */
uint32_t build_quote(uint8_t *out, const struct ip_addr *src, const struct ip_addr *dst, uint16_t sport, uint16_t dport,
                     uint32_t seq, uint32_t tcp_n);
