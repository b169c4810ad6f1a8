/* The kernel transport: both engines through the same scenarios. */
#include "tests/unit/net_rig.h"

#include "spool/base/err.h"

#include <malloc.h>
#include <sys/resource.h>

static void echoes(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    for (size_t at = 0; at < 40 * 4096; at += 4096) {
        client_say(fd, at, 4096);
        client_hear(fd, at, 4096);
    }
    shutdown(fd, SHUT_WR);
    client_hear_end(fd, "");
    until(atomic_load(&r.closed) == 1);
    assert_int_equal(atomic_load(&r.ends[CONN_END_PEER]), 1);
    rig_stop(&r);
}

static void echoes_byte_by_byte(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    for (size_t at = 0; at < 300; at++) {
        client_say(fd, at, 1);
        client_hear(fd, at, 1);
    }
    close(fd);
    rig_stop(&r);
}

static void speaks_ipv6(void **state)
{
    struct rig r;
    rig_start(&r, ECHO, state, "[::1]:0", kernel_config_default);
    int fd = client_try(&r, AF_INET6);
    assert_true(fd >= 0);
    client_say(fd, 0, 1000);
    client_hear(fd, 0, 1000);
    close(fd);
    assert_true(client_try(&r, AF_INET) < 0);
    rig_stop(&r);
}

static void offers_what_was_left(void **state, enum mode mode)
{
    struct rig r;
    rig_start_plain(&r, mode, state);
    int fd[3];
    for (int i = 0; i < 3; i++) {
        fd[i] = client(&r);
        client_say(fd[i], 0, 20000);
    }
    for (int i = 0; i < 3; i++) {
        shutdown(fd[i], SHUT_WR); /* what came before the FIN is offered all the same */
        client_hear(fd[i], 0, 20000);
        client_hear_end(fd[i], "");
    }
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_PEER]), 3);
}

static void offers_after_resume(void **state)
{
    offers_what_was_left(state, SIP);
}

static void offers_after_resume_inside(void **state)
{
    offers_what_was_left(state, SIP_NOW);
}

static void half_closed_peer_gets_its_answer(void **state)
{
    struct rig r;
    char answer[8];
    rig_start_plain(&r, OWE, state);
    int fd = client(&r);
    client_say(fd, 0, 100);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    until(atomic_load(&r.peer_ended));
    assert_int_equal(atomic_load(&r.closed), 0);
    atomic_store(&r.go, true);
    r.t->ops->wake(r.t);
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), 4); /* the answer, then the end */
    assert_memory_equal(answer, "paid", 4);
    until(atomic_load(&r.closed) == 1);
    assert_int_equal(atomic_load(&r.ends[CONN_END_PEER]), 1);
    close(fd);
    rig_stop(&r);
}

static void paused_app_stops_the_sender(void **state)
{
    struct rig r;
    rig_start_plain(&r, HOLD, state);
    int fd = client(&r);
    size_t said = client_say_until_full(fd, 64 * 1024 * 1024);
    assert_in_range(said, 1, 2 * 1024 * 1024);
    assert_int_equal(atomic_load(&r.received), 0);
    atomic_store(&r.go, true);
    r.t->ops->wake(r.t);
    until(atomic_load(&r.received) == said);
    client_say(fd, said, 100000); /* and it goes on */
    until(atomic_load(&r.received) == said + 100000);
    assert_false(atomic_load(&r.out_of_order));
    close(fd);
    rig_stop(&r);
}

static void slow_reader_stops_the_reading(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    size_t said = client_say_until_full(fd, 64 * 1024 * 1024);
    assert_in_range(said, TRANSPORT_SENDQ_MAX, 8 * 1024 * 1024);
    client_hear(fd, 0, said);
    client_say(fd, said, 10000);
    client_hear(fd, said, 10000);
    close(fd);
    rig_stop(&r);
}

static void large_answer_to_a_slow_reader(void **state)
{
    struct rig r;
    rig_start_plain(&r, FLOOD, state);
    int fd = client(&r);
    client_say(fd, 0, 1);
    for (size_t at = 0; at < FLOOD_BYTES; at += 32768)
        client_hear(fd, at, 32768);
    close(fd);
    rig_stop(&r);
}

static void close_delivers_the_last_reply(void **state)
{
    struct rig r;
    rig_start_plain(&r, BYE, state);
    for (int i = 0; i < 20; i++) {
        int fd = client(&r);
        client_say(fd, 0, 1 + 2000 * (size_t)i);
        client_hear_end(fd, "221 bye\r\n");
    }
    until(atomic_load(&r.closed) == 20);
    assert_int_equal(atomic_load(&r.ends[CONN_END_LOCAL]), 20);
    rig_stop(&r);
}

static void close_does_not_wait_for_ever(void **state)
{
    struct rig r;
    rig_start_plain(&r, BYE, state);
    int fd = client(&r);
    client_say(fd, 0, 1);
    until(atomic_load(&r.closed) == 1); /* the client neither reads nor closes */
    assert_int_equal(atomic_load(&r.ends[CONN_END_LOCAL]), 1);
    close(fd);
    rig_stop(&r);
}

static void abort_resets(void **state)
{
    struct rig r;
    rig_start_plain(&r, CUT, state);
    int fd = client(&r);
    client_say(fd, 0, 1);
    char c;
    assert_int_equal(client_recv(fd, &c, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_LOCAL]), 1);
}

static void refused_connection_is_closed(void **state)
{
    struct rig r;
    rig_start_plain(&r, REFUSE, state);
    client_hear_end(client(&r), "");
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.closed), 0);
}

static void notices_a_reset(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    client_say(fd, 0, 100);
    client_hear(fd, 0, 100);
    client_reset(fd);
    until(atomic_load(&r.closed) == 1);
    assert_int_equal(atomic_load(&r.ends[CONN_END_ERROR]), 1);
    rig_stop(&r);
}

static void notices_a_reset_while_paused(void **state)
{
    struct rig r;
    rig_start_plain(&r, HOLD_ECHO, state);
    int fd = client(&r);
    client_say(fd, 0, 50000);
    until(atomic_load(&r.accepted) == 1);
    client_reset(fd);
    atomic_store(&r.go, true);
    r.t->ops->wake(r.t);
    until(atomic_load(&r.closed) == 1);
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_ERROR]), 1);
}

static void timer_fires_once_and_late_at_most_a_tick(void **state)
{
    struct rig r;
    rig_start_plain(&r, TICK, state);
    uint64_t from_us = clock_boot_us(clock_system());
    int fd = client(&r);
    char buf[8];
    assert_int_equal(client_recv(fd, buf, sizeof buf), 4);
    uint64_t took_us = clock_boot_us(clock_system()) - from_us;
    assert_in_range(took_us, 149000, 2000000); /* 250 ms on an idle machine */
    shutdown(fd, SHUT_WR);
    client_hear_end(fd, "");
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ticks), 1);
}

static void turns_away_above_max_conns(void **state)
{
    struct rig r;
    struct kernel_config cfg = kernel_config_default;
    cfg.max_conns = 2;
    rig_start(&r, ECHO, state, "127.0.0.1:0", cfg);
    int a = client(&r), b = client(&r);
    until(atomic_load(&r.accepted) == 2);
    client_hear_end(client(&r), "421 4.3.2 Too many connections, try again later\r\n");
    close(a);
    until(atomic_load(&r.closed) == 1);
    a = client(&r); /* there is room again */
    client_say(a, 0, 10);
    client_hear(a, 0, 10);
    close(a);
    close(b);
    rig_stop(&r);
}

static void wakes_for_a_watched_descriptor(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    for (int i = 0; i < 50; i++) {
        int turns = atomic_load(&r.turns);
        if (i % 2)
            eventfd_write(r.watched, 1);
        else
            r.t->ops->wake(r.t);
        until(atomic_load(&r.turns) > turns);
    }
    rig_stop(&r);
}

static void stops_accepting_and_serves_on(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    int fd = client(&r);
    client_say(fd, 0, 10);
    client_hear(fd, 0, 10);
    atomic_store(&r.stop_accepting, true);
    r.t->ops->wake(r.t);
    until(!atomic_load(&r.stop_accepting));
    int late = 0;
    for (int i = 0; i < PATIENCE_S * 1000 && late >= 0; i++) {
        late = client_try(&r, AF_INET);
        if (late >= 0) {
            close(late);
            nap();
        }
    }
    assert_int_equal(late, -ECONNREFUSED);
    client_say(fd, 0, 10000);
    client_hear(fd, 0, 10000);
    close(fd);
    rig_stop(&r);
}

struct load {
    const struct rig *rig;
    atomic_size_t echoed;
};

static void *load_thread(void *arg)
{
    struct load *l = arg;
    uint8_t buf[4096] = {0};
    int fd = client_try(l->rig, AF_INET);
    while (fd >= 0 && client_send(fd, buf, sizeof buf) > 0) {
        ssize_t n = client_recv(fd, buf, sizeof buf);
        if (n <= 0)
            break;
        atomic_fetch_add(&l->echoed, (size_t)n);
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void stops_under_load(void **state)
{
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    struct load load = {.rig = &r};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, load_thread, &load);
    until(atomic_load(&load.echoed) > 1024 * 1024 && atomic_load(&r.accepted) == 4);
    rig_stop(&r);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.closed), 4);
}

/* Heap in use, all threads. */
static size_t heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void idle_connections_are_small(void **state)
{
    enum { N = 1000 };
    static int fds[N];
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    struct rig r;
    rig_start_plain(&r, ECHO, state);
    size_t before = heap_bytes();
    for (int i = 0; i < N; i++) {
        fds[i] = client(&r);
        client_say(fds[i], 0, 100);
        client_hear(fds[i], 0, 100);
    }
    until(atomic_load(&r.accepted) == N);
    size_t each = (heap_bytes() - before) / N;
    print_message("           %s: %zu bytes of heap an idle connection, the test's session included\n",
                  transport_kernel_engine(r.t), each);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_in_range(each, sizeof(struct kconn), sizeof(struct kconn) + sizeof(struct visit) + 64);
#endif
    for (int i = 0; i < N; i++)
        close(fds[i]);
    rig_stop(&r);
}

/* Many talk, two buffers: everybody is served. */
static void few_buffers_serve_many(void **state)
{
    enum { N = 50, ROUNDS = 4, BYTES = 8192 };
    int fds[N];
    struct rig r;
    struct kernel_config cfg = kernel_config_default;
    cfg.recv_buffers = 2;
    cfg.recv_buffer_bytes = 1024;
    rig_start(&r, ECHO, state, "127.0.0.1:0", cfg);
    for (int i = 0; i < N; i++)
        fds[i] = client(&r);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++)
            client_say(fds[i], round * BYTES, BYTES);
        for (int i = 0; i < N; i++)
            client_hear(fds[i], round * BYTES, BYTES);
    }
    for (int i = 0; i < N; i++)
        close(fds[i]);
    rig_stop(&r);
}

/* Stalled sessions have more to say than there are buffers; one that comes later is served all the same. */
static void stalled_sessions_do_not_starve_others(void **state)
{
    enum { N = HOLD_FIRST_N, BYTES = 10000 };
    int fds[N + 1];
    struct rig r;
    struct kernel_config cfg = kernel_config_default;
    cfg.recv_buffers = 8;
    cfg.recv_buffer_bytes = 2048;
    rig_start(&r, HOLD_FIRST, state, "127.0.0.1:0", cfg);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&r);
        client_say(fds[i], 0, BYTES);
    }
    fds[N] = client(&r);
    client_say(fds[N], 0, BYTES);
    client_hear(fds[N], 0, BYTES);
    atomic_store(&r.go, true);
    r.t->ops->wake(r.t);
    for (int i = 0; i <= N; i++) {
        client_say(fds[i], BYTES, 1);
        client_hear(fds[i], i < N ? 0 : BYTES, i < N ? BYTES + 1 : 1);
        close(fds[i]);
    }
    assert_false(atomic_load(&r.out_of_order));
    rig_stop(&r);
}

/* Descriptors run out; who waits is let in when there are some again. */
static void accepts_again_after_descriptors_ran_out(void **state)
{
    enum { LIMIT = 64 };
    struct rlimit lim, low;
    struct rig r;
    int fds[LIMIT], n = 0;
    getrlimit(RLIMIT_NOFILE, &lim);
    low = (struct rlimit){.rlim_cur = LIMIT, .rlim_max = lim.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    rig_start_plain(&r, ECHO, state);
    int served = client(&r);
    client_say(served, 0, 10);
    client_hear(served, 0, 10);
    while (n < LIMIT && (fds[n] = dup(r.watched)) >= 0)
        n++;
    close(fds[--n]);
    int turns = atomic_load(&r.turns), fd = client(&r);
    until(atomic_load(&r.turns) > turns);
    assert_int_equal(atomic_load(&r.accepted), 1);
    client_say(served, 10, 10);
    client_hear(served, 10, 10);
    while (n > 0)
        close(fds[--n]);
    client_say(fd, 0, 10);
    client_hear(fd, 0, 10);
    close(fd);
    close(served);
    rig_stop(&r);
    setrlimit(RLIMIT_NOFILE, &lim);
}

static void ends_in_the_middle_of_everything(void **state)
{
    enum { N = 20 };
    int fds[N];
    struct rig r;
    rig_start_plain(&r, HOLD_ECHO, state);
    for (int i = 0; i < N; i++) {
        fds[i] = client(&r);
        client_say(fds[i], 0, 30000);
    }
    until(atomic_load(&r.accepted) == N);
    rig_stop(&r);
    assert_int_equal(atomic_load(&r.ends[CONN_END_SHUTDOWN]), N);
    for (int i = 0; i < N; i++)
        close(fds[i]);
}

static void never_run_is_destroyed(void **state)
{
    char why[NET_WHY_MAX];
    int fd;
    assert_int_equal(net_listen("127.0.0.1:0", &fd, 1, why), 1);
    struct kernel_config cfg = kernel_config_default;
    cfg.engine = *(const enum net_engine *)*state;
    cfg.listen_fds = &fd;
    cfg.listen_n = 1;
    struct transport *t;
    assert_int_equal(transport_kernel_open(&t, &cfg, &(struct transport_app){0}), 0);
    t->ops->destroy(&t);
    cfg.recv_buffers = 3;
    assert_int_equal(transport_kernel_open(&t, &cfg, &(struct transport_app){0}), -SATCHEL_EINVAL);
}

#define ENGINE_TESTS(X)                                                                                                \
    X(echoes)                                                                                                          \
    X(echoes_byte_by_byte)                                                                                             \
    X(speaks_ipv6)                                                                                                     \
    X(offers_after_resume)                                                                                             \
    X(offers_after_resume_inside)                                                                                      \
    X(half_closed_peer_gets_its_answer)                                                                                \
    X(paused_app_stops_the_sender)                                                                                     \
    X(slow_reader_stops_the_reading)                                                                                   \
    X(large_answer_to_a_slow_reader)                                                                                   \
    X(close_delivers_the_last_reply)                                                                                   \
    X(close_does_not_wait_for_ever)                                                                                    \
    X(abort_resets)                                                                                                    \
    X(refused_connection_is_closed)                                                                                    \
    X(notices_a_reset)                                                                                                 \
    X(notices_a_reset_while_paused)                                                                                    \
    X(timer_fires_once_and_late_at_most_a_tick)                                                                        \
    X(turns_away_above_max_conns)                                                                                      \
    X(wakes_for_a_watched_descriptor)                                                                                  \
    X(stops_accepting_and_serves_on)                                                                                   \
    X(stops_under_load)                                                                                                \
    X(idle_connections_are_small)                                                                                      \
    X(few_buffers_serve_many)                                                                                          \
    X(stalled_sessions_do_not_starve_others)                                                                           \
    X(accepts_again_after_descriptors_ran_out)                                                                         \
    X(ends_in_the_middle_of_everything)                                                                                \
    X(never_run_is_destroyed)

/* Where the machine forbids io_uring there is nothing to test of it. */
static bool uring_allowed(void)
{
    struct kernel_config cfg = kernel_config_default;
    struct transport *t;
    cfg.engine = NET_URING;
    int err = transport_kernel_open(&t, &cfg, &(struct transport_app){0});
    if (err == 0)
        t->ops->destroy(&t);
    else
        print_message("[  SKIPPED ] io_uring scenarios: %s\n", satchel_strerror(err));
    return err == 0;
}

int main(void)
{
    static enum net_engine uring = NET_URING, epoll = NET_EPOLL;
#define X(name) {"io_uring: " #name, name, NULL, NULL, &uring},
    const struct CMUnitTest on_uring[] = {ENGINE_TESTS(X)};
#undef X
#define X(name) {"epoll: " #name, name, NULL, NULL, &epoll},
    const struct CMUnitTest on_epoll[] = {ENGINE_TESTS(X)};
#undef X
    int failed = 0;
    if (uring_allowed())
        failed = cmocka_run_group_tests_name("net: io_uring", on_uring, NULL, NULL);
    failed += cmocka_run_group_tests_name("net: epoll", on_epoll, NULL, NULL);
    return failed;
}
