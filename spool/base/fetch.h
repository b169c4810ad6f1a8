/* fetch.h - cache lines asked for before they are needed.  Never faults, whatever the address. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define CACHE_LINE 64u

/* The statement without an instruction is there for the compiler: gcc takes a function that does nothing but prefetch
 * for one without effects, and drops the calls. */
static inline void cache_fetch(const void *p)
{
    __builtin_prefetch(p);
    __asm__ volatile("" : : "r"(p));
}

/* Each line that n bytes from p on lie in. */
static inline void cache_fetch_n(const void *p, size_t n)
{
    for (const uint8_t *at = p, *end = at + n; at < end; at += CACHE_LINE)
        cache_fetch(at);
    if (n > 0)
        cache_fetch((const uint8_t *)p + n - 1);
}
