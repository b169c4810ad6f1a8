/* guard.c - the drop ladder before any state exists. */
#include "dataplane/tcp/guard.h"
#include "dataplane/tcp/bogon.h"
#include "dataplane/tcp/siphash.h"
#include "dataplane/tcp/sketch.h"
#include "spool/base/err.h"

#define CELLS_MAX (1u << 24)

const struct guard_config guard_config_default = {.bogons = true,
                                                  .cells = 65536,
                                                  .host_per_s = 50,
                                                  .host_burst = 200,
                                                  .network_per_s = 200,
                                                  .network_burst = 800,
                                                  .answers_per_s = 200000,
                                                  .synack_times = 4,
                                                  .blocked_max = 65536};

struct guard {
    struct guard_config cfg;
    struct stats *stats;
    uint8_t key[16];
    struct sketch hosts, networks;
    struct bucket_rate answers_rate;
    uint64_t answers_full_ns;
    const struct ip_prefix *blocked;
    uint32_t blocked_n;
};

static size_t rounded(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

size_t guard_bytes(const struct guard_config *cfg)
{
    return rounded(sizeof(struct guard)) + 2 * rounded(sketch_bytes(cfg->cells));
}

int guard_init(struct guard **g_r, void *mem, const struct guard_config *cfg, const uint8_t key[16],
               struct stats *stats, uint64_t now_us)
{
    struct guard *g = mem;
    uint8_t *rest = (uint8_t *)mem + rounded(sizeof *g);
    (void)now_us; /* all buckets begin full */
    if (cfg->cells == 0 || cfg->cells > CELLS_MAX || (cfg->cells & (cfg->cells - 1)) || cfg->synack_times == 0)
        return -SATCHEL_EINVAL;
    g->cfg = *cfg;
    g->stats = stats;
    memcpy(g->key, key, sizeof g->key);
    sketch_init(&g->hosts, rest, cfg->cells, bucket_rate(cfg->host_per_s, cfg->host_burst));
    rest += rounded(sketch_bytes(cfg->cells));
    sketch_init(&g->networks, rest, cfg->cells, bucket_rate(cfg->network_per_s, cfg->network_burst));
    g->answers_rate = bucket_rate(cfg->answers_per_s, cfg->answers_per_s);
    *g_r = g;
    return 0;
}

/* ---- the block list */

static int order(const struct ip_addr *a, const struct ip_addr *b)
{
    return memcmp(a->b, b->b, sizeof a->b);
}

static bool comes_behind(const struct ip_prefix *a, const struct ip_prefix *b)
{
    return order(&a->addr, &b->addr) < 0 && !ip_prefix_has(a, &b->addr);
}

int guard_block(struct guard *g, const struct ip_prefix *entries, uint32_t n)
{
    if (n > g->cfg.blocked_max)
        return -SATCHEL_EFULL;
    for (uint32_t i = 0; i < n; i++)
        if (ip_prefix_holds4(&entries[i]) || (i > 0 && !comes_behind(&entries[i - 1], &entries[i])))
            return -SATCHEL_EINVAL;
    g->blocked = entries;
    g->blocked_n = n;
    return 0;
}

/* No network lies within another: only the last one that begins at or before src may hold it. */
static bool is_blocked(const struct guard *g, const struct ip_addr *src)
{
    uint32_t low = 0, high = g->blocked_n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order(&g->blocked[middle].addr, src) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && ip_prefix_has(&g->blocked[low - 1], src);
}

/* ---- the ladder */

static enum guard_verdict refuse(struct guard *g, enum stat_id stat, enum guard_verdict verdict)
{
    stat_add(g->stats, stat, 1);
    return verdict;
}

enum guard_verdict guard_stranger(struct guard *g, const struct ip_addr *src)
{
    if (g->cfg.bogons && bogon(src))
        return refuse(g, STAT_DROP_BOGON, GUARD_BOGON);
    if (is_blocked(g, src))
        return refuse(g, STAT_DROP_BLOCKED, GUARD_BLOCKED);
    return GUARD_PASS;
}

static uint64_t hash_of(const struct guard *g, const struct ip_addr *src, uint8_t bits)
{
    struct ip_addr network = ip_addr_masked(src, bits);
    return siphash(g->key, network.q, 2, 1, 3);
}

enum guard_verdict guard_syn(struct guard *g, const struct ip_addr *src, uint64_t now_us)
{
    enum guard_verdict verdict = guard_stranger(g, src);
    if (verdict != GUARD_PASS)
        return verdict;
    bool is4 = ip_addr_is4(src);
    uint64_t host = hash_of(g, src, is4 ? 128 : 64), network = hash_of(g, src, is4 ? 120 : 48);
    if (!sketch_has(&g->hosts, host, now_us) || !sketch_has(&g->networks, network, now_us))
        return refuse(g, STAT_DROP_RATE, GUARD_RATE);
    sketch_take(&g->hosts, host, now_us);
    sketch_take(&g->networks, network, now_us);
    return GUARD_PASS;
}

bool guard_answer(struct guard *g, uint64_t now_us)
{
    return g->cfg.answers_per_s == 0 || bucket_take(&g->answers_rate, &g->answers_full_ns, now_us);
}

uint32_t guard_synack_times(const struct guard *g)
{
    return g->cfg.synack_times;
}
