/* tally.h - counts SMTP reply codes, and prints them as JSON. */
#pragma once
#include <stdint.h>
#include <stdio.h>

struct tally {
    uint64_t count[600]; /* [0]: what was not a reply */
};

static inline void tally_add(struct tally *t, int code)
{
    t->count[code >= 200 && code < 600 ? code : 0]++;
}

static inline void tally_merge(struct tally *into, const struct tally *from)
{
    for (int i = 0; i < 600; i++)
        into->count[i] += from->count[i];
}

/* {"250": 12, "354": 4} */
static inline void tally_print(const struct tally *t, FILE *f)
{
    const char *sep = "";
    fputc('{', f);
    for (int i = 0; i < 600; i++) {
        if (!t->count[i])
            continue;
        fprintf(f, "%s\"%03d\": %llu", sep, i, (unsigned long long)t->count[i]);
        sep = ", ";
    }
    fputc('}', f);
}
