/* etcd_auth.c - the token of an etcd with users: asked for when someone waits for it, again when etcd forgot it.
 * Simple tokens end 300 s after their last use, and with the member that is restarted. */
#include "cluster/coord/etcd_int.h"
#include "spool/base/log.h"

#include <stdlib.h>

#define DENIED_PAUSE_US UINT64_C(2000000) /* a wrong password does not get right by asking faster */

static void auth_enter(struct etcd *e, enum etcd_auth_state state)
{
    static const char *const names[] = {"open", "needed", "asked", "held"};
    log_debug("coord.auth", "from=%s to=%s", names[e->auth], names[state]);
    e->auth = state;
}

bool etcd_auth_ready(const struct etcd *e)
{
    return e->auth == AUTH_OPEN || e->auth == AUTH_HELD;
}

static bool auth_wanted(const struct etcd *e)
{
    return e->auth == AUTH_NEEDED && (!TAILQ_EMPTY(&e->waiting) || etcd_watches_waiting(e));
}

void etcd_auth_run(struct etcd *e, uint64_t now)
{
    if (!auth_wanted(e) || now < e->auth_retry_us || now < e->retry_us)
        return;
    struct etcd_call *c = etcd_call_new(e, ETCD_AUTH, NULL);
    c->body = etcd_json_auth(e->user, e->password);
    auth_enter(e, AUTH_ASKED);
}

uint64_t etcd_auth_next_us(const struct etcd *e)
{
    if (!auth_wanted(e))
        return UINT64_MAX;
    return e->auth_retry_us > e->retry_us ? e->auth_retry_us : e->retry_us;
}

void etcd_auth_lost(struct etcd *e, uint64_t token_gen)
{
    if (token_gen != e->token_gen || !etcd_auth_ready(e))
        return;
    free(e->token);
    e->token = NULL;
    auth_enter(e, AUTH_NEEDED);
}

static void auth_denied(struct etcd *e, const char *why)
{
    auth_enter(e, AUTH_NEEDED);
    e->auth_retry_us = clock_boot_us(e->clock) + DENIED_PAUSE_US;
    etcd_calls_deny(e, why);
}

void etcd_auth_done(struct etcd *e, const struct etcd_reply *r)
{
    switch (r->outcome) {
    case ETCD_OK:
        e->token = r->token;
        e->token_gen++;
        auth_enter(e, AUTH_HELD);
        break;
    case ETCD_NO_AUTH:
        log_warning("coord.no_auth",
                    "endpoint=%s why=\"etcd asks for no user: anyone who reaches it may write; run "
                    "etcdctl auth enable\"",
                    e->endpoints[e->current]);
        e->token_gen++;
        auth_enter(e, AUTH_OPEN);
        break;
    case ETCD_UNAVAILABLE:
    case ETCD_NONSENSE:
        auth_enter(e, AUTH_NEEDED);
        break;
    default:
        auth_denied(e, r->why);
    }
}
