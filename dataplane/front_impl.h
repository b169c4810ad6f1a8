/* front_impl.h - inside the front-end: front.c has sockets and workers, front_port.c the port and what its queues run.
 */
#pragma once
#include "dataplane/front.h"
#include "dataplane/smtp/server.h"
#include "dataplane/tcp/blocklist.h"

#include <pthread.h>

enum { FRONT_SOCKETS_MAX = 16, FRONT_WORKERS_MAX = 256, FRONT_QUEUES_MAX = 64 };

struct front_worker {
    pthread_t thread;
    struct intake *intake;
    struct smtp_worker *smtp;
    struct transport *transport;
    bool started;
    int rc;
};

/* Workers of sockets come first, those of queues behind them. */
/* Each queue writes its own: on cache lines of its own. */
struct front_stats {
    _Alignas(64) struct stats s;
};

struct front {
    const struct settings *st;
    struct front_worker workers[FRONT_WORKERS_MAX + FRONT_QUEUES_MAX];
    uint32_t sockets_n, queues_n; /* workers of either kind */
    int fds[FRONT_WORKERS_MAX][FRONT_SOCKETS_MAX];
    uint32_t fds_n; /* of each worker */
    char **listeners;
    /* ---- front_port.c */
    struct port *port;         /* NULL: none */
    struct front_stats *stats; /* of each queue */
    struct blocklist blocked;
    pthread_mutex_t lock; /* other threads ask a transport, or they are destroyed */
    bool serving;
};

/* Likewise for reload: what stays is taken from f->st. */
void front_smtp_config(const struct front *f, const struct settings *st, bool on_port,
                       struct smtp_server_config *cfg_r);

/* ---- front_port.c */
int front_queue_open(struct front *f, uint32_t queue, const struct transport_app *app, struct transport **t_r,
                     char *why_r);
void front_port_reload(struct front *f, const struct settings *loaded);
void front_port_close(struct front *f);
