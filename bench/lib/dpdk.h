/* dpdk.h - options of bench programs that take a DPDK port: --dpdk, --device, --address, --addresses, --gateway. */
#pragma once
#include "dataplane/net/port.h"
#include "dataplane/tcp/ip.h"

#define DPDK_ARGS_MAX 32u

struct dpdk_options {
    bool on;
    const char *device;
    struct ip_prefix addrs[IP_ADDRS_MAX];
    uint8_t addrs_n;
    struct ip_addr gateway; /* all zero: none */
    char *args[DPDK_ARGS_MAX];
    uint32_t args_n;
};

/* For getopt_long: has_arg 1 for all; their values start at DPDK_OPT. */
enum { DPDK_OPT = 512, OPT_DPDK = DPDK_OPT, OPT_DEVICE, OPT_ADDRESS, OPT_GATEWAY, DPDK_OPT_END };
#define DPDK_OPTIONS                                                                                                   \
    {"dpdk", 1, NULL, OPT_DPDK}, {"device", 1, NULL, OPT_DEVICE}, {"address", 1, NULL, OPT_ADDRESS},                   \
    {                                                                                                                  \
        "gateway", 1, NULL, OPT_GATEWAY                                                                                \
    }
#define DPDK_USAGE                                                                                                     \
    "     --dpdk ARGS          of the EAL, separated by spaces: \"--no-huge -m 256 --vdev=net_memif,id=0,...\"\n"      \
    "     --device NAME        the port to take, when there are several\n"                                             \
    "     --address NET[xN]    an address of ours and its network; N: so many in a row; 198.18.0.2/16x16\n"            \
    "     --gateway ADDRESS\n"

/* One of them; ends the program when its value is wrong. */
void dpdk_option(struct dpdk_options *o, int opt, char *value);
/* Starts the EAL and opens the port with one queue; ends the program with the reason when it cannot. */
struct port *dpdk_open(const struct dpdk_options *o);
