/* test_port_vhost.c - ports whose other end is a process behind a UNIX socket, which may come and go: net_vhost and
 * net_virtio_user.
 *
 * The peers are processes of the other kind that send back what they get, and hellos until they get something: drivers
 * start their devices more than once before they serve.  They are forked before the EAL starts, and wait for their
 * turn. */
#include "dpdk_rig.h"

#include <signal.h>
#include <sys/prctl.h>

enum { PEERS = 4, FRAMES = 40, HELLO = 999, HELLO_POLLS = 1000, WAKES_MAX = 100 };

static struct peer {
    pid_t pid;
    int go; /* a byte: begin */
} peers[PEERS];

static char socket_of_vhost[64], socket_of_virtio_user[64];
static struct rig_port here;

/* ---- a peer */

static void send_back(struct port_queue *q, const struct frame *f)
{
    struct rig_frame same = {.n = f->n};
    memcpy(same.b, f->p, f->n);
    rig_send(q, &same);
}

static void say_hello(struct port_queue *q)
{
    struct rig_frame hello = rig_frame(HELLO, 0, 100, NULL);
    rig_send(q, &hello);
}

static void peer_serve(void)
{
    struct frame f[PORT_BURST_MAX];
    struct port_queue *q = rig_queue(&here, 0);
    uint64_t got = 0;
    for (uint64_t polls = 0;; polls++) {
        uint32_t n = q->port->ops->rx(q, f, PORT_BURST_MAX);
        for (uint32_t i = 0; i < n; i++)
            send_back(q, &f[i]);
        rig_free(q, f, n);
        got += n;
        if (got == 0 && polls % HELLO_POLLS == 0)
            say_hello(q);
        q->port->ops->flush(q);
        if (n == 0)
            sched_yield();
    }
}

static void eal_args(void)
{
    rig_arg("--no-huge");
    rig_arg("--no-pci");
    rig_arg("-m");
    rig_arg("128");
}

static void peer_main(int go, bool is_vhost)
{
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (read(go, &byte, 1) != 1)
        _exit(0);
    eal_args();
    if (is_vhost)
        rig_arg("--vdev=net_vhost0,iface=%s,client=1", socket_of_virtio_user);
    else
        rig_arg("--vdev=net_virtio_user0,path=%s", socket_of_vhost);
    rig_open(&here, NULL, 1);
    peer_serve();
}

static void peer_fork(struct peer *p, bool is_vhost)
{
    int pair[2];
    assert_int_equal(pipe(pair), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        close(pair[1]);
        peer_main(pair[0], is_vhost);
    }
    close(pair[0]);
    p->go = pair[1];
}

static void peer_begin(struct peer *p)
{
    assert_int_equal(write(p->go, "", 1), 1);
}

static void peer_kill(struct peer *p)
{
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
        close(p->go);
    }
    p->pid = 0;
}

/* ---- this end */

static void wait_for_link(bool up)
{
    for (uint64_t end = rig_now_ms() + RIG_PATIENCE_MS; rig_info(&here).link_up != up && rig_now_ms() < end;)
        sched_yield();
    assert_int_equal(rig_info(&here).link_up, up);
}

/* Asleep.  A peer's call for a frame that was taken already may still wake us, but it ends. */
static int armed_and_silent(struct port_queue *q)
{
    for (int i = 0; i < WAKES_MAX; i++) {
        int fd = q->port->ops->arm(q);
        assert_true(fd >= 0);
        if (!rig_readable(fd, 0))
            return fd;
        q->port->ops->disarm(q);
        sched_yield();
    }
    fail_msg("something wakes it without end");
    return -1;
}

static void woken(struct port_queue *q, int fd)
{
    assert_true(rig_readable(fd, RIG_PATIENCE_MS));
    q->port->ops->disarm(q);
}

static uint32_t flow_of(const struct frame *f)
{
    uint32_t flow = HELLO, number;
    assert_true(rig_read(f, &flow, &number));
    return flow;
}

/* The next frame that is no hello. */
static void receive(struct port_queue *q, struct frame *f_r)
{
    while (rig_receive(q, f_r, 1, 1) == 1 && flow_of(f_r) == HELLO)
        rig_free(q, f_r, 1);
}

static void is_heard(struct port_queue *q)
{
    struct frame f;
    rig_receive(q, &f, 1, 1);
    assert_int_equal(flow_of(&f), HELLO);
    rig_free(q, &f, 1);
}

static void comes_back(struct port_queue *q, uint32_t number)
{
    struct frame f;
    struct rig_frame was = rig_frame(number, number, RIG_FRAME_MIN + number * 30, NULL);
    rig_send(q, &was);
    q->port->ops->flush(q);
    receive(q, &f);
    rig_assert_frame(&f, &was);
    rig_free(q, &f, 1);
}

static void wakes_and_comes_back(struct port_queue *q, uint32_t number)
{
    int fd = armed_and_silent(q);
    struct rig_frame was = rig_frame(number, number, 200, NULL);
    struct frame f;
    rig_send(q, &was);
    q->port->ops->flush(q);
    woken(q, fd);
    receive(q, &f);
    rig_free(q, &f, 1);
}

/* ---- net_vhost: we listen, and are woken */

static void meet(struct port_queue *q, struct peer *p)
{
    int fd = armed_and_silent(q);
    peer_begin(p);
    woken(q, fd);
    is_heard(q);
    for (uint32_t i = 0; i < FRAMES; i++)
        comes_back(q, i);
    for (uint32_t i = 0; i < FRAMES; i++)
        wakes_and_comes_back(q, i);
}

static void lose(struct port_queue *q, struct peer *p)
{
    int fd = armed_and_silent(q);
    peer_kill(p);
    woken(q, fd);
    wait_for_link(false);
}

static void a_vhost_port_sleeps_until_its_peer_comes_speaks_or_goes(void **state)
{
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_vhost0", 1);
    struct port_queue *q = rig_queue(&here, 0);
    assert_true(rig_info(&here).rx_interrupt);
    assert_false(rig_info(&here).link_up);
    for (int i = 0; i < 2; i++) {
        meet(q, &peers[i]);
        lose(q, &peers[i]);
    }
    rig_close(&here);
    assert_int_not_equal(access(socket_of_vhost, F_OK), 0);
}

/* ---- net_virtio_user: its peer was waited for when the EAL started */

static void a_virtio_user_port_outlives_its_peer(void **state)
{
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_virtio_user0", 1);
    struct port_queue *q = rig_queue(&here, 0);
    is_heard(q);
    for (uint32_t i = 0; i < FRAMES; i++)
        comes_back(q, i);
    peer_kill(&peers[2]);
    wait_for_link(false);
    peer_begin(&peers[3]);
    is_heard(q);
    wait_for_link(true);
    for (uint32_t i = 0; i < FRAMES; i++)
        comes_back(q, i);
    rig_close(&here);
}

static int group_begin(void **state)
{
    (void)state;
    if (!port_dpdk_built())
        return 0;
    signal(SIGPIPE, SIG_IGN);
    snprintf(socket_of_vhost, sizeof socket_of_vhost, "/tmp/satchel-test-vhost-%d", (int)getpid());
    snprintf(socket_of_virtio_user, sizeof socket_of_virtio_user, "/tmp/satchel-test-virtio-%d", (int)getpid());
    for (int i = 0; i < PEERS; i++)
        peer_fork(&peers[i], i >= 2);
    eal_args();
    rig_arg("--vdev=net_vhost0,iface=%s", socket_of_vhost);
    rig_arg("--vdev=net_virtio_user0,path=%s,server=1", socket_of_virtio_user);
    peer_begin(&peers[2]);
    return 0;
}

static int group_end(void **state)
{
    (void)state;
    for (int i = 0; i < PEERS; i++)
        peer_kill(&peers[i]);
    unlink(socket_of_vhost);
    unlink(socket_of_virtio_user);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vhost_port_sleeps_until_its_peer_comes_speaks_or_goes),
        cmocka_unit_test(a_virtio_user_port_outlives_its_peer),
    };
    return cmocka_run_group_tests_name("port_vhost", tests, group_begin, group_end);
}
