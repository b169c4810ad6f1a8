/* wire_user.h - a wire over a port's queue and our own TCP: the generator beside the kernel (wire.h).
 *
 * A connection's local port and address come from a counter that goes round all of them, addresses fastest, so that a
 * pair is used again only after 64,512 connections from each address; it starts anywhere, for the other side may
remember the last run's in TIME-WAIT.  The queue is polled; after a while without work
 * it sleeps as the front-end does. */
#pragma once
#include "bench/lib/wire.h"
#include "dataplane/net/port.h"
#include "dataplane/tcp/stack.h"

struct wire_user_config {
    struct port_queue *queue; /* the port stays the caller's */
    struct ip_prefix addrs[IP_ADDRS_MAX];
    uint8_t addrs_n;
    struct ip_addr gateway; /* all zero: none */
    struct ip_addr target;
    uint16_t target_port;
    uint32_t conns_max;
    uint32_t delack_ms;  /* tcp_config's */
    uint32_t idle_polls; /* turns in which nothing comes before it sleeps */
};

/* NULL: why_r (256 bytes).  Opened, it has found its neighbour, or waited for it in vain for 3 s. */
struct wire *wire_user_open(const struct wire_user_config *cfg, char *why_r);
const struct stats *wire_user_stats(const struct wire *w);
