/* front.h - the SMTP front-end: sockets of the kernel, a DPDK port, or both.  A worker thread for each set of sockets
 * and for each queue of the port; all have the same SMTP engine before the same spool.
 *
 * Order: front_open and front_port_open while privileges last, front_start, front_stop (doors are closed then),
 * front_close.
 * Thread: the composition root's; front_port_* below from any between front_port_open and front_close.
 * Errors: 0 or a negative SATCHEL_E* with why_r (FRONT_WHY_MAX) for the operator. */
#pragma once
#include "dataplane/conf/settings.h"
#include "dataplane/net/port.h"
#include "dataplane/tcp/ip.h"
#include "spool/spool.h"

#define FRONT_WHY_MAX 512

struct front;

/* What the settings alone cannot tell: is DPDK part of this build, is the block list readable and well formed. */
int front_check(const struct settings *st, char *why_r);

/* Binds the sockets.  st is borrowed until front_close. */
int front_open(struct front **f_r, const struct settings *st, char *why_r);
/* Takes the DPDK device, where the settings want one. */
int front_port_open(struct front *f, char *why_r);
/* Serves.  A worker that fails later sends SIGTERM to the process. */
int front_start(struct front *f, struct spool *spool, struct domains *domains, char *why_r);
/* What may change while running: limits of sessions, the block list. */
void front_reload(struct front *f, const struct settings *loaded);
/* No new mail; messages under way end (smtp.shutdown_grace); then the threads do. */
void front_stop(struct front *f);
void front_close(struct front **f);

size_t front_workers(const struct front *f);
/* Where we are served: "127.0.0.1:2525", "[2001:db8::25]:25"; NULL-terminated. */
const char *const *front_listeners(const struct front *f);

/* ---- the port, for `satchelctl port show` and metrics */

struct front_port {
    struct port_info info;
    uint16_t mtu, vlan; /* ours */
    struct {
        struct ip_prefix at;
        bool ready; /* probed: nobody else has it */
    } addrs[IP_ADDRS_MAX + 1];
    uint32_t addrs_n;
    struct ip_addr gateway4, gateway6; /* all zero: none */
    uint32_t blocked;                  /* networks on the block list */
    /* Of each queue. */
    uint32_t conns_max, conn_bytes, pages_max, blocks_max;
    uint64_t mapped_bytes; /* address space of its tables; what of it is used counts */
};

/* -SATCHEL_ENOENT: the settings want none; -SATCHEL_EAGAIN: not yet, or not any more.  There from before the first
 * connection is served. */
int front_port_look(struct front *f, struct front_port *look_r);
/* False: the device has no link, or there is no port, or not yet. */
bool front_port_link_up(struct front *f);
/* 0: no port. */
uint32_t front_port_queues(const struct front *f);
uint64_t front_port_stat(const struct front *f, uint32_t queue, enum stat_id id);
/* Neighbours that a queue knows: how many there are; fills at most cap. */
uint32_t front_port_neighbours(struct front *f, uint32_t queue, struct ip_neighbour *v_r, uint32_t cap);
/* See port_ops.device_stats. */
uint32_t front_port_device(struct front *f, char (*names_r)[64], uint64_t *values_r, uint32_t cap);
