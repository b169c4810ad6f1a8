/* fake_primary.h - a small SMTP server on loopback that misbehaves to order, for tests of the relay.
 *
 * A recipient decides by its local part: no@ 550, later@ 451, slow@ is answered after 8 ms, anyone else is taken.  The
 * knobs below decide the rest.  One thread, poll(2). */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PRIMARY_CONNS 32
#define PRIMARY_TAKEN 4096

struct primary_conn {
    int fd;
    bool data, mail;
    char in[65536];
    size_t n;
    uint32_t rcpts, taken;
    int subject; /* of the message in hand; -1: not seen yet */
    size_t bytes;
};

struct fake_primary {
    int listen_fd, stop_fd;
    uint16_t port;
    pthread_t thread;
    bool running;
    /* knobs */
    atomic_int greeting, mail_code, dot_code; /* reply codes; 0: 220, 250, 250 */
    atomic_int mail_code_times;               /* how often mail_code is given; -1: always */
    atomic_int close_at_dot;                  /* that many dots are taken and not answered: the connection is closed */
    atomic_int leave_after; /* 421 at the next MAIL after so many messages on a connection; 0: never */
    atomic_bool no_pipelining;
    atomic_bool deaf_in_body; /* reads nothing after 354 */
    const char *name;
    /* what happened */
    atomic_int connections, most_open, mails;
    atomic_int taken_n, bodies; /* bodies: 354s given */
    int taken[PRIMARY_TAKEN];   /* subjects, in the order of the dots */
    struct primary_conn *conns[PRIMARY_CONNS];
};

static void primary_say(struct primary_conn *c, const char *text)
{
    ssize_t n = send(c->fd, text, strlen(text), MSG_NOSIGNAL);
    (void)n;
}

static void primary_code(struct primary_conn *c, int code, const char *text)
{
    char line[128];
    snprintf(line, sizeof line, "%d %d.7.1 %s\r\n", code, code / 100, text);
    primary_say(c, line);
}

static void primary_ehlo(struct fake_primary *p, struct primary_conn *c)
{
    char text[256];
    snprintf(text, sizeof text, "250-%s\r\n%s250-SIZE 100000000\r\n250 8BITMIME\r\n", p->name,
             atomic_load(&p->no_pipelining) ? "" : "250-PIPELINING\r\n");
    primary_say(c, text);
}

static void primary_rcpt(struct primary_conn *c, const char *line)
{
    if (!c->mail)
        primary_code(c, 503, "MAIL first");
    else if (strstr(line, "<no@"))
        primary_code(c, 550, "no such user");
    else if (strstr(line, "<later@"))
        primary_code(c, 451, "come again");
    else {
        if (strstr(line, "<slow@"))
            usleep(8000);
        c->rcpts++;
        primary_say(c, "250 2.1.5 ok\r\n");
    }
}

/* false: close. */
static bool primary_mail(struct fake_primary *p, struct primary_conn *c)
{
    int leave = atomic_load(&p->leave_after);
    atomic_fetch_add(&p->mails, 1);
    c->rcpts = 0;
    c->mail = false;
    if (leave && c->taken >= (uint32_t)leave) {
        primary_say(c, "421 4.3.2 enough for now\r\n");
        return false;
    }
    if (atomic_load(&p->mail_code) && atomic_load(&p->mail_code_times) != 0) {
        atomic_fetch_sub(&p->mail_code_times, 1);
        primary_code(c, atomic_load(&p->mail_code), "not now");
        return true;
    }
    c->mail = true;
    primary_say(c, "250 2.1.0 ok\r\n");
    return true;
}

static bool primary_command(struct fake_primary *p, struct primary_conn *c, const char *line)
{
    if (strncmp(line, "EHLO", 4) == 0)
        primary_ehlo(p, c);
    else if (strncmp(line, "MAIL", 4) == 0)
        return primary_mail(p, c);
    else if (strncmp(line, "RCPT", 4) == 0)
        primary_rcpt(c, line);
    else if (strncmp(line, "DATA", 4) == 0 && c->rcpts == 0)
        primary_code(c, 554, "no valid recipients");
    else if (strncmp(line, "DATA", 4) == 0) {
        c->data = true;
        c->subject = -1;
        atomic_fetch_add(&p->bodies, 1);
        primary_say(c, "354 go\r\n");
    } else if (strncmp(line, "QUIT", 4) == 0) {
        primary_say(c, "221 2.0.0 bye\r\n");
        return false;
    } else
        primary_say(c, "250 2.0.0 ok\r\n");
    return true;
}

static bool primary_dot(struct fake_primary *p, struct primary_conn *c)
{
    c->data = false;
    c->rcpts = 0;
    if (atomic_load(&p->close_at_dot) > 0) {
        atomic_fetch_sub(&p->close_at_dot, 1);
        return false;
    }
    int code = atomic_load(&p->dot_code);
    if (code) {
        primary_code(c, code, "not this one");
        return true;
    }
    c->taken++;
    int i = atomic_load(&p->taken_n);
    if (i < PRIMARY_TAKEN)
        p->taken[i] = c->subject;
    atomic_store(&p->taken_n, i + 1);
    primary_say(c, "250 2.0.0 queued\r\n");
    return true;
}

static bool primary_line(struct fake_primary *p, struct primary_conn *c, char *line)
{
    if (!c->data)
        return primary_command(p, c, line);
    if (strcmp(line, ".") == 0)
        return primary_dot(p, c);
    if (c->subject < 0 && strncmp(line, "Subject: ", 9) == 0)
        c->subject = atoi(line + 9);
    return true;
}

static bool primary_feed(struct fake_primary *p, struct primary_conn *c)
{
    ssize_t got = recv(c->fd, c->in + c->n, sizeof c->in - c->n, 0);
    if (got <= 0)
        return false;
    c->n += (size_t)got;
    char *at = c->in, *nl;
    while ((nl = memchr(at, '\n', c->n - (size_t)(at - c->in)))) {
        *nl = 0;
        if (nl > at && nl[-1] == '\r')
            nl[-1] = 0;
        if (!primary_line(p, c, at))
            return false;
        at = nl + 1;
    }
    c->n -= (size_t)(at - c->in);
    memmove(c->in, at, c->n);
    return true;
}

static void primary_accept(struct fake_primary *p)
{
    int fd = accept(p->listen_fd, NULL, NULL), open = 0, one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct primary_conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    for (int i = 0; i < PRIMARY_CONNS; i++) {
        if (!p->conns[i] && c) {
            p->conns[i] = c;
            c = NULL;
        }
        open += p->conns[i] != NULL;
    }
    if (c) {
        close(fd);
        free(c);
        return;
    }
    atomic_fetch_add(&p->connections, 1);
    if (open > atomic_load(&p->most_open))
        atomic_store(&p->most_open, open);
    int code = atomic_load(&p->greeting);
    char line[64];
    snprintf(line, sizeof line, "%d %s ESMTP\r\n", code ? code : 220, p->name);
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        return;
}

static void primary_drop(struct fake_primary *p, int i)
{
    close(p->conns[i]->fd);
    free(p->conns[i]);
    p->conns[i] = NULL;
}

static bool primary_hears(struct fake_primary *p, const struct primary_conn *c)
{
    return c && !(c->data && atomic_load(&p->deaf_in_body));
}

static void *primary_main(void *arg)
{
    struct fake_primary *p = arg;
    for (;;) {
        struct pollfd fds[2 + PRIMARY_CONNS] = {{p->stop_fd, POLLIN, 0}, {p->listen_fd, POLLIN, 0}};
        for (int i = 0; i < PRIMARY_CONNS; i++)
            fds[2 + i] = (struct pollfd){primary_hears(p, p->conns[i]) ? p->conns[i]->fd : -1, POLLIN, 0};
        poll(fds, 2 + PRIMARY_CONNS, atomic_load(&p->deaf_in_body) ? 1 : -1);
        if (fds[0].revents)
            break;
        for (int i = 0; i < PRIMARY_CONNS; i++)
            if (fds[2 + i].revents && p->conns[i] && !primary_feed(p, p->conns[i]))
                primary_drop(p, i);
        if (fds[1].revents)
            primary_accept(p);
    }
    for (int i = 0; i < PRIMARY_CONNS; i++)
        if (p->conns[i])
            primary_drop(p, i);
    return NULL;
}

/* Bound, but not listening: connections are refused. */
static struct fake_primary *primary_new(void)
{
    struct fake_primary *p = calloc(1, sizeof *p);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    p->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    p->stop_fd = eventfd(0, 0);
    p->name = "primary.test";
    atomic_store(&p->mail_code_times, -1);
    if (bind(p->listen_fd, (struct sockaddr *)&a, n) < 0 || getsockname(p->listen_fd, (struct sockaddr *)&a, &n) < 0)
        abort();
    p->port = ntohs(a.sin_port);
    return p;
}

static void primary_up(struct fake_primary *p)
{
    if (listen(p->listen_fd, 64) < 0)
        abort();
    p->running = true;
    pthread_create(&p->thread, NULL, primary_main, p);
}

static void primary_free(struct fake_primary *p)
{
    if (p->running) {
        eventfd_write(p->stop_fd, 1);
        pthread_join(p->thread, NULL);
    }
    close(p->listen_fd);
    close(p->stop_fd);
    free(p);
}
