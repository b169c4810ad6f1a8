/* admin.h - the admin API of the daemon, and its read-only pages on loopback.  libmicrohttpd, JSON; docs/admin-api.md
 *
 *   unix socket (settings.admin_socket, mode 0600)   everything; whoever can open it is an operator
 *   TCP loopback (settings.admin_http)               /, /metrics, /health, /v1/status: nothing secret, no changes
 *
 * On TCP a request whose Host is not loopback is refused, so that a web page cannot reach it under a name of its own.
 * Errors are JSON: {"error": "what", "remedy": "what to do"}.
 *
 * Thread: admin_open, admin_reload and admin_close from the composition root.  The socket has one thread of its own
 * (in a cluster one a request, and a lock around `outlet`); TCP has another, which reads counters only. */
#pragma once
#include "cluster/cluster.h"
#include "dataplane/conf/settings.h"
#include "dataplane/front.h"
#include "dataplane/relay/relay.h"
#include "spool/spool.h"

struct admin;

struct admin_deps {
    struct spool *spool;
    struct domains *domains;
    struct relay *relay;     /* NULL: nothing is relayed */
    struct cluster *cluster; /* NULL: this node alone */
    struct front *front;     /* NULL: there is none */
    struct outlet *outlet;   /* a door of the admin's own; closed by the caller after admin_close */
    const struct clock *clock;
    uint64_t started_us;               /* wall clock */
    void (*request_reload)(void *arg); /* as SIGHUP does; NULL: there is none */
    bool (*shutting_down)(void *arg);  /* no new mail any more; NULL: never */
    void *arg;
};

/* settings: borrowed during the call only.  Binds at once, so that it can be done before privileges are dropped; a
 * socket file left by a dead daemon is replaced.  why_r: for the operator, in words that name the remedy. */
int admin_open(struct admin **a_r, const struct admin_deps *deps, const struct settings *settings, char *why_r,
               size_t cap);
/* What of the settings may change while running. */
void admin_reload(struct admin *a, const struct settings *settings);
/* docs/metrics.md, whole. */
void admin_metrics_doc(FILE *out);
/* Ends both listeners, removes the socket file. */
void admin_close(struct admin **a);
