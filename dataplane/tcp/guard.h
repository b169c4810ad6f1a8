/* guard.h - who may knock: the drop ladder before any state exists.
 *
 * Thread: its queue's; no clock, no I/O, no malloc.  Memory is fixed at guard_init whatever comes.
 *
 * The ladder for a SYN, cheapest first: bogon sources (RFC 6890 special-purpose addresses unless allowed, multicast,
 * our own), the block list, token buckets for the source's /32 and /24 (IPv4), /64 and /48 (IPv6), kept in a sketch of
 * fixed size keyed by SipHash: each network hashes to `rows` cells and is refused only when all of them are empty, so a
 * collision may let one in and never refuses one alone.  Answers to sources that have not completed a handshake
 * (SYN-ACK and its repetitions, RST, echo) draw on a bucket for the whole queue besides, so that nobody uses us to
 * amplify. */
#pragma once
#include "dataplane/tcp/addr.h"
#include "dataplane/tcp/stats.h"

#include <stddef.h>

struct guard;

struct guard_config {
    bool bogons;    /* drop them; false where clients live in private networks; true */
    uint32_t cells; /* of each row, a power of two; 65536 */
    /* New connections a second, and at once, of one network; 0: no limit. */
    uint32_t host_per_s, host_burst;       /* IPv4 /32, IPv6 /64; 50, 200 */
    uint32_t network_per_s, network_burst; /* IPv4 /24, IPv6 /48; 200, 800 */
    uint32_t answers_per_s; /* to strangers, of this queue, a second's worth at once; 0: no limit; 200000 */
    uint32_t synack_times;  /* SYN-ACKs for one SYN at most, the first included; 4 */
    uint32_t blocked_max;   /* entries of the block list; 65536 */
};
extern const struct guard_config guard_config_default;

enum guard_verdict { GUARD_PASS, GUARD_BOGON, GUARD_BLOCKED, GUARD_RATE };

size_t guard_bytes(const struct guard_config *cfg);
/* key: 16 secret random bytes. */
int guard_init(struct guard **g_r, void *mem, const struct guard_config *cfg, const uint8_t key[16],
               struct stats *stats, uint64_t now_us);
/* A SYN from src: may it have state? Counts the drop. */
enum guard_verdict guard_syn(struct guard *g, const struct ip_addr *src, uint64_t now_us);
/* Any segment that belongs to no connection: bogon or blocked? */
enum guard_verdict guard_stranger(struct guard *g, const struct ip_addr *src);
/* May one more answer go to a stranger? */
bool guard_answer(struct guard *g, uint64_t now_us);
/* SYN-ACKs for one SYN at most, the first included (guard_config.synack_times). */
uint32_t guard_synack_times(const struct guard *g);
/* The block list, searched by halves; replaces the earlier one.  entries: networks in ascending order, none within
 * another, none of IPv6 that holds ::ffff:0:0/96 (blocklist.h makes them so), borrowed until the next call. 0,
 * -SATCHEL_EFULL above blocked_max, -SATCHEL_EINVAL when they are not so; then the earlier list stays. */
int guard_block(struct guard *g, const struct ip_prefix *entries, uint32_t n);
