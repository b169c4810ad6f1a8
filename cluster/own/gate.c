/* gate.c - which shards may be delivered, and until when. */
#include "cluster/own/gate_impl.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <assert.h>
#include <stdlib.h>

struct gate_shard *gate_at(const struct gate *g, uint32_t shard)
{
    if (shard >= GATE_SHARDS_MAX)
        return NULL;
    struct gate_shard *chunk = atomic_load(&g->chunks[shard / GATE_CHUNK]);
    return chunk ? &chunk[shard % GATE_CHUNK] : NULL;
}

bool gate_in_time(const struct gate *g)
{
    uint64_t deadline = atomic_load(&g->deadline_us);
    return deadline && clock_boot_us(g->clock) < deadline;
}

int gate_open(struct gate **g_r, const struct clock *clock, uint32_t (*shard_of)(void *arg, struct slice domain),
              void *arg)
{
    struct gate *g = calloc(1, sizeof *g);
    if (!g)
        return -SATCHEL_ENOMEM;
    g->clock = clock;
    g->shard_of = shard_of;
    g->arg = arg;
    pthread_mutex_init(&g->lock, NULL);
    *g_r = g;
    return 0;
}

void gate_close(struct gate **gp)
{
    struct gate *g = *gp;
    if (!g)
        return;
    assert(!g->doors);
    for (size_t i = 0; i < GATE_SHARDS_MAX / GATE_CHUNK; i++)
        free(atomic_load(&g->chunks[i]));
    pthread_mutex_destroy(&g->lock);
    free(g);
    *gp = NULL;
}

/* ---- the cluster's thread */

void gate_deadline(struct gate *g, uint64_t boot_us)
{
    atomic_store(&g->deadline_us, boot_us);
}

void gate_clock_doubt(struct gate *g, bool doubt)
{
    atomic_store(&g->doubt, doubt);
}

static struct gate_shard *make_at(struct gate *g, uint32_t shard)
{
    if (shard >= GATE_SHARDS_MAX)
        return NULL;
    if (!gate_at(g, shard))
        atomic_store(&g->chunks[shard / GATE_CHUNK], calloc(GATE_CHUNK, sizeof(struct gate_shard)));
    return gate_at(g, shard);
}

static void ring_doors(struct gate *g)
{
    atomic_fetch_add(&g->closings, 1);
    pthread_mutex_lock(&g->lock);
    for (struct gate_door *d = g->doors; d; d = gate_door_next(d))
        gate_door_ring(d);
    pthread_mutex_unlock(&g->lock);
}

void gate_grant(struct gate *g, uint32_t shard, bool granted)
{
    struct gate_shard *s = granted ? make_at(g, shard) : gate_at(g, shard);
    if (!s && granted)
        log_error("gate.grant",
                  "shard=%u err=\"no room for it\" remedy=\"give pools fewer shards, or the node memory\"", shard);
    if (!s || (atomic_load(&s->state) & 1) == granted)
        return;
    atomic_fetch_add(&s->state, 1);
    if (!granted && atomic_load(&s->claims) > 0)
        ring_doors(g);
}

uint32_t gate_claims(const struct gate *g, uint32_t shard)
{
    const struct gate_shard *s = gate_at(g, shard);
    return s ? atomic_load(&s->claims) : 0;
}

/* ---- any thread */

bool gate_granted(const struct gate *g, uint32_t shard)
{
    const struct gate_shard *s = gate_at(g, shard);
    return s && (atomic_load(&s->state) & 1);
}

bool gate_may(const struct gate *g, uint32_t shard)
{
    return gate_granted(g, shard) && gate_in_time(g);
}

uint32_t gate_shard_of(const struct gate *g, struct slice domain)
{
    return g->shard_of(g->arg, domain);
}
