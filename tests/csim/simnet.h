/* simnet.h - the network between the nodes of the simulated world, against cluster/link/peers.h.
 *
 * Between two nodes there is at most one link: an ordered stream of frames each way, with latency, bandwidth and a
 * bounded buffer; nothing of it is lost while it stands.  It ends by a reset, by the death of an end, or when one
 * direction has been silent for too long (cut, paused, without power); frames that had arrived by then may still be
 * read, others are lost.  The two ends see a link come and go at different times. */
#pragma once
#include "cluster/link/peers.h"
#include "tests/csim/world.h"

void simnet_open(struct simnet **n_r, struct world *w);
void simnet_close(struct simnet **n);

/* A node's end, for one life of it; ends with peers->ops->close.  app is copied. */
struct peers *simnet_port(struct simnet *n, uint32_t node, const struct peer_hello *hello, const struct peers_app *app);

/* Both ends see the link, and nothing holds it up: since when; UINT64_MAX: not so. */
uint64_t simnet_linked_us(struct simnet *n, uint32_t a, uint32_t b);

/* ---- faults */
/* What `from` sends to `to` does not arrive. */
void simnet_cut(struct simnet *n, uint32_t from, uint32_t to, bool cut);
void simnet_reset(struct simnet *n, uint32_t a, uint32_t b);
/* The node reads and sends nothing (stopped, or without power). */
void simnet_mute(struct simnet *n, uint32_t node, bool mute);
/* The process ended: its kernel resets its links at once.  Without power (`silent`) nobody is told. */
void simnet_died(struct simnet *n, uint32_t node, bool silent);
