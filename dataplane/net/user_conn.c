/* user_conn.c - a connection of the user transport: what it may do in which state, and its end. */
#include "dataplane/net/user_impl.h"

#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <stdlib.h>
#include <sys/socket.h>

static void uconn_stick(struct user *u, int by)
{
    u->tar_n += (uint32_t)by;
    stat_set(u->stats, STAT_TARPIT, u->tar_n);
}

static void uconn_enter(struct uconn *c, enum uconn_state s)
{
    static const char *const names[] = {"new", "silent", "tar", "open", "closing", "linger", "dead"};
    log_debug("net.state", "conn=%p from=%s to=%s", (void *)c, names[c->state], names[s]);
    assert(s > c->state);
    if (s == UCONN_TAR || c->state == UCONN_TAR)
        uconn_stick(uconn_user(c), s == UCONN_TAR ? 1 : -1);
    c->state = (uint8_t)s;
}

static bool uconn_offers(const struct uconn *c)
{
    return c->state == UCONN_OPEN && !c->paused && !c->choked;
}

static void uconn_alarm(struct uconn *c, uint64_t in_us)
{
    tcp_timer(uconn_user(c)->tcp, uconn_tcp(c), in_us);
}

/* ---- the end */

void uconn_kill(struct uconn *c, enum conn_end how)
{
    if (c->state == UCONN_DEAD)
        return;
    c->how = (uint8_t)how;
    uconn_enter(c, UCONN_DEAD);
    user_work_add(c, UWORK_DEAD);
}

/* What is queued goes out first.  TCP hears of it in the work list: receive may be looking at what came in. */
static void uconn_finish(struct uconn *c, enum conn_end how)
{
    if (c->state >= UCONN_CLOSING)
        return;
    c->how = (uint8_t)how;
    uconn_enter(c, UCONN_CLOSING);
    uconn_alarm(c, USER_FLUSH_US);
    user_work_add(c, UWORK_CLOSE);
}

/* Nobody of ours waits for it any more: TCP goes on alone, for a bounded time, with a bounded number of its like. */
static void uconn_orphan(struct uconn *c)
{
    struct user *u = uconn_user(c);
    if (c->orphan)
        return;
    c->orphan = true;
    u->open_n--;
    u->orphans_n++;
    uconn_alarm(c, USER_ORPHAN_US);
    if (u->orphans_n > u->orphans_max)
        uconn_kill(c, c->how);
}

void uconn_report(struct uconn *c)
{
    void *session = c->c.session;
    c->c.session = NULL;
    if (session)
        uconn_user(c)->app.closed(session, (enum conn_end)c->how);
}

/* Bounded while bytes wait that TCP did not take: afterwards TCP itself counts what it throws away. */
static void uconn_read_away(struct uconn *c)
{
    struct user *u = uconn_user(c);
    struct slice in;
    while (c->away_kib * 1024u < USER_LINGER_BYTES && (in = tcp_peek(u->tcp, uconn_tcp(c))).n > 0) {
        c->away_kib += (uint16_t)((in.n + 1023) / 1024);
        tcp_consume(u->tcp, uconn_tcp(c), in.n);
    }
}

static void uconn_closing(struct uconn *c)
{
    uconn_read_away(c);
    uconn_push(c);
    if (c->over)
        return;
    tcp_close(uconn_user(c)->tcp, uconn_tcp(c));
    uconn_enter(c, UCONN_LINGER);
    uconn_alarm(c, USER_LINGER_US);
}

static void uconn_bury(struct uconn *c)
{
    struct user *u = uconn_user(c);
    struct tcp_conn *tc = uconn_tcp(c);
    uconn_report(c);
    if (!c->gone) {
        tcp_abort(u->tcp, tc); /* GONE brings it here again */
        return;
    }
    if (c->over) {
        sendq_clear(&c->over->q, &u->sendpool);
        c->over->c = NULL; /* the list of the thirsty frees it */
        if (!c->over->thirsty)
            free(c->over);
    }
    if (c->orphan)
        u->orphans_n--;
    else
        u->open_n--;
    tcp_release(u->tcp, tc);
}

/* ---- receiving */

/* True: go on with what comes next.  Paused is set before the call so that a resume from inside counts. */
static bool uconn_receive(struct uconn *c, struct slice in)
{
    struct user *u = uconn_user(c);
    c->paused = true;
    size_t n = u->app.receive(c->c.session, in);
    assert(n <= in.n);
    tcp_consume(u->tcp, uconn_tcp(c), n);
    c->taken += (uint32_t)n < UINT32_MAX - c->taken ? (uint32_t)n : 0;
    if (n == in.n)
        c->paused = false;
    return n == in.n;
}

/* All input is consumed and no more will come. An app that owes an answer resumes when it has given it. */
static void uconn_ended(struct uconn *c)
{
    struct user *u = uconn_user(c);
    c->paused = u->app.ended && u->app.ended(c->c.session);
    if (!c->paused)
        uconn_finish(c, CONN_END_PEER);
}

static void uconn_offer(struct uconn *c)
{
    struct user *u = uconn_user(c);
    while (uconn_offers(c)) {
        struct slice in = tcp_peek(u->tcp, uconn_tcp(c));
        if (in.n == 0)
            break;
        if (!uconn_receive(c, in))
            return; /* also when it resumed at once: others have their turn first */
    }
    if (c->eof && uconn_offers(c))
        uconn_ended(c);
}

/* ---- who is let in */

static void uconn_session(struct uconn *c)
{
    struct user *u = uconn_user(c);
    struct tcp_conn *tc = uconn_tcp(c);
    struct sockaddr_storage peer, local;
    struct ip_addr addr;
    uint16_t port;
    uint8_t at;
    tcp_conn_peer(tc, &addr, &port);
    stack_sockaddr(&addr, port, &peer);
    tcp_conn_local(tc, &at, &port);
    addr = ip_addr_at(stack_ip(u->stack), at);
    stack_sockaddr(&addr, port, &local);
    uconn_enter(c, UCONN_OPEN);
    c->c.session = u->app.session_bytes ? (char *)tc + u->session_at : NULL;
    c->c.session = u->app.accept(u->app.app, &c->c, &peer, &local);
    if (!c->c.session)
        uconn_finish(c, CONN_END_LOCAL);
    else
        uconn_offer(c);
}

/* One line, and the end, without a session. */
static void uconn_dismiss(struct uconn *c, struct slice line)
{
    struct user *u = uconn_user(c);
    (void)tcp_write(u->tcp, uconn_tcp(c), line); /* a courtesy */
    uconn_finish(c, CONN_END_LOCAL);
    uconn_orphan(c);
}

static void uconn_accepted(struct user *u, struct uconn *c)
{
    c->c.t = &u->t;
    c->since_s = (uint32_t)(u->now_us / 1000000);
    u->open_n++;
    if (u->open_n > u->cfg.max_conns) {
        metric_add(M_SMTP_REFUSED, 1);
        uconn_dismiss(c, SLICE_LIT("421 4.3.2 Too many connections, try again later\r\n"));
    } else if (u->cfg.early_talker_ms) {
        uconn_enter(c, UCONN_SILENT);
        uconn_alarm(c, u->cfg.early_talker_ms * UINT64_C(1000));
    } else {
        uconn_session(c);
    }
}

static void uconn_spoken_for(struct uconn *c)
{
    uconn_dismiss(c, SLICE_LIT("554 5.5.1 Error: you spoke before the greeting\r\n"));
}

/* In the tar it costs the object that TCP has for it anyway: what it says is thrown away, and it is told nothing until
 * its time is over. */
static void uconn_spoke(struct uconn *c)
{
    struct user *u = uconn_user(c);
    stat_add(u->stats, STAT_EARLY_TALKER, 1);
    if (u->cfg.tarpit_ms == 0 || u->tar_n >= u->cfg.max_conns / USER_TAR_PART) {
        uconn_spoken_for(c);
        return;
    }
    uconn_enter(c, UCONN_TAR);
    uconn_alarm(c, u->cfg.tarpit_ms * UINT64_C(1000));
    uconn_read_away(c);
}

/* Who talks on and on, or leaves, is done with. */
static void uconn_stuck(struct uconn *c)
{
    uconn_read_away(c);
    if (c->eof || c->away_kib * 1024u >= USER_LINGER_BYTES)
        uconn_kill(c, CONN_END_LOCAL);
}

/* ---- what TCP says */

static void uconn_expired(struct uconn *c)
{
    switch ((enum uconn_state)c->state) {
    case UCONN_SILENT:
        uconn_session(c);
        break;
    case UCONN_TAR:
        uconn_spoken_for(c);
        break;
    case UCONN_OPEN:
        uconn_user(c)->app.timer(c->c.session);
        break;
    case UCONN_LINGER:
        if (c->orphan) {
            uconn_kill(c, (enum conn_end)c->how);
            break;
        }
        uconn_report(c);
        uconn_orphan(c);
        break;
    default:
        uconn_kill(c, (enum conn_end)c->how);
    }
}

static size_t uconn_unsent(const struct uconn *c)
{
    return tcp_unacked(uconn_tcp(c)) + (c->over ? c->over->q.bytes : 0);
}

/* Tight once half the blocks of the queue are taken, or much waits beside them. */
static size_t uconn_send_max(const struct user *u)
{
    uint64_t blocks = stat_get(u->stats, STAT_TXBLOCKS_USED);
    bool tight = blocks > u->cfg.stack.tcp.txblocks_max / 2 ||
                 u->sendpool.bytes > u->cfg.stack.tcp.txblocks_max / 2 * (size_t)TCP_TXBLOCK_BYTES;
    return tight ? TRANSPORT_SENDQ_TIGHT : TRANSPORT_SENDQ_MAX;
}

/* Nobody else is told of acknowledgements. */
static void uconn_want_acked(struct uconn *c)
{
    if (c->over || c->choked)
        tcp_want_acked(uconn_tcp(c));
}

static void uconn_acked(struct uconn *c)
{
    uconn_push(c);
    if (c->state == UCONN_CLOSING) {
        uconn_alarm(c, USER_FLUSH_US);
        user_work_add(c, UWORK_CLOSE);
    }
    if (c->choked && uconn_unsent(c) < uconn_send_max(uconn_user(c)) / 2) {
        c->choked = false;
        user_work_add(c, UWORK_OFFER);
    }
    uconn_want_acked(c);
}

static void uconn_input(struct uconn *c, uint32_t events)
{
    if (events & TCP_EV_FIN)
        c->eof = true;
    if (c->state == UCONN_TAR)
        uconn_stuck(c);
    else if (c->state == UCONN_SILENT && events & TCP_EV_READABLE)
        uconn_spoke(c);
    else if (c->state == UCONN_SILENT)
        uconn_finish(c, CONN_END_PEER);
    else if (c->state == UCONN_CLOSING)
        user_work_add(c, UWORK_CLOSE);
    else
        uconn_offer(c);
}

static void uconn_gone(struct user *u, struct uconn *c, uint32_t events)
{
    c->gone = true;
    if (events & TCP_EV_ACCEPTED) {
        c->c.t = &u->t; /* it came and went in one burst */
        u->open_n++;
    }
    if (c->state == UCONN_DEAD)
        user_work_add(c, UWORK_DEAD);
    else
        uconn_kill(c, c->state == UCONN_LINGER && !(events & (TCP_EV_RESET | TCP_EV_TIMEOUT)) ? (enum conn_end)c->how
                                                                                              : CONN_END_ERROR);
}

void uconn_event(struct user *u, struct tcp_conn *tc, uint32_t events)
{
    struct uconn *c = uconn_of(u, tc);
    if (events & TCP_EV_GONE) {
        uconn_gone(u, c, events);
        return;
    }
    if (events & TCP_EV_ACCEPTED)
        uconn_accepted(u, c);
    if (events & (TCP_EV_READABLE | TCP_EV_FIN))
        uconn_input(c, events);
    if (events & TCP_EV_ACKED && c->state != UCONN_DEAD)
        uconn_acked(c);
    if (events & TCP_EV_TIMER && c->state != UCONN_DEAD)
        uconn_expired(c);
}

void uconn_work(struct uconn *c, unsigned bits)
{
    if (bits & UWORK_OFFER)
        uconn_offer(c);
    if (c->state == UCONN_CLOSING)
        uconn_closing(c);
    if (bits & UWORK_DEAD)
        uconn_bury(c);
}

void uconn_stop(struct uconn *c)
{
    struct user *u = uconn_user(c);
    if (c->state >= UCONN_CLOSING)
        return;
    if (tcp_peek(u->tcp, uconn_tcp(c)).n > 0)
        uconn_kill(c, CONN_END_SHUTDOWN);
    else
        uconn_finish(c, CONN_END_SHUTDOWN);
}

/* ---- sending, and the app's side */

/* Who has nothing unacknowledged is told by nobody that there are blocks again. */
static void uconn_thirsty(struct uconn *c)
{
    struct user *u = uconn_user(c);
    if (c->over->thirsty || tcp_unacked(uconn_tcp(c)) > 0)
        return;
    c->over->thirsty = true;
    c->over->next = u->thirsty;
    u->thirsty = c->over;
}

void uconn_push(struct uconn *c)
{
    struct user *u = uconn_user(c);
    while (c->over) {
        struct slice s = sendq_front(&c->over->q);
        size_t n = s.n ? tcp_write(u->tcp, uconn_tcp(c), s) : 0;
        sendq_take(&c->over->q, &u->sendpool, n);
        uconn_want_acked(c);
        if (n < s.n) {
            uconn_thirsty(c);
            return;
        }
        if (c->over->q.bytes > 0)
            continue;
        if (c->over->thirsty)
            c->over->c = NULL; /* the list of the thirsty frees it */
        else
            free(c->over);
        c->over = NULL;
    }
}

static bool uconn_keep(struct uconn *c, struct slice data)
{
    if (!c->over) {
        c->over = calloc(1, sizeof *c->over);
        if (!c->over)
            return false;
        c->over->c = c;
    }
    return sendq_put(&c->over->q, &uconn_user(c)->sendpool, data);
}

void uconn_send(struct conn *conn, struct slice data)
{
    struct uconn *c = (struct uconn *)conn;
    struct user *u = uconn_user(c);
    if (c->state != UCONN_OPEN)
        return;
    size_t n = c->over ? 0 : tcp_write(u->tcp, uconn_tcp(c), data);
    if (n < data.n) {
        if (!uconn_keep(c, slice_of(data.p + n, data.n - n))) {
            uconn_kill(c, CONN_END_ERROR);
            return;
        }
        uconn_thirsty(c);
    }
    if (uconn_unsent(c) > uconn_send_max(u))
        c->choked = true;
    uconn_want_acked(c);
}

void uconn_resume(struct conn *conn)
{
    struct uconn *c = (struct uconn *)conn;
    if (c->state != UCONN_OPEN || !c->paused)
        return;
    c->paused = false;
    user_work_add(c, UWORK_OFFER);
}

void uconn_close(struct conn *conn)
{
    uconn_finish((struct uconn *)conn, CONN_END_LOCAL);
}

void uconn_abort(struct conn *conn)
{
    uconn_kill((struct uconn *)conn, CONN_END_LOCAL);
}

void uconn_timer(struct conn *conn, uint64_t in_us)
{
    struct uconn *c = (struct uconn *)conn;
    if (c->state == UCONN_OPEN) /* closing has deadlines of its own */
        uconn_alarm(c, in_us);
}
