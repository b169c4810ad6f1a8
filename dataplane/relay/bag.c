/* bag.c - a domain at work: what is claimed, in which order it goes, how many connections it may have.
 *
 * Order.  A message gets a number when it is claimed; `todo` and `flight` are sorted by it.  With ORDER_STRICT a final
 * dot is sent only for the oldest message there is; with ORDER_WINDOW only after the dots of all older ones.  A message
 * that comes back (its connection broke) returns to its place at the head of `todo`, and younger ones wait for it. */
#include "dataplane/relay/relay_impl.h"

#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <stdlib.h>

struct slice bag_name(const struct bag *b)
{
    return slice_of(b->name, b->name_n);
}

struct bag *bag_new(struct relay *r, struct slice domain)
{
    struct bag *b = calloc(1, sizeof *b + domain.n + 1);
    if (!b)
        return NULL;
    b->r = r;
    b->name_n = (uint8_t)domain.n;
    memcpy(b->name, domain.p, domain.n);
    b->wake.owner = b;
    b->version = UINT64_MAX;
    b->quiet_us = r->now_us;
    b->pub.state = RELAY_IDLE;
    b->pub.since_us = clock_wall_us(r->clock);
    bagstate_init(&b->st, rng_u64(&r->rng));
    return b;
}

void bag_free(struct bag *b)
{
    wake_cancel(&b->r->wakes, &b->wake);
    free(b);
}

void bag_soon(struct bag *b)
{
    struct relay *r = b->r;
    if (b->in_run)
        return;
    b->in_run = true;
    b->run_next = NULL;
    *(r->run_tail ? &r->run_tail->run_next : &r->run_head) = b;
    r->run_tail = b;
}

bool bag_idle(const struct bag *b)
{
    return !b->conns && !b->todo.head && !b->in_run && !b->waiting && !b->more && b->st.state != RELAY_HELD;
}

/* ---- lists */

static void list_remove(struct msg_list *l, struct relay_msg *x)
{
    *(x->prev ? &x->prev->next : &l->head) = x->next;
    *(x->next ? &x->next->prev : &l->tail) = x->prev;
    x->prev = x->next = NULL;
}

/* By number; what is inserted is nearly always the youngest (claimed) or the oldest (back). */
static void list_insert(struct msg_list *l, struct relay_msg *x)
{
    struct relay_msg *after = l->tail;
    while (after && after->seq > x->seq)
        after = after->prev;
    x->prev = after;
    x->next = after ? after->next : l->head;
    *(x->next ? &x->next->prev : &l->tail) = x;
    *(after ? &after->next : &l->head) = x;
}

static struct relay_msg *msg_new(struct relay *r)
{
    struct relay_msg *x = r->spare;
    if (x)
        r->spare = x->next;
    else
        x = malloc(sizeof *x);
    return x;
}

void bag_msg_free(struct relay *r, struct relay_msg *x)
{
    x->next = r->spare;
    r->spare = x;
}

/* ---- state */

static void publish(struct bag *b, const struct smtp_status *failure, bool changed)
{
    struct relay *r = b->r;
    uint64_t wall = clock_wall_us(r->clock);
    bool waits = b->st.state == RELAY_DOWN || b->st.state == RELAY_BROWNOUT;
    pthread_mutex_lock(&r->lock);
    b->pub.state = b->st.state;
    if (changed)
        b->pub.since_us = wall;
    b->pub.connections = b->conns_n;
    b->pub.in_flight = b->flight_n;
    b->pub.next_probe_us = 0;
    if (waits && !b->st.slow)
        b->pub.next_probe_us = b->st.next_probe_us > r->now_us ? wall + (b->st.next_probe_us - r->now_us) : wall;
    if (failure)
        b->pub.last = *failure;
    pthread_mutex_unlock(&r->lock);
}

static void log_state(struct bag *b, enum relay_state old, const struct smtp_status *st)
{
    char text[SMTP_STATUS_TEXT_MAX + 32] = "", quoted[600];
    if (st)
        status_format(st, text, sizeof text);
    log_info("relay.state", "domain=%s old=%s new=%s width=%u why=%s", b->name, relay_state_name(old),
             relay_state_name(b->st.state), b->st.width, log_quote(slice_str(text), quoted, sizeof quoted));
}

/* The primary is gone: whoever has not sent a dot yet need not go on, and nothing stays claimed. */
static void withdraw(struct bag *b)
{
    for (struct conn *c = b->conns, *next; c; c = next) {
        next = c->next;
        if (c->state == CONN_TALKING)
            conn_soon(c); /* it sees that nothing may be sent any more */
    }
    bag_release_all(b);
}

void bag_event(struct bag *b, enum bag_event e, uint64_t value, const struct smtp_status *st)
{
    struct relay *r = b->r;
    enum relay_state old = b->st.state;
    bool changed = bagstate_step(&b->st, &r->state_cfg, e, value, r->now_us, b->connections);
    if (changed) {
        log_state(b, old, st);
        r->down_n += (uint32_t)(b->st.state == RELAY_DOWN) - (uint32_t)(old == RELAY_DOWN);
        metric_set(M_RELAY_DOMAINS_DOWN, r->down_n);
    }
    if (changed || st)
        publish(b, st, changed);
    if (changed && !bagstate_may_send(&b->st) && b->st.state != RELAY_IDLE)
        withdraw(b);
    if (changed)
        bag_soon(b);
}

/* ---- the registry */

static void read_registry(struct bag *b)
{
    const struct domains_snapshot *s = domains_get(b->r->domains);
    const struct domain *d = domains_find(s, bag_name(b));
    b->served = d != NULL;
    b->held = d && d->held;
    b->connections = d && d->connections ? d->connections : 1;
    b->order = d ? d->order : ORDER_STRICT;
    b->keep_s = d ? d->keep_s : RELAY_KEEP_OWN_S;
    b->gone = false;
    b->more = true;
    domains_put(s);
}

static void refresh(struct bag *b)
{
    uint64_t version = domains_version(b->r->domains);
    if (version == b->version)
        return;
    bool first = b->version == UINT64_MAX;
    b->version = version;
    read_registry(b);
    if (b->held && b->st.state != RELAY_HELD)
        bag_event(b, BAG_HOLD, 0, NULL);
    else if (!b->held && b->st.state == RELAY_HELD)
        bag_event(b, BAG_UNHOLD, 0, NULL);
    else if (!first)
        bag_event(b, BAG_KICK, 0, NULL); /* perhaps its primary was changed */
}

/* Mail from outside for a domain that is served no more: kept, and never bounced for an operator's slip. */
static void hold_gone(struct bag *b)
{
    struct smtp_status st;
    status_set(&st, 0, 4, 3, 5, "the domain is not served any more; its mail is held");
    b->gone = true;
    if (!b->gone_told)
        log_warning("relay.held", "domain=%s why=\"not served any more\"", b->name);
    b->gone_told = true;
    bag_event(b, BAG_HOLD, 0, &st);
    bag_release_all(b);
}

/* ---- claiming */

static void claim(struct bag *b, size_t n)
{
    struct outlet *o = b->r->outlet;
    struct outlet_msg *got[RELAY_BATCH];
    bool foreign = false;
    n = o->ops->claim(o, bag_name(b), CLAIM_DUE, 0, got, n);
    b->more = n > 0;
    b->withdrawn &= n == 0;
    for (size_t i = 0; i < n; i++) {
        struct relay_msg *x = got[i]->state.live ? msg_new(b->r) : NULL;
        if (!x) {
            o->ops->release(o, got[i]);
            continue;
        }
        memset(x, 0, offsetof(struct relay_msg, items));
        x->m = got[i];
        x->seq = ++b->seq;
        foreign |= !b->served && got[i]->client.n > 0;
        list_insert(&b->todo, x);
    }
    if (foreign)
        hold_gone(b);
}

bool bag_may(const struct bag *b, const struct relay_msg *x)
{
    struct outlet *o = b->r->outlet;
    return o->ops->may(o, x->m);
}

static void release_head(struct bag *b)
{
    struct outlet *o = b->r->outlet;
    struct relay_msg *x = b->todo.head;
    list_remove(&b->todo, x);
    o->ops->release(o, x->m);
    bag_msg_free(b->r, x);
    b->more = true;
}

/* A claim once withdrawn stays so.  Where that befell a whole bag, they are the oldest of each list; a single one is
 * seen when it comes to the head, and on the wire by the questions of its connection.  Dots may have waited for it. */
static void release_withdrawn(struct bag *b)
{
    bool any = false;
    for (; b->todo.head && !bag_may(b, b->todo.head); any = true)
        release_head(b);
    b->withdrawn |= any;
    if (any)
        bag_release_dots(b);
}

static void stop_withdrawn(struct bag *b)
{
    release_withdrawn(b);
    for (struct relay_msg *x = b->flight.head; x && !bag_may(b, x); x = x->next)
        if (!x->dot_sent || x->conn->dot == x)
            conn_soon(x->conn); /* sees it, and closes */
}

/* Is there mail to send?  A domain that may be down is asked for one message only. */
static bool has_mail(struct bag *b)
{
    release_withdrawn(b);
    if (!b->todo.head && b->more)
        claim(b, bagstate_may_send(&b->st) && !bagstate_one_by_one(&b->st) ? RELAY_BATCH : 1);
    return b->todo.head != NULL;
}

static bool may_start(const struct bag *b)
{
    const struct relay *r = b->r;
    return !atomic_load(&r->stopping) && r->now_us >= r->paused_until_us;
}

/* Which recipients go into this transaction.  Where there are more than fit, each attempt begins with others, so that
 * some that are always put off do not keep the rest waiting. */
static void choose_items(struct relay_msg *x)
{
    const struct outlet_msg *m = x->m;
    uint32_t live = m->state.live, skip = 0, seen = 0;
    if (live > RELAY_RCPTS_MAX)
        skip = (uint32_t)((uint64_t)m->state.attempts * RELAY_RCPTS_MAX % live);
    x->items_n = 0;
    for (uint32_t i = 0; i < m->rcpts_n && x->items_n < RELAY_RCPTS_MAX; i++) {
        if (state_end(&m->state, i) != ITEM_LIVE || seen++ < skip)
            continue;
        x->items[x->items_n] = i;
        x->rcpts[x->items_n++] = m->rcpts[i];
    }
}

struct relay_msg *bag_take(struct bag *b, struct conn *c)
{
    if (!bagstate_may_send(&b->st) || !may_start(b) || !has_mail(b))
        return NULL;
    if (b->st.state == RELAY_HELD)
        return NULL; /* the claim showed that it is not ours to send */
    struct relay_msg *x = b->todo.head;
    list_remove(&b->todo, x);
    x->conn = c;
    x->read_off = 0;
    x->dot_sent = false;
    x->begun_us = clock_boot_us(b->r->clock);
    choose_items(x);
    list_insert(&b->flight, x);
    b->flight_n++;
    return x;
}

static void leave_flight(struct bag *b, struct relay_msg *x)
{
    list_remove(&b->flight, x);
    b->flight_n--;
    x->conn->msgs_n--;
    x->conn = NULL;
}

void bag_prefetch(struct bag *b)
{
    if (bagstate_may_send(&b->st) && !bagstate_one_by_one(&b->st) && may_start(b))
        has_mail(b);
}

void bag_msg_over(struct bag *b, struct relay_msg *x)
{
    leave_flight(b, x);
    b->more = true; /* mail that came meanwhile was not announced: the bag was not empty */
    bag_release_dots(b);
}

void bag_msg_back(struct bag *b, struct relay_msg *x)
{
    leave_flight(b, x);
    list_insert(&b->todo, x);
    if (!bagstate_may_send(&b->st) && b->st.state != RELAY_IDLE)
        bag_release_all(b);
    bag_soon(b);
}

void bag_release_all(struct bag *b)
{
    while (b->todo.head)
        release_head(b);
}

bool bag_culprit(struct bag *b, const struct relay_msg *x)
{
    if (!msgid_eq(&b->culprit, &x->m->id)) {
        b->culprit = x->m->id;
        b->culprit_n = 0;
    }
    if (++b->culprit_n < RELAY_CULPRIT_MAX)
        return false;
    b->culprit_n = 0;
    return true;
}

/* ---- the order of dots */

bool bag_dot_ok(const struct bag *b, const struct relay_msg *x)
{
    if (!bagstate_may_send(&b->st) || (b->todo.head && b->todo.head->seq < x->seq))
        return false;
    if (b->order == ORDER_STRICT)
        return b->flight.head == x;
    for (const struct relay_msg *o = b->flight.head; o != x; o = o->next)
        if (!o->dot_sent)
            return false;
    return true;
}

void bag_release_dots(struct bag *b)
{
    for (struct relay_msg *x = b->flight.head; x; x = x->next) {
        if (x->dot_sent && b->order == ORDER_STRICT)
            return;
        if (x->dot_sent)
            continue;
        if (x->conn->body != x || !client_dot_held(x->conn->client) || !bag_dot_ok(b, x))
            return;
        conn_soon(x->conn); /* sends it */
        return;             /* and comes back here */
    }
}

/* ---- connections */

/* How many count against the limit: while the primary is away, those that wait for a last answer do not stand in the
 * way of a probe. */
static uint32_t open_now(const struct bag *b)
{
    bool away = b->st.state == RELAY_DOWN || (b->st.state == RELAY_BROWNOUT && !b->st.slow);
    return away ? b->conns_n - b->ready_n : b->conns_n;
}

/* Would one more connection speed things up?  In strict order the dots go one after the other anyway: others can only
 * carry bodies meanwhile, which pays where a message takes long to get across. */
static bool wants_more(const struct bag *b)
{
    if (open_now(b) == 0)
        return true;
    if (b->ready_n < b->conns_n)
        return false; /* one is on its way */
    if (b->order == ORDER_WINDOW || b->setup_us > RELAY_WIDEN_US)
        return true;
    return b->flight.head && b->todo.head && b->todo.head->seq < b->flight.head->seq; /* all others wait for this one */
}

static void wait_in_line(struct bag *b)
{
    struct relay *r = b->r;
    if (b->waiting)
        return;
    b->waiting = true;
    b->wait_next = NULL;
    *(r->wait_tail ? &r->wait_tail->wait_next : &r->wait_head) = b;
    r->wait_tail = b;
}

static void connect_more(struct bag *b)
{
    struct relay *r = b->r;
    uint32_t tries = 0; /* each may fail at once */
    while (tries++ < b->connections && may_start(b) && bagstate_may_connect(&b->st, r->now_us, open_now(b)) &&
           wants_more(b) && has_mail(b) && b->st.state != RELAY_HELD) {
        if (r->conns_n >= r->cfg.max_connections) {
            wait_in_line(b);
            return;
        }
        conn_open(b);
    }
}

/* ---- running */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When to look at the bag again if nothing happens before. */
static void set_wake(struct bag *b)
{
    struct relay *r = b->r;
    struct outlet *o = r->outlet;
    struct bag_stat s;
    uint64_t at = UINT64_MAX, now = r->now_us;
    o->ops->stat(o, bag_name(b), &s);
    if (s.messages > 0)
        b->quiet_us = now;
    else
        at = later(b->quiet_us, RELAY_FORGET_US);
    if (s.messages > 0 && !b->gone) {
        uint64_t due = o->ops->next_due(o, bag_name(b)), wall = clock_wall_us(r->clock);
        /* Its announcement was swallowed by our own claims, or it became due since we asked for some. */
        bool missed = s.messages > s.held + s.deferred + s.claimed || due <= wall;
        at = later(now, 60000000); /* expiry */
        if (b->st.next_probe_us)
            at = earlier(at, b->st.next_probe_us > now ? b->st.next_probe_us : now + 1000000);
        else if (b->st.state != RELAY_HELD && missed)
            at = earlier(at, now + 1000000);
        if (due != UINT64_MAX && due > wall)
            at = earlier(at, later(clock_boot_us(r->clock), due - wall));
    }
    if (now < r->paused_until_us)
        at = earlier(at, r->paused_until_us);
    wake_set(&r->wakes, &b->wake, at);
}

static void feed_ready(struct bag *b)
{
    if (b->ready_n == 0 || (!b->todo.head && !b->more))
        return;
    for (struct conn *c = b->conns; c; c = c->next)
        if (c->ready && c->msgs_n == 0)
            conn_soon(c);
}

void bag_run(struct bag *b)
{
    refresh(b);
    stop_withdrawn(b);
    expire_bag(b);
    if (b->st.state != RELAY_HELD) {
        feed_ready(b);
        connect_more(b);
        if (open_now(b) == 0 && b->todo.head)
            bag_release_all(b); /* claimed for a probe whose time has not come */
    }
    bool quiet = !b->todo.head && b->flight_n == 0;
    if (quiet && !b->more && bagstate_may_send(&b->st))
        bag_event(b, BAG_EMPTY, 0, NULL);
    if (quiet || !b->wake.place)
        set_wake(b);
    publish(b, NULL, false);
}
