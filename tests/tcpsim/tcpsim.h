/* tcpsim.h - two userspace stacks, a network between them, and the programs above them, in one thread under virtual
 * time.
 *
 *   plan.c   what one history is like: everything drawn from its seed
 *   net.c    frames on their way: lost, doubled, late, damaged, too big
 *   host.c   a stack with its memory and its frames, driven turn by turn
 *   talk.c   the programs: what is said on each connection, and who ends it how
 *   watch.c  what every frame must obey, whoever sent it */
#pragma once
#include "dataplane/tcp/stack.h"
#include "spool/base/rng.h"

#include <stdio.h>

#define HOSTS 2

/* ---- plan.c */
enum net_too_big { NET_TELLS, NET_SILENT };

struct net_plan { /* of one direction; chances in millionths */
    uint32_t lose, dup, reorder, damage, mark_ce;
    uint32_t delay_us, jitter_us;
    uint64_t bytes_per_s; /* 0: endless */
    uint32_t queue_bytes;
    uint16_t mtu; /* 0: the link's */
    enum net_too_big too_big;
    uint64_t cut_from_us, cut_to_us; /* nothing passes */
};

enum talk_end { TALK_ORDER, TALK_EARLY, TALK_ABORT, TALK_MUTE };

struct talk_plan {
    uint64_t begin_us;
    uint64_t bytes[HOSTS];  /* what each host says */
    uint32_t chunk[HOSTS];  /* it reads at most so much at once, */
    uint64_t nap_us[HOSTS]; /* then not before so long */
    uint64_t end_at[HOSTS]; /* EARLY, ABORT: after reading so many bytes */
    enum talk_end end[HOSTS];
    bool answer_after; /* the server speaks when it has heard all */
    uint16_t port;
};

struct plan {
    uint64_t seed;
    bool v6, hardware_sums;
    struct net_plan net[HOSTS]; /* [0]: from host 0 */
    struct tcp_config tcp[HOSTS];
    uint32_t no_buffer[HOSTS]; /* chance that a frame is not to be had, millionths */
    uint64_t pause_from_us[HOSTS], pause_to_us[HOSTS];
    uint64_t epoch_us; /* the clock's first reading: near a wrap in some */
    uint32_t talks_n;
    struct talk_plan talk[256];
    bool clean; /* nothing in it can end a connection but its programs */
};

void plan_make(struct plan *p, uint64_t seed);

/* ---- the world */
struct world {
    struct plan plan;
    struct rng rng;
    uint64_t now_us, begin_us;
    bool trace, failed;
    char why[256];
    uint64_t frames, bytes, retransmitted, reneged; /* reneged: reports of bytes that were then thrown away */
};
extern struct world world;

/* The first reason stays. */
void world_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool world_chance(uint32_t millionths);
void world_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- net.c */
void net_open(void);
/* From a host; copied. */
void net_send(int from, const uint8_t *p, uint32_t n);
/* A frame that arrives at `to` by now; malloc'd exactly; NULL: none. */
uint8_t *net_take(int to, uint32_t *n_r, uint16_t *flags_r);
/* When the next one arrives; UINT64_MAX. */
uint64_t net_next_us(int to);
void net_close(void);

/* ---- host.c */
struct host {
    int id;
    struct stack *stack;
    void *mem;
    size_t mem_bytes;
    struct stats stats;
    uint32_t frames_out; /* taken and neither sent nor dropped */
};
extern struct host hosts[HOSTS];
void host_open(int id);
/* One turn: what arrived, timers, programs, what is to be said. */
void host_turn(struct host *h);
uint64_t host_next_us(const struct host *h);
struct ip_addr host_addr(int id);
void host_mac(int id, uint8_t mac_r[6]);
void host_close(struct host *h);

/* ---- talk.c */
void talks_open(void);
/* Programs of this host that have something to do by now. */
void talks_turn(struct host *h);
void talks_event(struct host *h, struct tcp_conn *c, uint32_t events);
uint64_t talks_next_us(const struct host *h);
bool talks_over(void);
void talks_check(void);
size_t talks_conn_bytes(void);

/* ---- watch.c: knows both ends of each tuple by what went over the wire */
void watch_open(void);
/* A host gave a frame to the network. */
void watch_sent(int from, const uint8_t *p, uint32_t n);
/* A frame reached a host whole. */
void watch_arrived(int to, const uint8_t *p, uint32_t n);

/* ---- decode.c: a TCP frame as the wire has it, read without the product's parser */
struct wire_sack {
    uint32_t start, end;
};
struct wire_tcp {
    bool malformed; /* its options */
    bool v6, syn, fin, rst, ack, psh, ece, cwr;
    struct ip_addr src, dst;
    uint16_t sport, dport, wnd, mss;
    uint32_t seq, ackno, data_n;
    int wscale; /* -1: no option */
    bool has_ts;
    uint32_t ts_val;
    struct wire_sack sack[4];
    uint8_t sack_n, ecn;
    uint32_t ip_off; /* of the IP header */
};
/* False: not TCP. */
bool wire_decode(struct wire_tcp *w_r, const uint8_t *p, uint32_t n);
