/* siphash.h - SipHash (Aumasson and Bernstein, 2012) of whole 64-bit words, inline: the table is asked for each
 * segment, where a call of libsodium's costs more than the lookup.
 *
 * Keyed with 16 secret bytes: who does not know them cannot choose what collides.  c rounds a word and d at the end;
 * SipHash-2-4 is the one that libsodium has, SipHash-1-3 what hash tables take. */
#pragma once
#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t siphash_rotl(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static inline void siphash_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = siphash_rotl(v[1], 13) ^ v[0];
    v[3] = siphash_rotl(v[3], 16) ^ v[2];
    v[0] = siphash_rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = siphash_rotl(v[1], 17) ^ v[2];
    v[3] = siphash_rotl(v[3], 21) ^ v[0];
    v[2] = siphash_rotl(v[2], 32);
}

static inline void siphash_word(uint64_t v[4], uint64_t w, unsigned c)
{
    v[3] ^= w;
#pragma GCC unroll 4
    for (unsigned i = 0; i < c; i++)
        siphash_round(v);
    v[0] ^= w;
}

/* Of the n * 8 bytes at w, as they stand in memory. */
static inline uint64_t siphash(const uint8_t key[16], const uint64_t *w, unsigned n, unsigned c, unsigned d)
{
    uint64_t k[2];
    memcpy(k, key, sizeof k);
    k[0] = le64toh(k[0]);
    k[1] = le64toh(k[1]);
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261,
                     k[1] ^ 0x7465646279746573};
#pragma GCC unroll 4
    for (unsigned i = 0; i < n; i++)
        siphash_word(v, le64toh(w[i]), c);
    siphash_word(v, (uint64_t)n * 8 << 56, c);
    v[2] ^= 0xff;
#pragma GCC unroll 4
    for (unsigned i = 0; i < d; i++)
        siphash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
