/* test_relay.c - the whole relay against an outlet in memory and a primary on loopback.  Waits poll a condition, with a
 * bound. */
#include "tests/unit/fake_outlet.h"
#include "tests/unit/fake_primary.h"

#include "dataplane/relay/relay.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#define DOMAIN  "example.com"
#define WAIT_US 10000000ull

struct house {
    char dir[SCRATCH_MAX];
    struct domains *domains;
    struct fake_outlet *out;
    struct fake_primary *primary;
    struct relay *relay;
    struct relay_config cfg;
};

#define wait_for(cond)                                                                                                 \
    do {                                                                                                               \
        uint64_t end = clock_boot_us(clock_system()) + WAIT_US;                                                        \
        while (!(cond) && clock_boot_us(clock_system()) < end)                                                         \
            usleep(500);                                                                                               \
        assert_true(cond);                                                                                             \
    } while (0)

static void serve(struct house *h, void (*change)(struct domain *d))
{
    struct domain d;
    char why[256];
    assert_int_equal(domain_init(&d, slice_str(DOMAIN), why), 0);
    d.primaries_n = 1;
    snprintf(d.primaries[0].host, sizeof d.primaries[0].host, "127.0.0.1");
    d.primaries[0].port = h->primary->port;
    if (change)
        change(&d);
    const struct domains_snapshot *s = domains_get(h->domains);
    bool there = domains_find(s, slice_str(DOMAIN)) != NULL;
    domains_put(s);
    assert_int_equal(domains_set(h->domains, &d, there, why), 0);
}

static int setup(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    char why[256];
    log_level_now = LOG_LEVEL_ERROR;
    scratch_make(h->dir, "relay");
    assert_int_equal(domains_open(&h->domains, h->dir, why), 0);
    h->out = fake_open();
    h->primary = primary_new();
    h->cfg = relay_config_default;
    h->cfg.hostname = "satchel.test";
    h->cfg.probe_min_us = 20000;
    h->cfg.probe_max_us = 100000;
    h->cfg.retry_min_us = 50000;
    h->cfg.retry_max_us = 100000;
    serve(h, NULL);
    *state = h;
    return 0;
}

static void start(struct house *h)
{
    assert_int_equal(relay_open(&h->relay, &h->cfg, &h->out->o, h->domains, clock_system()), 0);
}

static int teardown(void **state)
{
    struct house *h = *state;
    char path[128];
    relay_close(&h->relay, 1000000);
    assert_true(h->out->closed);
    for (uint32_t i = 0; i < h->out->n; i++)
        assert_false(h->out->msgs[i]->claimed);
    domains_close(&h->domains);
    primary_free(h->primary);
    fake_free(h->out);
    snprintf(path, sizeof path, "%s/domains.json", h->dir);
    unlink(path);
    rmdir(h->dir);
    free(h);
    return 0;
}

static void add_many(struct house *h, uint32_t n, const char *rcpt)
{
    for (uint32_t i = 0; i < n; i++)
        fake_add(h->out, DOMAIN, "s@sender.test", rcpt, "hello\r\n.dot\r\n..two", 0);
}

static uint32_t ended(struct house *h, enum item_end end)
{
    return fake_count(h->out, DOMAIN, end);
}

static enum relay_state state_now(struct house *h)
{
    struct relay_domain_info info;
    return relay_domain(h->relay, slice_str(DOMAIN), &info) ? info.state : RELAY_IDLE;
}

static void assert_fifo(const struct fake_primary *p, int n)
{
    assert_int_equal(atomic_load(&p->taken_n), n);
    for (int i = 0; i < n; i++)
        assert_int_equal(p->taken[i], i);
}

/* ---- */

static void down_then_up(void **state)
{
    struct house *h = *state;
    start(h);
    add_many(h, 300, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_DOWN);
    uint64_t probes = metric_read(M_RELAY_PROBES);
    wait_for(metric_read(M_RELAY_PROBES) >= probes + 3);
    primary_up(h->primary);
    wait_for(ended(h, ITEM_DELIVERED) == 300);
    assert_fifo(h->primary, 300);
    wait_for(state_now(h) == RELAY_UP);
    assert_true(atomic_load(&h->primary->connections) <= 4);
}

/* Mail that comes while other mail is under way is not announced, and goes all the same. */
static void trickle(void **state)
{
    struct house *h = *state;
    primary_up(h->primary);
    start(h);
    for (int i = 0; i < 200; i++) {
        add_many(h, 1, "a@" DOMAIN);
        if (i % 7 == 0)
            usleep(300);
    }
    wait_for(ended(h, ITEM_DELIVERED) == 200);
    assert_fifo(h->primary, 200);
}

static void one_by_one(void **state)
{
    struct house *h = *state;
    atomic_store(&h->primary->no_pipelining, true);
    primary_up(h->primary);
    start(h);
    add_many(h, 50, "a@" DOMAIN " b@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 100);
    assert_fifo(h->primary, 50);
}

/* The primary is slow at RCPT, so that more connections pay: the order stays exact. */
static void strict_over_connections(void **state)
{
    struct house *h = *state;
    primary_up(h->primary);
    start(h);
    add_many(h, 200, "slow@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 200);
    assert_fifo(h->primary, 200);
    assert_true(atomic_load(&h->primary->most_open) > 1);
    assert_true(atomic_load(&h->primary->most_open) <= 4);
}

static void window(struct domain *d)
{
    d->order = ORDER_WINDOW;
}

static void window_over_connections(void **state)
{
    struct house *h = *state;
    serve(h, window);
    primary_up(h->primary);
    start(h);
    add_many(h, 400, "a@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 400);
    assert_int_equal(atomic_load(&h->primary->taken_n), 400);
    assert_true(atomic_load(&h->primary->most_open) > 1);
}

static void large_bodies(void **state)
{
    struct house *h = *state;
    primary_up(h->primary);
    start(h);
    for (int i = 0; i < 20; i++)
        fake_add(h->out, DOMAIN, "s@sender.test", "a@" DOMAIN, "x\r\n.y", 3000000);
    wait_for(ended(h, ITEM_DELIVERED) == 20);
    assert_fifo(h->primary, 20);
}

static void temporary_and_permanent(void **state)
{
    struct house *h = *state;
    primary_up(h->primary);
    start(h);
    fake_add(h->out, DOMAIN, "s@sender.test", "a@" DOMAIN " no@" DOMAIN " later@" DOMAIN, "hi", 0);
    wait_for(ended(h, ITEM_DELIVERED) == 1 && ended(h, ITEM_BOUNCED) == 1);
    assert_int_equal(ended(h, ITEM_LIVE), 1);
    assert_int_equal(h->out->dsns, 1);
    assert_string_equal(h->out->dsn_domain, "sender.test");
    assert_non_null(strstr(h->out->dsn, "Final-Recipient: rfc822; no@" DOMAIN));
    assert_null(strstr(h->out->dsn, "rfc822; later@"));
    wait_for(fake_look(h->out, 0).m.state.attempts >= 3); /* it is tried again */
    assert_int_equal(atomic_load(&h->primary->taken_n), 1);
    add_many(h, 5, "a@" DOMAIN); /* and does not keep others */
    wait_for(ended(h, ITEM_DELIVERED) == 6);
}

/* What was not due when it was claimed, and is when it is asked how long to wait. */
static void due_while_it_is_looked_at(void **state)
{
    struct house *h = *state;
    primary_up(h->primary);
    atomic_store(&h->out->due_passes, true);
    start(h);
    fake_add(h->out, DOMAIN, "s@sender.test", "later@" DOMAIN, "hi", 0);
    wait_for(fake_look(h->out, 0).m.state.attempts >= 3);
    assert_false(atomic_load(&h->out->due_passes));
}

static void null_sender_gets_no_dsn(void **state)
{
    struct house *h = *state;
    primary_up(h->primary);
    start(h);
    fake_add(h->out, DOMAIN, "", "no@" DOMAIN, "hi", 0);
    wait_for(ended(h, ITEM_BOUNCED) == 1);
    assert_int_equal(h->out->dsns, 0);
}

/* 4xx to MAIL is the primary's affair: nothing is counted against the messages. */
static void brownout(void **state)
{
    struct house *h = *state;
    atomic_store(&h->primary->mail_code, 451);
    atomic_store(&h->primary->mail_code_times, 2);
    primary_up(h->primary);
    start(h);
    add_many(h, 20, "a@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 20);
    assert_fifo(h->primary, 20);
    assert_int_equal(fake_look(h->out, 0).m.state.attempts, 1);
}

static void busy_greeting(void **state)
{
    struct house *h = *state;
    atomic_store(&h->primary->greeting, 421);
    primary_up(h->primary);
    start(h);
    add_many(h, 3, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_BROWNOUT);
    atomic_store(&h->primary->greeting, 0);
    wait_for(ended(h, ITEM_DELIVERED) == 3);
}

/* 554 at the greeting is policy towards us: held, not bounced. */
static void refused_greeting(void **state)
{
    struct house *h = *state;
    atomic_store(&h->primary->greeting, 554);
    primary_up(h->primary);
    start(h);
    add_many(h, 3, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_DOWN);
    wait_for(atomic_load(&h->primary->connections) >= 3);
    assert_int_equal(ended(h, ITEM_LIVE), 3);
}

/* A server that wants only five messages a connection is not down. */
static void leaves_in_mid_drain(void **state)
{
    struct house *h = *state;
    atomic_store(&h->primary->leave_after, 5);
    primary_up(h->primary);
    start(h);
    add_many(h, 40, "a@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 40);
    assert_fifo(h->primary, 40);
    assert_true(atomic_load(&h->primary->connections) >= 8);
}

static void leaves_slow_many(void **state)
{
    struct house *h = *state;
    atomic_store(&h->primary->leave_after, 30);
    primary_up(h->primary);
    start(h);
    add_many(h, 200, "slow@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 200);
    assert_fifo(h->primary, 200);
}

static void in_doubt(void **state)
{
    struct house *h = *state;
    uint64_t before = metric_read(M_RELAY_IN_DOUBT);
    atomic_store(&h->primary->close_at_dot, 1);
    primary_up(h->primary);
    start(h);
    add_many(h, 10, "a@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 10);
    assert_fifo(h->primary, 10);
    assert_int_equal(metric_read(M_RELAY_IN_DOUBT) - before, 1);
}

/* One message at which the server always breaks must not keep the bag for ever. */
static void culprit(void **state)
{
    struct house *h = *state;
    atomic_store(&h->primary->close_at_dot, 3);
    primary_up(h->primary);
    start(h);
    add_many(h, 10, "a@" DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 10);
    assert_int_equal(fake_look(h->out, 0).m.state.attempts, 2);
    assert_int_equal(fake_look(h->out, 1).m.state.attempts, 1);
}

/* A primary that comes back and refuses all it is given: put off, not bounced. */
static void canary_doubts(void **state)
{
    struct house *h = *state;
    h->cfg.retry_min_us = h->cfg.retry_max_us = 400000;
    start(h);
    add_many(h, 8, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_DOWN);
    atomic_store(&h->primary->dot_code, 550);
    primary_up(h->primary);
    wait_for(state_now(h) == RELAY_BROWNOUT);
    assert_int_equal(ended(h, ITEM_LIVE), 8);
    atomic_store(&h->primary->dot_code, 0);
    wait_for(ended(h, ITEM_DELIVERED) == 8);
    assert_int_equal(h->out->dsns, 0);
}

static void held(struct domain *d)
{
    d->held = true;
}

static void held_by_operator(void **state)
{
    struct house *h = *state;
    serve(h, held);
    primary_up(h->primary);
    start(h);
    add_many(h, 3, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_HELD);
    serve(h, NULL);
    relay_kick(h->relay, slice_str(DOMAIN));
    wait_for(ended(h, ITEM_DELIVERED) == 3);
    wait_for(atomic_load(&h->primary->connections) == 1);
}

static void removed_domain_is_held(void **state)
{
    struct house *h = *state;
    char why[256];
    assert_int_equal(domains_remove(h->domains, slice_str(DOMAIN), why), 0);
    primary_up(h->primary);
    start(h);
    add_many(h, 3, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_HELD);
    assert_int_equal(ended(h, ITEM_LIVE), 3);
    serve(h, NULL);
    relay_kick(h->relay, slice_str(DOMAIN));
    wait_for(ended(h, ITEM_DELIVERED) == 3);
}

static void loop_by_name(void **state)
{
    struct house *h = *state;
    struct relay_domain_info info;
    h->primary->name = "satchel.test";
    primary_up(h->primary);
    start(h);
    add_many(h, 2, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_DOWN);
    assert_true(relay_domain(h->relay, slice_str(DOMAIN), &info));
    assert_int_equal(info.last.subject, 4);
    assert_int_equal(info.last.detail, 6);
    assert_int_equal(ended(h, ITEM_LIVE), 2);
}

static void loop_by_address(void **state)
{
    struct house *h = *state;
    char own[64];
    const char *listeners[] = {own, NULL};
    snprintf(own, sizeof own, "*:%u", h->primary->port);
    h->cfg.listeners = listeners;
    primary_up(h->primary);
    start(h);
    add_many(h, 2, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_DOWN);
    wait_for(metric_read(M_RELAY_PROBES) > 0);
    assert_int_equal(atomic_load(&h->primary->connections), 0);
    relay_close(&h->relay, 0);
}

static void keep_one_second(struct domain *d)
{
    d->keep_s = 3600;
}

static void expiry(void **state)
{
    struct house *h = *state;
    serve(h, keep_one_second);
    uint32_t i = fake_add(h->out, DOMAIN, "s@sender.test", "a@" DOMAIN, "hi", 0);
    h->out->msgs[i]->m.arrival_us -= 3601000000ull;
    fake_add(h->out, DOMAIN, "s@sender.test", "a@" DOMAIN, "young", 0);
    start(h);
    wait_for(ended(h, ITEM_EXPIRED) == 1);
    assert_int_equal(ended(h, ITEM_LIVE), 1);
    assert_int_equal(h->out->dsns, 1);
    assert_non_null(strstr(h->out->dsn, "Status: 5.4.7"));
}

static void kick_probes_now(void **state)
{
    struct house *h = *state;
    h->cfg.probe_min_us = h->cfg.probe_max_us = 3600000000ull;
    start(h);
    add_many(h, 3, "a@" DOMAIN);
    wait_for(state_now(h) == RELAY_DOWN);
    primary_up(h->primary);
    relay_kick(h->relay, slice_str(DOMAIN));
    wait_for(ended(h, ITEM_DELIVERED) == 3);
}

/* The end of a message cannot be stored: it would be delivered again and again. */
static void pauses_when_ends_are_lost(void **state)
{
    struct house *h = *state;
    h->out->finish_error = -SATCHEL_EFENCED;
    primary_up(h->primary);
    start(h);
    add_many(h, 50, "a@" DOMAIN);
    wait_for(atomic_load(&h->primary->taken_n) > 0);
    wait_for(fake_look(h->out, 49).claimed == false);
    assert_true(atomic_load(&h->primary->taken_n) <= 2);
}

static void unreadable_body(void **state)
{
    struct house *h = *state;
    h->out->read_error = -SATCHEL_EDAMAGED;
    primary_up(h->primary);
    start(h);
    add_many(h, 1, "a@" DOMAIN);
    wait_for(fake_look(h->out, 0).m.state.held);
    assert_int_equal(atomic_load(&h->primary->taken_n), 0);
}

static void smarthost(void **state)
{
    struct house *h = *state;
    char hub[64];
    snprintf(hub, sizeof hub, "127.0.0.1:%u", h->primary->port);
    h->cfg.smarthost = hub;
    primary_up(h->primary);
    uint32_t i = fake_add(h->out, "elsewhere.test", "", "s@elsewhere.test", "a notification", 0);
    h->out->msgs[i]->m.client.n = 0; /* made here */
    start(h);
    wait_for(fake_count(h->out, "elsewhere.test", ITEM_DELIVERED) == 1);
    relay_close(&h->relay, 0);
}

/* ---- claims that are withdrawn: by a lease that ended, by a hand-over */

static bool none_claimed(struct house *h)
{
    for (uint32_t i = 0; i < h->out->n; i++)
        if (fake_look(h->out, i).claimed)
            return false;
    return true;
}

/* Over several connections, in the middle of it all: nothing more goes out, what was taken is said, and it goes on
 * where it stopped. */
static void withdrawn_in_mid_drain(void **state)
{
    struct house *h = *state;
    uint64_t doubts = metric_read(M_RELAY_IN_DOUBT);
    primary_up(h->primary);
    start(h);
    add_many(h, 300, "slow@" DOMAIN);
    for (int round = 1; round <= 5; round++) {
        wait_for(atomic_load(&h->primary->taken_n) >= round * 20);
        fake_shut(h->out, DOMAIN);
        wait_for(none_claimed(h));
        int taken = atomic_load(&h->primary->taken_n);
        assert_int_equal(ended(h, ITEM_DELIVERED), taken);
        fake_unshut(h->out, DOMAIN);
    }
    wait_for(ended(h, ITEM_DELIVERED) == 300);
    assert_fifo(h->primary, 300);
    assert_true(atomic_load(&h->primary->most_open) > 1);
    assert_int_equal(metric_read(M_RELAY_IN_DOUBT), doubts);
    struct relay_domain_info info;
    assert_true(relay_domain(h->relay, slice_str(DOMAIN), &info));
    assert_int_equal(info.deferred, 0);
    assert_int_equal(info.last.code, 0); /* no failure of the primary was seen */
}

/* The claim is withdrawn at the first, second, third ... question about a message: the primary has it when its dot was
 * out by then, and not before. How many questions come before the dot depends on how the bytes travel. */
static void withdrawn_at_each_question(void **state)
{
    struct house *h = *state;
    int first_out = 0;
    primary_up(h->primary);
    start(h);
    for (int k = 1; k <= 12; k++) {
        atomic_store(&h->out->shut_asks, k);
        uint32_t i = fake_add(h->out, DOMAIN, "s@sender.test", "a@" DOMAIN, "hi", 0);
        wait_for(fake_look(h->out, i).m.state.live == 0 || ((atomic_load(&h->out->era) & 1) && none_claimed(h)));
        bool out = fake_look(h->out, i).m.state.live == 0;
        assert_int_equal(atomic_load(&h->primary->taken_n), (int)i + out);
        if (out && !first_out)
            first_out = k;
        atomic_store(&h->out->shut_asks, 0);
        fake_unshut(h->out, DOMAIN);
        wait_for(fake_look(h->out, i).m.state.live == 0);
    }
    assert_true(first_out > 3);
    assert_fifo(h->primary, 12);
}

static bool was_taken(const struct fake_primary *p, int number)
{
    for (int i = 0; i < atomic_load(&p->taken_n); i++)
        if (p->taken[i] == number)
            return true;
    return false;
}

/* Claims in the midst of others, whose end came from elsewhere: these are not sent, the others all, in order.  Dots
 * leave one by one: what is at least two places behind the last one taken had none yet. */
static void withdrawn_one_by_one(void **state)
{
    struct house *h = *state;
    int over[10], over_n = 0;
    primary_up(h->primary);
    start(h);
    add_many(h, 300, "slow@" DOMAIN);
    for (int round = 1; round <= 10; round++) {
        wait_for(atomic_load(&h->primary->taken_n) >= round * 20);
        int i = h->primary->taken[atomic_load(&h->primary->taken_n) - 1] + 2 + round % 4 * 3;
        fake_end(h->out, (uint32_t)i);
        if (h->primary->taken[atomic_load(&h->primary->taken_n) - 1] + 1 < i)
            over[over_n++] = i;
    }
    wait_for(ended(h, ITEM_DELIVERED) == 300);
    int n = atomic_load(&h->primary->taken_n);
    assert_true(over_n > 0);
    for (int i = 0; i < over_n; i++)
        assert_false(was_taken(h->primary, over[i]));
    for (int i = 1; i < n; i++)
        assert_true(h->primary->taken[i - 1] < h->primary->taken[i]);
    assert_true(n >= 290 && n <= 300 - over_n);
}

static int unread_at(const struct fake_primary *p)
{
    int n = 0;
    return ioctl(p->conns[0]->fd, FIONREAD, &n) == 0 ? n : -1;
}

/* The whole body and the dot lie in our buffer, and the kernel has taken a part: the rest must not follow. */
static void withdrawn_before_the_kernel_has_the_dot(void **state)
{
    struct house *h = *state;
    int small = 4096, mss = 536;
    setsockopt(h->primary->listen_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(h->primary->listen_fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss);
    atomic_store(&h->primary->deaf_in_body, true);
    primary_up(h->primary);
    start(h);
    fake_add(h->out, DOMAIN, "s@sender.test", "a@" DOMAIN, "hi", 240000);
    wait_for(atomic_load(&h->primary->bodies) == 1);
    wait_for(unread_at(h->primary) > 1000);
    fake_shut(h->out, DOMAIN);
    wait_for(none_claimed(h));
    atomic_store(&h->primary->deaf_in_body, false);
    fake_unshut(h->out, DOMAIN);
    wait_for(ended(h, ITEM_DELIVERED) == 1);
    assert_int_equal(atomic_load(&h->primary->taken_n), 1);
    assert_int_equal(atomic_load(&h->primary->bodies), 2);
}

static void withdrawn_ends_nothing(void **state)
{
    struct house *h = *state;
    serve(h, keep_one_second);
    uint32_t i = fake_add(h->out, DOMAIN, "s@sender.test", "a@" DOMAIN, "hi", 0);
    h->out->msgs[i]->m.arrival_us -= 3601000000ull;
    atomic_store(&h->out->shut_asks, 1);
    start(h);
    wait_for(atomic_load(&h->out->era) & 1);
    wait_for(fake_look(h->out, i).releases > 0);
    assert_int_equal(ended(h, ITEM_LIVE), 1);
    assert_int_equal(h->out->dsns, 0);
}

/* Refused for good, and withdrawn while it was on its way: another node will hear that from the primary itself. */
static void withdrawn_bounces_nothing(void **state)
{
    struct house *h = *state;
    primary_up(h->primary);
    start(h);
    for (int k = 1; k <= 8 && ended(h, ITEM_BOUNCED) == 0; k++) {
        atomic_store(&h->out->shut_asks, k);
        uint32_t i = fake_add(h->out, DOMAIN, "s@sender.test", "no@" DOMAIN, "hi", 0);
        wait_for(fake_look(h->out, i).m.state.live == 0 || ((atomic_load(&h->out->era) & 1) && none_claimed(h)));
        bool shut = atomic_load(&h->out->era) & 1;
        assert_int_equal(h->out->dsns, shut ? 0 : 1);
        assert_int_equal(fake_look(h->out, i).m.state.attempts, shut ? 0 : 1);
        atomic_store(&h->out->shut_asks, 0);
        h->out->msgs[i]->m.state.live = shut ? 0 : h->out->msgs[i]->m.state.live; /* out of the way of the next */
        fake_unshut(h->out, DOMAIN);
    }
    assert_int_equal(ended(h, ITEM_BOUNCED), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(down_then_up),
        T(trickle),
        T(one_by_one),
        T(strict_over_connections),
        T(window_over_connections),
        T(large_bodies),
        T(temporary_and_permanent),
        T(due_while_it_is_looked_at),
        T(null_sender_gets_no_dsn),
        T(brownout),
        T(busy_greeting),
        T(refused_greeting),
        T(leaves_in_mid_drain),
        T(leaves_slow_many),
        T(in_doubt),
        T(culprit),
        T(canary_doubts),
        T(held_by_operator),
        T(removed_domain_is_held),
        T(loop_by_name),
        T(loop_by_address),
        T(expiry),
        T(kick_probes_now),
        T(pauses_when_ends_are_lost),
        T(unreadable_body),
        T(smarthost),
        T(withdrawn_in_mid_drain),
        T(withdrawn_at_each_question),
        T(withdrawn_one_by_one),
        T(withdrawn_before_the_kernel_has_the_dot),
        T(withdrawn_ends_nothing),
        T(withdrawn_bounces_nothing),
    };
    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
