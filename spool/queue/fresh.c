/* fresh.c - see fresh.h.
 *
 * A table with one place for an incarnation, chosen by a hash of it; two that share a place take turns at long
 * intervals, so that a rare one does not drive a busy one out at each message. */
#include "spool/queue/fresh.h"

#include <stdlib.h>
#include <string.h>

enum {
    PLACES = 512,
    WINDOW = 16384, /* counters; a power of two */
    WORD = 64,
    PATIENCE = 64, /* messages: of others, until a place is given away; of its own, until the index is asked again */
};

struct window {
    uint8_t incarnation[16];
    bool taken, open; /* open: what is not marked in the window is not here */
    uint32_t wait;    /* messages until the index is asked again, while it is not open */
    uint32_t quiet;   /* messages of others since the last of its own */
    uint64_t base;    /* multiple of WORD: the window is [base, base + WINDOW) */
    uint64_t seen[WINDOW / WORD];
};

struct fresh {
    fresh_any *any;
    void *arg;
    struct window *windows[PLACES];
};

struct fresh *fresh_new(fresh_any *any, void *arg)
{
    struct fresh *f = calloc(1, sizeof *f);
    if (f) {
        f->any = any;
        f->arg = arg;
    }
    return f;
}

void fresh_free(struct fresh **f)
{
    for (int i = 0; *f && i < PLACES; i++)
        free((*f)->windows[i]);
    free(*f);
    *f = NULL;
}

/* ---- the table */

static uint32_t window_index(const uint8_t incarnation[16])
{
    uint64_t a, b;
    memcpy(&a, incarnation, sizeof a);
    memcpy(&b, incarnation + sizeof a, sizeof b);
    return (uint32_t)((a ^ b) * UINT64_C(0x9e3779b97f4a7c15) >> 32) % PLACES;
}

static uint64_t aligned(uint64_t counter)
{
    return counter / WORD * WORD;
}

/* NULL: another incarnation has it, or no memory. */
static struct window *window_of(struct fresh *f, const struct msgid *id)
{
    struct window **at = &f->windows[window_index(id->incarnation)];
    if (!*at && !(*at = calloc(1, sizeof **at)))
        return NULL;
    struct window *w = *at;
    bool ours = w->taken && memcmp(w->incarnation, id->incarnation, sizeof w->incarnation) == 0;
    if (!ours && w->taken && ++w->quiet < PATIENCE)
        return NULL;
    if (!ours) {
        *w = (struct window){.taken = true, .base = aligned(id->counter)};
        memcpy(w->incarnation, id->incarnation, sizeof w->incarnation);
    }
    w->quiet = 0;
    return w;
}

/* ---- the window */

static uint64_t *window_word(struct window *w, uint64_t counter)
{
    return &w->seen[counter / WORD % (WINDOW / WORD)];
}

/* Up only. */
static void window_move(struct window *w, uint64_t base)
{
    if (base - w->base >= WINDOW)
        memset(w->seen, 0, sizeof w->seen);
    else
        for (uint64_t at = w->base; at < base; at += WORD)
            *window_word(w, at) = 0;
    w->base = base;
}

/* False: it was marked before. */
static bool window_mark(struct window *w, uint64_t counter)
{
    uint64_t *word = window_word(w, counter), bit = UINT64_C(1) << counter % WORD;
    bool first = !(*word & bit);
    *word |= bit;
    return first;
}

/* From this message on, if the index has nothing from there on.  What is below it in its word may be here. */
static bool window_open(struct fresh *f, struct window *w, const struct msgid *id)
{
    if (w->open)
        return true;
    if (w->wait > 0) {
        w->wait--;
        return false;
    }
    w->wait = PATIENCE;
    w->open = !f->any(f->arg, id);
    if (!w->open)
        return false;
    window_move(w, aligned(id->counter));
    *window_word(w, id->counter) |= (UINT64_C(1) << id->counter % WORD) - 1;
    return true;
}

/* It moves by half of itself at least, so that it seldom does. */
bool fresh_take(struct fresh *f, const struct msgid *id)
{
    struct window *w = window_of(f, id);
    if (!w || id->counter < w->base)
        return false;
    if (id->counter - w->base >= WINDOW)
        window_move(w, aligned(id->counter - WINDOW / 2));
    return window_mark(w, id->counter) && window_open(f, w, id);
}
