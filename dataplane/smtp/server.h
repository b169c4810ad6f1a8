/* server.h - one SMTP worker: sessions from a pool, on a transport, before an intake door.
 *
 * Thread: a worker belongs to the thread that runs its transport; smtp_worker_shutdown, _reload and _sessions may be
 * called from any thread.  Order: open, make the transport with smtp_worker_app, attach, run the transport, destroy the
 * transport (that closes what sessions are left), close.
 *
 * Commits that a loop turn brings go to the log in one go: the transport's turn calls the door's poll. */
#pragma once
#include "dataplane/conf/domains.h"
#include "dataplane/net/transport.h"
#include "dataplane/smtp/session.h"

struct smtp_worker;

struct smtp_server_config {
    const char *hostname; /* ours: banner, EHLO, trace fields, loops; at most 253 bytes; copied */
    struct smtp_limits limits;
    uint32_t max_sessions;   /* of this worker; above it a connection hears 421 4.3.2; 10000 */
    uint64_t envelope_bytes; /* memory of all open transactions of this worker; above it MAIL hears 452; 64 MiB */
    uint32_t shutdown_s;     /* how long messages under way may take after smtp_worker_shutdown; 30 */
    bool log_messages;       /* a line for each message accepted and each reply of class 4 or 5; true */
};
extern const struct smtp_server_config smtp_server_config_default;

/* The door stays the caller's (closed after the worker).  0, -SATCHEL_EINVAL (hostname), -SATCHEL_ENOMEM. */
int smtp_worker_open(struct smtp_worker **w_r, const struct smtp_server_config *cfg, struct domains *domains,
                     struct intake *intake);
/* What the transport calls; valid as long as the worker. */
struct transport_app smtp_worker_app(struct smtp_worker *w);
/* Watches the door's descriptor.  Before the transport runs.  0 or an error. */
int smtp_worker_attach(struct smtp_worker *w, struct transport *t);
/* No new connections; sessions get 421, those within DATA after their answer; when all are gone, or after shutdown_s,
 * the transport is stopped and its run() returns. */
void smtp_worker_shutdown(struct smtp_worker *w);
/* Takes effect at the worker's next turn, for open sessions too.  -SATCHEL_EINVAL: hostname. */
int smtp_worker_reload(struct smtp_worker *w, const struct smtp_server_config *cfg);
/* Sessions open now. */
uint32_t smtp_worker_sessions(const struct smtp_worker *w);
/* After the transport is gone. */
void smtp_worker_close(struct smtp_worker **w);
