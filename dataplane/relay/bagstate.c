/* bagstate.c - the state machine of a domain on its way out; see the header for states and why. */
#include "dataplane/relay/bagstate.h"

#include <assert.h>

const struct bagstate_config bagstate_config_default = {
    .probe_min_us = 5000000,
    .probe_max_us = 60000000,
    .canary_n = 3,
    .width_grow = 8,
    .deferred_max = 5,
    .crowded_calm = 1000,
    .slow_us = 10000000,
    .suspect_max = 5,
};

const char *relay_state_name(enum relay_state s)
{
    static const char *const names[] = {
        [RELAY_UP] = "up",         [RELAY_BROWNOUT] = "brownout", [RELAY_DOWN] = "down",
        [RELAY_CANARY] = "canary", [RELAY_DRAINING] = "draining", [RELAY_HELD] = "held",
        [RELAY_IDLE] = "idle",
    };
    assert(s <= RELAY_IDLE);
    return names[s];
}

void bagstate_init(struct bagstate *b, uint64_t seed)
{
    *b = (struct bagstate){.state = RELAY_IDLE, .width = 1};
    rng_seed(&b->rng, seed);
}

static uint64_t backoff_us(struct bagstate *b, const struct bagstate_config *cfg)
{
    uint64_t d = cfg->probe_min_us;
    for (uint32_t i = 1; i < b->failures && d < cfg->probe_max_us; i++)
        d += d / 2;
    if (d > cfg->probe_max_us)
        d = cfg->probe_max_us;
    return d - rng_below(&b->rng, d / 4 + 1);
}

static void enter(struct bagstate *b, enum relay_state s)
{
    b->state = s;
    b->probing = b->slow = false;
    b->taken = b->refused = b->deferred = 0;
    if (s != RELAY_DOWN && s != RELAY_BROWNOUT)
        b->next_probe_us = 0;
}

/* DOWN or BROWNOUT, and when to look again.  What else fails at the same time (other connections of the domain) is one
 * failure: the backoff goes on once a probe. */
static void fail(struct bagstate *b, const struct bagstate_config *cfg, enum relay_state to, uint64_t now)
{
    bool waiting = (b->state == RELAY_DOWN || b->state == RELAY_BROWNOUT) && !b->probing && !b->slow;
    if (b->state == RELAY_HELD || waiting)
        return;
    b->failures++;
    enter(b, to);
    b->width = b->width > 1 ? b->width / 2 : 1;
    b->mean_us = 0;
    b->next_probe_us = now + backoff_us(b, cfg);
}

static void reached(struct bagstate *b)
{
    if (b->state == RELAY_UP || b->state == RELAY_DRAINING || b->state == RELAY_CANARY || b->state == RELAY_HELD)
        return;
    if (b->slow)
        return; /* it was reachable all the time */
    b->suspicious = b->state != RELAY_IDLE;
    enter(b, RELAY_CANARY);
}

static void passed(struct bagstate *b, enum relay_state to)
{
    enter(b, to);
    b->failures = 0;
    b->suspicious = false;
}

static void widen(struct bagstate *b, const struct bagstate_config *cfg, uint32_t max_width)
{
    if (b->calm > 0) {
        b->calm--;
        return;
    }
    if (++b->taken < cfg->width_grow * b->width || b->width >= max_width)
        return;
    b->width++;
    b->taken = 0;
}

static void taken(struct bagstate *b, const struct bagstate_config *cfg, uint64_t took_us, uint32_t max_width)
{
    b->mean_us = b->mean_us ? b->mean_us - b->mean_us / 8 + took_us / 8 : took_us;
    bool slow = b->mean_us > cfg->slow_us;
    b->deferred = 0;
    if (b->state == RELAY_CANARY && ++b->taken >= cfg->canary_n)
        passed(b, RELAY_DRAINING);
    if (b->state == RELAY_BROWNOUT && b->slow && !slow)
        passed(b, RELAY_DRAINING);
    if (b->state != RELAY_UP && b->state != RELAY_DRAINING)
        return;
    if (slow) {
        enter(b, RELAY_BROWNOUT);
        b->slow = true;
        b->width = 1;
        return;
    }
    widen(b, cfg, max_width);
}

/* One message put off says little; several in a row say that the primary has no room, and going on would only carry
 * the whole bag there in vain. */
static void deferred(struct bagstate *b, const struct bagstate_config *cfg, uint64_t now)
{
    b->width = b->width > 1 ? b->width / 2 : 1;
    b->taken = 0;
    if (++b->deferred >= cfg->deferred_max)
        fail(b, cfg, RELAY_BROWNOUT, now);
}

/* The primary limits connections: that is no failure. */
static void crowded(struct bagstate *b, const struct bagstate_config *cfg, uint64_t working)
{
    b->width = working > 0 ? (uint32_t)working : 1;
    b->taken = 0;
    b->calm = cfg->crowded_calm;
}

static void refused(struct bagstate *b, const struct bagstate_config *cfg, uint64_t now)
{
    if (b->state != RELAY_CANARY || !b->suspicious || b->taken > 0)
        return;
    if (++b->refused >= cfg->canary_n)
        fail(b, cfg, RELAY_BROWNOUT, now);
}

static void empty(struct bagstate *b)
{
    if (b->state == RELAY_DRAINING || (b->state == RELAY_CANARY && (b->taken > 0 || !b->suspicious)))
        passed(b, RELAY_UP);
}

bool bagstate_step(struct bagstate *b, const struct bagstate_config *cfg, enum bag_event e, uint64_t value,
                   uint64_t now_us, uint32_t max_width)
{
    enum relay_state before = b->state;
    switch (e) {
    case BAG_TRY:
        b->probing = b->state == RELAY_DOWN || b->state == RELAY_BROWNOUT;
        break;
    case BAG_REACHED:
        reached(b);
        break;
    case BAG_CROWDED:
        crowded(b, cfg, value);
        break;
    case BAG_UNREACHABLE:
    case BAG_LOST:
        fail(b, cfg, RELAY_DOWN, now_us);
        break;
    case BAG_BUSY:
        fail(b, cfg, RELAY_BROWNOUT, now_us);
        break;
    case BAG_TAKEN:
        taken(b, cfg, value, max_width);
        break;
    case BAG_DEFERRED:
        deferred(b, cfg, now_us);
        break;
    case BAG_REFUSED:
        refused(b, cfg, now_us);
        break;
    case BAG_EMPTY:
        empty(b);
        break;
    case BAG_HOLD:
        enter(b, RELAY_HELD);
        break;
    case BAG_UNHOLD:
        if (b->state == RELAY_HELD)
            enter(b, RELAY_IDLE);
        break;
    case BAG_KICK:
        if (b->state == RELAY_DOWN || b->state == RELAY_BROWNOUT)
            b->next_probe_us = now_us;
        break;
    }
    if (b->width > max_width && max_width > 0)
        b->width = max_width;
    return b->state != before;
}

bool bagstate_may_connect(const struct bagstate *b, uint64_t now_us, uint32_t open)
{
    switch (b->state) {
    case RELAY_UP:
    case RELAY_DRAINING:
        return open < b->width;
    case RELAY_IDLE:
    case RELAY_CANARY:
        return open == 0;
    case RELAY_DOWN:
    case RELAY_BROWNOUT:
        return open == 0 && now_us >= b->next_probe_us;
    case RELAY_HELD:
        break;
    }
    return false;
}

bool bagstate_may_send(const struct bagstate *b)
{
    return b->state == RELAY_UP || b->state == RELAY_DRAINING || b->state == RELAY_CANARY ||
           (b->state == RELAY_BROWNOUT && b->slow);
}

bool bagstate_one_by_one(const struct bagstate *b)
{
    return b->state == RELAY_CANARY || b->state == RELAY_BROWNOUT;
}

bool bagstate_believes(const struct bagstate *b, const struct bagstate_config *cfg, uint32_t attempts)
{
    return b->state != RELAY_CANARY || !b->suspicious || b->taken > 0 || attempts >= cfg->suspect_max;
}
