/* wire.h - cursors over little-endian binary data with a sticky error.
 * A reader or writer that ran past its end sets `bad`, yields zeros or drops bytes from then on, and is checked once at
 * the end: parsers need no ladder of ifs.  Nothing is allocated; slices returned borrow from the input. */
#pragma once
#include "spool/base/copy.h"
#include "spool/base/slice.h"

struct wire_rd {
    const uint8_t *p, *end;
    bool bad;
};

struct wire_wr {
    uint8_t *p, *end, *start;
    bool bad;
};

static inline struct wire_rd wire_rd(struct slice s)
{
    return (struct wire_rd){s.p, s.p + s.n, false};
}

static inline struct wire_wr wire_wr(void *buf, size_t cap)
{
    return (struct wire_wr){buf, (uint8_t *)buf + cap, buf, false};
}

static inline size_t wire_left(const struct wire_rd *r)
{
    return (size_t)(r->end - r->p);
}

static inline size_t wire_len(const struct wire_wr *w)
{
    return (size_t)(w->p - w->start);
}

static inline struct slice wire_get(struct wire_rd *r, size_t n)
{
    if (r->bad || wire_left(r) < n) {
        r->bad = true;
        return (struct slice){r->end, 0};
    }
    struct slice s = {r->p, n};
    r->p += n;
    return s;
}

static inline void wire_put(struct wire_wr *w, const void *p, size_t n)
{
    if (w->bad || (size_t)(w->end - w->p) < n) {
        w->bad = true;
        return;
    }
    if (n)
        copy_long(w->p, p, n);
    w->p += n;
}

/* The byte order is little-endian on disk and on the wire; so is every machine we build for (asserted in record.c). */
#define WIRE_INT(bits)                                                                                                 \
    static inline uint##bits##_t wire_u##bits(struct wire_rd *r)                                                       \
    {                                                                                                                  \
        uint##bits##_t v = 0;                                                                                          \
        struct slice s = wire_get(r, sizeof v);                                                                        \
        if (s.n == sizeof v)                                                                                           \
            memcpy(&v, s.p, sizeof v);                                                                                 \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void wire_put_u##bits(struct wire_wr *w, uint##bits##_t v)                                           \
    {                                                                                                                  \
        wire_put(w, &v, sizeof v);                                                                                     \
    }
WIRE_INT(8)
WIRE_INT(16)
WIRE_INT(32)
WIRE_INT(64)
#undef WIRE_INT
