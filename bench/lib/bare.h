/* bare.h - an SMTP front-end that stores nothing: sessions as in the daemon, the door of nowhere.h behind them, on
 * whichever transport.  It serves d0000.test, d0001.test, ... as the generator sends to.
 *
 * Order: open, make a transport with bare_app, attach, run it; bare_shutdown from any thread; when run has returned
 * destroy the transport, then close.  What fails here ends the program. */
#pragma once
#include "bench/lib/nowhere.h"
#include "dataplane/smtp/server.h"

struct bare {
    struct smtp_worker *smtp;
    struct intake *door;
    struct domains *domains;
    struct nowhere_counts counts;
    char dir[64]; /* of the registry; removed at close */
};

void bare_open(struct bare *f, uint32_t max_sessions, unsigned domains);
struct transport_app bare_app(struct bare *f);
void bare_attach(struct bare *f, struct transport *t);
void bare_shutdown(struct bare *f);
void bare_close(struct bare *f);
