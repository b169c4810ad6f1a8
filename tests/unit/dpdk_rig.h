/* dpdk_rig.h - a process with DPDK's virtual devices, and the kernel's end of those that have one.
 *
 * The EAL starts once a process and a device that was closed is gone, so all devices are named at the start, and each
 * test opens one that nobody has opened yet.  As root the process goes into a network namespace of its own, with veth
 * pairs (sat0: the device's end, peer0: the test's) and taps (sattap0).  Without root those devices are missing, and
 * what needs them is skipped. */
#pragma once
#include "port_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static char rig_memif[64]; /* the socket of the memif pair; "": not in use */

static inline void rig_need_dpdk(void)
{
    if (!port_dpdk_built()) {
        print_message("needs DPDK\n");
        skip();
    }
}

static inline void rig_need_root(void)
{
    rig_need_dpdk();
    if (geteuid() != 0) {
        print_message("needs root\n");
        skip();
    }
}

static inline bool rig_sh(const char *command)
{
    int status = system(command);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A namespace with veth pairs, both ends up and silent.  False: cannot. */
static inline bool rig_namespace(void)
{
    return unshare(CLONE_NEWNET) == 0 &&
           rig_sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 && ip link set lo up && "
                  "for i in 0 1 2 3 4; do ip link add sat$i type veth peer name peer$i && ip link set sat$i up && "
                  "ip link set peer$i up || exit 1; done");
}

/* ---- devices */

enum { RIG_ARGS_MAX = 32, RIG_RINGS = 9, RIG_NULLS = 2, RIG_TAPS = 4, RIG_VETHS = 5 };

static const char *rig_args[RIG_ARGS_MAX];
static uint32_t rig_args_n;

static inline void rig_arg(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    assert_true(rig_args_n < RIG_ARGS_MAX && vasprintf(&text, fmt, ap) > 0);
    va_end(ap);
    rig_args[rig_args_n++] = text;
}

static inline void rig_args_make(void)
{
    snprintf(rig_memif, sizeof rig_memif, "/tmp/satchel-test-memif-%d", (int)getpid());
    rig_arg("--no-huge");
    rig_arg("--no-pci");
    rig_arg("-m");
    rig_arg("256");
    for (int i = 0; i < RIG_RINGS; i++)
        rig_arg("--vdev=net_ring%d", i);
    for (int i = 0; i < RIG_NULLS; i++)
        rig_arg("--vdev=net_null%d", i);
    for (int i = 0; i < 2; i++)
        rig_arg("--vdev=net_memif%d,role=%s,socket=%s,socket-abstract=no", i, i ? "client" : "server", rig_memif);
    for (int i = 0; i < RIG_TAPS && geteuid() == 0; i++)
        rig_arg("--vdev=net_tap%d,iface=sattap%d", i, i);
    for (int i = 0; i < RIG_VETHS && geteuid() == 0; i++)
        rig_arg("--vdev=net_af_packet%d,iface=sat%d", i, i);
}

static inline struct port_dpdk_config rig_config(const char *device, uint32_t queues)
{
    return (struct port_dpdk_config){.eal_args = rig_args,
                                     .eal_args_n = rig_args_n,
                                     .device = device,
                                     .queues = queues,
                                     .rx_ring = 512,
                                     .tx_ring = 512,
                                     .offloads = true};
}

static inline void rig_open(struct rig_port *r, const char *device, uint32_t queues)
{
    char why[PORT_WHY_MAX] = "";
    struct port_dpdk_config cfg = rig_config(device, queues);
    memset(r, 0, sizeof *r);
    if (port_dpdk_open(&r->p, &cfg, why) < 0)
        fail_msg("%s", why);
}

static inline struct port_info rig_info(const struct rig_port *r)
{
    struct port_info info;
    r->p->ops->info(r->p, &info);
    return info;
}

static inline void rig_close(struct rig_port *r)
{
    r->p->ops->close(&r->p);
    assert_null(r->p);
}

/* ---- the kernel's end of a device */

static inline int rig_raw(const char *interface)
{
    struct timeval patience = {.tv_sec = RIG_PATIENCE_MS / 1000};
    struct sockaddr_ll ll = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(0x0003), /* all */
                             .sll_ifindex = (int)if_nametoindex(interface)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;
    assert_true(fd >= 0 && ll.sll_ifindex > 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&ll, sizeof ll), 0);
    assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return fd;
}

static inline void rig_raw_send(int fd, const struct rig_frame *f)
{
    assert_int_equal(write(fd, f->b, f->n), f->n);
}

/* The next frame that came in, not one that we sent, with its tag where it stood. */
static inline struct rig_frame rig_raw_receive(int fd)
{
    struct rig_frame f = {.n = 0};
    struct sockaddr_ll from = {.sll_pkttype = PACKET_OUTGOING};
    char control[256];
    struct iovec iov = {f.b, sizeof f.b};
    struct msghdr m = {.msg_name = &from, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    ssize_t n = 0;
    while (from.sll_pkttype == PACKET_OUTGOING) {
        m.msg_namelen = sizeof from;
        m.msg_controllen = sizeof control;
        n = recvmsg(fd, &m, 0);
        assert_true(n > 0);
    }
    f.n = (uint32_t)n;
    struct tpacket_auxdata aux = {0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
            memcpy(&aux, CMSG_DATA(c), sizeof aux);
    return aux.tp_status & TP_STATUS_VLAN_VALID ? rig_tagged(&f, aux.tp_vlan_tci) : f;
}
