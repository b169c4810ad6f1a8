/* tcp_send.h - what the files of TCP's sending half say to each other: txq.c, sack.c, ack.c, cong.c, rto.c, output.c,
 * timers.c, connect.c.
 *
 * Numbers of a connection: snd_una .. snd_nxt was sent in this flight, snd_nxt .. tx_end waits, then comes the FIN.
 * snd_nxt goes back to snd_una when all that is out has to be sent again (a timeout, a narrower path) and stays there
 * while a shut window is probed; snd_max never goes back. */
#pragma once
#include "dataplane/tcp/tcp_in.h"

#define TCP_DUP_THRESH 3u /* RFC 5681 3.2, RFC 6675 2 */

/* ---- time: 0 stands for no deadline */
static inline bool tcp_due(const struct tcp *t, uint32_t at)
{
    return at && seq_leq(at, t->now_ms);
}

/* ---- the stream */
/* Behind the last byte written: the FIN's number, if one follows. */
static inline uint32_t conn_tx_end(const struct tcp_conn *c)
{
    return c->snd_una + c->tx_bytes;
}
/* Something has not been sent in this flight. */
static inline bool conn_waits(const struct tcp_conn *c)
{
    return c->snd_nxt != conn_tx_end(c) + !!(c->flags & CF_FIN_QUEUED);
}

/* The window is no longer shut: what is out has a retransmission timer again, what is not has none. */
static inline void conn_persist_end(struct tcp_conn *c)
{
    c->flags &= ~(uint32_t)CF_PERSIST;
    c->rtx_at = c->life_at = 0;
    c->rtx_n = 0;
}

/* ---- conn.c */
/* Off the list ON_*; false: it was released meanwhile. */
bool conn_unlist(struct tcp *t, struct tcp_conn *c, uint8_t list);

/* ---- txq.c: its blocks serve scoreboards too */
/* TCP_NONE: none left. */
uint32_t txblock_take(struct tcp *t);
void txblock_give(struct tcp *t, uint32_t block);
void *txblock_at(const struct tcp *t, uint32_t block);
/* Bytes of memory that the blocks of c take, the scoreboard's too. */
uint32_t txq_held(const struct tcp_conn *c);

/* ---- sack.c (RFC 2018, RFC 6675): what the peer reported beyond snd_una, in at most 63 ranges.  Whatever comes, it
 * says nothing about what was not sent.  Without a block to be had nothing is remembered. */
/* Blocks of s that may be true; returns how many bytes are new among them. */
uint32_t sb_note(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s);
/* snd_una moved. */
void sb_trim(struct tcp *t, struct tcp_conn *c);
void sb_drop(struct tcp *t, struct tcp_conn *c);
/* Bytes reported below seq. */
uint32_t sb_below(const struct tcp *t, const struct tcp_conn *c, uint32_t seq);
bool sb_has(const struct tcp *t, const struct tcp_conn *c, uint32_t seq);
/* In recovery: bytes that are neither reported nor lost, and those sent again (RFC 6675 4, SetPipe). */
uint32_t sb_pipe(const struct tcp *t, const struct tcp_conn *c);
/* The first byte missing is lost: enough was reported beyond it (RFC 6675 4, IsLost). */
bool sb_first_lost(const struct tcp *t, const struct tcp_conn *c);
/* The first run at or behind `from` that the peer has not reported, below the highest that it has; only when it is
 * lost, if asked so. */
bool sb_hole(const struct tcp *t, const struct tcp_conn *c, uint32_t from, bool lost, struct tcp_range *r_r);
/* Moves *seq out of what was reported; returns how many bytes from there on were not: UINT32_MAX: none above it was. */
uint32_t sb_skip(const struct tcp *t, const struct tcp_conn *c, uint32_t *seq);

/* ---- cong.c */
/* Bytes thought to be in the network. */
uint32_t cong_under_way(const struct tcp *t, const struct tcp_conn *c);
/* n bytes were acknowledged for the first time. */
void cong_acked(struct tcp *t, struct tcp_conn *c, uint32_t n);
/* A duplicate (RFC 5681 2), or one that reports something new (RFC 6675 2): may begin the recovery. */
void cong_duplicate(struct tcp *t, struct tcp_conn *c);
/* ECE came with an acknowledgement of `ack`, which is not yet taken. */
void cong_ece(struct tcp_conn *c, uint32_t ack);
/* The retransmission timer ran out: all is to be sent again, slowly. */
void cong_timeout(struct tcp *t, struct tcp_conn *c);
/* Nothing is under way and something is to be sent: RFC 5681 4.1. */
void cong_restart(struct tcp *t, struct tcp_conn *c);

/* ---- rto.c */
/* [seq, end) leaves; snd_max is as it was before. */
void rto_sent(struct tcp *t, struct tcp_conn *c, uint32_t seq, uint32_t end);
/* s acknowledges something new. */
void rto_acked(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s);
/* The scoreboard has something new. */
void rto_reported(struct tcp *t, struct tcp_conn *c);
/* Doubled, up to rto_max_ms. */
void rto_back_off(const struct tcp *t, struct tcp_conn *c);
/* Until probe rtx_n + 1 of a shut window. */
uint32_t rto_probe_ms(const struct tcp *t, const struct tcp_conn *c);

/* ---- output.c */
#define OUTPUT_RETRY_MS 10u /* no frame was to be had */
/* One byte, a crumb that fills a tiny window, or the FIN: what a shut window may be asked with. */
void output_probe(struct tcp *t, struct tcp_conn *c);
/* A segment of c is built and given away; n bytes of payload from seq on. *h_r: whatever was said before; flags, seq
 * and ecn are the caller's. False: no frame, counted. */
bool output_segment(struct tcp *t, struct tcp_conn *c, struct tcp_head *h, uint32_t n, uint8_t ecn);
/* The window field that announces `edge`; moves rcv_edge. */
uint16_t output_window(struct tcp_conn *c, uint32_t edge);

/* ---- connect.c */
/* SYN or SYN-ACK, when it is due. */
void connect_output(struct tcp *t, struct tcp_conn *c);
