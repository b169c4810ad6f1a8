/* load.h - what a thread of load does: sessions over a wire, paced and bounded. */
#pragma once
#include "bench/lib/loadconn.h"
#include "bench/lib/wire.h"

struct load_spec {
    unsigned connections, per_session;
    bool pipelining, deep;
    bool retry;           /* connect again when the server is away, until the deadline */
    uint64_t messages;    /* how many to begin; UINT64_MAX: as many as fit in duration_us */
    uint64_t duration_us; /* begin none after that; 0: no such end */
    uint64_t deadline_us; /* end after that whatever is under way */
    double rate;          /* messages a second; 0: as fast as it goes */
    struct mint_spec mint;
    struct lines *ledger;
};

struct load_result {
    struct load_book book;
    uint64_t connect_failures;
    uint64_t late;  /* paced: messages that began over 10 ms after their time */
    bool timed_out; /* the deadline ended it */
};

/* Runs to the end; the result is the caller's to read.  Thread: any, each with a wire of its own; threads share nothing
 * but the ledger. */
void load_run(const struct load_spec *spec, struct wire *wire, struct load_result *r);

/* Opens n sessions, greets with EHLO, and holds them open until stdin ends or says "end", SIGTERM comes or deadline_us
 * has passed. Prints one JSON line as soon as all stand ({"idle": n, "failed": f, "seconds": s}) and one at the end
 * with how many were still open.  A line "noop SECONDS" on stdin makes all of them say NOOP in turn for that long, and
 * prints
 * {"noops": answered, "unanswered": u, "lost": l, "seconds": s}.  0, or 1 when not all stood. */
int load_idle(struct wire *wire, unsigned n, uint64_t deadline_us);

/* Connections that the server does not want, some at a time: each until it is reset or closed, or nothing was heard for
 * give_up_us.  0: a connection is begun and given up at once: one SYN each, for servers that do not answer. */
struct refuse_spec {
    uint64_t n;
    unsigned at_once;
    uint64_t give_up_us;
    double rate; /* begun a second; 0: as fast as it goes */
};
struct refuse_counts {
    uint64_t tried;
    uint64_t ended;       /* by the server */
    uint64_t turned_away; /* of those: after a line of 4xx or 5xx */
    uint64_t greeted;     /* of those: let in after all */
    uint64_t silent;      /* given up */
    uint64_t failed;      /* could not be begun */
};
struct refuse_counts load_refuse(struct wire *wire, const struct refuse_spec *spec, uint64_t deadline_us);
