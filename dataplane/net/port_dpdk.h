/* port_dpdk.h - inside the DPDK port.  Nobody outside dataplane/net/port_dpdk*.c includes this.
 *
 * port_dpdk_eal.c starts the EAL and hears its log, port_dpdk_sock.c sees to the sockets of devices that have one,
 * port_dpdk_pci.c knows who else has a PCI device, port_dpdk_dev.c sets a device up, port_dpdk.c moves frames.
 *
 * Two ways to spread flows over workers.  RSS: worker i has receive queue i.  Software: all workers share the device's
 * receive queues under one lock; whoever gets the lock polls, keeps what is its own and puts the rest on the others'
 * rings.  Rings exist in both: frames that every worker must see (ip_frame_shared) are copied through them.
 *
 * Order within a flow: a ring has one consumer, and whoever polls under the lock empties its own ring first, so that
 * nothing polled later overtakes. */
#pragma once
#include "dataplane/net/intr_trust.h"
#include "dataplane/net/port.h"
#include "spool/base/bell.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_spinlock.h>
#include <stdatomic.h>

#define DPDK_QUEUES_MAX 64u
#define DPDK_RX_MAX     64u /* receive queues of a device polled in software */
#define DPDK_RING       1024u
#define DPDK_KEY_BYTES  64u

/* A descriptor that becomes readable when a receive queue has frames. */
struct dpdk_intr {
    int fd;
    bool counts; /* an eventfd: must be read */
    bool edge;   /* one that nobody reads: each new frame is an edge */
};

struct dpdk_queue {
    struct port_queue q; /* first: the caller's handle */
    struct dpdk_port *d;
    uint16_t rx, tx;     /* of the device */
    struct rte_ring *in; /* from other workers; NULL with one worker */
    struct bell bell;    /* rung by them, and when the link comes or goes */
    int wake_fd;         /* epoll: the bell and the interrupts */
    bool armed;
    unsigned told; /* intr_trust_arm, when it armed */
    uint32_t burst_n;
    struct rte_mbuf *burst[PORT_BURST_MAX]; /* sent, not flushed */
} __rte_cache_aligned;

struct dpdk_port { /* NOLINT(clang-analyzer-optin.performance.Padding): locks have cache lines of their own */
    struct port p; /* first: the caller's handle */
    uint16_t id;
    struct port_info info;
    struct rte_mempool *pool;
    uint32_t room;         /* of a frame to send */
    uint16_t nb_rx, nb_tx; /* queues of the device */
    bool prepare;          /* rte_eth_tx_prepare before sending */
    bool intr_have;        /* intr[] is there, for each receive queue */
    bool tells_link;       /* the device calls us when its link comes or goes */
    atomic_bool no_link;   /* it said so: nothing is received */
    uint64_t tx_flags;     /* mbuf flags that the device was asked to serve */
    struct dpdk_intr intr[DPDK_RX_MAX];
    struct intr_trust trust;          /* in those that count; others are known to tell */
    atomic_bool trust_said[2];        /* that it was lost, that it came: in the log, once each */
    uint32_t key[DPDK_KEY_BYTES / 4]; /* of the hash, both kinds */
    rte_spinlock_t rx_lock __rte_cache_aligned;
    struct {
        rte_spinlock_t lock;
    } __rte_cache_aligned tx[DPDK_QUEUES_MAX];
    struct dpdk_queue queues[DPDK_QUEUES_MAX];
};

/* ---- port_dpdk_eal.c */

/* Once a process; later calls find it started. */
int dpdk_eal_start(const struct port_dpdk_config *cfg, char *why_r);
/* "what failed (DPDK says: its complaints since dpdk_said_forget): the remedy" into why_r; returns err. */
int dpdk_fail(int err, char *why_r, const char *remedy, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The remedy for what DPDK complained of; static storage. */
const char *dpdk_remedy(const char *otherwise);
void dpdk_said_forget(void);
/* Did DPDK fail to let a device reach memory that it gave out?  It goes on then, and frames are lost. */
bool dpdk_dma_failed(void);
/* Lines of the EAL are dropped between these: a question is put to a driver that may not know the answer. */
void dpdk_log_hush(bool hush);

/* ---- port_dpdk_sock.c: before and while the EAL starts */

/* A socket that a device of the arguments will listen on and nobody serves any more is removed.  -SATCHEL_E* with
 * why_r: somebody does, or it is no socket. */
int dpdk_sock_clear(const struct port_dpdk_config *cfg, char *why_r);
/* From begin to end, a peer that does not come within cfg->peer_wait_ms, or not before this process is told to end, is
 * given up: the device is not there then, and end says why. */
struct dpdk_wait *dpdk_sock_wait_begin(const struct port_dpdk_config *cfg);
int dpdk_sock_wait_end(struct dpdk_wait **w, char *why_r);
bool dpdk_arg_is_virtio_user(const char *arg);

/* ---- port_dpdk_pci.c: what to do about a PCI device of the configuration that DPDK did not find; static storage */
const char *dpdk_pci_remedy(const struct port_dpdk_config *cfg, const char *otherwise);

/* ---- port_dpdk_dev.c */
int dpdk_dev_open(struct dpdk_port *d, const struct port_dpdk_config *cfg, char *why_r);
void dpdk_dev_close(struct dpdk_port *d);
/* From watch to unwatch, a link that comes or goes is logged, and wakes all queues: they exist. */
void dpdk_link_watch(struct dpdk_port *d);
void dpdk_link_unwatch(struct dpdk_port *d);
bool dpdk_link_up(const struct dpdk_port *d);
