/* map_rig.h - makes maps for tests: nodes n0, n1, ... with storages that can be told apart. */
#pragma once
#include "cluster/map/map.h"

#include <stdio.h>
#include <stdlib.h>

static inline struct storage_id rig_storage(uint32_t i)
{
    struct storage_id id = {{0}};
    id.b[0] = 0xaa;
    id.b[14] = (uint8_t)(i >> 8);
    id.b[15] = (uint8_t)i;
    return id;
}

static inline struct map_node rig_node(uint32_t i, const char *zone, const char *pool)
{
    struct map_node n = {.storage = rig_storage(i), .weight = 100, .live = true, .mod_rev = 1, .proto = 1};
    snprintf(n.name, sizeof n.name, "n%u", i);
    snprintf(n.address, sizeof n.address, "127.0.0.1:%u", 7000 + i);
    snprintf(n.zone, sizeof n.zone, "%s", zone);
    snprintf(n.pool, sizeof n.pool, "%s", pool);
    return n;
}

static inline uint32_t rig_index(const struct storage_id *id)
{
    return (uint32_t)id->b[14] << 8 | id->b[15];
}
