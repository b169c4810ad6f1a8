/* wire_kernel.c - kernel sockets: a worker of the kernel transport, turned by hand, and a client on loopback. */
#include "tests/smtp/fake.h"
#include "tests/smtp/wire_app.h"

/* Its turn is what run() repeats in a thread of its own. */
#include "dataplane/net/kernel.c" // NOLINT(bugprone-suspicious-include)

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>

static struct {
    struct kernel *k;
    int port;
    int fd; /* the client's; -1: none */
} line = {.fd = -1};

/* ---- the server */

static int server_open(enum net_engine engine, char *why_r)
{
    int fds[KERNEL_LISTEN_MAX];
    struct transport *t;
    struct kernel_config cfg = kernel_config_default;
    const struct transport_app app = wire_app();
    int n = net_listen("127.0.0.1:0", fds, KERNEL_LISTEN_MAX, why_r);
    if (n < 0)
        return n;
    cfg.engine = engine;
    cfg.listen_fds = fds;
    cfg.listen_n = (size_t)n;
    line.port = net_listen_port(fds[0]);
    int err = transport_kernel_open(&t, &cfg, &app);
    if (err) {
        snprintf(why_r, WIRE_WHY_MAX, "%s", satchel_strerror(err));
        while (n > 0)
            close(fds[--n]);
        return err;
    }
    line.k = (struct kernel *)t;
    kernel_clock(line.k);
    wheel_init(&line.k->wheel, line.k->now_us / KERNEL_TICK_US);
    err = line.k->engine->start(line.k);
    if (err == 0)
        line.k->engine->accept_on(line.k);
    return err;
}

static int uring_wire_open(char *why_r)
{
    return server_open(NET_URING, why_r);
}

static int epoll_wire_open(char *why_r)
{
    return server_open(NET_EPOLL, why_r);
}

static void kernel_wire_close(void)
{
    struct transport *t = &line.k->t;
    kernel_shutdown(line.k);
    t->ops->destroy(&t);
    line.k = NULL;
}

static void server_turn(void)
{
    line.k->engine->step(line.k, 0);
    kernel_timers(line.k);
    for (int i = 0; line.k->work_head && i < WORK_ROUNDS_MAX; i++)
        kernel_work(line.k);
}

/* ---- the client */

static void kernel_wire_connect(struct fake *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)line.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    wire_app_serve(f);
    line.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(line.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* pieces travel apart, and at once */
    if (line.fd < 0 || connect(line.fd, (struct sockaddr *)&to, sizeof to) != 0)
        perror("connect");
}

static void client_read(struct fake *f)
{
    uint8_t buf[16384];
    while (line.fd >= 0 && !f->heard_end) {
        ssize_t n = recv(line.fd, buf, sizeof buf, MSG_DONTWAIT);
        if (n > 0)
            fake_heard(f, slice_of(buf, (size_t)n));
        else if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        else
            f->heard_end = true;
    }
}

static void kernel_wire_turn(struct fake *f)
{
    server_turn();
    client_read(f);
}

static void kernel_wire_send(struct fake *f, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t took = send(line.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (took < 0 && errno != EAGAIN && errno != EINTR)
            return; /* the session has closed */
        if (took < 0)
            kernel_wire_turn(f);
        p += took > 0 ? took : 0;
        n -= took > 0 ? (size_t)took : 0;
    }
}

static void client_close(void)
{
    if (line.fd >= 0)
        close(line.fd);
    line.fd = -1;
}

static void kernel_wire_cut(struct fake *f)
{
    struct linger reset = {.l_onoff = 1};
    (void)f;
    setsockopt(line.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close();
}

static void kernel_wire_end(struct fake *f)
{
    wire_app_abort(f);
    client_close();
    while (f->open || line.k->conns || line.k->gone_n > 0)
        server_turn();
    wire_app_serve(NULL);
}

#define KERNEL_WIRE(NAME, OPEN)                                                                                        \
    {                                                                                                                  \
        .name = (NAME), .open = (OPEN), .close = kernel_wire_close, .connect = kernel_wire_connect,                    \
        .send = kernel_wire_send, .cut = kernel_wire_cut, .say = wire_app_say, .resume = wire_app_resume,              \
        .hang_up = wire_app_hang_up, .turn = kernel_wire_turn, .end = kernel_wire_end                                  \
    }

const struct wire wire_uring = KERNEL_WIRE("io_uring", uring_wire_open);
const struct wire wire_epoll = KERNEL_WIRE("epoll", epoll_wire_open);
