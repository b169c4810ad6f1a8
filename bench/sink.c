/* satchel-sink - an SMTP server that counts what it gets and stores nothing.
 *
 *   satchel-sink [options] HOST:PORT
 *     --until N            end after N accepted messages
 *     -T SECONDS           end after that time in any case (600)
 *     --fail-rcpt P=CODE   recipients that contain P get CODE; may be given several times
 *     --code-at-dot CODE   answer to the final dot
 *     --every K            ... at each Kth message only
 *     --max N              after N accepted messages MAIL gets 452
 *     --delay MS           wait so long before the answer to the final dot
 *     --no-pipelining      do not offer it
 *     --ledger FILE        a line "R TOKEN" for each message (bench/lib/lines.h)
 *     --out FILE           write the summary there, not to stdout
 *
 * It ends on SIGTERM or SIGINT too, and always prints one JSON object.  drain_s is the time between the answers to the
 * first and the last final dot.  One thread, epoll. */
#include "bench/lib/sinkconn.h"
#include "bench/lib/sock.h"
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define EVENTS 256

struct client {
    struct sinkconn *conn;
    struct client *next_due; /* delayed clients, soonest first: the delay is the same for all */
    int fd;
    bool blocked, due;
};

struct sink {
    struct sink_policy policy;
    int ep, listener, signals;
    uint64_t until, deadline_us;
    const char *out;
    struct client *due_first, *due_last, *dead;
    bool stop;
};

/* Clients are freed after the batch of events, which may still name them. */
static void client_close(struct sink *s, struct client *cl)
{
    if (cl->fd < 0)
        return;
    close(cl->fd);
    cl->fd = -1;
    if (cl->due)
        return; /* the list of the delayed frees it */
    cl->next_due = s->dead;
    s->dead = cl;
}

static void reap(struct sink *s)
{
    while (s->dead) {
        struct client *cl = s->dead;
        s->dead = cl->next_due;
        sinkconn_close(&cl->conn);
        free(cl);
    }
}

static void client_watch(struct sink *s, struct client *cl, int op)
{
    struct epoll_event ev = {.events = EPOLLIN | (cl->blocked ? EPOLLOUT : 0), .data.ptr = cl};
    if (epoll_ctl(s->ep, op, cl->fd, &ev))
        err(1, "epoll_ctl");
}

static void client_send(struct sink *s, struct client *cl)
{
    size_t n = 0;
    const char *out = sinkconn_out(cl->conn, &n);
    lines_flush(s->policy.ledger);
    if (n) {
        ssize_t w = send(cl->fd, out, n, MSG_NOSIGNAL);
        if (w < 0 && errno != EAGAIN) {
            client_close(s, cl);
            return;
        }
        sinkconn_sent(cl->conn, w < 0 ? 0 : (size_t)w);
        sinkconn_out(cl->conn, &n);
    }
    if (n == 0 && sinkconn_ended(cl->conn)) {
        client_close(s, cl);
        return;
    }
    if ((n > 0) != cl->blocked) {
        cl->blocked = n > 0;
        client_watch(s, cl, EPOLL_CTL_MOD);
    }
}

static void client_delay(struct sink *s, struct client *cl)
{
    if (!sinkconn_due_us(cl->conn) || cl->due)
        return;
    cl->due = true;
    cl->next_due = NULL;
    if (s->due_first)
        s->due_last->next_due = cl;
    else
        s->due_first = cl;
    s->due_last = cl;
    epoll_ctl(s->ep, EPOLL_CTL_DEL, cl->fd, NULL); /* it is not read from meanwhile */
}

static void client_read(struct sink *s, struct client *cl)
{
    size_t room = 0;
    char *to = sinkconn_room(cl->conn, &room);
    if (!room)
        return;
    ssize_t n = recv(cl->fd, to, room, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        client_close(s, cl);
        return;
    }
    sinkconn_input(cl->conn, (size_t)n, sock_now_us());
    client_send(s, cl);
    if (cl->fd >= 0)
        client_delay(s, cl);
}

static void wake_due(struct sink *s, uint64_t now)
{
    while (s->due_first && sinkconn_due_us(s->due_first->conn) <= now) {
        struct client *cl = s->due_first;
        s->due_first = cl->next_due;
        cl->due = false;
        if (cl->fd < 0) {
            cl->next_due = s->dead;
            s->dead = cl;
            continue;
        }
        client_watch(s, cl, EPOLL_CTL_ADD);
        sinkconn_wake(cl->conn, now);
        client_send(s, cl);
        if (cl->fd >= 0)
            client_delay(s, cl);
    }
}

static void accept_all(struct sink *s)
{
    int fd;
    while ((fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *cl = calloc(1, sizeof *cl);
        if (!cl)
            err(1, "client");
        *cl = (struct client){.fd = fd, .conn = sinkconn_open(&s->policy)};
        client_watch(s, cl, EPOLL_CTL_ADD);
        client_send(s, cl);
    }
}

static void print_summary(const struct sink *s)
{
    const struct sink_policy *p = &s->policy;
    struct seen_counts c = seen_counts(p->seen);
    double drain = p->last_us > p->first_us ? (double)(p->last_us - p->first_us) / 1e6 : 0;
    FILE *f = s->out ? fopen(s->out, "w") : stdout;
    if (!f)
        err(1, "%s", s->out);
    fprintf(f, "{\"messages\": %lu, \"refused\": %lu, \"recipients\": %lu, \"bytes\": %lu, \"sessions\": %lu,\n",
            p->accepted, p->refused, p->recipients, p->bytes, p->sessions);
    fprintf(f, " \"distinct\": %lu, \"duplicates\": %lu, \"inversions\": %lu, \"fifo_violations\": %lu,\n", c.distinct,
            c.duplicates, c.inversions, c.fifo_violations);
    fprintf(f, " \"unnumbered\": %lu, \"drain_s\": %.6f, \"messages_per_s\": %.1f, \"cpu_us\": %lu,\n \"replies\": ",
            c.unnumbered, drain, drain > 0 ? (double)p->accepted / drain : 0, sock_cpu_us());
    tally_print(&p->replies, f);
    fprintf(f, "}\n");
    if (fflush(f) || (s->out && fclose(f)))
        err(1, "summary");
}

static int timeout_ms(const struct sink *s, uint64_t now)
{
    uint64_t at = s->deadline_us;
    if (s->due_first && sinkconn_due_us(s->due_first->conn) < at)
        at = sinkconn_due_us(s->due_first->conn);
    return at <= now ? 0 : (int)((at - now) / 1000 + 1);
}

static void on_event(struct sink *s, struct epoll_event *ev)
{
    if (ev->data.ptr == &s->listener) {
        accept_all(s);
        return;
    }
    if (ev->data.ptr == &s->signals) {
        s->stop = true;
        return;
    }
    struct client *cl = ev->data.ptr;
    if (cl->fd >= 0 && (ev->events & EPOLLOUT))
        client_send(s, cl);
    if (cl->fd >= 0 && !cl->blocked && (ev->events & ~(unsigned)EPOLLOUT))
        client_read(s, cl);
}

static void serve(struct sink *s)
{
    struct epoll_event ev[EVENTS];
    while (!s->stop) {
        uint64_t now = sock_now_us();
        if (now >= s->deadline_us || (s->until && s->policy.accepted >= s->until))
            break;
        int n = epoll_wait(s->ep, ev, EVENTS, timeout_ms(s, now));
        for (int i = 0; i < n; i++)
            on_event(s, &ev[i]);
        wake_due(s, sock_now_us());
        reap(s);
    }
}

static void watch_special(struct sink *s, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
    if (epoll_ctl(s->ep, EPOLL_CTL_ADD, fd, &ev))
        err(1, "epoll_ctl");
}

static void start(struct sink *s, const char *address)
{
    struct sock_addr a = sock_parse(address);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    sock_raise_files();
    s->policy.seen = seen_open();
    s->signals = signalfd(-1, &set, SFD_CLOEXEC);
    s->ep = epoll_create1(EPOLL_CLOEXEC);
    s->listener = sock_listen(&a, 1024);
    watch_special(s, s->listener, &s->listener);
    watch_special(s, s->signals, &s->signals);
}

static void add_fail(struct sink_policy *p, char *text)
{
    char *eq = strrchr(text, '=');
    if (!eq || p->fails == SINK_PATTERNS_MAX || atoi(eq + 1) < 400 || atoi(eq + 1) > 599)
        errx(2, "--fail-rcpt %s: expected PATTERN=CODE, CODE 400..599, at most %d of them", text, SINK_PATTERNS_MAX);
    *eq = 0;
    p->fail[p->fails].part = text;
    p->fail[p->fails++].code = atoi(eq + 1);
}

enum { OPT_UNTIL = 256, OPT_FAIL, OPT_CODE, OPT_EVERY, OPT_MAX, OPT_DELAY, OPT_NOPIPE, OPT_LEDGER, OPT_OUT };

static const struct option options[] = {
    {"until", 1, NULL, OPT_UNTIL},
    {"fail-rcpt", 1, NULL, OPT_FAIL},
    {"code-at-dot", 1, NULL, OPT_CODE},
    {"every", 1, NULL, OPT_EVERY},
    {"max", 1, NULL, OPT_MAX},
    {"delay", 1, NULL, OPT_DELAY},
    {"no-pipelining", 0, NULL, OPT_NOPIPE},
    {"ledger", 1, NULL, OPT_LEDGER},
    {"out", 1, NULL, OPT_OUT},
    {"help", 0, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void option(struct sink *s, int o)
{
    switch (o) {
    case OPT_UNTIL:
        s->until = strtoull(optarg, NULL, 10);
        break;
    case 'T':
        s->deadline_us = strtoull(optarg, NULL, 10) * 1000000;
        break;
    case OPT_FAIL:
        add_fail(&s->policy, optarg);
        break;
    case OPT_CODE:
        s->policy.code_at_dot = atoi(optarg);
        break;
    case OPT_EVERY:
        s->policy.dot_every = strtoull(optarg, NULL, 10);
        break;
    case OPT_MAX:
        s->policy.max = strtoull(optarg, NULL, 10);
        break;
    case OPT_DELAY:
        s->policy.delay_us = strtoull(optarg, NULL, 10) * 1000;
        break;
    case OPT_NOPIPE:
        s->policy.pipelining = false;
        break;
    case OPT_LEDGER:
        s->policy.ledger = lines_open(optarg);
        break;
    case OPT_OUT:
        s->out = optarg;
        break;
    default:
        fprintf(stderr, "usage: satchel-sink [--until N] [-T SECONDS] [--fail-rcpt PATTERN=CODE] [--code-at-dot CODE]\n"
                        "                    [--every K] [--max N] [--delay MS] [--no-pipelining] [--ledger FILE]\n"
                        "                    [--out FILE] HOST:PORT\n");
        exit(o == 'h' ? 0 : 2);
    }
}

int main(int argc, char **argv)
{
    struct sink s = {.policy = {.pipelining = true, .dot_every = 1}, .deadline_us = 600 * 1000000ull};
    int o;
    while ((o = getopt_long(argc, argv, "hT:", options, NULL)) != -1)
        option(&s, o);
    if (optind != argc - 1 || s.policy.dot_every == 0)
        option(&s, '?');
    s.deadline_us += sock_now_us();
    start(&s, argv[optind]);
    serve(&s);
    print_summary(&s);
    lines_close(&s.policy.ledger);
    seen_close(&s.policy.seen);
    return 0;
}
