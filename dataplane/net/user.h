/* user.h - the transport over a port's queue and our own TCP/IP (dataplane/tcp): what kernel.c is over sockets.
 *
 * One turn is one burst, run to completion: frames in, the stack, what happened given to the app, the app's doors,
 * frames out.  A queue with traffic is polled without a pause and without system calls; after `idle_polls` turns in
 * which nothing happened it sleeps until the port, a watched descriptor, a wake or the next deadline wakes it.
 *
 * Early talkers (`early_talker_ms`): SMTP's server speaks first.  Who speaks within that time of the handshake is no
 * mail server; it gets one line of 554 and never a session, after `tarpit_ms` in which nothing it says is kept.
 *
 * Memory.  Everything that grows with the number of connections is one mapping made by transport_user_open, and
 * touched as it is used.  When the pages for received bytes run short (80 %), the connections that made least of what
 * they hold are reset; never one whose app has paused it: it has said all of a message, and waits for our answer.
 *
 * Thread: as transport.h says; transport_user_call from any other thread. */
#pragma once
#include "dataplane/net/port.h"
#include "dataplane/net/transport.h"
#include "dataplane/tcp/stack.h"

#define USER_WHY_MAX 512

struct user_config {
    struct port_queue *queue; /* the port stays the caller's and outlives the transport */
    struct stats *stats;      /* of this queue, zeroed; likewise */
    /* MAC, offloads and conn_bytes are filled in from the port; an mtu above the port's is cut to it; conns_max is made
     * of max_conns. */
    struct stack_config stack;
    uint16_t ports[TCP_LISTEN_MAX]; /* served on all addresses */
    uint32_t ports_n;
    uint32_t max_conns;       /* above it: "421 4.3.2 Too many connections" */
    uint32_t early_talker_ms; /* 0: the greeting comes at once */
    uint32_t tarpit_ms;       /* 0: early talkers are refused at once; at most one in 8 of max_conns waits so */
    uint32_t idle_polls;      /* turns without work before sleeping; 0: never sleep; 2000 */
};
/* Everything but queue, stats, ports and stack.ip.addrs. */
void user_config_default(struct user_config *cfg_r);

/* 0; -SATCHEL_EINVAL, -SATCHEL_ENOMEM with why_r (USER_WHY_MAX). */
int transport_user_open(struct transport **t_r, const struct user_config *cfg, const struct transport_app *app,
                        char *why_r);

/* Runs fn(arg, stack) on the transport's thread, between two turns, and waits for it; when run() is over, or has not
 * begun, at once on the caller's. Not from the transport's own thread, nor beside open and destroy. */
void transport_user_call(struct transport *t, void (*fn)(void *arg, struct stack *s), void *arg);

/* Bytes of memory that the transport has mapped for its stack, and bytes of one connection in it. */
size_t transport_user_mapped(const struct transport *t);
size_t transport_user_conn_bytes(const struct transport *t);
