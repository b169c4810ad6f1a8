/* port_dpdk.c - a port on a DPDK device: frames to and from mbufs, flows to their workers, workers to sleep. */
#include "dataplane/net/port_dpdk.h"
#include "dataplane/tcp/ip.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_tcp.h>
#include <rte_thash.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { SEND_TRIES = 3 };

static struct dpdk_queue *dpdk_queue_of(struct port_queue *q)
{
    return (struct dpdk_queue *)q;
}

/* A worker that DPDK knows has caches of its own in the pool. Once a thread; more than DPDK can know go without. */
static void worker_register(void)
{
    static _Thread_local bool known;
    if (!known && rte_lcore_id() == LCORE_ID_ANY)
        rte_thread_register();
    known = true;
}

/* ---- received frames */

/* NONE is GOOD for L4: the bytes came without a wire between (virtio), the sum was never filled in. */
static uint16_t flags_of(const struct rte_mbuf *m)
{
    uint64_t ip = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK, l4 = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    uint16_t flags = 0;
    if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD)
        flags |= FRAME_IP_GOOD;
    else if (ip == RTE_MBUF_F_RX_IP_CKSUM_BAD)
        flags |= FRAME_IP_BAD;
    if (l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD || l4 == RTE_MBUF_F_RX_L4_CKSUM_NONE)
        flags |= FRAME_L4_GOOD;
    else if (l4 == RTE_MBUF_F_RX_L4_CKSUM_BAD)
        flags |= FRAME_L4_BAD;
    if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
        flags |= FRAME_VLAN;
    return flags;
}

static void frame_of(struct rte_mbuf *m, struct frame *f_r)
{
    *f_r = (struct frame){.p = rte_pktmbuf_mtod(m, uint8_t *),
                          .n = m->data_len,
                          .flags = flags_of(m),
                          .vlan = m->vlan_tci,
                          .hash = m->ol_flags & RTE_MBUF_F_RX_RSS_HASH ? m->hash.rss : 0,
                          .buf = m};
}

/* Chains are made one piece; those that do not fit in one are longer than any packet of this link. */
static uint32_t frames_of(struct dpdk_queue *q, struct rte_mbuf **m, uint32_t n, struct frame *f_r)
{
    uint32_t got = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        bytes += m[i]->pkt_len;
        if (m[i]->nb_segs == 1 || rte_pktmbuf_linearize(m[i]) == 0) {
            frame_of(m[i], &f_r[got++]);
            continue;
        }
        stat_add(q->q.stats, STAT_DROP_ETHER, 1);
        rte_pktmbuf_free(m[i]);
    }
    stat_add(q->q.stats, STAT_RX_FRAMES, n);
    stat_add(q->q.stats, STAT_RX_BYTES, bytes);
    return got;
}

/* ---- flows to workers */

/* Toeplitz over addresses and, where it is TCP, ports; as devices compute it.  0: neither IPv4 nor IPv6. */
static uint32_t hash_of(const struct dpdk_port *d, const struct rte_mbuf *m)
{
    const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *), *l4 = NULL;
    uint32_t tuple[9], words, n = m->data_len, at = 14;
    if (n >= 18 && p[12] == 0x81 && p[13] == 0)
        at = 18;
    if (n < at + 20)
        return 0;
    uint32_t type = (uint32_t)p[at - 2] << 8 | p[at - 1];
    if (type == RTE_ETHER_TYPE_IPV4) {
        const struct rte_ipv4_hdr *ip = (const void *)(p + at);
        memcpy(tuple, &ip->src_addr, 8);
        words = 2;
        uint32_t off = at + (ip->version_ihl & 15u) * 4;
        if (ip->next_proto_id == IPPROTO_TCP && !(ip->fragment_offset & RTE_BE16(0x3fff)) && n >= off + 4)
            l4 = p + off;
    } else if (type == RTE_ETHER_TYPE_IPV6 && n >= at + 40) {
        const struct rte_ipv6_hdr *ip = (const void *)(p + at);
        memcpy(tuple, ip->src_addr, 32);
        words = 8;
        if (ip->proto == IPPROTO_TCP && n >= at + 44)
            l4 = p + at + 40;
    } else {
        return 0;
    }
    if (l4)
        memcpy(&tuple[words++], l4, 4);
    for (uint32_t i = 0; i < words; i++)
        tuple[i] = rte_be_to_cpu_32(tuple[i]);
    return rte_softrss(tuple, words, (const uint8_t *)d->key);
}

static bool is_shared(const struct rte_mbuf *m)
{
    struct frame f = {.p = rte_pktmbuf_mtod(m, uint8_t *), .n = m->data_len, .flags = flags_of(m), .vlan = m->vlan_tci};
    return ip_frame_shared(&f);
}

static void pass_on(struct dpdk_queue *from, struct dpdk_queue *to, struct rte_mbuf *m)
{
    if (m && rte_ring_enqueue(to->in, m) == 0) {
        bell_ring(&to->bell);
        return;
    }
    stat_add(from->q.stats, STAT_RX_PASSED_DROPPED, 1);
    rte_pktmbuf_free(m);
}

static void share(struct dpdk_queue *from, struct rte_mbuf *m)
{
    struct dpdk_port *d = from->d;
    for (uint32_t i = 0; i < d->info.queues; i++)
        if (i != from->q.index)
            pass_on(from, &d->queues[i], rte_pktmbuf_copy(m, d->pool, 0, UINT32_MAX));
}

/* Leaves in m what is q's own. */
static uint32_t dispatch(struct dpdk_queue *q, struct rte_mbuf **m, uint32_t n)
{
    struct dpdk_port *d = q->d;
    uint32_t own = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (is_shared(m[i])) {
            share(q, m[i]);
            m[own++] = m[i];
            continue;
        }
        uint32_t to = d->info.rss ? q->q.index : hash_of(d, m[i]) % d->info.queues;
        if (to == q->q.index)
            m[own++] = m[i];
        else
            pass_on(q, &d->queues[to], m[i]);
    }
    return own;
}

/* ---- polling */

static uint32_t ring_take(struct dpdk_queue *q, struct rte_mbuf **m_r, uint32_t n)
{
    return rte_ring_dequeue_burst(q->in, (void **)m_r, n, NULL);
}

static uint32_t poll_own(struct dpdk_queue *q, struct rte_mbuf **m_r, uint32_t n)
{
    if (!q->in)
        return rte_eth_rx_burst(q->d->id, q->rx, m_r, (uint16_t)n);
    uint32_t got = ring_take(q, m_r, n);
    return got + dispatch(q, m_r + got, rte_eth_rx_burst(q->d->id, q->rx, m_r + got, (uint16_t)(n - got)));
}

static uint32_t poll_shared(struct dpdk_queue *q, struct rte_mbuf **m_r, uint32_t n)
{
    struct dpdk_port *d = q->d;
    if (!rte_spinlock_trylock(&d->rx_lock))
        return q->in ? ring_take(q, m_r, n) : 0;
    uint32_t got = q->in ? ring_take(q, m_r, n) : 0;
    for (uint16_t i = 0; i < d->nb_rx && got < n; i++) {
        uint32_t fresh = rte_eth_rx_burst(d->id, i, m_r + got, (uint16_t)(n - got));
        got += q->in ? dispatch(q, m_r + got, fresh) : fresh;
    }
    rte_spinlock_unlock(&d->rx_lock);
    return got;
}

static uint32_t dpdk_rx(struct port_queue *pq, struct frame *f_r, uint32_t n)
{
    struct dpdk_queue *q = dpdk_queue_of(pq);
    struct rte_mbuf *m[PORT_BURST_MAX];
    worker_register();
    uint32_t got = q->d->info.rss ? poll_own(q, m, n) : poll_shared(q, m, n);
    stat_add(pq->stats, STAT_POLLS, 1);
    if (got == 0)
        return 0;
    stat_add(pq->stats, STAT_POLLS_BUSY, 1);
    return frames_of(q, m, got, f_r);
}

static void dpdk_free(struct port_queue *q, struct frame *f, uint32_t n)
{
    struct rte_mbuf *m[PORT_BURST_MAX];
    (void)q;
    for (uint32_t i = 0; i < n; i++)
        m[i] = f[i].buf;
    rte_pktmbuf_free_bulk(m, n);
}

/* ---- sending */

static bool dpdk_alloc(struct port_queue *pq, struct frame *f_r)
{
    struct dpdk_port *d = dpdk_queue_of(pq)->d;
    struct rte_mbuf *m = rte_pktmbuf_alloc(d->pool);
    if (m)
        *f_r = (struct frame){.p = rte_pktmbuf_mtod(m, uint8_t *), .room = d->room, .buf = m};
    return m != NULL;
}

static void dpdk_drop(struct port_queue *q, struct frame *f)
{
    (void)q;
    rte_pktmbuf_free(f->buf);
}

static void offload(struct rte_mbuf *m, const struct frame *f)
{
    bool is4 = f->p[f->l3] >> 4 == 4;
    if (f->flags & (FRAME_TX_IP_SUM | FRAME_TX_TCP_SUM)) {
        m->l2_len = f->l3;
        m->l3_len = (uint32_t)(f->l4 - f->l3);
        m->ol_flags |= is4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
    }
    if (f->flags & FRAME_TX_IP_SUM && is4)
        m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
    if (f->flags & FRAME_TX_TCP_SUM) {
        m->l4_len = (uint32_t)(((const struct rte_tcp_hdr *)(f->p + f->l4))->data_off >> 4) * 4;
        m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
    }
    if (f->flags & FRAME_VLAN) {
        m->vlan_tci = f->vlan;
        m->ol_flags |= RTE_MBUF_F_TX_VLAN;
    }
}

static void burst_send(struct dpdk_queue *q);

static void dpdk_send(struct port_queue *pq, struct frame *f)
{
    struct dpdk_queue *q = dpdk_queue_of(pq);
    struct rte_mbuf *m = f->buf;
    m->data_off = (uint16_t)(f->p - (uint8_t *)m->buf_addr);
    m->data_len = (uint16_t)f->n;
    m->pkt_len = f->n;
    offload(m, f);
    q->burst[q->burst_n++] = m;
    if (q->burst_n == PORT_BURST_MAX)
        burst_send(q);
}

static uint32_t burst_try(struct dpdk_queue *q)
{
    struct dpdk_port *d = q->d;
    uint32_t sent = 0;
    for (int i = 0; i < SEND_TRIES && sent < q->burst_n; i++) {
        uint16_t n = (uint16_t)(q->burst_n - sent);
        if (d->prepare)
            n = rte_eth_tx_prepare(d->id, q->tx, q->burst + sent, n);
        sent += rte_eth_tx_burst(d->id, q->tx, q->burst + sent, n);
    }
    return sent;
}

static void burst_send(struct dpdk_queue *q)
{
    struct dpdk_port *d = q->d;
    bool alone = d->nb_tx >= d->info.queues;
    uint64_t bytes = 0;
    uint32_t lost;
    for (uint32_t i = 0; i < q->burst_n; i++)
        bytes += q->burst[i]->pkt_len;
    if (!alone)
        rte_spinlock_lock(&d->tx[q->tx].lock);
    uint32_t sent = burst_try(q);
    if (!alone)
        rte_spinlock_unlock(&d->tx[q->tx].lock);
    lost = q->burst_n - sent;
    for (uint32_t i = sent; i < q->burst_n; i++)
        bytes -= q->burst[i]->pkt_len;
    rte_pktmbuf_free_bulk(q->burst + sent, lost);
    q->burst_n = 0;
    stat_add(q->q.stats, STAT_TX_FRAMES, sent);
    stat_add(q->q.stats, STAT_TX_BYTES, bytes);
    stat_add(q->q.stats, STAT_TX_DROPPED, lost);
}

static void dpdk_flush(struct port_queue *pq)
{
    struct dpdk_queue *q = dpdk_queue_of(pq);
    if (q->burst_n > 0)
        burst_send(q);
}

/* ---- sleeping */

/* The receive queues whose frames may be q's. */
static void rx_span(const struct dpdk_queue *q, uint16_t *from_r, uint16_t *to_r)
{
    bool own = q->d->info.rss;
    *from_r = own ? q->rx : 0;
    *to_r = own ? (uint16_t)(q->rx + 1) : q->d->nb_rx;
}

static bool device_has_frames(struct dpdk_queue *q)
{
    uint16_t i, end;
    if (!q->d->intr_have || atomic_load(&q->d->no_link))
        return false;
    for (rx_span(q, &i, &end); i < end; i++)
        if (rte_eth_rx_queue_count(q->d->id, i) > 0)
            return true;
    return false;
}

static bool frames_wait(struct dpdk_queue *q)
{
    return (q->in && !rte_ring_empty(q->in)) || device_has_frames(q);
}

static bool dpdk_wakes(const struct port_queue *pq)
{
    const struct dpdk_port *d = ((const struct dpdk_queue *)pq)->d;
    return d->intr_have && (!d->intr[0].counts || intr_trusted(&d->trust));
}

/* Takes what eventfds counted. */
static void intr_read(struct dpdk_queue *q)
{
    struct epoll_event e[DPDK_RX_MAX];
    uint64_t count;
    int n = epoll_wait(q->wake_fd, e, DPDK_RX_MAX, 0);
    for (int i = 0; i < n; i++) {
        if (e[i].data.u32 >= DPDK_RX_MAX)
            continue;
        intr_trust_came(&q->d->trust);
        if (q->d->intr[e[i].data.u32].counts && read(q->d->intr[e[i].data.u32].fd, &count, sizeof count) < 0)
            continue; /* another worker took it */
    }
}

static void asleep_no_more(struct dpdk_queue *q)
{
    uint16_t i, end;
    q->armed = false;
    bell_disarm(&q->bell);
    if (!q->d->intr_have)
        return;
    for (rx_span(q, &i, &end); i < end; i++)
        rte_eth_dev_rx_intr_disable(q->d->id, i);
    intr_read(q);
}

/* Every sleeper asks for interrupts, and who wakes turns them off: it polls then for all. */
static int dpdk_arm(struct port_queue *pq)
{
    struct dpdk_queue *q = dpdk_queue_of(pq);
    uint16_t i, end;
    bell_arm(&q->bell);
    q->told = intr_trust_arm(&q->d->trust);
    for (rx_span(q, &i, &end); q->d->intr_have && i < end; i++)
        rte_eth_dev_rx_intr_enable(q->d->id, i);
    q->armed = true;
    if (!frames_wait(q))
        return q->in || q->d->intr_have ? q->wake_fd : -1;
    asleep_no_more(q);
    return -SATCHEL_EAGAIN;
}

static void dpdk_disarm(struct port_queue *pq)
{
    struct dpdk_queue *q = dpdk_queue_of(pq);
    struct dpdk_port *d = q->d;
    if (!q->armed)
        return;
    bool frames = device_has_frames(q);
    asleep_no_more(q);
    if (!d->intr[0].counts || !intr_trust_woke(&d->trust, q->told, frames))
        return;
    bool trusted = intr_trusted(&d->trust);
    if (!atomic_exchange(&d->trust_said[trusted], true))
        log_info("port.interrupts", "device=%s trusted=%d", d->info.name, trusted);
}

static void wake_add(struct dpdk_queue *q, int fd, bool edge, uint32_t what)
{
    struct epoll_event e = {.events = EPOLLIN | (edge ? EPOLLET : 0u), .data.u32 = what};
    if (epoll_ctl(q->wake_fd, EPOLL_CTL_ADD, fd, &e) != 0)
        log_warning("port.wake", "device=%s fd=%d why=\"%s\"", q->d->info.name, fd, satchel_strerror(errno));
}

static int wake_make(struct dpdk_queue *q)
{
    uint16_t i, end;
    q->wake_fd = epoll_create1(EPOLL_CLOEXEC);
    if (q->wake_fd < 0)
        return -errno;
    wake_add(q, q->bell.fd, false, UINT32_MAX);
    for (rx_span(q, &i, &end); q->d->intr_have && i < end; i++)
        wake_add(q, q->d->intr[i].fd, q->d->intr[i].edge, i);
    return 0;
}

/* ---- the port */

static void dpdk_info(const struct port *p, struct port_info *i_r)
{
    const struct dpdk_port *d = (const struct dpdk_port *)p;
    *i_r = d->info;
    i_r->link_up = dpdk_link_up(d);
    i_r->rx_interrupt = dpdk_wakes(&d->queues[0].q);
    i_r->buffers_used = rte_mempool_in_use_count(d->pool);
}

static struct port_queue *dpdk_queue(struct port *p, uint32_t i)
{
    struct dpdk_port *d = (struct dpdk_port *)p;
    return i < d->info.queues ? &d->queues[i].q : NULL;
}

static uint32_t dpdk_device_stats(struct port *p, char (*names_r)[64], uint64_t *values_r, uint32_t cap)
{
    struct dpdk_port *d = (struct dpdk_port *)p;
    int n = rte_eth_xstats_get(d->id, NULL, 0);
    if (n <= 0)
        return 0;
    struct rte_eth_xstat *v = calloc((size_t)n, sizeof *v);
    struct rte_eth_xstat_name *names = calloc((size_t)n, sizeof *names);
    uint32_t got = 0;
    if (v && names && rte_eth_xstats_get_names(d->id, names, (unsigned)n) == n &&
        rte_eth_xstats_get(d->id, v, (unsigned)n) == n)
        for (; got < (uint32_t)n && got < cap; got++) {
            snprintf(names_r[got], sizeof names_r[got], "%s", names[v[got].id].name);
            values_r[got] = v[got].value;
        }
    free(v);
    free(names);
    return got;
}

static void queue_close(struct dpdk_queue *q)
{
    struct rte_mbuf *m;
    rte_pktmbuf_free_bulk(q->burst, q->burst_n);
    while (q->in && rte_ring_dequeue(q->in, (void **)&m) == 0)
        rte_pktmbuf_free(m);
    rte_ring_free(q->in);
    if (q->wake_fd >= 0)
        close(q->wake_fd);
    bell_destroy(&q->bell);
}

static void dpdk_close(struct port **p)
{
    struct dpdk_port *d = (struct dpdk_port *)*p;
    *p = NULL;
    if (!d)
        return;
    dpdk_link_unwatch(d);
    for (uint32_t i = 0; i < d->info.queues; i++)
        queue_close(&d->queues[i]);
    dpdk_dev_close(d);
    free(d);
}

static const struct port_ops dpdk_ops = {
    .rx = dpdk_rx,
    .free = dpdk_free,
    .alloc = dpdk_alloc,
    .send = dpdk_send,
    .drop = dpdk_drop,
    .flush = dpdk_flush,
    .arm = dpdk_arm,
    .disarm = dpdk_disarm,
    .wakes = dpdk_wakes,
    .info = dpdk_info,
    .queue = dpdk_queue,
    .device_stats = dpdk_device_stats,
    .close = dpdk_close,
};

static int queue_open(struct dpdk_port *d, uint32_t i)
{
    struct dpdk_queue *q = &d->queues[i];
    char name[RTE_RING_NAMESIZE];
    *q = (struct dpdk_queue){.q = {.port = &d->p, .index = i}, .d = d, .wake_fd = -1};
    q->rx = d->info.rss ? (uint16_t)i : 0;
    q->tx = (uint16_t)(i % d->nb_tx);
    int res = bell_init(&q->bell);
    if (res == 0 && d->info.queues > 1) {
        snprintf(name, sizeof name, "satchel_%u_%u", d->id, i);
        q->in = rte_ring_create(name, DPDK_RING, SOCKET_ID_ANY, RING_F_SC_DEQ);
        res = q->in ? 0 : -SATCHEL_ENOMEM;
    }
    return res == 0 ? wake_make(q) : res;
}

bool port_dpdk_built(void)
{
    return true;
}

int port_dpdk_open(struct port **p_r, const struct port_dpdk_config *cfg, char *why_r)
{
    struct dpdk_port *d = NULL;
    if (cfg->queues == 0 || cfg->queues > DPDK_QUEUES_MAX)
        return dpdk_fail(-SATCHEL_EINVAL, why_r, "expected 1 to 64", "%u queues", cfg->queues);
    int res = dpdk_eal_start(cfg, why_r);
    if (res < 0)
        return res;
    if (posix_memalign((void **)&d, RTE_CACHE_LINE_SIZE, sizeof *d) != 0)
        return dpdk_fail(-SATCHEL_ENOMEM, why_r, "give the machine more", "no memory");
    memset(d, 0, sizeof *d);
    d->p.ops = &dpdk_ops;
    res = dpdk_dev_open(d, cfg, why_r);
    if (res < 0) {
        free(d);
        return res;
    }
    for (uint32_t i = 0; res == 0 && i < cfg->queues; i++)
        res = queue_open(d, i);
    *p_r = &d->p;
    if (res < 0) {
        dpdk_close(p_r);
        return dpdk_fail(res, why_r, "give the machine more memory or descriptors", "no queue for a worker: %s",
                         satchel_strerror(res));
    }
    dpdk_link_watch(d);
    return 0;
}
