/* peer.h - one connection of a script: what the peer knows of it, and the owner on our side.
 *
 * Scripts count in relative numbers: each side's SYN is 0, its first byte 1.  The peer chose `isn`; ours is learnt from
 * the SYN that the stack sends. */
#pragma once
#include "dataplane/tcp/addr.h"

#include <stddef.h>

struct tcp_conn;

struct peer {
    char name[16];
    struct ip_addr addr;
    uint8_t mac[6];
    uint16_t port, our_port;
    /* ---- sequence numbers, absolute */
    uint32_t isn, our_isn, isn_before;  /* before: of the last incarnation */
    uint64_t our_isn_us, isn_before_us; /* when they were seen */
    bool our_isn_known, met;            /* met: a segment of ours was seen */
    uint32_t next;                      /* of the peer: what it sends next */
    uint32_t our_next, our_next_before; /* behind the last that we sent */
    uint32_t syn;                       /* of the peer's SYN last sent */
    uint32_t edge_peers;                /* right edge of the window that the peer announced */
    uint32_t edge_ours;                 /* ... and of ours: must never move left */
    bool edge_known, edge_peers_known;
    /* ---- what was asked for and agreed */
    bool ts_asked, ws_asked, sack_asked, ecn_asked;
    bool offers_ts, offers_ws, offers_sack, offers_ecn; /* by our own SYN (tcp_connect) */
    bool ts_on, ws_on, sack_on, ecn_on;
    uint8_t ws_peers, ws_ours;
    uint16_t mss;      /* of the peer's SYN */
    uint32_t ts_start; /* the peer's clock of timestamps: this at ts_start_us, one a millisecond */
    uint64_t ts_start_us;
    uint32_t ts_ours; /* our last TSval */
    /* ---- the owner */
    struct tcp_conn *conn; /* NULL: none, or gone */
    uint16_t events;       /* TCP_EV_* that the script has not asked for */
    bool reader;           /* reads whatever comes, at once */
    uint32_t read_at;      /* absolute number of the next byte to be read */
    uint32_t read_n;       /* bytes read that the script has not asked for */
    uint32_t written;
};

/* Payload is made from relative sequence numbers, differently for each direction; one wrong offset shows. */
static inline uint8_t peer_byte(uint32_t rel)
{
    return (uint8_t)('a' + (rel * 7 + (rel >> 8) * 3 + (rel >> 16)) % 26);
}
static inline uint8_t our_byte(uint32_t rel)
{
    return (uint8_t)('A' + (rel * 5 + (rel >> 8) * 3 + (rel >> 16)) % 26);
}
