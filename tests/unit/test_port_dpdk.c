/* test_port_dpdk.c - ports on DPDK's virtual devices: frames in and out, flags, flows to workers, sleep, buffers. */
#include "dpdk_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

enum { FLOWS = 50, WORKERS = 3 };

static struct rig_port here, there;

static int group_begin(void **state)
{
    (void)state;
    if (!port_dpdk_built())
        return 0;
    rig_args_make();
    return geteuid() != 0 || rig_namespace() ? 0 : -1;
}

static int group_end(void **state)
{
    (void)state;
    unlink(rig_memif);
    for (uint32_t i = 0; i < rig_args_n; i++)
        free((char *)(uintptr_t)rig_args[i]);
    return 0;
}

/* ---- one queue */

static void frames_pass_unchanged(void **state)
{
    struct frame f[PORT_BURST_MAX * 4];
    uint64_t bytes = 0;
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_ring0", 1); /* what it sends it receives */
    struct port_queue *q = rig_queue(&here, 0);
    uint32_t before = rig_info(&here).buffers_used;
    for (uint32_t i = 0; i < 200; i++) {
        struct rig_frame was = rig_frame(i, i, 80 + i * 7, NULL);
        rig_send(q, &was);
        bytes += was.n;
    }
    q->port->ops->flush(q);
    uint32_t n = rig_receive(q, f, 200, PORT_BURST_MAX * 4);
    assert_int_equal(n, 200);
    for (uint32_t i = 0; i < n; i++) {
        struct rig_frame was = rig_frame(i, i, 80 + i * 7, NULL);
        rig_assert_frame(&f[i], &was);
        assert_int_equal(f[i].flags, 0); /* not looked at is not good */
    }
    rig_free(q, f, n);
    rig_expect_stat(&here, 0, STAT_TX_FRAMES, 200);
    rig_expect_stat(&here, 0, STAT_TX_BYTES, bytes);
    rig_expect_stat(&here, 0, STAT_RX_FRAMES, 200);
    rig_expect_stat(&here, 0, STAT_RX_BYTES, bytes);
    rig_expect_stat(&here, 0, STAT_TX_DROPPED, 0);
    assert_true(stat_get(&here.stats[0], STAT_POLLS) >= stat_get(&here.stats[0], STAT_POLLS_BUSY));
    assert_int_equal(rig_info(&here).buffers_used, before);
    rig_close(&here);
}

static void what_the_device_does_not_take_is_counted_and_freed(void **state)
{
    struct frame f[4096];
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_ring1", 1);
    struct port_queue *q = rig_queue(&here, 0);
    uint32_t before = rig_info(&here).buffers_used;
    for (uint32_t i = 0; i < 2000; i++) {
        struct rig_frame was = rig_frame(1, i, 100, NULL);
        rig_send(q, &was); /* a burst that is full leaves by itself */
    }
    q->port->ops->flush(q);
    uint32_t sent = (uint32_t)stat_get(&here.stats[0], STAT_TX_FRAMES);
    uint32_t lost = (uint32_t)stat_get(&here.stats[0], STAT_TX_DROPPED);
    assert_int_equal(sent + lost, 2000);
    assert_true(lost > 0);
    rig_expect_stat(&here, 0, STAT_TX_BYTES, sent * 100ull);
    uint32_t n = rig_receive(q, f, sent, 4096);
    assert_int_equal(n, sent);
    rig_free(q, f, n);
    assert_int_equal(rig_info(&here).buffers_used, before);
    rig_close(&here);
}

static void buffers_end_and_come_back(void **state)
{
    static struct frame f[65536];
    uint32_t n = 0;
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_ring2", 1);
    struct port_queue *q = rig_queue(&here, 0);
    struct port_info info = rig_info(&here);
    assert_true(info.buffers > 0 && info.buffers < 65536);
    while (n < 65536 && q->port->ops->alloc(q, &f[n]))
        n++;
    assert_in_range(n, 1, info.buffers);
    assert_int_equal(rig_info(&here).buffers_used, info.buffers_used + n);
    for (uint32_t i = 0; i < n; i++)
        q->port->ops->drop(q, &f[i]);
    assert_int_equal(rig_info(&here).buffers_used, info.buffers_used);
    rig_close(&here);
}

static void the_device_counts_too(void **state)
{
    static char names[64][64];
    uint64_t values[64], sent = 0;
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_ring3", 1);
    struct port_queue *q = rig_queue(&here, 0);
    struct rig_frame was = rig_frame(1, 1, 100, NULL);
    for (int i = 0; i < 5; i++)
        rig_send(q, &was);
    q->port->ops->flush(q);
    uint32_t n = here.p->ops->device_stats(here.p, names, values, 64);
    assert_in_range(n, 1, 64);
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(names[i], "tx_good_packets") == 0)
            sent = values[i];
    assert_int_equal(sent, 5);
    assert_int_equal(here.p->ops->device_stats(here.p, names, values, 2), 2);
    rig_close(&here); /* with frames on their way */
}

/* ---- flows to workers, in software */

static struct flows {
    atomic_uint queue[FLOWS]; /* 1 + the queue that a flow came to; 0: none yet */
    uint32_t next[FLOWS];     /* the least number that may come */
    atomic_uint arps[WORKERS], data, bad;
} flows;

/* Thread: the queue's; a flow that comes to two queues at once is found by the first line. */
static void flows_note(uint32_t queue, const struct frame *f)
{
    uint32_t flow, number, none = 0;
    if (be16_get(f->p + 12) == 0x0806) {
        atomic_fetch_add(&flows.arps[queue], 1);
        return;
    }
    if (!rig_read(f, &flow, &number) || flow >= FLOWS) {
        atomic_fetch_add(&flows.bad, 1);
        return;
    }
    bool first = atomic_compare_exchange_strong(&flows.queue[flow], &none, queue + 1);
    if ((!first && none != queue + 1) || number < flows.next[flow])
        atomic_fetch_add(&flows.bad, 1);
    flows.next[flow] = number + 1;
    atomic_fetch_add(&flows.data, 1);
}

static uint32_t flows_take(struct port_queue *q)
{
    struct frame f[PORT_BURST_MAX];
    uint32_t n = q->port->ops->rx(q, f, PORT_BURST_MAX);
    for (uint32_t i = 0; i < n; i++)
        flows_note(q->index, &f[i]);
    if (n > 0)
        q->port->ops->free(q, f, n);
    return n;
}

static void flows_spread(void)
{
    uint32_t seen[WORKERS] = {0};
    for (uint32_t i = 0; i < FLOWS; i++)
        seen[atomic_load(&flows.queue[i]) - 1]++;
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_in_range(seen[i], 1, FLOWS - 2);
}

static void a_flow_has_one_worker_and_keeps_its_order(void **state)
{
    (void)state;
    rig_need_dpdk();
    memset(&flows, 0, sizeof flows);
    rig_open(&here, "net_ring4", WORKERS);
    struct port_info info = rig_info(&here);
    assert_false(info.rss);
    assert_int_equal(info.rx_queues, 1);
    struct port_queue *q[WORKERS] = {rig_queue(&here, 0), rig_queue(&here, 1), rig_queue(&here, 2)};
    for (uint32_t i = 0; i < 2000; i++) {
        struct rig_frame was = rig_frame(i % FLOWS, i, 80 + i % 900, NULL), tagged = rig_tagged(&was, 7);
        rig_send(q[i % WORKERS], i % 3 == 0 ? &tagged : &was); /* a tag changes nothing */
        q[i % WORKERS]->port->ops->flush(q[i % WORKERS]);
        if (i % 40 == 39) /* whose ring has waited since it polled last */
            flows_take(q[i / 40 % WORKERS]);
    }
    for (uint32_t i = 0; i < 200; i++)
        flows_take(q[i % WORKERS]);
    assert_int_equal(atomic_load(&flows.data), 2000);
    assert_int_equal(atomic_load(&flows.bad), 0);
    flows_spread();
    assert_int_equal(rig_info(&here).buffers_used, info.buffers_used);
    rig_close(&here);
}

static void every_worker_sees_what_all_must_see(void **state)
{
    (void)state;
    rig_need_dpdk();
    memset(&flows, 0, sizeof flows);
    rig_open(&here, "net_ring5", WORKERS);
    uint32_t before = rig_info(&here).buffers_used;
    struct port_queue *q[WORKERS] = {rig_queue(&here, 0), rig_queue(&here, 1), rig_queue(&here, 2)};
    struct rig_frame arp = rig_arp(), tagged = rig_tagged(&arp, 9);
    rig_send(q[2], &arp);
    rig_send(q[2], &tagged);
    q[2]->port->ops->flush(q[2]);
    uint32_t got[WORKERS] = {0};
    for (uint32_t i = 0; i < 30; i++) {
        struct frame f[4];
        struct port_queue *at = q[i % WORKERS];
        uint32_t n = at->port->ops->rx(at, f, 4);
        for (uint32_t k = 0; k < n; k++)
            rig_assert_frame(&f[k], got[at->index]++ == 0 ? &arp : &tagged);
        rig_free(at, f, n);
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(got[i], 2);
    assert_int_equal(rig_info(&here).buffers_used, before);
    rig_close(&here);
}

static void a_worker_that_does_not_keep_up_loses_its_own_only(void **state)
{
    struct frame f[PORT_BURST_MAX];
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_ring6", 2);
    uint32_t before = rig_info(&here).buffers_used;
    struct port_queue *busy = rig_queue(&here, 0), *idle = rig_queue(&here, 1);
    uint32_t own = 0, others = 0;
    for (uint32_t i = 0; i < 8000; i++) {
        struct rig_frame was = rig_frame(i % FLOWS, i, 80, NULL);
        rig_send(busy, &was);
        busy->port->ops->flush(busy);
        uint32_t n = busy->port->ops->rx(busy, f, PORT_BURST_MAX);
        own += n;
        rig_free(busy, f, n);
    }
    for (uint32_t n; (n = idle->port->ops->rx(idle, f, PORT_BURST_MAX)) > 0; others += n)
        rig_free(idle, f, n);
    assert_in_range(others, 1000, 1024); /* a ring's worth */
    rig_expect_stat(&here, 0, STAT_RX_PASSED_DROPPED, 8000 - own - others);
    assert_int_equal(rig_info(&here).buffers_used, before);
    rig_close(&here);
}

/* ---- with threads, between two devices */

static struct threads {
    atomic_bool end;
    uint64_t sent;
} threads;

static void *thread_receive(void *arg)
{
    struct port_queue *q = arg;
    while (!atomic_load(&threads.end))
        if (flows_take(q) == 0)
            sched_yield();
    return NULL;
}

static void memif_connect(struct port_queue *from, struct port_queue *to)
{
    struct rig_frame arp = rig_arp();
    struct frame f[PORT_BURST_MAX];
    uint32_t n = 0;
    for (uint64_t end = rig_now_ms() + RIG_PATIENCE_MS; n == 0 && rig_now_ms() < end; sched_yield()) {
        rig_send(from, &arp);
        from->port->ops->flush(from);
        n = to->port->ops->rx(to, f, PORT_BURST_MAX);
        rig_free(to, f, n);
    }
    assert_true(n > 0);
    memset(&flows, 0, sizeof flows);
}

/* Until all but `under_way` of the frames have come. */
static bool flows_wait(uint32_t frames, uint32_t under_way)
{
    uint64_t end = rig_now_ms() + RIG_PATIENCE_MS;
    while (frames > atomic_load(&flows.data) + under_way && rig_now_ms() < end)
        sched_yield();
    return frames <= atomic_load(&flows.data) + under_way;
}

/* Never more on their way than every ring holds. */
static bool flows_send(struct port_queue *from, uint32_t frames)
{
    for (uint32_t i = 0; i < frames; i++) {
        struct rig_frame was = rig_frame(i % FLOWS, i, 80 + i % 1400, NULL);
        rig_send(from, &was);
        if (i % 16 != 15)
            continue;
        from->port->ops->flush(from);
        if (!flows_wait(i, 200))
            return false;
    }
    from->port->ops->flush(from);
    return flows_wait(frames, 0);
}

static void workers_share_a_device(void **state)
{
    enum { FRAMES = 30000 };
    pthread_t t[WORKERS];
    struct port_queue *q[WORKERS];
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_memif0", WORKERS);
    rig_open(&there, "net_memif1", 1);
    for (uint32_t i = 0; i < WORKERS; i++)
        q[i] = rig_queue(&here, i);
    struct port_queue *from = rig_queue(&there, 0);
    memif_connect(from, q[0]);
    atomic_store(&threads.end, false);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, thread_receive, q[i]), 0);
    bool all = flows_send(from, FRAMES);
    atomic_store(&threads.end, true);
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&flows.bad), 0);
    assert_true(all);
    flows_spread();
    rig_close(&there);
    rig_close(&here);
}

/* ---- a device that spreads flows itself */

static void each_worker_has_a_queue_where_the_device_spreads(void **state)
{
    struct frame f[PORT_BURST_MAX];
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_null0", 2);
    struct port_info info = rig_info(&here);
    assert_true(info.rss);
    assert_int_equal(info.rx_queues, 2);
    assert_int_equal(info.tx_queues, 2);
    for (uint32_t i = 0; i < 20; i++) {
        struct port_queue *q = rig_queue(&here, i % 2);
        uint32_t n = rig_receive(q, f, 1, PORT_BURST_MAX);
        rig_free(q, f, n);
        struct rig_frame was = rig_frame(1, 1, 300, NULL);
        rig_send(q, &was);
        q->port->ops->flush(q);
    }
    assert_int_equal(rig_info(&here).buffers_used, info.buffers_used);
    rig_expect_stat(&here, 0, STAT_TX_FRAMES, 10);
    rig_expect_stat(&here, 1, STAT_TX_FRAMES, 10);
    rig_close(&here);
}

/* ---- sleep */

static void a_worker_is_woken_by_another(void **state)
{
    struct frame f[PORT_BURST_MAX];
    uint32_t mine = 0, n;
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_ring7", 2);
    struct port_queue *busy = rig_queue(&here, 0), *asleep = rig_queue(&here, 1);
    assert_false(rig_info(&here).rx_interrupt);
    int fd = asleep->port->ops->arm(asleep);
    assert_true(fd >= 0);
    assert_false(rig_readable(fd, 0));
    for (uint32_t i = 0; i < FLOWS; i++) {
        struct rig_frame was = rig_frame(i, i, 80, NULL);
        rig_send(busy, &was);
    }
    busy->port->ops->flush(busy);
    while ((n = busy->port->ops->rx(busy, f, PORT_BURST_MAX)) > 0)
        rig_free(busy, f, n);
    assert_true(rig_readable(fd, RIG_PATIENCE_MS));
    asleep->port->ops->disarm(asleep);
    assert_int_equal(asleep->port->ops->arm(asleep), -SATCHEL_EAGAIN); /* its ring is not empty */
    for (; (n = asleep->port->ops->rx(asleep, f, PORT_BURST_MAX)) > 0; mine += n)
        rig_free(asleep, f, n);
    assert_in_range(mine, 1, FLOWS - 1);
    fd = asleep->port->ops->arm(asleep);
    assert_true(fd >= 0);
    assert_false(rig_readable(fd, 0));
    asleep->port->ops->disarm(asleep);
    rig_close(&here);
}

static void a_device_without_interrupts_says_so(void **state)
{
    (void)state;
    rig_need_dpdk();
    rig_open(&here, "net_ring8", 1);
    struct port_queue *q = rig_queue(&here, 0);
    assert_false(rig_info(&here).rx_interrupt);
    assert_int_equal(q->port->ops->arm(q), -1);
    q->port->ops->disarm(q);
    rig_close(&here);
}

static void a_tap_wakes_every_sleeper(void **state)
{
    struct frame f[8];
    (void)state;
    rig_need_root();
    rig_open(&here, "net_tap0", 2);
    assert_true(rig_info(&here).rx_interrupt);
    int raw = rig_raw("sattap0");
    struct port_queue *q[2] = {rig_queue(&here, 0), rig_queue(&here, 1)};
    for (uint32_t i = 0; i < 6; i++) {
        int fd[2] = {q[0]->port->ops->arm(q[0]), q[1]->port->ops->arm(q[1])};
        assert_true(fd[0] >= 0 && fd[1] >= 0);
        assert_false(rig_readable(fd[0], 0));
        struct rig_frame was = rig_frame(i, i, 80, NULL);
        rig_raw_send(raw, &was);
        assert_true(rig_readable(fd[0], RIG_PATIENCE_MS));
        assert_true(rig_readable(fd[1], RIG_PATIENCE_MS));
        q[0]->port->ops->disarm(q[0]);
        q[1]->port->ops->disarm(q[1]);
        uint32_t n = 0;
        for (uint64_t end = rig_now_ms() + RIG_PATIENCE_MS; n == 0 && rig_now_ms() < end;)
            for (uint32_t w = 0; w < 2 && n == 0; w++) {
                n = q[w]->port->ops->rx(q[w], f, 8);
                rig_free(q[w], f, n);
            }
        assert_int_equal(n, 1);
    }
    close(raw);
    rig_close(&here);
}

/* ---- af_packet over veth */

static void a_veth_carries_frames_both_ways(void **state)
{
    struct frame f[8];
    (void)state;
    rig_need_root();
    rig_open(&here, "net_af_packet0", 1);
    int raw = rig_raw("peer0");
    struct port_queue *q = rig_queue(&here, 0);
    for (uint32_t i = 0; i < 40; i++) {
        struct rig_frame was = rig_frame(i, i, 80 + i * 35, NULL);
        rig_raw_send(raw, &was);
        assert_int_equal(rig_receive(q, f, 1, 8), 1);
        rig_assert_frame(&f[0], &was);
        assert_int_equal(f[0].flags, 0);
        rig_free(q, f, 1);
        rig_send(q, &was);
        q->port->ops->flush(q);
        struct rig_frame got = rig_raw_receive(raw);
        assert_int_equal(got.n, was.n);
        assert_memory_equal(got.b, was.b, was.n);
    }
    close(raw);
    rig_close(&here);
}

static void tags_are_taken_off_and_put_in(void **state)
{
    struct frame f[8];
    (void)state;
    rig_need_root();
    rig_open(&here, "net_af_packet1", 1);
    struct port_info info = rig_info(&here);
    assert_true(info.rx_vlan && info.tx_vlan);
    int raw = rig_raw("peer1");
    struct port_queue *q = rig_queue(&here, 0);
    struct rig_frame plain = rig_frame(4, 4, 200, NULL), tagged = rig_tagged(&plain, 1234);
    rig_raw_send(raw, &tagged);
    assert_int_equal(rig_receive(q, f, 1, 8), 1);
    assert_int_equal(f[0].flags, FRAME_VLAN);
    assert_int_equal(f[0].vlan, 1234);
    rig_assert_frame(&f[0], &plain);
    rig_free(q, f, 1);
    assert_true(rig_fill(q, &plain, &f[0]));
    f[0].flags = FRAME_VLAN;
    f[0].vlan = 77;
    f[0].l3 = 14;
    q->port->ops->send(q, &f[0]);
    q->port->ops->flush(q);
    struct rig_frame got = rig_raw_receive(raw);
    tagged = rig_tagged(&plain, 77);
    assert_int_equal(got.n, tagged.n);
    assert_memory_equal(got.b, tagged.b, tagged.n);
    close(raw);
    rig_close(&here);
}

/* ---- checksums by the device: a tap's driver verifies and makes them */

static void assert_sums(struct port_queue *q, int raw, const struct rig_frame *was, uint16_t want)
{
    struct frame f[8];
    rig_raw_send(raw, was);
    assert_int_equal(rig_receive(q, f, 1, 8), 1);
    assert_int_equal(f[0].flags, want);
    rig_free(q, f, 1);
}

static void a_tap_is_a_station_of_its_own(void **state)
{
    struct ifreq r = {.ifr_name = "sattap3"};
    (void)state;
    rig_need_root();
    rig_open(&here, "net_tap3", 1);
    struct port_info info = rig_info(&here);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &r), 0);
    assert_memory_not_equal(info.mac, r.ifr_hwaddr.sa_data, 6);
    assert_int_equal(info.mac[0] & 1, 0);
    close(fd);
    rig_close(&here);
}

static void sums_are_verified_by_the_device(void **state)
{
    uint32_t l4;
    (void)state;
    rig_need_root();
    rig_open(&here, "net_tap1", 1);
    struct port_info info = rig_info(&here);
    assert_true(info.rx_ip_sum && info.rx_l4_sum);
    int raw = rig_raw("sattap1");
    struct port_queue *q = rig_queue(&here, 0);
    for (uint32_t flow = 0; flow < 2; flow++) {
        struct rig_frame f = rig_frame(flow, 1, 300, &l4);
        uint16_t ip = flow == 0 ? FRAME_IP_GOOD : 0; /* IPv6 has no sum of its own */
        assert_sums(q, raw, &f, ip | FRAME_L4_GOOD);
        f.b[l4 + 30] ^= 1;
        assert_sums(q, raw, &f, ip | FRAME_L4_BAD);
        if (flow == 0) {
            f = rig_frame(flow, 1, 300, &l4);
            f.b[14 + 8]--; /* hops */
            assert_sums(q, raw, &f, FRAME_IP_BAD | FRAME_L4_GOOD);
        }
    }
    close(raw);
    rig_close(&here);
}

static void sums_are_made_by_the_device(void **state)
{
    uint32_t l4;
    struct frame f;
    (void)state;
    rig_need_root();
    rig_open(&here, "net_tap2", 1);
    struct port_info info = rig_info(&here);
    assert_true(info.tx_ip_sum && info.tx_tcp_sum);
    int raw = rig_raw("sattap2");
    struct port_queue *q = rig_queue(&here, 0);
    for (uint32_t flow = 0; flow < 4; flow++) {
        struct rig_frame good = rig_frame(flow, 1, 301 + flow, &l4), bare = good;
        uint16_t pseudo = sum_fold(rig_pseudo(bare.b + 14, bare.n - l4));
        if (flow % 2 == 0)
            memset(bare.b + 24, 0, 2);
        memcpy(bare.b + l4 + 16, &pseudo, 2);
        assert_true(rig_fill(q, &bare, &f));
        f.flags = FRAME_TX_TCP_SUM | (flow % 2 == 0 ? FRAME_TX_IP_SUM : 0);
        f.l3 = 14;
        f.l4 = (uint16_t)l4;
        q->port->ops->send(q, &f);
        q->port->ops->flush(q);
        struct rig_frame got = rig_raw_receive(raw);
        assert_int_equal(got.n, good.n);
        assert_memory_equal(got.b, good.b, good.n);
    }
    close(raw);
    rig_close(&here);
}

/* ---- MTU */

static int open_mtu(const char *device, uint16_t mtu, char *why_r)
{
    struct port_dpdk_config cfg = rig_config(device, 1);
    cfg.mtu = mtu;
    return port_dpdk_open(&here.p, &cfg, why_r);
}

static void an_mtu_is_told_to_the_device_or_refused(void **state)
{
    char why[PORT_WHY_MAX];
    (void)state;
    rig_need_root();
    assert_int_equal(open_mtu("net_af_packet2", 1501, why), -SATCHEL_EINVAL);
    assert_non_null(strstr(why, "net_af_packet2 takes an MTU of at most 1500, not 1501"));
    assert_non_null(strstr(why, "dataplane.mtu"));
    assert_int_equal(open_mtu("net_af_packet3", 1400, why), 0);
    assert_int_equal(rig_info(&here).mtu, 1400);
    assert_true(rig_sh("ip link show sat3 | grep -q 'mtu 1400 '"));
    rig_close(&here);
}

static void the_kernels_mtu_counts_below_a_virtual_device(void **state)
{
    char why[PORT_WHY_MAX];
    (void)state;
    rig_need_root();
    assert_true(rig_sh("ip link set sat4 mtu 1442"));
    assert_int_equal(open_mtu("net_af_packet4", 0, why), 0);
    assert_int_equal(rig_info(&here).mtu, 1442);
    rig_close(&here);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_pass_unchanged),
        cmocka_unit_test(what_the_device_does_not_take_is_counted_and_freed),
        cmocka_unit_test(buffers_end_and_come_back),
        cmocka_unit_test(the_device_counts_too),
        cmocka_unit_test(a_flow_has_one_worker_and_keeps_its_order),
        cmocka_unit_test(every_worker_sees_what_all_must_see),
        cmocka_unit_test(a_worker_that_does_not_keep_up_loses_its_own_only),
        cmocka_unit_test(each_worker_has_a_queue_where_the_device_spreads),
        cmocka_unit_test(a_worker_is_woken_by_another),
        cmocka_unit_test(a_device_without_interrupts_says_so),
        cmocka_unit_test(a_tap_wakes_every_sleeper),
        cmocka_unit_test(a_veth_carries_frames_both_ways),
        cmocka_unit_test(tags_are_taken_off_and_put_in),
        cmocka_unit_test(a_tap_is_a_station_of_its_own),
        cmocka_unit_test(sums_are_verified_by_the_device),
        cmocka_unit_test(sums_are_made_by_the_device),
        cmocka_unit_test(an_mtu_is_told_to_the_device_or_refused),
        cmocka_unit_test(the_kernels_mtu_counts_below_a_virtual_device),
        /* At the end: two ends of a memif that close in one process are a race of its driver, which spoils DPDK's heap.
         */
        cmocka_unit_test(workers_share_a_device),
    };
    return cmocka_run_group_tests_name("port_dpdk", tests, group_begin, group_end);
}
