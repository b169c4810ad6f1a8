/* path.h - paths that carry less than the link (RFC 1191, RFC 8201): a bounded cache of 10 minutes, by destination.
 * Thread: its queue's; no clock, no I/O, no malloc. */
#pragma once
#include "dataplane/tcp/addr.h"

#include <stddef.h>

#define PATH_LIFE_US 600000000u
#define PATH_MTU4    576u  /* nothing below is believed */
#define PATH_MTU6    1280u /* RFC 8200 5 */

struct path;

struct path_table {
    struct path *v;
    uint32_t buckets;
    uint64_t until_us; /* no entry lives longer */
    uint8_t key[16];
};

size_t path_table_bytes(uint32_t max);
/* mem: zeroed. */
void path_table_init(struct path_table *t, void *mem, uint32_t max, const uint8_t key[16]);
/* 0: not known to be smaller than the link's. */
uint16_t path_mtu(const struct path_table *t, const struct ip_addr *dst, uint64_t now_us);
/* Raised to the floor; the path that has longest been known makes room. */
void path_learn(struct path_table *t, const struct ip_addr *dst, uint16_t mtu, uint64_t now_us);
static inline uint16_t path_floor(const struct ip_addr *dst)
{
    return ip_addr_is4(dst) ? PATH_MTU4 : PATH_MTU6;
}
