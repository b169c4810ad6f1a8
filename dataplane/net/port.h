/* port.h - network ports that hand over Ethernet frames: DPDK devices (port_dpdk.c, the only file with rte_*) and pairs
 * in memory (port_mem.c, for tests).
 *
 * Thread: a port is opened and closed by one thread; each of its queues belongs to one worker.  Counters may be read
 * from any.
 *
 * Dispatch.  A port offers `queues` queues to `queues` workers whatever the device can do: where it has enough receive
 * queues and spreads flows over them (RSS), a queue is one of the device's; otherwise the first worker to find the
 * device idle polls its one queue and passes frames on through rings by the same hash (Toeplitz over addresses and
 * ports), so that a flow has one worker in either case. */
#pragma once
#include "dataplane/tcp/frame.h"
#include "dataplane/tcp/stats.h"

#define PORT_WHY_MAX   512
#define PORT_BURST_MAX 64u

struct port;
struct port_queue;

struct port_info {
    uint8_t mac[6];
    uint16_t mtu;
    uint32_t queues;    /* worker queues */
    uint32_t rx_queues; /* of the device */
    uint32_t tx_queues;
    bool rss;                                                           /* the device spreads flows itself */
    bool rx_ip_sum, rx_l4_sum, tx_ip_sum, tx_tcp_sum, tx_vlan, rx_vlan; /* what it does for us */
    bool rx_interrupt;                                                  /* as wakes() says now */
    bool link_up;                   /* false: no cable, or nobody at the other end of its socket */
    uint32_t buffers, buffers_used; /* for frames; used: also by rings of the device and on their way */
    char name[64];                  /* "net_af_packet0" */
    char driver[32];                /* "net_af_packet" */
};

struct port_ops {
    /* Up to n (at most PORT_BURST_MAX) frames received; never blocks. */
    uint32_t (*rx)(struct port_queue *q, struct frame *f_r, uint32_t n);
    /* Frees frames that rx gave. */
    void (*free)(struct port_queue *q, struct frame *f, uint32_t n);
    /* Frames to send: see frame_pool.  send only collects; flush gives the burst to the device. */
    bool (*alloc)(struct port_queue *q, struct frame *f_r);
    void (*send)(struct port_queue *q, struct frame *f);
    void (*drop)(struct port_queue *q, struct frame *f);
    void (*flush)(struct port_queue *q);
    /* Before sleeping: a descriptor that becomes readable when frames come, or -1: there is none.  Without
     * wakes() it tells of frames that other workers passed on alone: poll again after port_nap_us all the same.  Must
     * be followed by disarm.  -SATCHEL_EAGAIN: frames are waiting already, nothing is armed. */
    int (*arm)(struct port_queue *q);
    void (*disarm)(struct port_queue *q);
    /* Does arm's descriptor tell of all frames?  A device has to show first that it does (intr_trust.h). */
    bool (*wakes)(const struct port_queue *q);
    void (*info)(const struct port *p, struct port_info *info_r);
    struct port_queue *(*queue)(struct port *p, uint32_t i);
    /* What the device counted since it started, as "name=value" rows; returns how many. */
    uint32_t (*device_stats)(struct port *p, char (*names_r)[64], uint64_t *values_r, uint32_t cap);
    void (*close)(struct port **p);
};

struct port {
    const struct port_ops *ops;
};
/* First member of what an implementation keeps for each queue. */
struct port_queue {
    struct port *port;
    uint32_t index;
    struct stats *stats; /* rx_frames, rx_bytes, tx_*, polls; set by the owner before the first call */
};

/* How long to sleep before looking at a port that cannot wake us, when nothing has come for idle_us: a quarter of that,
 * so that who waited for us waits little longer; PORT_NAP_MAX_US at most. */
#define PORT_NAP_MIN_US 50u
#define PORT_NAP_MAX_US 1000u
static inline uint64_t port_nap_us(uint64_t idle_us)
{
    uint64_t us = idle_us / 4;
    return us < PORT_NAP_MIN_US ? PORT_NAP_MIN_US : us > PORT_NAP_MAX_US ? PORT_NAP_MAX_US : us;
}

/* What a stack takes its frames from and gives them to (port.c). */
struct frame_pool port_frames(struct port_queue *q);

/* ---- DPDK */
struct port_dpdk_config {
    const char *const *eal_args; /* without the program's name; "--no-huge", "--vdev=net_tap0" ... */
    uint32_t eal_args_n;
    const char *device;        /* name of the port to take: "net_tap0", "0000:3b:00.0"; NULL: the only one there is */
    uint32_t queues;           /* workers */
    uint32_t rx_ring, tx_ring; /* descriptors; 1024, 1024 */
    uint32_t buffers;          /* mbufs of the pool, all queues; 0: enough for the rings and bursts */
    uint16_t mtu;              /* 0: the device's */
    bool offloads;             /* use what the device offers; true */
    uint16_t vlan;             /* that frames come in, for devices which let none through unasked; 0: none */
    uint32_t peer_wait_ms;     /* for who connects to net_virtio_user with server=1; 0: 30,000 */
};
/* Starts the EAL (once a process) and the device. 0 or -SATCHEL_E* with why_r (PORT_WHY_MAX): what failed and its
 * remedy
 * ("no hugepages: reserve some with 'sysctl vm.nr_hugepages=512' or add --no-huge to dataplane.eal"). */
int port_dpdk_open(struct port **p_r, const struct port_dpdk_config *cfg, char *why_r);
/* Is DPDK part of this build? */
bool port_dpdk_built(void);

/* ---- memory: two ports joined by a wire (tests, the simulator of whole front-ends). What one sends the other
 * receives. */
int port_mem_open(struct port **a_r, struct port **b_r, uint32_t queues, uint32_t ring_frames);
