/* isn.c - initial sequence numbers (RFC 6528) and where clocks of timestamps begin (RFC 7323 5.4).
 *
 * ISN = M + F(tuple, secret): M counts 4 microseconds, so numbers of one tuple go up (RFC 9293 3.4.1, MUST-8), and F
 * says nothing of other tuples to who does not know the key.  F has 64 bits: the halves say nothing of each other, so
 * the clock's beginning is the other one. */
#include "dataplane/tcp/tcp_in.h"

uint32_t tcp_isn(struct tcp *t, const struct tcp_tuple *k, uint32_t *ts_offset_r)
{
    uint64_t secret = tuple_secret(t->key_isn, k, 0);
    *ts_offset_r = (uint32_t)(secret >> 32);
    return (uint32_t)(t->now_us / 4) + (uint32_t)secret;
}

uint32_t tcp_ts_offset(struct tcp *t, const struct tcp_tuple *k)
{
    return (uint32_t)(tuple_secret(t->key_isn, k, 0) >> 32);
}
