/* conn.c - a connection to a primary: lookup, connect, dialogue, bodies.
 *
 *   RESOLVING -> CONNECTING -> TALKING -> CLOSED
 *                    ^  |         |
 *                    +--+---------+  the next address, until EHLO has passed
 *
 * One attempt is one pass over the route's addresses; what the last of them did is what the bag's state is told. */
#include "dataplane/relay/relay_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void try_next(struct conn *c);
static void on_socket(void *arg, uint32_t events);

void conn_soon(struct conn *c)
{
    struct relay *r = c->r;
    if (c->in_soon || c->state == CONN_CLOSED)
        return;
    c->in_soon = true;
    c->soon_next = NULL;
    *(r->soon_tail ? &r->soon_tail->soon_next : &r->soon_head) = c;
    r->soon_tail = c;
}

/* ---- closing */

static void drop_socket(struct conn *c)
{
    int fd = c->w.fd;
    watch_remove(c->r->epfd, &c->w);
    if (fd >= 0)
        close(fd);
    client_free(&c->client);
    c->want_out = false;
    c->deadline_us = 0;
}

static void next_in_line(struct relay *r)
{
    struct bag *b = r->wait_head;
    if (!b)
        return;
    r->wait_head = b->wait_next;
    if (!r->wait_head)
        r->wait_tail = NULL;
    b->waiting = false;
    bag_soon(b);
}

/* Its messages are elsewhere by now. */
static void conn_close(struct conn *c)
{
    struct relay *r = c->r;
    struct bag *b = c->bag;
    drop_socket(c);
    if (c->query)
        resolver_cancel(c->query);
    c->query = NULL;
    struct conn **at = &b->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (c->all_next)
        c->all_next->all_prev = c->all_prev;
    *(c->all_prev ? &c->all_prev->all_next : &r->all) = c->all_next;
    b->conns_n--;
    b->ready_n -= c->ready;
    r->conns_n--;
    c->state = CONN_CLOSED;
    c->next = r->graves;
    r->graves = c;
    next_in_line(r);
    bag_soon(b);
}

/* A dot that lies in our own buffer is not out. */
static void forget_dot(struct conn *c)
{
    if (c->dot)
        c->dot->dot_sent = false;
    c->dot = NULL;
}

static void messages_back(struct conn *c)
{
    struct relay_msg *next;
    for (struct relay_msg *x = c->bag->flight.head; x; x = next) {
        next = x->next;
        if (x->conn == c)
            bag_msg_back(c->bag, x);
    }
    c->body = NULL;
}

static void log_doubt(struct conn *c, const struct relay_msg *x, const char *text)
{
    char id[MSGID_TEXT_MAX], why[600];
    msgid_format(&x->m->id, id);
    metric_add(M_RELAY_IN_DOUBT, 1);
    log_warning("relay.in_doubt", "id=%s domain=%s address=%s why=%s", id, c->bag->name, c->addr_text,
                log_quote(slice_str(text), why, sizeof why));
}

void conn_abort(struct conn *c)
{
    forget_dot(c);
    for (const struct relay_msg *x = c->bag->flight.head; x; x = x->next)
        if (x->conn == c && x->dot_sent)
            log_doubt(c, x, "given up");
    messages_back(c);
    conn_close(c);
}

/* ---- route and connect */

static void attempt_failed(struct conn *c)
{
    struct bag *b = c->bag;
    if (b->ready_n > 0)
        bag_event(b, BAG_CROWDED, b->ready_n, &c->failed);
    else
        bag_event(b, c->failure, 0, &c->failed);
    log_info(
        "relay.unreachable", "domain=%s address=%s failures=%u next_ms=%llu", b->name,
        c->addr_text[0] ? c->addr_text : "-", b->st.failures,
        (unsigned long long)(b->st.next_probe_us > c->r->now_us ? (b->st.next_probe_us - c->r->now_us) / 1000 : 0));
    conn_close(c);
}

static void remember(struct conn *c, enum bag_event e, const struct smtp_status *st)
{
    c->failure = e;
    c->failed = *st;
}

static void address_failed(struct conn *c, int err)
{
    struct smtp_status st;
    status_set(&st, 0, 4, 4, 1, "%s: %s", c->addr_text, satchel_strerror(err));
    remember(c, BAG_UNREACHABLE, &st);
    drop_socket(c);
}

static bool is_loop(struct conn *c)
{
    struct smtp_status st;
    if (!route_is_self(&c->addr, c->r->cfg.listeners, route_addr_local))
        return false;
    status_set(&st, 0, 5, 4, 6, "%s is this server itself: mail would loop; it is held", c->addr_text);
    remember(c, BAG_UNREACHABLE, &st);
    return true;
}

/* false: failed at once. */
static bool start_connect(struct conn *c)
{
    int one = 1;
    c->w = (struct watch){socket(c->addr.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on_socket, c};
    if (c->w.fd < 0) {
        address_failed(c, errno);
        return false;
    }
    setsockopt(c->w.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->w.fd, &c->addr.sa, route_addr_len(&c->addr)) < 0 && errno != EINPROGRESS) {
        address_failed(c, errno);
        return false;
    }
    watch_add(c->r->epfd, &c->w, EPOLLOUT);
    c->state = CONN_CONNECTING;
    c->deadline_us = c->r->now_us + c->r->cfg.connect_timeout_us;
    return true;
}

static void try_next(struct conn *c)
{
    while (route_next(&c->route, &c->addr)) {
        route_addr_text(&c->addr, c->addr_text);
        if (!is_loop(c) && start_connect(c))
            return;
    }
    attempt_failed(c);
}

static void resolve(struct conn *c);

static void on_lookup(void *arg, enum route_found found, const struct route_addr *addrs, struct route_mx *mx, size_t n)
{
    struct conn *c = arg;
    enum route_lookup what;
    const char *name;
    bool late = c->query != NULL; /* else resolve() is on the stack and goes on itself */
    c->query = NULL;
    if (route_ask(&c->route, &what, &name) && what == ROUTE_LOOKUP_MX)
        route_answer_mx(&c->route, found, mx, n, &c->r->rng);
    else
        route_answer_addrs(&c->route, found, addrs, n);
    if (late)
        resolve(c);
}

static void resolve(struct conn *c)
{
    enum route_lookup what;
    const char *name;
    while (route_ask(&c->route, &what, &name)) {
        c->query = resolver_lookup(c->r->resolver, what, name, on_lookup, c);
        if (c->query)
            return;
    }
    struct smtp_status st;
    route_end(&c->route, &c->bag->last);
    status_set(&st, 0, 4, 4, 4, "no route: %s; mail is held", c->route.reason);
    remember(c, BAG_UNREACHABLE, &st);
    try_next(c);
}

static void begin_route(struct conn *c)
{
    struct relay *r = c->r;
    char why[256];
    struct primary hub;
    const struct domains_snapshot *s = domains_get(r->domains);
    const struct domain *d = domains_find(s, bag_name(c->bag));
    if (d)
        route_begin(&c->route, d->primaries, d->primaries_n);
    else if (r->cfg.smarthost && primary_parse(slice_str(r->cfg.smarthost), &hub, why) == 0)
        route_begin(&c->route, &hub, 1);
    else
        route_begin_mx(&c->route, bag_name(c->bag));
    domains_put(s);
}

void conn_open(struct bag *b)
{
    struct relay *r = b->r;
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        return;
    c->r = r;
    c->bag = b;
    c->w.fd = -1;
    c->next = b->conns;
    b->conns = c;
    c->all_next = r->all;
    if (r->all)
        r->all->all_prev = c;
    r->all = c;
    b->conns_n++;
    r->conns_n++;
    if (b->st.state == RELAY_DOWN || b->st.state == RELAY_BROWNOUT)
        metric_add(M_RELAY_PROBES, 1);
    bag_event(b, BAG_TRY, 0, NULL);
    begin_route(c);
    resolve(c);
}

/* ---- talking */

static void set_deadline(struct conn *c)
{
    uint64_t t = client_timeout_us(c->client);
    if (t == 0 && c->msgs_n == 0)
        t = RELAY_IDLE_US;
    c->deadline_us = t ? c->r->now_us + t : 0; /* 0: a withheld dot waits for other connections, which have theirs */
}

static void connected(struct conn *c)
{
    c->client = client_new(c->r->cfg.hostname);
    if (!c->client) {
        address_failed(c, ENOMEM);
        try_next(c);
        return;
    }
    metric_add(M_RELAY_CONNECTIONS, 1);
    c->state = CONN_TALKING;
    c->replies = 0;
    watch_change(c->r->epfd, &c->w, EPOLLIN);
    pthread_mutex_lock(&c->r->lock);
    snprintf(c->bag->pub.address, sizeof c->bag->pub.address, "%s", c->addr_text);
    pthread_mutex_unlock(&c->r->lock);
    set_deadline(c);
}

static void on_connect(struct conn *c)
{
    int err = 0;
    socklen_t n = sizeof err;
    getsockopt(c->w.fd, SOL_SOCKET, SO_ERROR, &err, &n);
    if (err == 0) {
        connected(c);
        return;
    }
    address_failed(c, err);
    try_next(c);
}

static void receive(struct conn *c)
{
    ssize_t n = recv(c->w.fd, c->r->recv_buf, CLIENT_INPUT_MAX, 0);
    if (n > 0)
        client_input(c->client, slice_of(c->r->recv_buf, (size_t)n));
    else if (n == 0)
        client_lost(c->client, "connection closed by the server");
    else if (errno != EAGAIN && errno != EINTR)
        client_lost(c->client, satchel_strerror(errno));
}

static void on_socket(void *arg, uint32_t events)
{
    struct conn *c = arg;
    if (c->state == CONN_CONNECTING) {
        on_connect(c);
        return;
    }
    if (c->state != CONN_TALKING)
        return;
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(c);
    conn_run(c);
}

/* ---- the end of a conversation */

/* Before EHLO has passed: the next address may do better. */
static void hello_failed(struct conn *c, const struct client_end *e)
{
    struct smtp_status st = e->status;
    if (e->loop)
        status_set(&st, e->status.code, 5, 4, 6, "%s calls itself %s, as we do: mail would loop; it is held",
                   c->addr_text, c->r->cfg.hostname);
    remember(c, e->status.class == 4 && e->status.code ? BAG_BUSY : BAG_UNREACHABLE, &st);
    drop_socket(c);
    try_next(c);
}

/* Servers close connections that had enough messages, with or without 421: no failure if they took some. */
static bool is_benign(const struct conn *c, const struct client_end *e)
{
    if (c->quitting)
        return true;
    if (c->msgs_n == 0)
        return c->given_n > 0;
    return c->taken_n > 0 && !e->in_doubt;
}

/* The one whose dot is out, if there is one, else the older. */
static struct relay_msg *front_message(const struct conn *c)
{
    struct relay_msg *front = NULL;
    for (struct relay_msg *x = c->bag->flight.head; x; x = x->next) {
        if (x->conn != c)
            continue;
        if (x->dot_sent)
            return x;
        if (!front)
            front = x;
    }
    return front;
}

static void ended(struct conn *c)
{
    const struct client_end *e = client_end(c->client);
    struct bag *b = c->bag;
    if (!c->ready) {
        hello_failed(c, e);
        return;
    }
    if (e->in_doubt)
        log_doubt(c, e->in_doubt_arg, e->status.text);
    if (!is_benign(c, e)) {
        struct relay_msg *x = front_message(c);
        struct smtp_status st = e->status;
        bag_event(b, st.code ? BAG_BUSY : BAG_LOST, 0, &st);
        if (x && bag_culprit(b, x))
            verdict_put_off(b, x, &st, false);
    }
    messages_back(c);
    conn_close(c);
}

/* ---- messages */

static void on_message(struct conn *c)
{
    const struct client_result *res = client_result(c->client);
    struct relay_msg *x = res->arg;
    struct bag *b = c->bag;
    if (c->body == x)
        c->body = NULL;
    if (c->dot == x)
        c->dot = NULL; /* answered before it was out: the server is odd, and has spoken */
    if (res->stage != CLIENT_AT_MAIL || res->rcpts[0].class != 4) {
        c->taken_n += res->stage == CLIENT_AT_DOT && res->accepted > 0;
        if (!verdict_taken(b, x, res))
            verdict_take(b, x, res, c->addr_text);
        return;
    }
    /* 4xx to MAIL says nothing of recipients: the primary is busy.  Unless it is always this one message. */
    struct smtp_status st = res->rcpts[0];
    bag_event(b, BAG_BUSY, 0, &st);
    if (bag_culprit(b, x))
        verdict_put_off(b, x, &st, false);
    else
        bag_msg_back(b, x);
}

/* The spool could not give the body: the dot is not sent, so the server forgets what it got. */
static void body_failed(struct conn *c, struct relay_msg *x, int err)
{
    struct smtp_status st;
    char id[MSGID_TEXT_MAX];
    msgid_format(&x->m->id, id);
    log_error("relay.unreadable", "id=%s domain=%s off=%llu err=\"%s\"", id, c->bag->name,
              (unsigned long long)x->read_off, satchel_strerror(err));
    status_set(&st, 0, 4, 3, 0, "the message cannot be read: %s", satchel_strerror(err));
    c->body = NULL;
    verdict_put_off(c->bag, x, &st, err == -SATCHEL_EDAMAGED);
    conn_abort(c);
}

static void dot_out(struct conn *c, struct relay_msg *x)
{
    x->dot_sent = true;
    c->dot = x;
    c->dot_left = client_output(c->client).n;
    c->body = NULL;
    bag_release_dots(c->bag);
}

static void body_done(struct conn *c, struct relay_msg *x)
{
    struct bag *b = c->bag;
    uint64_t took = clock_boot_us(c->r->clock) - x->begun_us;
    b->setup_us = b->setup_us - b->setup_us / 8 + took / 8;
    bool now = bag_dot_ok(b, x);
    client_body_end(c->client, now);
    if (now)
        dot_out(c, x);
}

/* As much of the body as the socket is likely to take. */
static void fill_body(struct conn *c)
{
    struct relay_msg *x = c->body;
    struct outlet *o = c->r->outlet;
    if (!x)
        return;
    if (!bag_may(c->bag, x)) {
        conn_abort(c);
        return;
    }
    if (client_dot_held(c->client)) {
        if (!bag_dot_ok(c->bag, x))
            return;
        client_release_dot(c->client);
        dot_out(c, x);
        return;
    }
    while (x->read_off < x->m->bytes && client_output(c->client).n < RELAY_OUT_BYTES) {
        struct slice data = {0};
        int n = o->ops->read(o, x->m, x->read_off, RELAY_OUT_BYTES, &data);
        if (n <= 0) {
            body_failed(c, x, n < 0 ? n : -SATCHEL_EDAMAGED);
            return;
        }
        client_body(c->client, data);
        x->read_off += data.n;
    }
    if (x->read_off >= x->m->bytes)
        body_done(c, x);
}

static void begin(struct conn *c, struct relay_msg *x)
{
    const struct outlet_msg *m = x->m;
    struct client_message cm = {
        .sender = m->sender,
        .rcpts = x->rcpts,
        .rcpts_n = x->items_n,
        .bytes = m->bytes,
        .body_8bit = m->flags & REC_F_8BIT,
        .utf8 = m->flags & REC_F_UTF8,
        .arg = x,
    };
    c->msgs_n++;
    c->given_n++;
    client_begin(c->client, &cm);
}

static void quit(struct conn *c)
{
    if (c->quitting)
        return;
    c->quitting = true;
    client_quit(c->client);
}

/* Gives the next message; false: none, or not now. */
static bool feed(struct conn *c)
{
    struct bag *b = c->bag;
    if (!c->ready || !client_can_begin(c->client))
        return false;
    bool alone = bagstate_one_by_one(&b->st);
    bool turn_over = c->r->wait_head && c->given_n >= RELAY_TURNS;
    struct relay_msg *x = (alone && c->msgs_n > 0) || turn_over ? NULL : bag_take(b, c);
    if (x)
        begin(c, x);
    else if (c->msgs_n == 0 &&
             (turn_over || b->withdrawn || !bagstate_may_send(&b->st) || atomic_load(&c->r->stopping)))
        quit(c);
    if (!x && c->msgs_n == 0)
        bag_soon(c->bag); /* it may be empty now, or have mail that is due later */
    return x != NULL;
}

/* The bag may not be sent to any more, or the claim was withdrawn: what has its dot out is waited for, everything else
 * goes back.  Asked before anything new is sent, DATA too. */
static bool withdrawn(struct conn *c)
{
    if (!c->ready || c->msgs_n == 0)
        return false;
    const struct relay_msg *x = front_message(c);
    if (x->dot_sent || (bagstate_may_send(&c->bag->st) && bag_may(c->bag, x)))
        return false;
    conn_abort(c);
    return true;
}

static void ready(struct conn *c)
{
    c->ready = true;
    c->bag->ready_n++;
    bag_event(c->bag, BAG_REACHED, 0, NULL);
    bag_soon(c->bag);
}

/* Acts on what the server said; false: the connection is gone. */
static bool take_events(struct conn *c)
{
    for (;;) {
        switch (client_next(c->client)) {
        case CLIENT_NONE:
            return true;
        case CLIENT_READY:
            ready(c);
            break;
        case CLIENT_GO:
            c->body = front_message(c);
            fill_body(c);
            break;
        case CLIENT_MESSAGE:
            on_message(c);
            break;
        case CLIENT_END:
            ended(c);
            return false;
        }
        if (c->state != CONN_TALKING)
            return false;
    }
}

/* ---- sending */

static void want_out(struct conn *c, bool want)
{
    if (c->want_out == want)
        return;
    c->want_out = want;
    watch_change(c->r->epfd, &c->w, EPOLLIN | (want ? (uint32_t)EPOLLOUT : 0));
}

/* The last look before a final dot goes to the kernel.  Without it the server forgets what it got; RSET and a dot
 * behind it would not do, since what is in the buffer goes first. */
static bool dot_stopped(struct conn *c)
{
    if (!c->dot || bag_may(c->bag, c->dot))
        return false;
    conn_abort(c);
    return true;
}

static void dot_progress(struct conn *c, size_t sent)
{
    if (!c->dot)
        return;
    if (sent >= c->dot_left)
        c->dot = NULL;
    else
        c->dot_left -= sent;
}

/* Returns the bytes that went out. */
static size_t flush(struct conn *c)
{
    size_t sum = 0;
    for (;;) {
        struct slice out = client_output(c->client);
        if (out.n == 0) {
            want_out(c, false);
            return sum;
        }
        if (dot_stopped(c))
            return sum;
        ssize_t n = send(c->w.fd, out.p, out.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            want_out(c, true);
            return sum;
        }
        if (n < 0) {
            client_sent(c->client, out.n);
            client_lost(c->client, satchel_strerror(errno));
            conn_soon(c);
            return sum;
        }
        client_sent(c->client, (size_t)n);
        dot_progress(c, (size_t)n);
        sum += (size_t)n;
        if (c->body)
            fill_body(c);
        if (c->state != CONN_TALKING)
            return sum;
    }
}

static void talk(struct conn *c)
{
    do {
        if (!take_events(c) || withdrawn(c))
            return;
        fill_body(c);
    } while (c->state == CONN_TALKING && feed(c));
    if (c->state != CONN_TALKING)
        return;
    size_t sent = flush(c);
    if (c->state != CONN_TALKING)
        return;
    if (sent > 0 || client_replies(c->client) != c->replies) {
        c->replies = client_replies(c->client);
        set_deadline(c);
    }
    if (bagstate_may_connect(&c->bag->st, c->r->now_us, c->bag->conns_n))
        bag_soon(c->bag);
}

/* The primary gets its next bytes first; what is left to do for those before is done while it works. */
void conn_run(struct conn *c)
{
    if (c->state != CONN_TALKING)
        return;
    talk(c);
    verdict_settle(c->r);
    if (c->state == CONN_TALKING && c->msgs_n > 0)
        bag_prefetch(c->bag);
}

void conn_tick(struct conn *c, uint64_t now_us)
{
    if (!c->deadline_us || now_us < c->deadline_us)
        return;
    c->deadline_us = 0;
    if (c->state == CONN_CONNECTING) {
        address_failed(c, ETIMEDOUT);
        try_next(c);
    } else if (c->state == CONN_TALKING) {
        if (c->ready && c->msgs_n == 0 && !c->quitting)
            quit(c);
        else
            client_lost(c->client, "timeout");
        conn_soon(c);
    }
}
