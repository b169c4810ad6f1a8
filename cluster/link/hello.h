/* hello.h - the frame that opens a link, and answers: who we are, and why the other side is refused.
 *
 *   payload: cluster[16] storage[16] | u32 proto | u32 proto_min | u64 boot | u64 wall clock, us
 *            | u8 n, name[n] | u16 n, reason[n]            newer versions append
 *
 *   dialer                     acceptor
 *     HELLO  ------------------>  judges
 *     judges <------------------  HELLO, reason empty: accepted
 *     HELLO, reason empty ----->  up
 *   A HELLO with a reason is a refusal, and the last frame of its sender. */
#pragma once
#include "cluster/link/peers.h"
#include "cluster/link/why.h"

#define HELLO_PAYLOAD_MAX 4096 /* of a newer version; ours is smaller */

struct hello {
    struct peer_hello who;
    char reason[WHY_MAX]; /* printable */
};

/* One reference; NULL: no memory.  reason: "" accepts. */
struct fbuf *hello_frame(const struct peer_hello *us, const char *reason);
/* 0, or -SATCHEL_EINVAL: cut short, or a name that is none. */
int hello_parse(struct slice payload, struct hello *h_r);
/* Whether two nodes can be linked at all: cluster, protocol, not ourselves.  why_r: WHY_MAX bytes, a sentence
 * that both operators can act on. */
bool hello_agrees(const struct peer_hello *us, const struct peer_hello *they, char *why_r);
