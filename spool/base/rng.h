/* rng.h - randomness: the kernel's for identities, a seeded generator for jitter and for simulations. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Cryptographic bytes from getrandom(2); aborts the process if the kernel can give none. */
void rng_bytes(void *out_r, size_t n);

/* xoshiro256** (Blackman, Vigna, 2018).  Not for secrets. */
struct rng {
    uint64_t s[4];
};

/* Same seed, same sequence, on every machine. */
void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
/* Uniform in [0, n); n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
