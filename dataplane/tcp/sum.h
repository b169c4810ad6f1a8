/* sum.h - the Internet checksum (RFC 1071): the ones' complement sum of 16-bit words.
 *
 * A running sum is 64 bits wide in the machine's byte order (RFC 1071, 2 (B): the order does not matter as long as the
 * result is stored as it was summed).  Each run but the last one must have an even length; where it lies in memory does
 * not matter.  A checksum field takes part as it stands when verifying, and as 0 when it is made.
 *
 *   verify:  sum_good(sum_add(sum_pseudo(&src, &dst, 6, n), segment, n))
 *   make:    uint16_t c = sum_field(sum_add(sum_pseudo(...), segment, n)); memcpy(field, &c, 2); */
#pragma once
#include "dataplane/tcp/addr.h"

#include <stddef.h>

/* sum and n more bytes; an odd last byte counts as if a zero followed. */
uint64_t sum_add(uint64_t sum, const void *p, size_t n);

/* Pseudo header (RFC 9293 3.1, RFC 8200 8.1) of a packet between two addresses, IPv4 as ::ffff:a.b.c.d: addresses,
 * protocol, and the length n of what follows. */
uint64_t sum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto, uint32_t n);

/* Folded into 16 bits, not inverted, in the byte order of the wire when stored as it is. */
static inline uint16_t sum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* What the checksum field must hold. */
static inline uint16_t sum_field(uint64_t sum)
{
    return (uint16_t)~sum_fold(sum);
}

/* Does the sum over everything, its checksum field included, say that nothing was changed? */
static inline bool sum_good(uint64_t sum)
{
    return sum_fold(sum) == 0xffff;
}

/* A checksum field after the 16-bit word `was` became `is`, all as they stand in memory (RFC 1624, equation 3). */
static inline uint16_t sum_replace(uint16_t field, uint16_t was, uint16_t is)
{
    return sum_field((uint64_t)(uint16_t)~field + (uint16_t)~was + is);
}
