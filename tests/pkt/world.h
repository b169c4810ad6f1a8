/* world.h - the stack under test with its clock, its link and those who live on it.
 *
 * Link: our host is 192.0.2.1/24 and 2001:db8::1/64; host N is 192.0.2.N and 2001:db8::N with MAC 02:00:00:00:00:N; 254
 * is the gateway.  Time is virtual; nothing happens but by world_turn, which is what a port's loop does. */
#pragma once
#include "dataplane/tcp/stack.h"
#include "tests/pkt/peer.h"
#include "tests/pkt/pkt.h"
#include "tests/pkt/script.h"

#include <stdio.h>

enum { PEERS_MAX = 32, TURN_FRAMES_MAX = 128, TURN_LINES_MAX = 32 };
#define HOST_US      1u
#define HOST_GATEWAY 254u

/* How a script is run. */
struct variant {
    const char *name;
    bool v6, wrap, truncated; /* wrap: sequence numbers, milliseconds and offloads differ; see world.c */
};

struct sent {
    uint64_t at_us;
    uint8_t *bytes;
    struct pkt k;
    struct peer *peer; /* NULL: none of the script's */
    bool taken;        /* a line of the script asked for it */
};

struct world {
    const struct script *script;
    const struct line *line; /* being run */
    struct variant variant;
    bool failed, verbose;
    char *why; /* the failure, several lines */
    FILE *trace;
    char *trace_text;
    size_t trace_n;
    /* ---- the stack */
    struct stack_config cfg;
    struct stack *stack;
    void *mem;
    struct stats stats;
    uint64_t now_us, start_us;
    int frames_out; /* taken from the pool and not given back */
    uint32_t room;  /* of a frame to send */
    uint8_t local;  /* our address, of the family that runs, by index */
    bool pool_empty;
    /* ---- the link */
    bool neighbours_silent; /* do not answer ARP and NDP for hosts */
    int vlan;
    struct sent *sent;
    size_t sent_n;
    struct peer peers[PEERS_MAX];
    unsigned peers_n;
    uint16_t port; /* that the script listens on */
    /* ---- a turn that is being put together: `turn` ... `end` */
    bool turn_open, in_owner_turn, in_turn;
    struct frame in[TURN_FRAMES_MAX];
    unsigned in_n;
    const struct line *owner_lines[TURN_LINES_MAX];
    unsigned owner_lines_n;
    /* ---- flood */
    bool flooding;
    struct pkt *replies; /* to strangers; their data is not kept */
    size_t replies_n;
    struct ip_prefix blocked[16];
};

void world_open(struct world *w, const struct script *s, struct variant v);
/* Builds the stack with what `config` said. Idempotent. */
void world_start(struct world *w);
/* Ends all connections and holds the books: nothing may be left. */
void world_end(struct world *w);
void world_close(struct world *w);

/* The first failure counts; the script ends. */
void fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace(struct world *w, const char *arrow, const char *text);

/* A frame for the stack: copied to the very end of a block, given at once, or with the turn that is being put together.
 */
void world_frame(struct world *w, const uint8_t *bytes, uint32_t n, uint16_t flags, uint16_t vlan);
/* A frame made of nothing but its first bytes, each length: must change nothing. */
void world_truncations(struct world *w, const uint8_t *bytes, uint32_t n);
/* Input, timers, events, what the owner does, settle, flush; again while the stack has something to do. */
void world_turn(struct world *w, void (*owner)(struct world *w, void *arg), void *arg);
/* Time passes up to at_us, timers run when they are due. */
void world_until(struct world *w, uint64_t at_us);
/* Goes to the next timer at or before limit_us and runs it; false: none. */
bool world_step(struct world *w, uint64_t limit_us);

struct peer *world_peer(struct world *w, const char *name);
struct ip_addr world_host(const struct world *w, unsigned host);
void world_mac(unsigned host, uint8_t mac_r[6]);
/* The first frame sent that no line asked for; NULL: none. */
struct sent *world_unexpected(struct world *w);
