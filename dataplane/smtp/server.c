/* server.c - glue: transport callbacks to sessions, sessions to the registry of domains and to the log. */
#include "dataplane/smtp/server.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Beside its connection; what a command looks at comes first. */
struct client {
    struct smtp_worker *w;
    struct conn *c;
    size_t arena_bytes; /* of its transaction, as counted in w */
    struct smtp_session s;
    struct client *next, **at; /* among the open ones */
};
static_assert(offsetof(struct client, s.txn) < TRANSPORT_AHEAD_BYTES, "a command needs what was fetched");

struct smtp_worker {
    struct smtp_site site;
    struct smtp_server_config cfg; /* hostname points into site */
    struct transport *transport;
    struct domains *domains;
    const struct domains_snapshot *snapshot;
    uint64_t snapshot_version;
    const struct recipients_snapshot *lists;
    uint64_t lists_version;
    struct client *open;
    atomic_uint sessions;
    uint64_t arena_bytes;
    bool slept; /* the clock was not looked at since */
    bool draining;
    uint64_t drain_until_us;
    atomic_bool shutdown, reload; /* asked for by another thread */
    pthread_mutex_t lock;         /* for next and next_hostname */
    struct smtp_server_config next;
    char next_hostname[SMTP_DOMAIN_MAX + 1];
};

const struct smtp_server_config smtp_server_config_default = {
    .hostname = "localhost",
    .max_sessions = 10000,
    .envelope_bytes = 64u << 20,
    .shutdown_s = 30,
    .log_messages = true,
    .limits = SMTP_LIMITS_DEFAULT,
};

static atomic_uint sessions_of_all;

static void worker_now(struct smtp_worker *w)
{
    const struct clock *c = clock_system();
    smtp_site_now(&w->site, clock_boot_us(c), clock_wall_us(c));
    w->slept = false;
}

/* Before the first session after a sleep; else the turn before this one looked, moments ago. */
static void worker_woke(struct smtp_worker *w)
{
    if (w->slept)
        worker_now(w);
}

/* ---- the open ones */

static struct client *client_open(struct smtp_worker *w, struct conn *c)
{
    struct client *cl = c->session;
    cl->w = w;
    cl->c = c;
    cl->arena_bytes = 0;
    cl->next = w->open;
    cl->at = &w->open;
    if (cl->next)
        cl->next->at = &cl->next;
    w->open = cl;
    atomic_fetch_add(&w->sessions, 1);
    metric_set(M_SMTP_SESSIONS, atomic_fetch_add(&sessions_of_all, 1) + 1);
    return cl;
}

static void client_closed(struct client *cl)
{
    struct smtp_worker *w = cl->w;
    *cl->at = cl->next;
    if (cl->next)
        cl->next->at = cl->at;
    atomic_fetch_sub(&w->sessions, 1);
    metric_set(M_SMTP_SESSIONS, atomic_fetch_sub(&sessions_of_all, 1) - 1);
}

/* A transaction's memory changes only while its session runs: counted after each call into it. */
static void client_account(struct client *cl)
{
    cl->w->arena_bytes += cl->s.arena.used - cl->arena_bytes;
    cl->arena_bytes = cl->s.arena.used;
}

/* ---- a session's output */

static void out_send(void *arg, struct slice bytes)
{
    struct client *cl = arg;
    conn_send(cl->c, bytes);
}

static void out_resume(void *arg)
{
    struct client *cl = arg;
    client_account(cl);
    conn_resume(cl->c);
}

static void out_close(void *arg)
{
    struct client *cl = arg;
    client_account(cl);
    conn_close(cl->c);
}

static const struct smtp_out client_out = {out_send, out_resume, out_close};

/* ---- policy: which domains are ours */

static const struct domain *worker_domain(struct smtp_worker *w, struct slice name)
{
    uint64_t version = domains_version(w->domains);
    if (!w->snapshot || version != w->snapshot_version) {
        if (w->snapshot)
            domains_put(w->snapshot);
        w->snapshot = domains_get(w->domains);
        w->snapshot_version = version;
    }
    return domains_find(w->snapshot, name);
}

static const struct recipient_list *worker_list(struct smtp_worker *w, const char *hash)
{
    struct recipients *r = domains_recipients(w->domains);
    uint64_t version = recipients_version(r);
    if (!w->lists || version != w->lists_version) {
        if (w->lists)
            recipients_put(w->lists);
        w->lists = recipients_get(r);
        w->lists_version = version;
    }
    return recipients_find(w->lists, hash);
}

/* A list that is not here yet comes within moments.  Where it does not come, refusing for long would lose mail that is
 * good, and taking what is not checked only brings a bounce. */
static void ask_list(struct smtp_worker *w, const struct domain *d, struct slice local, struct smtp_verdict *v_r)
{
    const struct recipient_list *l = worker_list(w, d->recipients);
    if (l && recipient_list_has(l, local))
        return;
    if (l) {
        v_r->kind = VERDICT_REFUSED;
        status_set(&v_r->status, 550, 5, 1, 1, "No such recipient at %s", d->name);
    } else if (recipients_missing_us(domains_recipients(w->domains), d->recipients, w->site.boot_us) <
               RECIPIENTS_GRACE_US) {
        v_r->kind = VERDICT_REFUSED;
        status_set(&v_r->status, 451, 4, 3, 0, "The recipients of %s are not known yet, try again in a minute",
                   d->name);
    } else {
        metric_add(M_SMTP_RCPT_UNCHECKED, 1);
    }
}

static void ask_rcpt(struct smtp_worker *w, const struct smtp_path *path, struct smtp_verdict *v_r)
{
    const struct domain *d = worker_domain(w, path->domain);
    v_r->kind = VERDICT_REFUSED;
    if (!d) {
        status_set(&v_r->status, 550, 5, 7, 1, "Relaying denied: %.*s is not served here", SLICE_FMT(path->domain));
        return;
    }
    if (d->pending) {
        status_set(&v_r->status, 550, 5, 7, 1, "%.*s is not open yet", SLICE_FMT(path->domain));
        return;
    }
    v_r->kind = VERDICT_OK;
    v_r->max_message_bytes = d->max_message_bytes;
    if (*d->recipients)
        ask_list(w, d, path->local, v_r);
}

static void worker_ask(void *ctx, struct smtp_session *s, enum smtp_question q, const struct smtp_path *path,
                       struct smtp_verdict *v_r)
{
    struct smtp_worker *w = ctx;
    (void)s;
    v_r->kind = VERDICT_OK;
    if (q == ASK_RCPT) {
        ask_rcpt(w, path, v_r);
    } else if (q == ASK_MAIL && w->arena_bytes > w->cfg.envelope_bytes) {
        v_r->kind = VERDICT_REFUSED;
        status_set(&v_r->status, 452, 4, 3, 1, "No memory for another message now, try again later");
    }
}

static void worker_accepted(void *ctx, const struct smtp_session *s, const struct envelope *env, const struct msgid *id,
                            uint64_t bytes)
{
    struct smtp_worker *w = ctx;
    if (!w->cfg.log_messages || LOG_LEVEL_INFO > log_level_now)
        return;
    char text[MSGID_TEXT_MAX], sender[SMTP_ADDRESS_MAX + 16];
    msgid_format(id, text);
    log_info("smtp.accepted", "id=%s domain=%.*s recipients=%zu bytes=%llu sender=%s client=%s", text,
             SLICE_FMT(env->domain), env->rcpts_n, (unsigned long long)bytes,
             log_quote(env->sender, sender, sizeof sender), s->client);
}

static void worker_refused(void *ctx, const struct smtp_session *s, struct slice reply)
{
    struct smtp_worker *w = ctx;
    if (!w->cfg.log_messages || LOG_LEVEL_INFO > log_level_now)
        return;
    char text[SMTP_STATUS_TEXT_MAX + 32], helo[128];
    reply.n -= 2;
    log_info("smtp.refused", "client=%s helo=%s reply=%s", s->client,
             log_quote(slice_str(s->helo ? s->helo : ""), helo, sizeof helo), log_quote(reply, text, sizeof text));
}

/* ---- what the transport calls */

static struct slice peer_text(const struct sockaddr_storage *peer, char out_r[INET6_ADDRSTRLEN])
{
    const void *ip = &((const struct sockaddr_in *)peer)->sin_addr;
    if (peer->ss_family == AF_INET6)
        ip = &((const struct sockaddr_in6 *)peer)->sin6_addr;
    if (!inet_ntop(peer->ss_family, ip, out_r, INET6_ADDRSTRLEN))
        out_r[0] = 0;
    return slice_str(out_r);
}

/* Too many sessions, or none wanted any more. */
static bool turned_away(struct smtp_worker *w, struct client *cl)
{
    if (!w->draining && atomic_load(&w->sessions) <= w->cfg.max_sessions)
        return false;
    metric_add(M_SMTP_REFUSED, 1);
    smtp_session_turn_away(&cl->s, w->draining ? R_SHUT : R_BUSY);
    return true;
}

static void *on_accept(void *app, struct conn *c, const struct sockaddr_storage *peer,
                       const struct sockaddr_storage *local)
{
    struct smtp_worker *w = app;
    char text[INET6_ADDRSTRLEN];
    (void)local;
    worker_woke(w);
    metric_add(M_SMTP_CONNECTIONS, 1);
    struct client *cl = client_open(w, c);
    smtp_session_open(&cl->s, &w->site, &client_out, cl, peer_text(peer, text));
    if (!turned_away(w, cl)) {
        smtp_session_greet(&cl->s);
        conn_timer(c, smtp_session_tick(&cl->s));
    }
    return cl;
}

static size_t on_receive(void *session, struct slice in)
{
    struct client *cl = session;
    worker_woke(cl->w);
    size_t n = smtp_session_feed(&cl->s, in);
    client_account(cl);
    return n;
}

static void on_timer(void *session)
{
    struct client *cl = session;
    struct smtp_worker *w = cl->w;
    worker_woke(w);
    if (w->draining && w->site.boot_us >= w->drain_until_us)
        return; /* the turn that follows ends it */
    uint64_t in_us = smtp_session_tick(&cl->s);
    uint64_t drain_us = w->draining ? w->drain_until_us - w->site.boot_us : 0;
    if (in_us)
        conn_timer(cl->c, drain_us && drain_us < in_us ? drain_us : in_us);
}

/* A client may close its side right behind the final dot and still wait for the 250. */
static bool on_ended(void *session)
{
    struct client *cl = session;
    return cl->s.wait != WAIT_NOTHING;
}

static void on_closed(void *session, enum conn_end how)
{
    static const char *const why[] = {[CONN_END_PEER] = "peer",
                                      [CONN_END_ERROR] = "error",
                                      [CONN_END_LOCAL] = "local",
                                      [CONN_END_SHUTDOWN] = "shutdown"};
    struct client *cl = session;
    struct smtp_worker *w = cl->w;
    log_debug("smtp.closed", "client=%s by=%s messages=%u", cl->s.client, why[how], cl->s.messages);
    smtp_session_close(&cl->s);
    client_account(cl);
    client_closed(cl);
    if (w->draining && !w->open) /* here too: after the last one no turn need ever come */
        w->transport->ops->stop(w->transport);
}

/* ---- asked for by other threads, done at a turn */

static void worker_reload(struct smtp_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->cfg = w->next;
    memcpy(w->site.hostname, w->next_hostname, sizeof w->site.hostname);
    pthread_mutex_unlock(&w->lock);
    w->cfg.hostname = w->site.hostname;
    w->site.limits = w->cfg.limits;
}

static void worker_say_shut(struct smtp_worker *w)
{
    for (struct client *cl = w->open, *next; cl; cl = next) {
        next = cl->next;
        smtp_session_shutdown(&cl->s);
    }
}

static void worker_drain_begin(struct smtp_worker *w)
{
    w->draining = true;
    w->drain_until_us = w->site.boot_us + w->cfg.shutdown_s * 1000000ull;
    w->transport->ops->stop_accepting(w->transport);
    for (struct client *cl = w->open; cl; cl = cl->next)
        conn_timer(cl->c, w->cfg.shutdown_s * 1000000ull + 1);
    worker_say_shut(w);
}

static void worker_drain(struct smtp_worker *w)
{
    bool late = w->site.boot_us >= w->drain_until_us;
    if (late)
        worker_say_shut(w);
    if (late || !w->open)
        w->transport->ops->stop(w->transport);
}

static void on_turn(void *app)
{
    struct smtp_worker *w = app;
    worker_now(w);
    if (atomic_load(&w->reload) && atomic_exchange(&w->reload, false))
        worker_reload(w);
    w->site.intake->ops->poll(w->site.intake);
    if (!w->draining && atomic_load(&w->shutdown))
        worker_drain_begin(w);
    if (w->draining)
        worker_drain(w);
}

static bool on_sleep(void *app)
{
    struct smtp_worker *w = app;
    w->slept = w->site.intake->ops->sleep(w->site.intake);
    return w->slept;
}

/* ---- the worker */

static int worker_configure(struct smtp_worker *w, const struct smtp_server_config *cfg)
{
    size_t n = strlen(cfg->hostname);
    if (n == 0 || n >= sizeof w->next_hostname)
        return -SATCHEL_EINVAL;
    pthread_mutex_lock(&w->lock);
    w->next = *cfg;
    memcpy(w->next_hostname, cfg->hostname, n + 1);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int smtp_worker_open(struct smtp_worker **w_r, const struct smtp_server_config *cfg, struct domains *domains,
                     struct intake *intake)
{
    struct smtp_worker *w = calloc(1, sizeof *w);
    if (!w)
        return -SATCHEL_ENOMEM;
    pthread_mutex_init(&w->lock, NULL);
    int err = worker_configure(w, cfg);
    if (err) {
        smtp_worker_close(&w);
        return err;
    }
    worker_reload(w);
    w->slept = true;
    w->domains = domains;
    w->site.intake = intake;
    w->site.policy =
        (struct smtp_policy){.ask = worker_ask, .accepted = worker_accepted, .refused = worker_refused, .ctx = w};
    *w_r = w;
    return 0;
}

struct transport_app smtp_worker_app(struct smtp_worker *w)
{
    return (struct transport_app){.session_bytes = sizeof(struct client),
                                  .accept = on_accept,
                                  .receive = on_receive,
                                  .timer = on_timer,
                                  .ended = on_ended,
                                  .closed = on_closed,
                                  .turn = on_turn,
                                  .sleep = on_sleep,
                                  .app = w};
}

int smtp_worker_attach(struct smtp_worker *w, struct transport *t)
{
    w->transport = t;
    return t->ops->watch(t, w->site.intake->fd);
}

void smtp_worker_shutdown(struct smtp_worker *w)
{
    atomic_store(&w->shutdown, true);
    w->transport->ops->wake(w->transport);
}

int smtp_worker_reload(struct smtp_worker *w, const struct smtp_server_config *cfg)
{
    int err = worker_configure(w, cfg);
    if (err)
        return err;
    atomic_store(&w->reload, true);
    w->transport->ops->wake(w->transport);
    return 0;
}

uint32_t smtp_worker_sessions(const struct smtp_worker *w)
{
    return atomic_load(&w->sessions);
}

void smtp_worker_close(struct smtp_worker **w_p)
{
    struct smtp_worker *w = *w_p;
    if (!w)
        return;
    assert(!w->open);
    if (w->snapshot)
        domains_put(w->snapshot);
    if (w->lists)
        recipients_put(w->lists);
    pthread_mutex_destroy(&w->lock);
    free(w);
    *w_p = NULL;
}
