/* tcp.h - TCP (RFC 9293) of one queue: segments in, events and segments out.
 *
 * Thread: its queue's.  No clock, no I/O, no malloc, no callbacks upwards: time is `now_us` (monotonic), memory is what
 * tcp_init got, and what happened is asked for with tcp_event.
 *
 * A turn, always in this order (stack.h wraps it):
 *   1. tcp_input for each segment, tcp_error for each believed ICMP error, tcp_tick for the timers
 *   2. tcp_event until NULL; the owner reads (tcp_peek, tcp_consume), writes, closes: any conn, in any order
 *   3. tcp_settle: what was not consumed is copied out of the frames; from now on frames of this turn may be freed
 *   4. tcp_flush: sends what connections have to say: data, acknowledgements (one for the burst), FIN
 * Answers outside of connections (SYN-ACK, RST, challenge ACK) leave within tcp_input.
 *
 * Receiving.  In-order bytes lie in the frames of this turn, or, when the owner left them in an earlier one or they
 * came out of order, in pages (rxbuf.h).  The owner pauses by not consuming: the window closes by itself and opens
 * again as it consumes (tcp_consume announces it when RFC 9293 3.8.6.2.2 allows).  The window's right edge never moves
 * left.
 *
 * Lifetime.  A conn given by tcp_event(TCP_EV_ACCEPTED) or tcp_connect belongs to the owner until tcp_release, which it
 * calls after TCP_EV_GONE at the latest.  tcp_close: FIN after what is queued; the conn stays until GONE (FIN
 * acknowledged, or given up).  Bytes that come after tcp_close are acknowledged and thrown away, up to linger_bytes;
 * beyond: reset.  After GONE nothing but tcp_release may be called.
 *
 * Size.  struct tcp_conn is at most 256 bytes (asserted); idle, it holds no page, no block, no frame. */
#pragma once
#include "dataplane/tcp/addr.h"
#include "dataplane/tcp/frame.h"
#include "dataplane/tcp/ip.h"
#include "dataplane/tcp/stats.h"
#include "spool/base/slice.h"

struct tcp;
struct tcp_conn;
struct guard;

#define TCP_PAGE_BYTES    4096u
#define TCP_TXBLOCK_BYTES 512u
#define TCP_LISTEN_MAX    16u

struct tcp_config {
    uint32_t conns_max;      /* connections at once */
    uint32_t conn_bytes;     /* of one connection's object: struct tcp_conn first, the owner's state behind it; at least
                                tcp_conn_bytes(),     zeroed when handed out */
    uint32_t ahead_bytes;    /* of it, from its beginning, what TCP and the owner look at when bytes come: tcp_ahead */
    uint32_t syns_max;       /* handshakes under way at once; 65536 */
    uint32_t time_waits_max; /* 32 bytes each; the oldest go first when full; 65536 */
    uint32_t pages_max;      /* for received bytes that wait; the memory budget */
    uint32_t txblocks_max;   /* for bytes sent and not acknowledged */
    uint32_t window_bytes;   /* receive window of one connection; 65536 by default, up to 1 MiB */
    uint32_t send_bytes;     /* tcp_write takes no more than this unacknowledged; 256 KiB */
    bool syn_cookies;        /* when syns_max are under way; true */
    bool ecn;                /* accept ECN when asked for (RFC 3168); true */
    bool sack, timestamps;   /* accept them; true */
    /* Milliseconds. */
    uint32_t rto_min_ms, rto_max_ms; /* 200, 60000 (RFC 6298 says 1 s; Linux and others 200 ms: docs/dpdk.md) */
    uint32_t delack_ms;              /* 40; at most 500 (RFC 9293 3.8.6.3); 0: with the flush */
    uint32_t syn_life_ms;    /* from the first SYN: 15000; SYN-ACK goes out at most 4 times: at once, after 1, 3, 7 s */
    uint32_t r2_ms;          /* an unanswered retransmission aborts after: 100000 at least (RFC 9293 3.8.3) */
    uint32_t fin_wait2_ms;   /* 60000 */
    uint32_t time_wait_ms;   /* 60000 */
    uint32_t zero_window_ms; /* a peer whose window stays shut this long is given up: 600000 */
    uint32_t linger_bytes;   /* 65536 */
    uint32_t rst_per_s,
        challenge_per_s; /* resets for unknown segments: 1000; challenge ACKs of one connection: 10 (RFC 5961 7) */
};
extern const struct tcp_config tcp_config_default;

/* Segments leave through this. */
struct tcp_out {
    bool (*alloc)(void *ctx, struct frame *f_r);
    /* f->p at the TCP header, checksum 0. Takes the frame. */
    void (*send)(void *ctx, struct frame *f, const struct ip_route *to);
    uint16_t (*mtu)(void *ctx, const struct ip_addr *dst);
    void *ctx;
};

enum {
    TCP_EV_ACCEPTED = 1,  /* a new connection; tcp_conn_peer and tcp_conn_local say whose */
    TCP_EV_CONNECTED = 2, /* tcp_connect succeeded */
    TCP_EV_READABLE = 4,  /* tcp_peek has bytes */
    TCP_EV_FIN = 8,       /* the peer will say no more; bytes before it may wait to be read */
    TCP_EV_ACKED = 16,    /* unacknowledged bytes became fewer: tcp_want_acked */
    TCP_EV_TIMER = 32,    /* the owner's timer (tcp_timer) ran out */
    TCP_EV_RESET = 64,    /* with GONE: the peer's reset, or refused */
    TCP_EV_TIMEOUT = 128, /* with GONE: the peer does not answer */
    TCP_EV_GONE = 256     /* the end: nothing more will happen */
};

size_t tcp_conn_bytes(void);
size_t tcp_bytes(const struct tcp_config *cfg);
/* mem: tcp_bytes bytes, zeroed (fresh mmap will do: pages are touched when first used), aligned to 64.
 * key: 32 secret random bytes, for the tables, sequence numbers (RFC 6528) and cookies.  guard may be NULL (no
 * defences). 0, -SATCHEL_EINVAL. */
int tcp_init(struct tcp **t_r, void *mem, const struct tcp_config *cfg, const struct tcp_out *out, struct guard *guard,
             struct stats *stats, const uint8_t key[32], uint64_t now_us);
/* On all our addresses. -SATCHEL_EFULL. */
int tcp_listen(struct tcp *t, uint16_t port);
/* No new connections; handshakes under way are forgotten. */
void tcp_listen_stop(struct tcp *t);

/* With many connections nothing that a segment and its owner will look at is in a cache.  It is fetched before
 * tcp_input, in two rounds for each packet of a burst: the connection is found by what the first one asked for. */
void tcp_ahead_table(struct tcp *t, struct ip_packet *p);
void tcp_ahead_conn(struct tcp *t, struct ip_packet *p);
void tcp_input(struct tcp *t, const struct ip_packet *p, uint64_t now_us);
/* RFC 5927: believed when the sequence number lies in what is unacknowledged. Hard errors end connections that are not
 * yet established only. True: a genuine too-big report, the caller tells ip_mtu_learn; segments are cut again at the
 * next flush. */
bool tcp_error(struct tcp *t, const struct ip_error *e, uint64_t now_us);
void tcp_tick(struct tcp *t, uint64_t now_us);
/* When tcp_tick has something to do; UINT64_MAX: never. */
uint64_t tcp_next_us(const struct tcp *t);
/* The next conn to which something happened, with TCP_EV_* since the last time; NULL: none left. Each is given once a
 * round. */
struct tcp_conn *tcp_event(struct tcp *t, uint32_t *events_r);
void tcp_settle(struct tcp *t);
void tcp_flush(struct tcp *t, uint64_t now_us);
/* Something waits for tcp_flush or tcp_event: do not sleep. */
bool tcp_busy(const struct tcp *t);

/* ---- a connection */

/* Active open (the load generator's, and tests'). NULL: tables full, or an address that nobody can have. port 0: any.
 */
struct tcp_conn *tcp_connect(struct tcp *t, uint8_t local, uint16_t port, const struct ip_addr *peer,
                             uint16_t peer_port, uint64_t now_us);
/* The longest contiguous run of unread bytes in order; empty: none. */
struct slice tcp_peek(struct tcp *t, struct tcp_conn *c);
void tcp_consume(struct tcp *t, struct tcp_conn *c, size_t n);
/* Copies; sent at the flush. Returns how many were taken: fewer when the connection's or the pool's limit is reached. 0
 * after tcp_close. */
size_t tcp_write(struct tcp *t, struct tcp_conn *c, struct slice data);
/* TCP_EV_ACKED the next time, once: most owners have nothing to do with it most of the time. */
void tcp_want_acked(struct tcp_conn *c);
/* Written and not acknowledged. */
uint32_t tcp_unacked(const struct tcp_conn *c);
void tcp_close(struct tcp *t, struct tcp_conn *c);
/* RST now; GONE follows by tcp_event. */
void tcp_abort(struct tcp *t, struct tcp_conn *c);
void tcp_release(struct tcp *t, struct tcp_conn *c);
/* One timer a connection, the owner's; replaces an earlier one; 0 stops it. Up to 2 hours. */
void tcp_timer(struct tcp *t, struct tcp_conn *c, uint64_t in_us);
void tcp_conn_peer(const struct tcp_conn *c, struct ip_addr *addr_r, uint16_t *port_r);
void tcp_conn_local(const struct tcp_conn *c, uint8_t *local_r, uint16_t *port_r);
/* True bytes of memory that it holds beyond its object: pages and blocks. */
uint32_t tcp_conn_held(const struct tcp *t, const struct tcp_conn *c);
/* Of them, those of received bytes. */
uint32_t tcp_conn_pages_held(const struct tcp *t, const struct tcp_conn *c);
/* "ESTABLISHED" ... (RFC 9293 3.3.2); static storage. */
const char *tcp_conn_state(const struct tcp_conn *c);
/* Visits all connections, for `port show` and eviction; false from visit ends it. The table may not change meanwhile.
 */
void tcp_conns(struct tcp *t, bool (*visit)(void *ctx, struct tcp_conn *c), void *ctx);
