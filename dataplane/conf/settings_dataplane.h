/* settings_dataplane.h - `dataplane:`: what single values cannot say, and its lists as numbers. */
#pragma once
#include "dataplane/conf/settings.h"
#include "dataplane/tcp/ip.h"

#define DATAPLANE_PORTS_MAX 16u
#define DATAPLANE_CORES_MAX 64u

struct settings_reader;

/* Checks what is there, also where the engine is another one.  0 or -SATCHEL_ECONFIG, said by settings_reader_fail. */
int settings_dataplane_check(struct settings_reader *r);

static inline bool settings_on_dpdk(const struct settings *st)
{
    return st->dataplane_engine == 3; /* enum net_engine: NET_DPDK */
}

/* ---- of settings that were checked */

/* Addresses, gateways, VLAN and MTU; the rest of cfg_r stays. */
void settings_ip(const struct settings *st, struct ip_config *cfg_r);
/* How many ports are in ports_r. */
uint32_t settings_ports(const struct settings *st, uint16_t ports_r[DATAPLANE_PORTS_MAX]);
/* The core of queue i; -1: any. */
int settings_core(const struct settings *st, uint32_t i);
