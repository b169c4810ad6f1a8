/* tcp_impl.h - inside TCP.  Nobody outside dataplane/tcp and its unit tests includes this.
 *
 * Who does what:
 *   tcp.c       making, listening, tcp_input -> which kind of thing is this segment for, events, settle, flush
 *   seg.c       a segment parsed (bounded) and built
 *   table.c     tuple -> connection, handshake or TIME-WAIT record: one lookup a segment
 *   syn.c       handshakes under way, 64 bytes each;  cookie.c when they are too many;  isn.c RFC 6528
 *   conn.c      a connection's birth, states, owner's calls, end
 *   connect.c   active open: SYN-SENT
 *   input.c     RFC 9293 3.10.7.4: acceptability, RST, SYN, ACK, data, FIN
 *   rxbuf.c     received bytes that wait or came out of order: ranges;  rxpage.c their pages
 *   answer.c    segments that belong to no connection
 *   timewait.c  32-byte records
 *   txq.c       bytes sent and to be sent: blocks
 *   ack.c       what an acknowledgement means: una, RTT, window, SACK, loss, congestion
 *   sack.c      what the peer holds beyond una
 *   cong.c      RFC 5681, 6582, 3042, 6675, 3168;  rto.c RFC 6298
 *   output.c    what a connection may send now, and the segments
 *   timers.c    what each deadline does;  twheel.c where they wait
 * What the sending files (txq.c to timers.c) say to each other alone is in tcp_send.h, the receiving ones in tcp_in.h.
 *
 * Times in connections are milliseconds of the stack's clock in 32 bits (tcp.now_ms), compared as sequence numbers are.
 */
#pragma once
#include "dataplane/tcp/guard.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/tcp.h"
#include "dataplane/tcp/twheel.h"

#define TCP_NONE   UINT32_MAX /* no index */
#define TCP_TIMERS 2u         /* entries of a connection in the wheel (timers.c) */

/* RFC 9293 3.3.2, without LISTEN (tcp.ports), SYN-RECEIVED (syn.c) and TIME-WAIT (timewait.c). */
enum tcp_state {
    TCP_FREE,
    TCP_SYN_SENT,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,  /* FIN queued or sent, not acknowledged */
    TCP_FIN_WAIT2,  /* acknowledged; the peer still speaks, we throw away */
    TCP_CLOSE_WAIT, /* the peer's FIN is here, ours is not asked for */
    TCP_CLOSING,    /* both FINs, ours not acknowledged */
    TCP_LAST_ACK,
    TCP_GONE /* over; waits for tcp_event and tcp_release */
};

enum {                      /* tcp_conn.flags */
       CF_TS = 1,           /* timestamps agreed */
       CF_SACK = 2,         /* SACK agreed */
       CF_ECN = 4,          /* ECN agreed */
       CF_ECE_OUT = 8,      /* CE seen: echo ECE until CWR */
       CF_CWR_OUT = 16,     /* our window was cut for ECE: CWR on the next new data */
       CF_ACK_NOW = 32,     /* an acknowledgement leaves at the flush */
       CF_ACK_LATER = 64,   /* ... with delack; at once when delack_n is 2 or more */
       CF_FIN_QUEUED = 128, /* FIN follows the last byte of txq */
       CF_FIN_SENT = 256,
       CF_FIN_IN = 512,       /* the peer's FIN was taken in order; counted in rcv_nxt */
       CF_RTT = 1024,         /* a round trip is being measured (without timestamps): rtt_seq, rtt_at */
       CF_RECOVERY = 2048,    /* in fast recovery until recover */
       CF_RTO = 4096,         /* in recovery by timeout until recover */
       CF_PERSIST = 8192,     /* rtx_at is the persist timer's */
       CF_DISCARD = 16384,    /* after tcp_close: bytes are thrown away */
       CF_WSCALE = 32768,     /* window scaling agreed */
       CF_SYN_IN = 1 << 16,   /* SYN-SENT: the peer's SYN is here, ours not acknowledged (RFC 9293's SYN-RECEIVED) */
       CF_MTU = 1 << 17,      /* the path narrowed: segments are cut again at the flush */
       CF_RTX = 1 << 18,      /* the segment at snd_una is sent again at the flush */
       CF_RTT_SACK = 1 << 20, /* with CF_RTT: only a report of it is a measure, for something before it was repeated */
       CF_WANT_ACKED = 1 << 21, /* TCP_EV_ACKED is asked for */
       CF_SUCCEEDED = 1 << 22,  /* its place in the table is a TIME-WAIT record's */
       CF_LIMITED = 1 << 19     /* the congestion window, not what there is to say, ended the last flush */
};

enum { /* tcp_conn.on: lists it is on */
       ON_EVENTS = 1,
       ON_FLUSH = 2,
       ON_SETTLE = 4
};

/* A run of bytes that arrived out of order. */
struct tcp_range {
    uint32_t start, end;
};

struct tcp_conn {
    /* ---- what every segment looks at */
    struct ip_addr peer;
    uint16_t peer_port, port;           /* host order */
    uint8_t local;                      /* our address, by index */
    uint8_t state;                      /* enum tcp_state */
    uint16_t mss;                       /* payload of a full segment, options taken off */
    uint32_t flags;                     /* CF_* */
    uint32_t rcv_nxt;                   /* all before it was taken (acknowledged at the flush) */
    uint32_t rcv_edge;                  /* right edge of the window announced; never moves left */
    uint32_t acked_in;                  /* rcv_nxt as last sent */
    uint32_t snd_una, snd_nxt, snd_max; /* snd_nxt goes back at a timeout; snd_max does not */
    uint32_t snd_wnd, snd_wl1, snd_wl2; /* peer's window in bytes */
    /* ---- what an acknowledgement looks at beside it */
    uint32_t snd_wnd_max;      /* the largest seen (ack.c) */
    uint32_t ts_recent;        /* RFC 7323 */
    uint32_t ts_offset;        /* of our timestamps: keyed by tuple (RFC 7323 5.4) */
    uint32_t unread;           /* bytes in order that the owner has not consumed; they end at rcv_nxt (less its FIN) */
    uint32_t rx;               /* rxbuf of what is kept; TCP_NONE: nothing */
    uint32_t tx_head, tx_tail; /* txq: indices of blocks; TCP_NONE: empty */
    uint32_t tx_bytes;         /* from snd_una on (without SYN, FIN) */
    uint32_t tx_at;            /* the block read last; TCP_NONE: none */
    uint32_t sb;               /* scoreboard of what the peer holds beyond una (sack.c); TCP_NONE: none */
    uint32_t recover;
    uint32_t rtx_next;      /* with SACK: holes before it were sent again in this recovery (RFC 6675 HighRxt) */
    uint32_t ece_until;     /* the window is not cut for ECE again before this is acknowledged */
    uint16_t tx_off;        /* where in tx_head snd_una stands */
    uint16_t dupacks;       /* without SACK: segments that duplicates say have left */
    uint8_t on;             /* ON_* */
    uint8_t lossy;          /* segments that are acknowledged one by one, after a loss */
    uint8_t rtx_n;          /* retransmissions of the same byte, or probes, in a row */
    uint8_t snd_ws, rcv_ws; /* window scales */
    bool fin_wait;
    uint8_t challenges; /* left in this second (RFC 5961) */
    uint8_t delack_n;   /* full segments not acknowledged */
    /* ---- times, ms, and deadlines; 0 stands for none */
    uint32_t srtt8, rttvar4; /* RFC 6298 in ms, times 8 and 4; 0: no sample yet */
    uint32_t rto;            /* ms, backed off */
    uint32_t rtt_seq, rtt_at;
    uint32_t ts_recent_at, active_at;      /* when ts_recent was taken; when the peer was last heard */
    uint32_t sent_at;                      /* when data last left (RFC 5681 4.1) */
    struct twheel_node timers[TCP_TIMERS]; /* the first at or before rtx_at and ack_at, the other life_at and app_at */
    uint32_t rtx_at, ack_at;               /* retransmit or persist; delayed ACK */
    uint32_t life_at, app_at;              /* FIN-WAIT-2, R2, zero window; the owner's */
    /* ---- what data and the flush look at beside it */
    struct frame *in, *in_last; /* in-order bytes still in frames of this turn, behind what rx holds */
    uint32_t discarded;         /* bytes thrown away after tcp_close */
    uint32_t fin_seq;           /* the peer's FIN came out of order: its sequence number, valid when fin_wait */
    struct tcp_range dsack;     /* to report with the next acknowledgement (RFC 2883); empty: none */
    uint32_t cwnd, ssthresh;
    uint32_t tx_at_seq;                           /* the first byte's number of tx_at */
    uint32_t next_event, next_flush, next_settle; /* lists, by index */
    uint16_t events;                              /* TCP_EV_* not yet given */
    uint16_t mss_peer;                            /* MSS option of the peer, before path MTU */
    uint32_t challenge_s;                         /* which second */
};
#define TCP_CONN_ACK_BYTES offsetof(struct tcp_conn, in)
static_assert(sizeof(struct tcp_conn) <= 256, "a connection must stay small");
static_assert(TCP_CONN_ACK_BYTES == 192, "three lines for an acknowledgement");
static_assert(offsetof(struct tcp_conn, timers) / 64 == offsetof(struct tcp_conn, app_at) / 64, "one for the wheel");

/* ---- a parsed segment */
struct tcp_seg {
    const struct ip_packet *ip;
    uint16_t sport, dport; /* host order */
    uint32_t seq, ack;
    uint16_t flags; /* TH_* */
    uint16_t wnd;   /* as it stands */
    const uint8_t *data;
    uint32_t data_n;
    uint32_t ts_val, ts_ecr;
    uint16_t mss; /* 0: no option */
    uint8_t wscale;
    bool has_ts, has_wscale, sack_ok;
    uint8_t sack_n;
    struct tcp_range sack[4];
};
enum { TH_FIN = 1, TH_SYN = 2, TH_RST = 4, TH_PSH = 8, TH_ACK = 16, TH_URG = 32, TH_ECE = 64, TH_CWR = 128 };

/* Length in sequence space. */
static inline uint32_t tcp_seg_len(const struct tcp_seg *s)
{
    return s->data_n + !!(s->flags & TH_SYN) + !!(s->flags & TH_FIN);
}

/* seg.c: reads within the packet whatever the header says; options by their lengths (RFC 9293 3.2), unknown ones
 * skipped, a malformed one ends the options.  Verifies the checksum unless the port did. 0, or which STAT_DROP_* it is.
 */
int tcp_seg_parse(struct tcp_seg *s, const struct ip_packet *p);
/* What a segment to send says beside its payload, which stands at f->p already. */
struct tcp_head {
    uint16_t sport, dport;
    uint32_t seq, ack;
    uint16_t flags, wnd, urg;
    uint16_t mss;  /* 0: no option */
    int8_t wscale; /* -1: no option */
    bool sack_ok, ts;
    uint32_t ts_val, ts_ecr;
    uint8_t sack_n; /* at most 4, 3 with timestamps */
    struct tcp_range sack[4];
};
/* Pushes the header before the payload; returns its length. */
uint32_t tcp_seg_build(struct frame *f, const struct tcp_head *h);

/* ---- table.c */
struct tcp_tuple {
    struct ip_addr peer;
    uint16_t peer_port, port;
    uint8_t local;
    uint8_t guess; /* where in its bucket the entry may stand: looked at first */
    uint64_t hash; /* in the table; 0: made when asked for */
};
enum tcp_kind { TCP_KIND_NONE, TCP_KIND_CONN, TCP_KIND_SYN, TCP_KIND_TW };
#define TCP_KIND_SHIFT 30u
/* What an entry of the table stands for; 0: nothing. */
static inline uint32_t tcp_ref(enum tcp_kind kind, uint32_t index)
{
    return (uint32_t)kind << TCP_KIND_SHIFT | index;
}
struct tcp_table;

struct tcp {
    struct tcp_config cfg;
    struct tcp_out out;
    struct guard *guard;
    struct stats *stats;
    uint64_t now_us;
    uint32_t now_ms;
    uint8_t key_table[16], key_isn[16], key_cookie[16];
    uint16_t ports[TCP_LISTEN_MAX];
    uint32_t ports_n;
    struct twheel wheel;                        /* deadlines of connections (timers.c) */
    struct tcp_table *table;                    /* table.c */
    struct syns *syns;                          /* syn.c */
    struct tws *tws;                            /* timewait.c */
    struct rxpool *rx;                          /* rxbuf.c */
    struct txpool *tx;                          /* txq.c */
    uint8_t *conns;                             /* cfg.conns_max objects of cfg.conn_bytes */
    uint32_t conn_free, conns_n, conns_touched; /* free list by next_event; those never used follow conns_touched */
    uint32_t events_head, events_tail, flush_head, flush_tail, settle_head;
    uint32_t rst_left, rst_s; /* resets this second */
};

static inline struct tcp_conn *tcp_conn_at(const struct tcp *t, uint32_t i)
{
    return (struct tcp_conn *)(t->conns + (size_t)i * t->cfg.conn_bytes);
}
static inline uint32_t tcp_conn_index(const struct tcp *t, const struct tcp_conn *c)
{
    return (uint32_t)(((const uint8_t *)c - t->conns) / t->cfg.conn_bytes);
}

/* Each module's memory: *_bytes as tcp_bytes sums them (each rounded up to 64), *_init takes its part. */
size_t tcp_table_bytes(const struct tcp_config *cfg);
void tcp_table_init(struct tcp *t, void *mem);
enum tcp_kind tcp_table_find(struct tcp *t, const struct tcp_tuple *k, uint32_t *index_r);
/* False: full. The tuple is not in it yet. */
bool tcp_table_add(struct tcp *t, uint64_t hash, uint32_t ref);
/* The tuple's entry now is another thing (SYN -> connection -> TIME-WAIT). */
void tcp_table_set(struct tcp *t, uint64_t hash, uint32_t was, uint32_t ref);
/* Asks for the line where the entry of a tuple stands. */
void tcp_table_fetch(const struct tcp *t, uint64_t hash);
/* Unless it is another thing already. */
void tcp_table_remove(struct tcp *t, uint64_t hash, uint32_t ref);

/* ---- syn.c, cookie.c, isn.c, timewait.c */
size_t syns_bytes(const struct tcp_config *cfg);
void syns_init(struct tcp *t, void *mem);
/* A SYN for a port that listens, of no known tuple. Asks the guard. */
void syn_new(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k);
/* A segment for a handshake under way: may make a connection, to which the segment is then given (event ACCEPTED,
 * CONN_ACCEPTED). */
void syn_input(struct tcp *t, uint32_t index, const struct tcp_seg *s, const struct tcp_tuple *k);
void syns_tick(struct tcp *t);
uint64_t syns_next_us(const struct tcp *t);
void syns_clear(struct tcp *t);
/* An ACK of no known tuple while cookies are (or lately were) out: true: it was one of ours, and the connection is
 * made. */
bool cookie_input(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k);
/* *ts_offset_r: as tcp_ts_offset says. */
uint32_t tcp_isn(struct tcp *t, const struct tcp_tuple *k, uint32_t *ts_offset_r);
uint32_t tcp_ts_offset(struct tcp *t, const struct tcp_tuple *k);
size_t tws_bytes(const struct tcp_config *cfg);
void tws_init(struct tcp *t, void *mem);
/* c goes to TIME-WAIT: its record takes its place in the table.  hash: of its tuple, 0: not known. */
void tw_enter(struct tcp *t, struct tcp_conn *c, uint64_t hash);
void tw_input(struct tcp *t, uint32_t index, const struct tcp_seg *s, const struct tcp_tuple *k);
void tws_tick(struct tcp *t);
uint64_t tws_next_us(const struct tcp *t);

/* ---- conn.c */
/* A connection for k in state SYN_SENT or ESTABLISHED, in the table, in the place of `was` (a handshake; 0: in one of
 * its own, which it has not yet); NULL: full.
 * Everything zeroed but: tuple, indices TCP_NONE, mss_peer, rto 1 s, active_at. What the handshake agreed is filled in
 * by the caller: flags, numbers, windows, scales; then it calls cong_init. */
struct tcp_conn *conn_new(struct tcp *t, const struct tcp_tuple *k, uint32_t was, enum tcp_state state,
                          uint16_t mss_peer);
/* The one door between states; traces. Entering FIN-WAIT-2 sets life_at. */
void conn_enter(struct tcp *t, struct tcp_conn *c, enum tcp_state s);
/* Over: drops all it holds, takes it out of the table (unless its place is a TIME-WAIT record's already: tw_enter
 * comes first), event GONE | why. Counts by why: TCP_EV_RESET CONN_RESET_IN, TCP_EV_TIMEOUT CONN_TIMEOUT, 0
 * CONN_CLOSED; tcp_abort, which input.c calls as well, counts CONN_RESET_OUT. */
void conn_end(struct tcp *t, struct tcp_conn *c, uint16_t why);
void conn_event(struct tcp *t, struct tcp_conn *c, uint16_t events);
/* To be looked at by tcp_flush. */
void conn_flush_later(struct tcp *t, struct tcp_conn *c);
void conn_settle_later(struct tcp *t, struct tcp_conn *c);
static inline struct tcp_tuple conn_tuple(const struct tcp_conn *c)
{
    return (struct tcp_tuple){.peer = c->peer, .peer_port = c->peer_port, .port = c->port, .local = c->local};
}

/* ---- input.c */
/* In any state but SYN-SENT. */
void conn_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s);
/* Answers a segment of no connection (RFC 9293 3.10.7.1), within rst_per_s and the guard's rate; never an RST.  A
 * stranger's has passed guard_stranger. */
void tcp_send_rst(struct tcp *t, const struct tcp_seg *s);
/* An ACK in answer to something odd, RFC 5961 7: within the connection's limit. */
void conn_challenge(struct tcp *t, struct tcp_conn *c);

/* ---- rxbuf.c: what is kept of the stream from (rcv_nxt - unread) on.  Pages of 4 KiB by position in the stream,
 * ranges of what is there. */
size_t rxpool_bytes(const struct tcp_config *cfg);
void rxpool_init(struct tcp *t, void *mem);
/* In-order bytes in a frame: noted without copying when enough pages could be had to keep them; false: no memory, drop
 * the segment. */
bool rx_in_order(struct tcp *t, struct tcp_conn *c, struct frame *f, const uint8_t *data, uint32_t n);
/* Out of order, within the window: kept; *dup_r: what of it was there already (D-SACK), empty when nothing. False: no
 * memory or too many ranges. */
bool rx_out_of_order(struct tcp *t, struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t n,
                     struct tcp_range *dup_r);
/* rcv_nxt moved: ranges that now are in order join; rcv_nxt and unread move on. (rx_in_order moved them by n.) */
void rx_join(struct tcp *t, struct tcp_conn *c);
/* Ranges to report, latest first; with the D-SACK range, if any, before them (RFC 2883). At most cap. */
uint8_t rx_sack(struct tcp *t, struct tcp_conn *c, struct tcp_range *out_r, uint8_t cap);
void rx_dsack(struct tcp *t, struct tcp_conn *c, struct tcp_range dup);
/* The window's right edge to announce now: at least rcv_edge, never more than memory allows, by whole segments (RFC
 * 9293 3.8.6.2.2), so that the window says it unrounded where it can: the field is (edge - rcv_nxt) >> rcv_ws, one more
 * where the edge would else move left.  The caller sets rcv_edge to what it announced: by rounding at most
 * (1 << rcv_ws) - 1 bytes beyond, for each ACK anew, so that memory has to be asked for when data comes. */
uint32_t rx_edge(struct tcp *t, const struct tcp_conn *c);
/* Would the peer be glad to hear of rx_edge now, with nothing else to say? For tcp_consume: CF_ACK_NOW and
 * conn_flush_later. */
bool rx_edge_news(struct tcp *t, const struct tcp_conn *c);
/* tcp_peek, and the part of tcp_consume that concerns memory: unread falls by n. */
struct slice rx_peek(struct tcp *t, const struct tcp_conn *c);
void rx_consume(struct tcp *t, struct tcp_conn *c, uint32_t n);
/* True bytes of the pages that c holds. */
uint32_t rx_held(const struct tcp *t, const struct tcp_conn *c);
/* Copies what is left in frames into pages. */
void rx_settle(struct tcp *t, struct tcp_conn *c);
/* Pages, ranges and frames of c go; nothing is unread any more (tcp_close, the end). */
void rx_drop(struct tcp *t, struct tcp_conn *c);
/* The shift that says window_bytes in 16 bits. */
static inline uint8_t tcp_wscale(const struct tcp_config *cfg)
{
    uint8_t ws = 0;
    while (cfg->window_bytes >> ws > UINT16_MAX)
        ws++;
    return ws;
}

/* ---- txq.c: blocks of TCP_TXBLOCK_BYTES from snd_una on */
size_t txpool_bytes(const struct tcp_config *cfg);
void txpool_init(struct tcp *t, void *mem);
size_t txq_put(struct tcp *t, struct tcp_conn *c, struct slice data);
/* Copies n bytes from `offset` behind snd_una. */
void txq_read(struct tcp *t, struct tcp_conn *c, uint32_t offset, uint8_t *out, uint32_t n);
void txq_acked(struct tcp *t, struct tcp_conn *c, uint32_t n);
void txq_drop(struct tcp *t, struct tcp_conn *c);

/* ---- ack.c, cong.c, rto.c, output.c, timers.c, connect.c */
enum ack_result { ACK_FINE, ACK_OLD, ACK_FUTURE };
/* s->ack against what was sent (RFC 9293 3.10.7.4 fifth, RFC 5961 5.2: ACK_OLD below una - max window, ACK_FUTURE above
 * snd_max; duplicates are FINE).  When FINE: una, round trip, congestion, peer's window, scoreboard, event ACKED; more
 * may be sendable: conn_flush_later.  *fin_acked_r: our FIN is acknowledged: input.c changes the state. */
enum ack_result ack_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s, bool *fin_acked_r);
/* Of a connection whose flags, snd_una, snd_wnd and mss_peer stand: its mss by the path MTU and its options, the
 * initial window (RFC 6928), and where recovery counts from. */
void cong_init(struct tcp *t, struct tcp_conn *c);
/* A round trip; the handshake's, if it was measured (not repeated), is the first. */
void rto_sample(struct tcp *t, struct tcp_conn *c, uint32_t ms);
/* Sends what may be sent now, or the acknowledgement that is due; ends knowing that nothing is owed. */
void conn_output(struct tcp *t, struct tcp_conn *c);
/* One segment without payload outside of the flush (challenge ACK, RST): flags, seq; with ACK it acknowledges rcv_nxt
 * and announces rcv_edge as they are. What the flush owes stays owed. */
void conn_send_bare(struct tcp *t, struct tcp_conn *c, uint16_t flags, uint32_t seq);
/* The number of a segment without payload: SND.NXT, but within the window, or the peer would not look at it. */
static inline uint32_t conn_bare_seq(const struct tcp_conn *c)
{
    return seq_min(c->snd_max, c->snd_una + c->snd_wnd);
}
/* The path MTU towards c fell or rose. */
void conn_mtu(struct tcp *t, struct tcp_conn *c);
/* A deadline of c (rtx_at, ack_at, life_at, app_at) changed: its entry moves when it must be sooner.  Who is to be
 * flushed is looked at then: most deadlines change more than once until they stand. */
void conn_timer_update(struct tcp *t, struct tcp_conn *c);
void conn_timer_stop(struct tcp *t, struct tcp_conn *c);
void conns_tick(struct tcp *t);
uint64_t conns_next_us(const struct tcp *t);
/* SYN-SENT's input (RFC 9293 3.10.7.3). */
void connect_input(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s);
