/* test_port_mem.c - two ports joined by a wire in memory. */
#include "port_rig.h"

#include <pthread.h>

enum { QUEUES = 3, RING = 64 };

static struct rig_port a, b;

static int opened(void **state)
{
    (void)state;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    return port_mem_open(&a.p, &b.p, QUEUES, RING);
}

static int closed(void **state)
{
    (void)state;
    if (a.p)
        a.p->ops->close(&a.p);
    if (b.p)
        b.p->ops->close(&b.p);
    return a.p || b.p;
}

static void frames_cross_unchanged(void **state)
{
    struct port_queue *from = rig_queue(&a, 0), *to = rig_queue(&b, 0);
    struct frame f[RING];
    (void)state;
    for (uint32_t i = 0; i < 30; i++) {
        struct rig_frame was = rig_frame(i, i, 80 + i * 49, NULL);
        rig_send(from, &was);
    }
    assert_int_equal(to->port->ops->rx(to, f, RING), 0); /* not before the flush */
    from->port->ops->flush(from);
    uint32_t n = rig_receive(to, f, 30, RING);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct rig_frame was = rig_frame(i, i, 80 + i * 49, NULL);
        rig_assert_frame(&f[i], &was);
        assert_int_equal(f[i].flags, 0);
        bytes += was.n;
    }
    rig_free(to, f, n);
    rig_expect_stat(&a, 0, STAT_TX_FRAMES, 30);
    rig_expect_stat(&a, 0, STAT_TX_BYTES, bytes);
    rig_expect_stat(&b, 0, STAT_RX_FRAMES, 30);
    rig_expect_stat(&b, 0, STAT_RX_BYTES, bytes);
    rig_expect_stat(&b, 0, STAT_POLLS, 2);
    rig_expect_stat(&b, 0, STAT_POLLS_BUSY, 1);
}

static void a_full_ring_drops(void **state)
{
    struct port_queue *from = rig_queue(&a, 1), *to = rig_queue(&b, 1);
    struct frame f[RING];
    (void)state;
    for (uint32_t i = 0; i < RING + 5; i++) {
        struct rig_frame was = rig_frame(7, i, 100, NULL);
        rig_send(from, &was);
    }
    from->port->ops->flush(from);
    rig_expect_stat(&a, 1, STAT_TX_FRAMES, RING);
    rig_expect_stat(&a, 1, STAT_TX_DROPPED, 5);
    uint32_t n = rig_receive(to, f, RING, RING), flow, number;
    assert_true(rig_read(&f[RING - 1], &flow, &number));
    assert_int_equal(number, RING - 1);
    rig_free(to, f, n);
}

static void every_queue_sees_what_all_must_see(void **state)
{
    struct port_queue *from = rig_queue(&a, 1);
    struct rig_frame arp = rig_arp(), data = rig_frame(2, 1, 80, NULL);
    struct frame f[4];
    (void)state;
    rig_send(from, &arp);
    rig_send(from, &data);
    from->port->ops->flush(from);
    for (uint32_t i = 0; i < QUEUES; i++) {
        struct port_queue *to = rig_queue(&b, i);
        uint32_t n = rig_receive(to, f, i == 1 ? 2 : 1, 4);
        assert_int_equal(n, i == 1 ? 2 : 1); /* data belongs to the queue that was sent to */
        rig_assert_frame(&f[0], &arp);
        if (i == 1)
            rig_assert_frame(&f[1], &data);
        rig_free(to, f, n);
    }
}

static void a_frame_may_be_dropped_unsent(void **state)
{
    struct port_queue *q = rig_queue(&a, 0);
    struct rig_frame was = rig_frame(1, 1, 200, NULL);
    struct frame f;
    (void)state;
    assert_true(rig_fill(q, &was, &f));
    q->port->ops->drop(q, &f);
    q->port->ops->flush(q);
    rig_expect_stat(&a, 0, STAT_TX_FRAMES, 0);
}

/* ---- sleeping */

static void *send_one(void *arg)
{
    struct port_queue *q = arg;
    struct rig_frame was = rig_frame(9, 1, 90, NULL);
    rig_send(q, &was);
    q->port->ops->flush(q);
    return NULL;
}

static void a_sleeper_is_woken(void **state)
{
    struct port_queue *from = rig_queue(&a, 0), *to = rig_queue(&b, 0);
    struct port_info info;
    struct frame f;
    pthread_t other;
    (void)state;
    b.p->ops->info(b.p, &info);
    assert_true(info.rx_interrupt);
    for (int i = 0; i < 3; i++) {
        int fd = to->port->ops->arm(to);
        assert_true(fd >= 0);
        assert_false(rig_readable(fd, 0));
        assert_int_equal(pthread_create(&other, NULL, send_one, from), 0);
        assert_true(rig_readable(fd, RIG_PATIENCE_MS));
        pthread_join(other, NULL);
        to->port->ops->disarm(to);
        rig_free(to, &f, rig_receive(to, &f, 1, 1));
    }
}

static void nobody_sleeps_over_frames(void **state)
{
    struct port_queue *from = rig_queue(&a, 0), *to = rig_queue(&b, 0);
    struct frame f;
    (void)state;
    send_one(from);
    assert_int_equal(to->port->ops->arm(to), -SATCHEL_EAGAIN);
    rig_free(to, &f, rig_receive(to, &f, 1, 1));
    int fd = to->port->ops->arm(to);
    assert_true(fd >= 0);
    assert_false(rig_readable(fd, 0)); /* what came before does not wake */
    to->port->ops->disarm(to);
}

/* ---- the end */

static void frames_on_their_way_are_freed(void **state)
{
    struct port_queue *q = rig_queue(&a, 0);
    struct rig_frame arp = rig_arp();
    (void)state;
    rig_send(q, &arp);
    q->port->ops->flush(q);
    rig_send(q, &arp); /* never flushed */
}

static void the_other_end_may_go_first(void **state)
{
    struct port_queue *q = rig_queue(&a, 0);
    struct rig_frame was = rig_frame(3, 3, 300, NULL);
    (void)state;
    b.p->ops->close(&b.p);
    assert_null(b.p);
    rig_send(q, &was);
    q->port->ops->flush(q);
}

static void a_port_says_what_it_is(void **state)
{
    struct port_info x, y;
    (void)state;
    a.p->ops->info(a.p, &x);
    b.p->ops->info(b.p, &y);
    assert_string_equal(x.driver, "memory");
    assert_int_equal(x.queues, QUEUES);
    assert_int_equal(x.mtu, 1500);
    assert_memory_not_equal(x.mac, y.mac, 6);
    assert_string_not_equal(x.name, y.name);
    assert_null(a.p->ops->queue(a.p, QUEUES));
}

/* A quarter of the time for which nothing came, within bounds. */
static void naps_grow(void **state)
{
    (void)state;
    assert_int_equal(port_nap_us(0), 50);
    assert_int_equal(port_nap_us(200), 50);
    assert_int_equal(port_nap_us(1200), 300);
    assert_int_equal(port_nap_us(4000), 1000);
    assert_int_equal(port_nap_us(UINT64_MAX), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(naps_grow),
        cmocka_unit_test_setup_teardown(frames_cross_unchanged, opened, closed),
        cmocka_unit_test_setup_teardown(a_full_ring_drops, opened, closed),
        cmocka_unit_test_setup_teardown(every_queue_sees_what_all_must_see, opened, closed),
        cmocka_unit_test_setup_teardown(a_frame_may_be_dropped_unsent, opened, closed),
        cmocka_unit_test_setup_teardown(a_sleeper_is_woken, opened, closed),
        cmocka_unit_test_setup_teardown(nobody_sleeps_over_frames, opened, closed),
        cmocka_unit_test_setup_teardown(frames_on_their_way_are_freed, opened, closed),
        cmocka_unit_test_setup_teardown(the_other_end_may_go_first, opened, closed),
        cmocka_unit_test_setup_teardown(a_port_says_what_it_is, opened, closed),
    };
    return cmocka_run_group_tests_name("port_mem", tests, NULL, NULL);
}
