/* cycles.h - the processor's own counter, for what a clock is too coarse or too dear for.  It counts at a constant rate
 * on all that matter today, stands still in no idle state, and is the same on all cores of a machine; its rate is found
 * by asking it and a clock twice. */
#pragma once
#include <stdint.h>
#include <time.h>

static inline uint64_t cycles_now(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t v;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
    return v;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}
