/* words.h - words of a line, one after the other, with a sticky failure. */
#pragma once
#include "tests/pkt/world.h"

struct words {
    struct world *w;
    const struct line *l;
    unsigned i;
    int64_t edge; /* "$": the right edge of the window that we announced, relative */
};

/* The next word; fails and returns "" at the end of the line. */
const char *words_next(struct words *s);
/* NULL at the end of the line. */
const char *words_look(const struct words *s);
/* Takes the next word when it is this one. */
bool words_take(struct words *s, const char *word);
/* "5", "0x10", "$-1" */
bool words_number(const struct words *s, const char *word, int64_t *n_r);
int64_t words_int(struct words *s);
/* "deadbeef", ':' and '.' between bytes allowed; "x40:00" is 64 bytes 00. Returns how many. */
uint32_t words_hex(struct words *s, uint8_t *out, uint32_t cap);
/* "us", a host's number, or an address. */
struct ip_addr words_addr(struct words *s);
/* "5:105", "5:105(100)", "5", "5:*", "$-10:$+10". False: no range. */
bool words_range(const struct words *s, const char *word, int64_t *start_r, int64_t *end_r, bool *any_end_r);
/* "S.", "-": flags of TCP, F_*; -1: no flags. */
int words_flags(const char *word);
/* "+0.5", "+0.2..0.4": takes it when it is there. Microseconds. */
bool words_time(struct words *s, uint64_t *low_r, uint64_t *high_r);
uint64_t words_seconds(struct words *s);
void words_unknown(struct words *s, const char *word);
