/* bytes.h - a fuzzer's input as a stream: a missing byte reads as 0. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct bytes {
    const uint8_t *p;
    size_t n;
};

static inline uint8_t take8(struct bytes *b)
{
    if (b->n == 0)
        return 0;
    b->n--;
    return *b->p++;
}

static inline uint16_t take16(struct bytes *b)
{
    uint16_t hi = take8(b);
    return (uint16_t)(hi << 8 | take8(b));
}

static inline uint32_t take32(struct bytes *b)
{
    uint32_t hi = take16(b);
    return hi << 16 | take16(b);
}
