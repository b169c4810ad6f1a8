/* progress.h - how far a long piece of work has come: a bar with an estimate on a terminal, a line now and then
 * elsewhere.  Thread: the caller's. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct progress {
    uint64_t whole, left;
    double started_s, shown_s;
    bool terminal, any;
};

void progress_start(struct progress *p);
/* left: of what is to be done; it may grow.  what: "1,234 messages, 3 shards".  Shows it if it is time to. */
void progress_show(struct progress *p, uint64_t left, const char *what);
/* Clears the line. */
void progress_end(struct progress *p);
/* Seconds that are left at the pace so far; negative: cannot be told. */
double progress_eta_s(const struct progress *p);
