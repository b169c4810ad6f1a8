/* clock.h - time as a value.  Cores take `now` or a struct clock; only clock_system() looks at the machine's clocks.
 * Units are microseconds.  boot: CLOCK_BOOTTIME, never goes back, counts suspend; for retries, leases and timers.
 * wall: CLOCK_REALTIME, since 1970; for records, headers and expiry. */
#pragma once
#include <stdint.h>

struct clock {
    uint64_t (*boot_us)(void *ctx);
    uint64_t (*wall_us)(void *ctx);
    void *ctx;
};

static inline uint64_t clock_boot_us(const struct clock *c)
{
    return c->boot_us(c->ctx);
}

static inline uint64_t clock_wall_us(const struct clock *c)
{
    return c->wall_us(c->ctx);
}

/* The machine's clocks; static storage, any thread. */
const struct clock *clock_system(void);

/* RFC 5322 date-time in UTC ("Mon, 23 Nov 2026 23:21:40 +0000"); writes at most 32 bytes with the NUL, returns the
 * length. */
#define CLOCK_RFC5322_MAX 32
int clock_rfc5322(uint64_t wall_us, char out_r[CLOCK_RFC5322_MAX]);

/* RFC 3339 in UTC with milliseconds ("2026-11-23T23:21:40.123Z"). */
#define CLOCK_RFC3339_MAX 28
int clock_rfc3339(uint64_t wall_us, char out_r[CLOCK_RFC3339_MAX]);
