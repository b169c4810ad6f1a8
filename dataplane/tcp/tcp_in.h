/* tcp_in.h - what the files of the receiving half share among themselves, beside tcp_impl.h. */
#pragma once
#include "dataplane/tcp/siphash.h"
#include "dataplane/tcp/tcp_impl.h"

/* ---- sequence numbers and time */

/* RFC 9293 3.10.7.4, first: the four cases of acceptability.  What reaches beyond the window on both sides is
 * acceptable as well: cut at both edges it is the segment that the RFC speaks of. */
static inline bool tcp_acceptable(uint32_t nxt, uint32_t wnd, uint32_t seq, uint32_t len)
{
    if (wnd == 0)
        return len == 0 && seq == nxt;
    if (len == 0)
        return seq - nxt < wnd;
    return seq_lt(seq, nxt + wnd) && seq_gt(seq + len, nxt);
}

static inline bool tcp_listens(const struct tcp *t, uint16_t port)
{
    for (uint32_t i = 0; i < t->ports_n; i++)
        if (t->ports[i] == port)
            return true;
    return false;
}

/* The stack's clock when its milliseconds are due_ms; at once when they were. */
static inline uint64_t tcp_due_us(const struct tcp *t, uint32_t due_ms)
{
    if (seq_leq(due_ms, t->now_ms))
        return t->now_us;
    return (t->now_us / 1000 + (due_ms - t->now_ms)) * 1000;
}

/* Never 0, which stands for no deadline. */
static inline uint32_t tcp_in_ms(const struct tcp *t, uint32_t ms)
{
    uint32_t at = t->now_ms + ms;
    return at ? at : 1;
}

static inline size_t tcp_rounded(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* ---- keyed hashes of a tuple */

#define TUPLE_WORDS 4u
static inline void tuple_words(uint64_t w[TUPLE_WORDS], const struct tcp_tuple *k, uint64_t more)
{
    w[0] = k->peer.q[0];
    w[1] = k->peer.q[1];
    w[2] = (uint64_t)k->peer_port << 32 | (uint32_t)k->port << 16 | k->local;
    w[3] = more;
}

/* What the table goes by. */
static inline uint64_t tuple_hash(const struct tcp *t, const struct tcp_tuple *k)
{
    if (k->hash)
        return k->hash;
    uint64_t w[TUPLE_WORDS];
    tuple_words(w, k, 0);
    return siphash(t->key_table, w, TUPLE_WORDS - 1, 1, 3);
}

/* For numbers that the network sees: SipHash-2-4 of the tuple and something more. */
static inline uint64_t tuple_secret(const uint8_t key[16], const struct tcp_tuple *k, uint64_t more)
{
    uint64_t w[TUPLE_WORDS];
    tuple_words(w, k, more);
    return siphash(key, w, TUPLE_WORDS, 2, 4);
}

/* ---- answer.c: segments that belong to no connection */

/* False: no frame (counted). */
bool tcp_answer(struct tcp *t, const struct tcp_tuple *k, const struct tcp_head *h);
/* Does the guard allow another answer to a stranger? */
bool tcp_may_answer(struct tcp *t);
/* MSS to announce towards peer. */
uint16_t tcp_mss_ours(struct tcp *t, const struct ip_addr *peer);
/* What the peer said, or what holds when it said nothing (RFC 9293 3.7.1, MUST-15); tiny ones are raised. */
uint16_t tcp_mss_theirs(const struct tcp_seg *s);

/* ---- syn.c, cookie.c, timewait.c: records by index */

bool syn_is(const struct tcp *t, uint32_t index, const struct tcp_tuple *k);
/* A SYN that takes the place of `was`, a TIME-WAIT record: our number will be above `above`. False: nothing was
 * changed. */
bool syn_reuse(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k, uint32_t was, uint32_t above);
/* A connection whose handshake s completes was made: the owner hears of it, s is its first segment. */
void syn_accepted(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s);

struct cookies;
struct cookies *syns_cookies(const struct tcp *t);
size_t cookies_bytes(const struct tcp_config *cfg);
void cookies_init(const struct tcp *t, struct cookies *o);
/* The SYN is answered, nothing but a note to repeat the answer is kept. The caller asked the guard. */
void cookie_new(struct tcp *t, const struct tcp_seg *s, const struct tcp_tuple *k);
void cookies_tick(struct tcp *t);
uint64_t cookies_next_us(const struct tcp *t);
void cookies_clear(struct tcp *t);

/* The hash of its tuple: a record has no room for the tuple itself. */
uint64_t tw_hash(const struct tcp *t, uint32_t index);

/* ---- rxbuf.c */

/* The window that a SYN-ACK announces, without a scale; one that the scale can say as well. */
uint16_t rx_window_first(const struct tcp *t);
/* Did anything come out of order? */
bool rx_has_gap(const struct tcp *t, const struct tcp_conn *c);
