/* The parts of the kernel transport that need no rig: addresses, the choice of engine, the timer wheel, send queues. */
#include "dataplane/net/sendq.h"
#include "dataplane/net/transport.h"
#include "dataplane/net/wheel.h"
#include "spool/base/rng.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void listen_explains(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "localhost:25",
                                      "127.0.0.1",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "::1:25",
                                      "[::1]",
                                      "[127.0.0.1]:25",
                                      "*:",
                                      "127.0.0.1:25x",
                                      "[]:25",
                                      ":25",
                                      "1.2.3.4.5:25",
                                      "*:+5",
                                      "[*]:25"};
    char why[NET_WHY_MAX];
    int fds[2];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(net_listen_check(bad[i], why), -EINVAL);
        assert_non_null(strstr(why, "expected 127.0.0.1:2525"));
    }
    assert_int_equal(net_listen_check("[::1]:25", why), 0);
    assert_int_equal(net_listen("192.0.2.1:0", fds, 2, why), -EADDRNOTAVAIL);
    assert_string_equal(why, "192.0.2.1:0: this machine has no such address");
    assert_int_equal(net_listen("*:0", fds, 1, why), -EINVAL);
    assert_int_equal(net_listen("*:0", fds, 2, why), 2);
    close(fds[0]);
    close(fds[1]);
}

static void listen_names_a_port_in_use(void **state)
{
    (void)state;
    char why[NET_WHY_MAX], address[32];
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), out;
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 1), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", net_listen_port(fd));
    assert_int_equal(net_listen(address, &out, 1, why), -EADDRINUSE);
    assert_non_null(strstr(why, "another program listens there"));
    close(fd);
}

/* Runs body in a child of its own, which may give up rights; its exit status. */
static int in_child(int (*body)(void))
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(body());
    assert_true(pid > 0);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

enum { CHILD_OK, CHILD_SKIP, CHILD_WRONG };

static int listen_below_1024(void)
{
    char why[NET_WHY_MAX];
    int fd;
    if (geteuid() == 0 && setuid(65534) != 0)
        return CHILD_SKIP;
    if (net_listen("127.0.0.1:25", &fd, 1, why) != -EACCES)
        return CHILD_SKIP; /* this machine lets anybody (net.ipv4.ip_unprivileged_port_start) */
    return strcmp(why, "127.0.0.1:25: permission denied: ports below 1024 need CAP_NET_BIND_SERVICE; "
                       "choose another or start as root") == 0
               ? CHILD_OK
               : CHILD_WRONG;
}

static void listen_explains_low_ports(void **state)
{
    (void)state;
    int rc = in_child(listen_below_1024);
    if (rc == CHILD_SKIP)
        skip();
    assert_int_equal(rc, CHILD_OK);
}

static bool forbid_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

static int open_without_io_uring(void)
{
    struct kernel_config cfg = kernel_config_default;
    struct transport_app app = {0};
    struct transport *t;
    if (!forbid_io_uring())
        return CHILD_SKIP;
    if (transport_kernel_open(&t, &cfg, &app) != 0 || strcmp(transport_kernel_engine(t), "epoll") != 0)
        return CHILD_WRONG;
    t->ops->destroy(&t);
    cfg.engine = NET_URING;
    return transport_kernel_open(&t, &cfg, &app) == -EPERM ? CHILD_OK : CHILD_WRONG;
}

static void falls_back_where_io_uring_is_forbidden(void **state)
{
    (void)state;
    int rc = in_child(open_without_io_uring);
    if (rc == CHILD_SKIP)
        skip();
    assert_int_equal(rc, CHILD_OK);
}

/* Against the plain truth: a timer is taken out at the first look at or after its time, and never sooner. */
static void wheel_keeps_time(void **state)
{
    (void)state;
    enum { N = 200 };
    static struct wheel w;
    static struct wheel_node nodes[N];
    struct rng rng;
    uint64_t now = 7;
    rng_seed(&rng, 42);
    wheel_init(&w, now);
    for (int step = 0; step < 20000; step++) {
        struct wheel_node *n = &nodes[rng_below(&rng, N)];
        if (rng_below(&rng, 4) == 0)
            wheel_stop(n);
        else
            wheel_set(&w, n, now + 1 + rng_below(&rng, rng_below(&rng, 10) ? 100 : 3000));
        if (rng_below(&rng, 3) == 0)
            now += rng_below(&rng, rng_below(&rng, 50) ? 4 : 2000);
        while ((n = wheel_expired(&w, now)) != NULL)
            assert_true(n->due <= now && !n->link);
        for (int i = 0; i < N; i++)
            assert_false(nodes[i].link && (nodes[i].due <= now || wheel_next(&w) > nodes[i].due));
    }
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at % 251);
}

static void sendq_keeps_order_and_gives_back(void **state)
{
    (void)state;
    struct sendq q = {0};
    struct sendpool pool = {0};
    struct rng rng;
    uint8_t buf[40000];
    size_t in = 0, out = 0;
    rng_seed(&rng, 1);
    for (int step = 0; step < 2000; step++) {
        size_t n = rng_below(&rng, rng_below(&rng, 8) ? 500 : sizeof buf);
        for (size_t i = 0; i < n; i++)
            buf[i] = pattern(in++);
        assert_true(sendq_put(&q, &pool, slice_of(buf, n)));
        while (q.bytes > 0 && rng_below(&rng, 3)) {
            struct slice s = sendq_front(&q);
            size_t m = 1 + rng_below(&rng, s.n);
            for (size_t i = 0; i < m; i++)
                assert_true(s.p[i] == pattern(out + i));
            sendq_take(&q, &pool, m);
            out += m;
        }
        assert_true(q.bytes == in - out && pool.bytes == q.bytes);
    }
    sendq_clear(&q, &pool);
    assert_true(!q.head && pool.bytes == 0);
    sendpool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listen_explains),           cmocka_unit_test(listen_names_a_port_in_use),
        cmocka_unit_test(listen_explains_low_ports), cmocka_unit_test(falls_back_where_io_uring_is_forbidden),
        cmocka_unit_test(wheel_keeps_time),          cmocka_unit_test(sendq_keeps_order_and_gives_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
