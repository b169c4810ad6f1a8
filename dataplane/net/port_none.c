/* port_none.c - what stands for DPDK in a build without it. */
#include "dataplane/net/port.h"
#include "spool/base/err.h"

#include <stdio.h>

bool port_dpdk_built(void)
{
    return false;
}

int port_dpdk_open(struct port **p_r, const struct port_dpdk_config *cfg, char *why_r)
{
    (void)p_r;
    (void)cfg;
    snprintf(why_r, PORT_WHY_MAX,
             "this build is without DPDK: install it (apt-get install libdpdk-dev dpdk) and build again, or set "
             "dataplane.engine to auto");
    return -SATCHEL_ENOENT;
}
