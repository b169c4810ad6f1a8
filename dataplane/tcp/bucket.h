/* bucket.h - token buckets of eight bytes: the time at which the bucket will be full again (the "virtual scheduling"
 * of ITU-T I.371), so that refilling costs nothing and fresh zeroed memory is full buckets. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* What all buckets of a kind have in common. */
struct bucket_rate {
    uint64_t step_ns;  /* time for one token; 0: no limit */
    uint64_t slack_ns; /* a bucket that will be full later than this from now is empty */
};

/* burst tokens at once, per_s a second; per_s 0: no limit; burst 0 counts as 1. */
static inline struct bucket_rate bucket_rate(uint32_t per_s, uint32_t burst)
{
    uint64_t step = per_s ? 1000000000u / per_s : 0;
    return (struct bucket_rate){step, step * (burst ? burst - 1 : 0)};
}

static inline bool bucket_has(const struct bucket_rate *r, uint64_t full_ns, uint64_t now_us)
{
    return full_ns <= now_us * 1000 + r->slack_ns;
}

/* The bucket after one token was taken. */
static inline uint64_t bucket_less(const struct bucket_rate *r, uint64_t full_ns, uint64_t now_us)
{
    return (full_ns > now_us * 1000 ? full_ns : now_us * 1000) + r->step_ns;
}

static inline bool bucket_take(const struct bucket_rate *r, uint64_t *full_ns, uint64_t now_us)
{
    if (!bucket_has(r, *full_ns, now_us))
        return false;
    *full_ns = bucket_less(r, *full_ns, now_us);
    return true;
}
