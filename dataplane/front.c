/* front.c - the SMTP front-end: sockets, workers, and their end. */
#include "dataplane/front_impl.h"

#include "dataplane/conf/settings_dataplane.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- how many */

/* By default three for four cores: the log, the index and the relay need the rest.  Beside a port sockets serve whoever
 * is near. */
static uint32_t sockets_workers(const struct settings *st)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long n = st->smtp_workers ? (long)st->smtp_workers : settings_on_dpdk(st) ? 1 : cores * 3 / 4;
    if (st->listen.n == 0)
        return 0;
    return n < 1 ? 1 : n > FRONT_WORKERS_MAX ? FRONT_WORKERS_MAX : (uint32_t)n;
}

size_t front_workers(const struct front *f)
{
    return f->sockets_n + f->queues_n;
}

static uint32_t share(uint32_t all, uint32_t among)
{
    return among ? (all + among - 1) / among : all;
}

void front_smtp_config(const struct front *f, const struct settings *st, bool on_port, struct smtp_server_config *cfg_r)
{
    *cfg_r = smtp_server_config_default;
    cfg_r->hostname = f->st->hostname;
    cfg_r->log_messages = st->log_messages;
    cfg_r->limits.message_bytes = f->st->smtp_max_message_bytes;
    cfg_r->limits.rcpts = st->smtp_max_recipients;
    cfg_r->limits.errors = st->smtp_max_errors;
    cfg_r->limits.command_s = (uint32_t)(st->smtp_command_timeout_us / 1000000);
    cfg_r->limits.data_s = (uint32_t)(st->smtp_data_timeout_us / 1000000);
    cfg_r->shutdown_s = (uint32_t)(st->smtp_shutdown_grace_us / 1000000);
    cfg_r->max_sessions =
        on_port ? share(f->st->dataplane_connections, f->queues_n) : share(f->st->smtp_max_sessions, f->sockets_n);
}

/* ---- sockets */

/* Every worker has a socket of its own on every address (SO_REUSEPORT): the kernel spreads connections over them. */
static int sockets_open(struct front *f, char *why_r)
{
    for (uint32_t w = 0; w < f->sockets_n; w++) {
        uint32_t n = 0;
        for (size_t i = 0; i < f->st->listen.n; i++) {
            int got = net_listen(f->st->listen.v[i], f->fds[w] + n, FRONT_SOCKETS_MAX - n, why_r);
            if (got < 0)
                return got;
            n += (uint32_t)got;
        }
        f->fds_n = n;
    }
    return 0;
}

static void listener_add(struct front *f, const char *text)
{
    size_t n = 0;
    while (f->listeners && f->listeners[n])
        n++;
    f->listeners = realloc(f->listeners, (n + 2) * sizeof *f->listeners);
    if (!f->listeners || !(f->listeners[n] = strdup(text)))
        abort();
    f->listeners[n + 1] = NULL;
}

static void listeners_fill(struct front *f)
{
    uint16_t ports[DATAPLANE_PORTS_MAX];
    struct ip_config ip = {.addrs_n = 0};
    char text[ADDR_TEXT_MAX], listener[ADDR_TEXT_MAX + 16];
    f->listeners = calloc(1, sizeof *f->listeners);
    for (size_t i = 0; i < f->st->listen.n; i++)
        listener_add(f, f->st->listen.v[i]);
    if (f->queues_n == 0)
        return;
    settings_ip(f->st, &ip);
    for (uint32_t i = 0, n = settings_ports(f->st, ports); i < ip.addrs_n * n; i++) {
        const struct ip_addr *a = &ip.addrs[i / n].addr;
        addr_format(a, text);
        snprintf(listener, sizeof listener, ip_addr_is4(a) ? "%s:%u" : "[%s]:%u", text, ports[i % n]);
        listener_add(f, listener);
    }
}

int front_open(struct front **f_r, const struct settings *st, char *why_r)
{
    struct front *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->st = st;
    f->sockets_n = sockets_workers(st);
    f->queues_n = settings_on_dpdk(st) ? st->dataplane_queues : 0;
    pthread_mutex_init(&f->lock, NULL);
    listeners_fill(f);
    int rc = sockets_open(f, why_r);
    *f_r = f;
    return rc;
}

/* ---- workers */

static void *worker_main(void *arg)
{
    struct front_worker *w = arg;
    w->rc = w->transport->ops->run(w->transport);
    if (w->rc < 0) {
        log_error("front.worker", "reason=\"%s\" action=\"the daemon stops\"", satchel_strerror(w->rc));
        kill(getpid(), SIGTERM);
    }
    return NULL;
}

static int kernel_open(struct front *f, uint32_t i, const struct transport_app *app, struct transport **t_r,
                       char *why_r)
{
    struct kernel_config cfg = kernel_config_default;
    cfg.engine = settings_on_dpdk(f->st) ? NET_AUTO : (enum net_engine)f->st->dataplane_engine;
    cfg.listen_fds = f->fds[i];
    cfg.listen_n = f->fds_n;
    cfg.max_conns = share(f->st->smtp_max_sessions, f->sockets_n);
    int rc = transport_kernel_open(t_r, &cfg, app);
    if (rc < 0)
        snprintf(why_r, FRONT_WHY_MAX, "%s", satchel_strerror(rc));
    return rc;
}

static int thread_start(struct front_worker *w, int core)
{
    pthread_attr_t attr;
    cpu_set_t cpus;
    pthread_attr_init(&attr);
    if (core >= 0) {
        CPU_ZERO(&cpus);
        CPU_SET((size_t)core, &cpus);
        pthread_attr_setaffinity_np(&attr, sizeof cpus, &cpus);
    }
    int rc = -pthread_create(&w->thread, &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    w->started = rc == 0;
    return rc;
}

static int worker_parts(struct front *f, uint32_t i, struct spool *spool, struct domains *domains, char *why_r)
{
    struct front_worker *w = &f->workers[i];
    bool on_port = i >= f->sockets_n;
    struct smtp_server_config smtp;
    front_smtp_config(f, f->st, on_port, &smtp);
    int rc = spool_intake(spool, &w->intake);
    if (rc == 0)
        rc = smtp_worker_open(&w->smtp, &smtp, domains, w->intake);
    if (rc < 0) {
        snprintf(why_r, FRONT_WHY_MAX, "%s", satchel_strerror(rc));
        return rc;
    }
    struct transport_app app = smtp_worker_app(w->smtp);
    return on_port ? front_queue_open(f, i - f->sockets_n, &app, &w->transport, why_r)
                   : kernel_open(f, i, &app, &w->transport, why_r);
}

static int worker_open(struct front *f, uint32_t i, struct spool *spool, struct domains *domains, char *why_r)
{
    struct front_worker *w = &f->workers[i];
    int rc = worker_parts(f, i, spool, domains, why_r);
    if (rc < 0)
        return rc;
    rc = smtp_worker_attach(w->smtp, w->transport);
    if (rc < 0)
        snprintf(why_r, FRONT_WHY_MAX, "%s", satchel_strerror(rc));
    return rc;
}

static int worker_start(struct front *f, uint32_t i, char *why_r)
{
    struct front_worker *w = &f->workers[i];
    bool on_port = i >= f->sockets_n;
    int core = on_port ? settings_core(f->st, i - f->sockets_n) : -1;
    int rc = thread_start(w, core);
    if (rc == 0)
        pthread_setname_np(w->thread, on_port ? "smtp-port" : "smtp");
    else if (core >= 0)
        snprintf(why_r, FRONT_WHY_MAX, "no thread on core %d: %s: may this process run there? See dataplane.cores",
                 core, satchel_strerror(rc));
    else
        snprintf(why_r, FRONT_WHY_MAX, "%s", satchel_strerror(rc));
    return rc;
}

/* Others may look at the port before any thread serves. */
int front_start(struct front *f, struct spool *spool, struct domains *domains, char *why_r)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < front_workers(f); i++)
        rc = worker_open(f, i, spool, domains, why_r);
    pthread_mutex_lock(&f->lock);
    f->serving = rc == 0;
    pthread_mutex_unlock(&f->lock);
    for (uint32_t i = 0; rc == 0 && i < front_workers(f); i++)
        rc = worker_start(f, i, why_r);
    return rc;
}

void front_reload(struct front *f, const struct settings *loaded)
{
    struct smtp_server_config smtp;
    for (uint32_t i = 0; i < front_workers(f); i++) {
        front_smtp_config(f, loaded, i >= f->sockets_n, &smtp);
        smtp_worker_reload(f->workers[i].smtp, &smtp);
    }
    front_port_reload(f, loaded);
}

/* ---- the end */

static void worker_join(struct front_worker *w)
{
    if (w->started)
        pthread_join(w->thread, NULL);
    w->started = false;
}

static void worker_close(struct front_worker *w)
{
    if (w->transport)
        w->transport->ops->destroy(&w->transport);
    smtp_worker_close(&w->smtp);
    if (w->intake)
        w->intake->ops->close(&w->intake);
}

void front_stop(struct front *f)
{
    if (!f)
        return;
    for (uint32_t i = 0; i < front_workers(f); i++)
        if (f->workers[i].started)
            smtp_worker_shutdown(f->workers[i].smtp);
    for (uint32_t i = 0; i < front_workers(f); i++)
        worker_join(&f->workers[i]);
    pthread_mutex_lock(&f->lock);
    f->serving = false;
    for (uint32_t i = 0; i < front_workers(f); i++)
        worker_close(&f->workers[i]);
    pthread_mutex_unlock(&f->lock);
}

void front_close(struct front **f_r)
{
    struct front *f = *f_r;
    if (!f)
        return;
    front_port_close(f);
    for (char **l = f->listeners; *l; l++)
        free(*l);
    free(f->listeners);
    pthread_mutex_destroy(&f->lock);
    free(f);
    *f_r = NULL;
}

const char *const *front_listeners(const struct front *f)
{
    return (const char *const *)f->listeners;
}
