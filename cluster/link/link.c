/* link.c - see link.h. */
#include "cluster/link/link.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static const char *const state_names[] = {"connecting", "handshake", "hello", "answered", "up", "closing", "dead"};

static uint64_t link_now(const struct link *l)
{
    return clock_boot_us(l->ls->clock);
}

static void link_enter(struct link *l, enum link_state state)
{
    log_debug("link.state", "from=%s was=%s now=%s", l->from, state_names[l->state], state_names[state]);
    l->state = state;
}

static void link_wake_at(struct link *l, uint64_t us)
{
    if (us < l->ls->due_us)
        l->ls->due_us = us;
}

void link_work(struct link *l)
{
    if (l->working)
        return;
    l->working = true;
    l->work_next = l->ls->work;
    l->ls->work = l;
}

/* ---- its end */

void link_die(struct link *l, enum link_end end, const char *fmt, ...)
{
    if (l->state == LINK_DEAD)
        return;
    if (l->state != LINK_CLOSING) { /* which knows already */
        va_list ap;
        l->end = end;
        va_start(ap, fmt);
        vsnprintf(l->why, sizeof l->why, fmt, ap);
        va_end(ap);
    }
    link_enter(l, LINK_DEAD);
    tls_conn_free(&l->tls);
    close(l->fd);
    l->fd = -1;
    l->dead_next = l->ls->deaths;
    l->ls->deaths = l;
}

static void link_close_soon(struct link *l, enum link_end end, const char *why)
{
    snprintf(l->why, sizeof l->why, "%s", why);
    l->end = end;
    link_enter(l, LINK_CLOSING);
    l->deadline_us = link_now(l) + LINK_LINGER_US;
    link_wake_at(l, l->deadline_us);
    link_work(l);
}

/* Queues a frame of the link itself, whatever the bound says. */
static void link_queue(struct link *l, struct fbuf *f)
{
    if (!f || outq_push(&l->out, f) < 0)
        link_die(l, LINK_END_LOST, "no memory");
    fbuf_unref(f);
    link_work(l);
}

static void link_say_hello(struct link *l, const char *reason)
{
    struct peer_hello us = l->ls->cfg->hello;
    us.wall_us = clock_wall_us(l->ls->clock);
    link_queue(l, hello_frame(&us, reason));
}

void link_refuse(struct link *l, const char *why)
{
    if (l->state >= LINK_CLOSING)
        return;
    if (l->state > LINK_HANDSHAKE)
        link_say_hello(l, why);
    if (l->state != LINK_DEAD)
        link_close_soon(l, LINK_END_REFUSED, why);
}

/* Both sides' operators should know. */
static void link_damaged(struct link *l, const char *what)
{
    char why[WHY_MAX];
    metric_add(M_LINK_DAMAGED, 1);
    why_say(why, "damaged stream: %s; if it comes again, look at the release of %s", what,
            l->hello.name[0] ? l->hello.name : "the other side");
    link_refuse(l, why);
    l->end = LINK_END_DAMAGED;
}

/* ---- beginning */

struct link *link_new(struct links *ls, int fd, bool dialer, const struct sock_addr *from)
{
    struct link *l = calloc(1, sizeof *l);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = l};
    if (!l || epoll_ctl(ls->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        free(l);
        close(fd);
        return NULL;
    }
    l->ls = ls;
    l->fd = fd;
    l->dialer = dialer;
    l->state = dialer ? LINK_CONNECTING : LINK_HANDSHAKE;
    l->born_us = l->heard_us = link_now(l);
    l->deadline_us = l->born_us + LINK_GREET_US;
    link_wake_at(l, l->deadline_us);
    sock_format(from, l->from);
    frame_split_init(&l->in, HELLO_PAYLOAD_MAX);
    l->next = ls->all;
    l->prev = &ls->all;
    if (l->next)
        l->next->prev = &l->next;
    ls->all = l;
    return l;
}

static void link_unwork(struct link *l)
{
    struct link **at = &l->ls->work;
    while (l->working && *at != l)
        at = &(*at)->work_next;
    if (l->working)
        *at = l->work_next;
    l->working = false;
}

void link_free(struct link *l)
{
    link_unwork(l);
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    tls_conn_free(&l->tls);
    if (l->fd >= 0)
        close(l->fd);
    frame_split_free(&l->in);
    outq_free(&l->out);
    free(l);
}

static void link_connected(struct link *l)
{
    int rc = sock_connected(l->fd);
    if (rc < 0)
        link_die(l, LINK_END_LOST, "%s: %s: is satcheld running there, and this port open?", l->from,
                 satchel_strerror(rc));
    else
        link_enter(l, LINK_HANDSHAKE);
}

static void link_handshake(struct link *l)
{
    char why[WHY_MAX];
    if (!l->tls)
        l->tls = tls_conn_new(l->ls->tls, l->fd, l->dialer);
    int rc = l->tls ? tls_conn_handshake(l->tls) : -SATCHEL_ENOMEM;
    if (rc == -SATCHEL_EAGAIN)
        return;
    if (rc < 0) {
        metric_add(M_LINK_HANDSHAKES_FAILED, 1);
        why_say(why, "%s: TLS: %s", l->from, l->tls ? tls_conn_why(l->tls) : "no memory");
        link_close_soon(l, LINK_END_REFUSED, why); /* the alert must be read over there */
        return;
    }
    link_enter(l, LINK_HELLO);
    l->readable = true;
    if (!l->dialer)
        return;
    if (l->ls->app->greets(l->ls->arg, l, why))
        link_say_hello(l, "");
    else
        link_refuse(l, why);
}

static void link_up(struct link *l)
{
    link_enter(l, LINK_UP);
    l->in.payload_max = FRAME_PAYLOAD_MAX;
    l->heard_us = link_now(l);
    link_wake_at(l, l->heard_us); /* for a first ping */
    l->ls->app->up(l->ls->arg, l);
}

/* The first HELLO of the other side. */
static void link_meet(struct link *l, const struct hello *h)
{
    char why[WHY_MAX];
    l->hello = h->who;
    if (!l->ls->app->judges(l->ls->arg, l, &h->who, why)) {
        link_refuse(l, why);
        return;
    }
    link_say_hello(l, "");
    if (l->state == LINK_DEAD)
        return;
    if (l->dialer)
        link_up(l);
    else
        link_enter(l, LINK_ANSWERED);
}

static void link_refused(struct link *l, const struct hello *h)
{
    char unused[WHY_MAX];
    if (l->state == LINK_HELLO)
        (void)l->ls->app->judges(l->ls->arg, l, &h->who, unused); /* so that it is shown where it belongs */
    link_die(l, LINK_END_REFUSED, "%s refuses us: %s", h->who.name, h->reason);
}

static void link_hello(struct link *l, struct slice payload)
{
    struct hello h;
    if (hello_parse(payload, &h) < 0)
        link_damaged(l, "a HELLO that is none");
    else if (h.reason[0])
        link_refused(l, &h);
    else if (l->state == LINK_HELLO)
        link_meet(l, &h);
    else if (l->state == LINK_ANSWERED)
        link_up(l);
    else
        link_damaged(l, "a second HELLO");
}

/* ---- alive */

static void link_ping(struct link *l, uint64_t now_us)
{
    struct fbuf *f = fbuf_new(FRAME_PING, FRAME_PING_VERSION, 16);
    l->pinged_us = now_us;
    if (f) {
        struct wire_wr w = fbuf_writer(f);
        wire_put_u64(&w, now_us);
        wire_put_u64(&w, clock_wall_us(l->ls->clock));
        fbuf_end(f, &w);
    }
    link_queue(l, f);
}

static void link_pong(struct link *l, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t boot = wire_u64(&r);
    struct fbuf *f = fbuf_new(FRAME_PONG, FRAME_PONG_VERSION, 16);
    if (f) {
        struct wire_wr w = fbuf_writer(f);
        wire_put_u64(&w, boot);
        wire_put_u64(&w, clock_wall_us(l->ls->clock));
        fbuf_end(f, &w);
    }
    link_queue(l, f);
}

static void link_measure(struct link *l, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t boot = wire_u64(&r), wall = wire_u64(&r), now = link_now(l);
    if (r.bad || boot > now || boot < l->born_us)
        return;
    l->rtt_us = now - boot;
    l->skew_us = (int64_t)(wall - (clock_wall_us(l->ls->clock) - l->rtt_us / 2));
}

/* When nothing was heard for ping_us; and what is busy is measured too, ten times less often. */
static uint64_t link_ping_due_us(const struct link *l)
{
    uint64_t every = l->ls->cfg->ping_us, last = l->heard_us > l->pinged_us ? l->heard_us : l->pinged_us;
    uint64_t idle = last + every, busy = l->pinged_us ? l->pinged_us + 10 * every : 0;
    return idle < busy ? idle : busy;
}

uint64_t link_tick(struct link *l, uint64_t now_us)
{
    if (l->state == LINK_DEAD)
        return UINT64_MAX;
    if (l->state != LINK_UP) {
        if (now_us >= l->deadline_us)
            link_die(l, LINK_END_LOST, "%s: no answer within %u s: is satcheld running there, and this port open?",
                     l->from, (unsigned)(LINK_GREET_US / 1000000));
        return l->deadline_us;
    }
    uint64_t silent_us = l->heard_us + l->ls->cfg->silence_us;
    if (now_us >= silent_us) {
        link_die(l, LINK_END_LOST, "silent for %u ms: its machine or the network is down, or it is stopped",
                 (unsigned)((now_us - l->heard_us) / 1000));
        return UINT64_MAX;
    }
    if (now_us >= link_ping_due_us(l))
        link_ping(l, now_us);
    uint64_t ping_us = link_ping_due_us(l);
    return ping_us < silent_us ? ping_us : silent_us;
}

/* ---- receiving */

static bool link_listens(const struct link *l)
{
    return l->state >= LINK_HELLO && l->state <= LINK_UP;
}

static void link_frame(struct link *l, const struct frame *f)
{
    if (f->type == FRAME_HELLO)
        link_hello(l, f->payload);
    else if (l->state != LINK_UP)
        link_damaged(l, "the first frame is no HELLO");
    else if (f->type == FRAME_PING)
        link_pong(l, f->payload);
    else if (f->type == FRAME_PONG)
        link_measure(l, f->payload);
    else if (f->type == 0)
        link_damaged(l, "frame type 0");
    else
        l->ls->app->frame(l->ls->arg, l, f);
}

static void link_feed(struct link *l, struct slice in)
{
    struct frame f;
    int rc = 0;
    uint64_t frames = 0;
    l->heard_us = link_now(l);
    l->received += in.n;
    metric_add(M_LINK_RECEIVED_BYTES, in.n);
    while (link_listens(l) && (rc = frame_split_next(&l->in, &in, &f)) > 0) {
        frames++;
        link_frame(l, &f);
    }
    metric_add(M_LINK_FRAMES_RECEIVED, frames);
    if (rc == -SATCHEL_ETOOBIG)
        link_damaged(l, "a frame that is too long");
    else if (rc < 0)
        link_die(l, LINK_END_LOST, "no memory for a frame");
}

/* One buffer full, at most.  False: nothing more to come for now. */
static bool link_receive(struct link *l, size_t *turn)
{
    size_t n = 0;
    ssize_t rc = 1;
    while (n < LINK_READ_BYTES && rc > 0) {
        rc = tls_conn_read(l->tls, l->ls->rx + n, LINK_READ_BYTES - n);
        n += rc > 0 ? (size_t)rc : 0;
    }
    char why[WHY_MAX];
    why_say(why, "%s", rc == 0 ? "closed by the other side" : tls_conn_why(l->tls));
    if (n > 0)
        link_feed(l, slice_of(l->ls->rx, n));
    *turn += n;
    if (rc > 0)
        return true;
    l->readable = false;
    if (rc != -SATCHEL_EAGAIN && link_listens(l))
        link_die(l, LINK_END_LOST, "%s: %s", l->from, why);
    return false;
}

static void link_read(struct link *l)
{
    size_t turn = 0;
    while (link_listens(l) && l->readable && turn < LINK_TURN_BYTES)
        if (!link_receive(l, &turn))
            return;
}

/* ---- sending */

static void link_write(struct link *l)
{
    while (l->state < LINK_DEAD && !l->full && (l->record_n || l->out.n)) {
        struct slice s =
            l->record_n ? slice_of(l->ls->tx, l->record_n) : outq_gather(&l->out, l->ls->tx, TLS_RECORD_BYTES);
        ssize_t rc = tls_conn_write(l->tls, s);
        if (rc == -SATCHEL_EAGAIN) {
            l->record_n = s.n;
            l->full = true;
        } else if (rc <= 0) {
            link_die(l, LINK_END_LOST, "%s: %s", l->from, tls_conn_why(l->tls));
        } else {
            assert((size_t)rc == s.n);
            l->record_n = 0;
            outq_drop(&l->out, s.n);
            l->sent += s.n;
            metric_add(M_LINK_SENT_BYTES, s.n);
        }
    }
}

int link_send(struct link *l, struct fbuf *f)
{
    if (l->state != LINK_UP)
        return -SATCHEL_ENOENT;
    if (l->out.n > 0 && l->out.bytes + f->n > l->ls->cfg->buffer_bytes) {
        l->starved = true;
        return -SATCHEL_EAGAIN;
    }
    if (outq_push(&l->out, f) < 0)
        return -SATCHEL_EAGAIN;
    metric_add(M_LINK_FRAMES_SENT, 1);
    link_work(l);
    if (l->out.bytes >= LINK_FLUSH_BYTES)
        link_write(l);
    return l->state == LINK_UP ? 0 : -SATCHEL_ENOENT;
}

/* ---- CLOSING */

static void link_linger(struct link *l)
{
    if (l->tls && l->state == LINK_CLOSING && l->out.n)
        link_write(l);
    if (l->state != LINK_CLOSING || l->out.n)
        return;
    if (!l->shut) {
        if (l->tls)
            tls_conn_end(l->tls);
        shutdown(l->fd, SHUT_WR);
        l->shut = true;
    }
    ssize_t n = 1;
    for (int i = 0; i < 4 && n > 0; i++)
        n = recv(l->fd, l->ls->rx, LINK_READ_BYTES, MSG_DONTWAIT);
    if (n >= 0 || (errno != EAGAIN && errno != EINTR))
        link_die(l, l->end, "%s", ""); /* closed, or a talker who does not stop */
}

/* ---- the turn of a link */

void link_event(struct link *l, uint32_t events)
{
    if (l->state == LINK_DEAD)
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        l->readable = true;
    if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        l->full = false;
        if (l->state == LINK_CONNECTING)
            link_connected(l);
    }
    link_work(l);
}

void link_run(struct link *l, bool reads)
{
    l->working = false;
    if (l->state == LINK_HANDSHAKE)
        link_handshake(l);
    if (reads)
        link_read(l);
    if (link_listens(l))
        link_write(l);
    if (l->state == LINK_CLOSING)
        link_linger(l);
    if (l->state == LINK_UP && l->starved && l->out.bytes <= l->ls->cfg->buffer_bytes / 2) {
        l->starved = false;
        l->ls->app->room(l->ls->arg, l);
    }
    if (link_listens(l) && l->readable)
        link_work(l);
}
