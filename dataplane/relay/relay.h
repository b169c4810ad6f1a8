/* relay.h - the way out: one thread that drains the bags into the primaries.
 *
 * Thread: relay_open/relay_close from the composition root; relay_* queries from any thread.
 * The parts are sans-I/O and tested alone: route.h (where to), bagstate.h (UP, BROWNOUT, DOWN, CANARY, ...),
 * smtp/client.h (the dialogue), dsn.h; this file joins them with sockets, c-ares and the outlet door. */
#pragma once
#include "dataplane/conf/domains.h"
#include "spool/outlet.h"

struct relay;

struct relay_config {
    const char *hostname;                /* EHLO name, and reporting MTA of DSNs */
    const char *const *nameservers;      /* "127.0.0.1:5353"; NULL-terminated; NULL or empty: the system's */
    uint32_t max_connections;            /* all domains together; 512 */
    uint64_t connect_timeout_us;         /* 30 s */
    uint64_t probe_min_us, probe_max_us; /* backoff while a primary is down: 5 s .. 60 s, with jitter */
    uint64_t retry_min_us, retry_max_us; /* an item put off by a 4xx of its own: 60 s .. 1 h */
    bool dsn;                            /* make DSNs for bounced and expired items (RFC 3464) */
    const char *const *listeners; /* our own: "127.0.0.1:2525", "*:25"; NULL-terminated; NULL: none. A primary that is
                                     one of them is a loop: its mail is held */
    const char *smarthost; /* "host:port": route for mail to domains that are not served (DSNs); NULL: their MX */
};
extern const struct relay_config relay_config_default;

/* Takes over the outlet door (its thread uses and at last closes it) and starts; on error the door stays the caller's.
 * What cfg points to lives as long as the relay. Errors: -SATCHEL_E*. */
int relay_open(struct relay **r_r, const struct relay_config *cfg, struct outlet *outlet, struct domains *domains,
               const struct clock *clock);
/* drain_us: how long running transactions may take to end. */
void relay_close(struct relay **r, uint64_t drain_us);

enum relay_state { RELAY_UP, RELAY_BROWNOUT, RELAY_DOWN, RELAY_CANARY, RELAY_DRAINING, RELAY_HELD, RELAY_IDLE };
const char *relay_state_name(enum relay_state s); /* "up", "brownout", ... ; "idle": nothing was tried yet */

struct relay_domain_info {
    enum relay_state state;
    uint64_t since_us;      /* wall clock */
    uint64_t next_probe_us; /* wall clock; 0: none planned */
    uint32_t connections, in_flight;
    uint64_t delivered, deferred, bounced; /* items since start */
    char address[64];                      /* "192.0.2.1:25" last used */
    struct smtp_status last;               /* last failure; code and class 0: none */
};
/* false: the relay has nothing to say of this domain. Any thread. */
bool relay_domain(struct relay *r, struct slice domain, struct relay_domain_info *info_r);
/* Probe at once, whatever the backoff says (queue flush, domain changed). Any thread. */
void relay_kick(struct relay *r, struct slice domain);
