/* port_mem.c - two ports joined by a wire in memory.
 *
 * Each frame is a malloc of its own, exactly as long as what may be written to it, so that a sanitizer sees a step
 * beyond.  Queue i of one port speaks with queue i of the other; frames that every queue must see (ip_frame_shared) are
 * copied to all.  A ring that is full drops, as a wire does.
 *
 * Thread: each queue may have a thread of its own; a ring is a list under a lock, since any queue may send to it. */
#include "dataplane/net/port.h"
#include "dataplane/tcp/ip.h"
#include "spool/base/bell.h"
#include "spool/base/err.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEM_MTU  1500u
#define MEM_ROOM (MEM_MTU - 20) /* of a frame to send: a packet without its smallest header */

struct mem_frame {
    struct mem_frame *next;
    uint32_t at, n;  /* what is filled of bytes */
    uint8_t bytes[]; /* FRAME_HEADROOM, then the room */
};

struct mem_ring {
    pthread_mutex_t lock;
    struct mem_frame *head, *tail;
    uint32_t n;
    struct bell bell;
};

struct mem_queue {
    struct port_queue q; /* first: the caller's handle */
    struct mem_port *port;
    struct mem_ring in;
    struct mem_frame *burst, *burst_tail; /* sent, not flushed */
};

struct mem_port {
    struct port p; /* first: the caller's handle */
    struct mem_port *other;
    uint32_t queues_n, ring_frames;
    uint8_t mac_last;
    struct mem_queue queues[];
};

static struct mem_queue *mem_queue_of(struct port_queue *q)
{
    return (struct mem_queue *)q;
}

/* ---- frames */

static struct mem_frame *mem_frame_new(uint32_t room)
{
    struct mem_frame *m = malloc(sizeof *m + FRAME_HEADROOM + room);
    if (m)
        *m = (struct mem_frame){.at = FRAME_HEADROOM};
    return m;
}

static struct mem_frame *mem_frame_copy(const struct mem_frame *m)
{
    struct mem_frame *c = mem_frame_new(m->n);
    if (c) {
        c->n = m->n;
        memcpy(c->bytes + c->at, m->bytes + m->at, m->n);
    }
    return c;
}

static bool mem_alloc(struct port_queue *q, struct frame *f_r)
{
    struct mem_frame *m = mem_frame_new(MEM_ROOM);
    (void)q;
    if (m)
        *f_r = (struct frame){.p = m->bytes + m->at, .room = MEM_ROOM, .buf = m};
    return m != NULL;
}

static void mem_drop(struct port_queue *q, struct frame *f)
{
    (void)q;
    free(f->buf);
}

static void mem_free(struct port_queue *q, struct frame *f, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        mem_drop(q, &f[i]);
}

/* ---- the wire */

static bool ring_put(struct mem_ring *r, struct mem_frame *m, uint32_t max)
{
    pthread_mutex_lock(&r->lock);
    bool fits = r->n < max;
    if (fits) {
        m->next = NULL;
        if (r->head)
            r->tail->next = m;
        else
            r->head = m;
        r->tail = m;
        r->n++;
    }
    pthread_mutex_unlock(&r->lock);
    if (fits)
        bell_ring(&r->bell);
    return fits;
}

static struct mem_frame *ring_take(struct mem_ring *r)
{
    pthread_mutex_lock(&r->lock);
    struct mem_frame *m = r->head;
    if (m) {
        r->head = m->next;
        r->n--;
    }
    pthread_mutex_unlock(&r->lock);
    return m;
}

static void wire_put(struct mem_queue *from, struct mem_queue *to, struct mem_frame *m)
{
    uint32_t n = m->n;
    if (ring_put(&to->in, m, to->port->ring_frames)) {
        stat_add(from->q.stats, STAT_TX_FRAMES, 1);
        stat_add(from->q.stats, STAT_TX_BYTES, n);
    } else {
        stat_add(from->q.stats, STAT_TX_DROPPED, 1);
        free(m);
    }
}

static void wire_send(struct mem_queue *from, struct mem_frame *m)
{
    struct mem_port *other = from->port->other;
    struct frame f = {.p = m->bytes + m->at, .n = m->n};
    for (uint32_t i = 0; i < other->queues_n && ip_frame_shared(&f); i++) {
        struct mem_frame *copy = i == from->q.index ? NULL : mem_frame_copy(m);
        if (copy && !ring_put(&other->queues[i].in, copy, other->ring_frames))
            free(copy);
    }
    wire_put(from, &other->queues[from->q.index], m);
}

static void mem_send(struct port_queue *pq, struct frame *f)
{
    struct mem_queue *q = mem_queue_of(pq);
    struct mem_frame *m = f->buf;
    m->at = (uint32_t)(f->p - m->bytes);
    m->n = f->n;
    m->next = NULL;
    if (q->burst)
        q->burst_tail->next = m;
    else
        q->burst = m;
    q->burst_tail = m;
}

static void mem_flush(struct port_queue *pq)
{
    struct mem_queue *q = mem_queue_of(pq);
    struct mem_frame *m = q->burst, *next;
    q->burst = NULL;
    for (; m; m = next) {
        next = m->next;
        wire_send(q, m);
    }
}

static uint32_t mem_rx(struct port_queue *pq, struct frame *f_r, uint32_t n)
{
    struct mem_queue *q = mem_queue_of(pq);
    struct mem_frame *m;
    uint32_t got = 0;
    for (; got < n && (m = ring_take(&q->in)) != NULL; got++) {
        f_r[got] = (struct frame){.p = m->bytes + m->at, .n = m->n, .buf = m};
        stat_add(pq->stats, STAT_RX_BYTES, m->n);
    }
    stat_add(pq->stats, STAT_POLLS, 1);
    stat_add(pq->stats, STAT_POLLS_BUSY, got > 0);
    stat_add(pq->stats, STAT_RX_FRAMES, got);
    return got;
}

/* ---- sleeping */

static int mem_arm(struct port_queue *pq)
{
    struct mem_ring *r = &mem_queue_of(pq)->in;
    bell_arm(&r->bell);
    pthread_mutex_lock(&r->lock);
    bool waiting = r->n > 0;
    pthread_mutex_unlock(&r->lock);
    if (!waiting)
        return r->bell.fd;
    bell_disarm(&r->bell);
    return -SATCHEL_EAGAIN;
}

static void mem_disarm(struct port_queue *pq)
{
    bell_disarm(&mem_queue_of(pq)->in.bell);
}

static bool mem_wakes(const struct port_queue *pq)
{
    (void)pq;
    return true;
}

/* ---- the port */

static void mem_info(const struct port *p, struct port_info *i_r)
{
    const struct mem_port *m = (const struct mem_port *)p;
    *i_r = (struct port_info){.mac = {2, 0, 0, 0, 0, m->mac_last},
                              .mtu = MEM_MTU,
                              .queues = m->queues_n,
                              .rx_queues = m->queues_n,
                              .tx_queues = m->queues_n,
                              .rss = true,
                              .rx_interrupt = true,
                              .link_up = true,
                              .driver = "memory"};
    snprintf(i_r->name, sizeof i_r->name, "memory%u", m->mac_last);
}

static struct port_queue *mem_queue(struct port *p, uint32_t i)
{
    struct mem_port *m = (struct mem_port *)p;
    return i < m->queues_n ? &m->queues[i].q : NULL;
}

static uint32_t mem_device_stats(struct port *p, char (*names_r)[64], uint64_t *values_r, uint32_t cap)
{
    (void)p;
    (void)names_r;
    (void)values_r;
    (void)cap;
    return 0; /* no device below it counts */
}

static void mem_queue_close(struct mem_queue *q)
{
    struct mem_frame *m, *next;
    for (m = q->burst; m; m = next) {
        next = m->next;
        free(m);
    }
    while ((m = ring_take(&q->in)) != NULL)
        free(m);
    bell_destroy(&q->in.bell);
    pthread_mutex_destroy(&q->in.lock);
}

/* The wire goes with the second of its ends: until then the other may go on sending. */
static void mem_close(struct port **p)
{
    struct mem_port *m = (struct mem_port *)*p;
    *p = NULL;
    if (!m)
        return;
    m->p.ops = NULL;
    struct mem_port *other = m->other;
    if (other->p.ops)
        return;
    for (uint32_t i = 0; i < m->queues_n; i++) {
        mem_queue_close(&m->queues[i]);
        mem_queue_close(&other->queues[i]);
    }
    free(other);
    free(m);
}

static const struct port_ops mem_ops = {
    .rx = mem_rx,
    .free = mem_free,
    .alloc = mem_alloc,
    .send = mem_send,
    .drop = mem_drop,
    .flush = mem_flush,
    .arm = mem_arm,
    .disarm = mem_disarm,
    .wakes = mem_wakes,
    .info = mem_info,
    .queue = mem_queue,
    .device_stats = mem_device_stats,
    .close = mem_close,
};

static struct mem_port *mem_port_new(uint32_t queues, uint32_t ring_frames, uint8_t mac_last)
{
    struct mem_port *m = calloc(1, sizeof *m + queues * sizeof m->queues[0]);
    if (!m)
        return NULL;
    m->p.ops = &mem_ops;
    m->ring_frames = ring_frames;
    m->mac_last = mac_last;
    for (; m->queues_n < queues; m->queues_n++) {
        struct mem_queue *q = &m->queues[m->queues_n];
        q->q = (struct port_queue){.port = &m->p, .index = m->queues_n};
        q->port = m;
        pthread_mutex_init(&q->in.lock, NULL);
        if (bell_init(&q->in.bell) != 0)
            break;
    }
    return m;
}

static void mem_port_undo(struct mem_port *m)
{
    for (uint32_t i = 0; m && i < m->queues_n; i++) {
        bell_destroy(&m->queues[i].in.bell);
        pthread_mutex_destroy(&m->queues[i].in.lock);
    }
    free(m);
}

int port_mem_open(struct port **a_r, struct port **b_r, uint32_t queues, uint32_t ring_frames)
{
    struct mem_port *a = mem_port_new(queues, ring_frames, 1), *b = mem_port_new(queues, ring_frames, 2);
    if (!a || !b || a->queues_n < queues || b->queues_n < queues) {
        mem_port_undo(a);
        mem_port_undo(b);
        return -SATCHEL_ENOMEM;
    }
    a->other = b;
    b->other = a;
    *a_r = &a->p;
    *b_r = &b->p;
    return 0;
}
