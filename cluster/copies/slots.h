/* slots.h - tokens: numbers on the wire that name what is under way here.
 *
 * A token holds a place and a generation drawn at random at the start, so that an answer to a question that is over, or
 * that an earlier life of this process asked, finds nothing.  What is kept begins with its kind, so that an answer to
 * one kind of question is not taken for another's.  0 is no token. */
#pragma once
#include <stdint.h>

struct slots {
    void **at;
    uint32_t *gens, *free;
    uint32_t cap, free_n, gen;
};

/* 0: no memory. */
uint64_t slots_add(struct slots *s, void *what);
/* NULL: over, or never was. */
void *slots_get(const struct slots *s, uint64_t token);
void slots_del(struct slots *s, uint64_t token);
void slots_drop(struct slots *s);
