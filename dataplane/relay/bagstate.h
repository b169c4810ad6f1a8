/* bagstate.h - the state of one domain on its way out, as a pure step(state, event, now): no clock, no I/O, no malloc.
 *
 *   IDLE      nothing was tried yet                           one connection
 *   UP        the primary takes mail, the bag is (nearly) empty   up to `width` connections
 *   DOWN      not reachable, or no route                      one probe at a time, with backoff
 *   BROWNOUT  reachable, but 4xx before any recipient, 421, slow, or it refuses all it is given
 *                                                             as DOWN; when only slow: one connection, no waiting
 *   CANARY    reached again: the first few messages, on one connection, one after the other
 *   DRAINING  the backlog goes out                            width grows by one, shrinks by half
 *   HELD      by the operator, or the domain is served no more    nothing
 *
 *   IDLE     -> CANARY (reached) | DOWN | BROWNOUT
 *   CANARY   -> DRAINING (canary_n messages taken) | UP (bag empty, some taken) | DOWN | BROWNOUT
 *   DRAINING -> UP (bag empty) | DOWN | BROWNOUT
 *   UP       -> DRAINING never: a bag that fills while the primary is up is simply sent | DOWN | BROWNOUT
 *   DOWN, BROWNOUT -> CANARY (reached) | DOWN | BROWNOUT; never straight to UP: a primary that answers EHLO may still
 *               refuse everything
 *   any      -> HELD -> IDLE
 *
 * Backoff: probe_min, then half as long again each time, up to probe_max.  The wait is thus about a third of the outage
 * so far: a primary that was restarted is seen within seconds, one that was away for hours within probe_max (a minute);
 * a probe is one connection, so a minute is cheap even with thousands of domains down.  Jitter takes up to a quarter
 * off, never adds: probe_max is a promise.  The backoff starts anew only when a canary has passed. */
#pragma once
#include "dataplane/relay/relay.h"
#include "spool/base/rng.h"

struct bagstate_config {
    uint64_t probe_min_us, probe_max_us;
    uint32_t canary_n;     /* messages taken before the canary has passed; 3 */
    uint32_t width_grow;   /* messages taken, times width, before width grows by one; 8 */
    uint64_t slow_us;      /* mean time to take a message above which the primary is in BROWNOUT; 10 s */
    uint32_t deferred_max; /* messages put off in a row that make a BROWNOUT; 5 */
    uint32_t crowded_calm; /* messages taken before another connection is tried after BAG_CROWDED; 1000 */
    uint32_t suspect_max;  /* attempts after which a refusal by a returned primary is believed; 5 */
};
extern const struct bagstate_config bagstate_config_default;

enum bag_event {
    BAG_TRY,         /* a connection attempt began */
    BAG_REACHED,     /* greeting and EHLO passed */
    BAG_CROWDED,     /* one more connection was not let in; value: how many work */
    BAG_UNREACHABLE, /* no route, no connection, refused at the greeting for good, no EHLO */
    BAG_LOST,        /* a connection broke with messages under way */
    BAG_BUSY,        /* 4xx at greeting or MAIL, 421 */
    BAG_TAKEN,       /* a message was taken by the primary; value: how long that took, in us */
    BAG_DEFERRED,    /* 4xx for a whole message on its own account */
    BAG_REFUSED,     /* 5xx for a whole message */
    BAG_EMPTY,       /* nothing is left to send now */
    BAG_HOLD,        /* by the operator, or not served */
    BAG_UNHOLD,
    BAG_KICK, /* probe now */
};

struct bagstate {
    enum relay_state state;
    bool probing;           /* DOWN, BROWNOUT: an attempt is under way */
    bool suspicious;        /* CANARY after an outage: refusals are not believed yet */
    bool slow;              /* BROWNOUT because of slowness alone */
    uint32_t width;         /* connections allowed in UP and DRAINING */
    uint32_t calm;          /* messages to be taken before width may grow again */
    uint32_t failures;      /* since the last canary that passed */
    uint32_t taken;         /* CANARY: messages taken; else: since width changed */
    uint32_t deferred;      /* messages put off in a row */
    uint32_t refused;       /* CANARY: messages refused before any was taken */
    uint64_t next_probe_us; /* boot clock; DOWN, BROWNOUT */
    uint64_t mean_us;       /* moving mean of the time to take a message */
    struct rng rng;
};

void bagstate_init(struct bagstate *b, uint64_t seed);
/* now_us: boot clock. max_width: the domain's limit of connections. Returns whether the state changed. */
bool bagstate_step(struct bagstate *b, const struct bagstate_config *cfg, enum bag_event e, uint64_t value,
                   uint64_t now_us, uint32_t max_width);
/* May one more connection be opened, with `open` there already? */
bool bagstate_may_connect(const struct bagstate *b, uint64_t now_us, uint32_t open);
/* May messages be given to a connection that is ready? */
bool bagstate_may_send(const struct bagstate *b);
/* One message at a time, nothing riding behind its dot. */
bool bagstate_one_by_one(const struct bagstate *b);
/* A message was refused for good, on its attempt number `attempts` (from 0): is that believed (bounce), or is it the
 * primary that is odd (put off)? Ask before BAG_REFUSED is stepped. */
bool bagstate_believes(const struct bagstate *b, const struct bagstate_config *cfg, uint32_t attempts);
