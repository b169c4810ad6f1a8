/* test_smtp_server.c - the worker's glue over a transport and a door made of memory, with a registry of real domains.
 */
#include "dataplane/smtp/server.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h> /* needs the ones above */

/* ---- a transport of memory */

struct mem_conn {
    struct conn c;
    _Alignas(16) uint8_t session[1024];
    char out[16384];
    size_t out_n;
    unsigned resumed;
    uint64_t timer_us;
    bool closed;
};

struct mem_transport {
    struct transport t;
    struct transport_app app;
    bool accepting, stopped;
    unsigned woken;
    int watched;
};

static struct mem_conn *mem_of(struct conn *c)
{
    return (struct mem_conn *)c;
}

static void mem_send(struct conn *c, struct slice data)
{
    struct mem_conn *m = mem_of(c);
    assert_true(m->out_n + data.n < sizeof m->out);
    memcpy(m->out + m->out_n, data.p, data.n);
    m->out_n += data.n;
    m->out[m->out_n] = 0;
}

static void mem_resume(struct conn *c)
{
    mem_of(c)->resumed++;
}

static void mem_close(struct conn *c)
{
    mem_of(c)->closed = true;
}

static void mem_timer(struct conn *c, uint64_t in_us)
{
    mem_of(c)->timer_us = in_us;
}

static int mem_watch(struct transport *t, int fd)
{
    ((struct mem_transport *)t)->watched = fd;
    return 0;
}

static void mem_stop_accepting(struct transport *t)
{
    ((struct mem_transport *)t)->accepting = false;
}

static void mem_stop(struct transport *t)
{
    ((struct mem_transport *)t)->stopped = true;
}

static void mem_wake(struct transport *t)
{
    ((struct mem_transport *)t)->woken++;
}

static const struct transport_ops mem_ops = {.send = mem_send,
                                             .resume = mem_resume,
                                             .close = mem_close,
                                             .timer = mem_timer,
                                             .watch = mem_watch,
                                             .stop_accepting = mem_stop_accepting,
                                             .stop = mem_stop,
                                             .wake = mem_wake};

/* ---- a door of memory: one transaction at a time */

struct intake_txn {
    bool open, committed;
    intake_done *done;
    void *arg;
    char body[4096], trace[1024];
    size_t n;
};

static struct intake_txn txn;
static bool hold;
static unsigned polls, stored;

static int mem_admit(struct intake *in, uint64_t size_hint)
{
    (void)in;
    (void)size_hint;
    return 0;
}

static int mem_begin(struct intake *in, const struct envelope *envs, size_t n, intake_trace *trace, void *trace_arg,
                     struct intake_txn **txn_r)
{
    struct msgid id = {.counter = 7};
    (void)in;
    assert_false(txn.open);
    assert_int_equal(n, 1);
    txn = (struct intake_txn){.open = true};
    txn.trace[trace(trace_arg, envs, &id, txn.trace, sizeof txn.trace)] = 0;
    *txn_r = &txn;
    return 0;
}

static int mem_append(struct intake_txn *t, struct slice data, intake_room *room, void *arg)
{
    (void)room;
    (void)arg;
    memcpy(t->body + t->n, data.p, data.n);
    t->n += data.n;
    return 0;
}

static int mem_commit(struct intake_txn *t, intake_done *done, void *arg)
{
    t->committed = true;
    t->done = done;
    t->arg = arg;
    return 0;
}

static void mem_txn_abort(struct intake_txn *t)
{
    t->open = false;
    t->done = NULL;
}

static void mem_poll(struct intake *in)
{
    struct msgid id = {.counter = 7};
    (void)in;
    polls++;
    if (hold || !txn.committed)
        return;
    stored++;
    intake_done *done = txn.done;
    txn.open = txn.committed = false;
    if (done)
        done(txn.arg, 0, &id, 1);
}

static bool mem_sleep(struct intake *in)
{
    (void)in;
    return !txn.committed;
}

static const struct intake_ops door_ops = {.admit = mem_admit,
                                           .begin = mem_begin,
                                           .append = mem_append,
                                           .commit = mem_commit,
                                           .abort = mem_txn_abort,
                                           .poll = mem_poll,
                                           .sleep = mem_sleep};

/* ---- the world of a test */

struct world {
    char dir[SCRATCH_MAX];
    struct domains *domains;
    struct intake door;
    struct mem_transport t;
    struct smtp_worker *w;
    struct smtp_server_config cfg;
};

static void add_domain(struct world *w, const char *name, bool pending)
{
    struct domain d;
    char why[256];
    assert_int_equal(domain_init(&d, slice_str(name), why), 0);
    assert_int_equal(primary_parse(SLICE_LIT("127.0.0.1:25"), &d.primaries[0], why), 0);
    d.primaries_n = 1;
    d.pending = pending;
    assert_int_equal(domains_set(w->domains, &d, false, why), 0);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    char why[256];
    log_level_now = LOG_LEVEL_ERROR;
    txn = (struct intake_txn){0};
    hold = false;
    polls = stored = 0;
    scratch_make(w->dir, "smtp");
    assert_int_equal(domains_open(&w->domains, w->dir, why), 0);
    add_domain(w, "example.com", false);
    w->door = (struct intake){.ops = &door_ops, .fd = 42};
    w->cfg = smtp_server_config_default;
    w->cfg.hostname = "mx.test";
    w->cfg.max_sessions = 2;
    assert_int_equal(smtp_worker_open(&w->w, &w->cfg, w->domains, &w->door), 0);
    w->t = (struct mem_transport){.t = {.ops = &mem_ops}, .app = smtp_worker_app(w->w), .accepting = true};
    assert_int_equal(smtp_worker_attach(w->w, &w->t.t), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char path[128];
    smtp_worker_close(&w->w);
    assert_null(w->w);
    domains_close(&w->domains);
    snprintf(path, sizeof path, "%s/domains.json", w->dir);
    unlink(path);
    rmdir(w->dir);
    free(w);
    return 0;
}

static void connect_from(struct world *w, struct mem_conn *m, const char *address)
{
    struct sockaddr_storage peer = {.ss_family = strchr(address, ':') ? AF_INET6 : AF_INET};
    void *ip = peer.ss_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)&peer)->sin6_addr
                                          : (void *)&((struct sockaddr_in *)&peer)->sin_addr;
    assert_int_equal(inet_pton(peer.ss_family, address, ip), 1);
    assert_true(w->t.app.session_bytes <= sizeof m->session);
    *m = (struct mem_conn){.c = {.t = &w->t.t, .session = m->session}};
    m->c.session = w->t.app.accept(w->t.app.app, &m->c, &peer, &peer);
    assert_non_null(m->c.session);
}

static size_t say(struct world *w, struct mem_conn *m, const char *text)
{
    size_t n = w->t.app.receive(m->c.session, slice_str(text));
    w->t.app.turn(w->t.app.app);
    return n;
}

static void hang_up(struct world *w, struct mem_conn *m)
{
    w->t.app.closed(m->c.session, CONN_END_PEER);
}

static const char *last_line(const struct mem_conn *m)
{
    const char *p = m->out + m->out_n - 2;
    while (p > m->out && p[-1] != '\n')
        p--;
    return p;
}

static void assert_said(const struct mem_conn *m, const char *start)
{
    assert_memory_equal(last_line(m), start, strlen(start));
}

/* ---- tests */

static void takes_a_message(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    uint64_t before = metric_read(M_SMTP_ACCEPTED);
    assert_int_equal(w->t.watched, 42);
    connect_from(w, &m, "2001:db8::7");
    assert_said(&m, "220 mx.test ESMTP");
    assert_int_equal(metric_read(M_SMTP_SESSIONS), 1);
    say(w, &m, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<u@EXAMPLE.com>\r\nDATA\r\n");
    assert_said(&m, "354");
    say(w, &m, "text\r\n.\r\n");
    assert_said(&m, "250 2.0.0 Ok: queued as ");
    assert_int_equal(stored, 1);
    assert_memory_equal(txn.body, "text\r\n", 6);
    assert_non_null(strstr(txn.trace, "[IPv6:2001:db8::7]"));
    assert_non_null(strstr(txn.trace, "by mx.test (Satchel) with ESMTP id "));
    assert_int_equal(metric_read(M_SMTP_ACCEPTED), before + 1);
    assert_true(polls >= 2);
    hang_up(w, &m);
    assert_int_equal(smtp_worker_sessions(w->w), 0);
    assert_int_equal(metric_read(M_SMTP_SESSIONS), 0);
}

static void asks_the_registry(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    connect_from(w, &m, "127.0.0.1");
    say(w, &m, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<u@new.example>\r\n");
    assert_said(&m, "550 5.7.1 Relaying denied");
    add_domain(w, "new.example", false);
    add_domain(w, "soon.example", true);
    say(w, &m, "RCPT TO:<u@new.example>\r\n");
    assert_said(&m, "250 2.1.5");
    say(w, &m, "RCPT TO:<u@soon.example>\r\n");
    assert_said(&m, "550 5.7.1 soon.example is not open yet");
    hang_up(w, &m);
}

static void too_many_sessions(void **state)
{
    struct world *w = *state;
    struct mem_conn m[3];
    for (int i = 0; i < 3; i++)
        connect_from(w, &m[i], "127.0.0.1");
    assert_said(&m[1], "220");
    assert_said(&m[2], "421 4.3.2");
    assert_true(m[2].closed);
    hang_up(w, &m[2]);
    hang_up(w, &m[0]);
    connect_from(w, &m[0], "127.0.0.1");
    assert_said(&m[0], "220");
    hang_up(w, &m[0]);
    hang_up(w, &m[1]);
}

static void input_waits_for_the_commit(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    static const char tail[] = "NOOP\r\nQUIT\r\n";
    hold = true;
    connect_from(w, &m, "127.0.0.1");
    say(w, &m, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n");
    assert_int_equal(say(w, &m, "x\r\n.\r\nNOOP\r\nQUIT\r\n"), 6);
    assert_said(&m, "354");
    assert_int_equal(m.resumed, 0);
    assert_false(w->t.app.sleep(w->t.app.app)); /* the door has work */
    hold = false;
    w->t.app.turn(w->t.app.app);
    assert_said(&m, "250 2.0.0 Ok: queued");
    assert_int_equal(m.resumed, 1);
    say(w, &m, tail);
    assert_said(&m, "221");
    assert_true(m.closed);
    hang_up(w, &m);
}

static void survives_a_client_that_leaves(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    hold = true;
    connect_from(w, &m, "127.0.0.1");
    say(w, &m, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<u@example.com>\r\nDATA\r\nx\r\n.\r\n");
    hang_up(w, &m);
    hold = false;
    w->t.app.turn(w->t.app.app);
    assert_int_equal(stored, 1);
}

static void timers_run(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    connect_from(w, &m, "127.0.0.1");
    assert_in_range(m.timer_us, 179000000, 180000000);
    m.timer_us = 0;
    w->t.app.timer(m.c.session); /* too early: it is set again */
    assert_in_range(m.timer_us, 170000000, 180000000);
    assert_false(m.closed);
    hang_up(w, &m);
}

static void shutdown_drains(void **state)
{
    struct world *w = *state;
    struct mem_conn idle, busy;
    connect_from(w, &idle, "127.0.0.1");
    connect_from(w, &busy, "127.0.0.1");
    say(w, &busy, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<u@example.com>\r\nDATA\r\nx\r\n");
    smtp_worker_shutdown(w->w);
    assert_int_equal(w->t.woken, 1);
    w->t.app.turn(w->t.app.app);
    assert_false(w->t.accepting);
    assert_said(&idle, "421 4.3.2");
    assert_true(idle.closed);
    assert_said(&busy, "354");
    hang_up(w, &idle);
    say(w, &busy, ".\r\n");
    assert_non_null(strstr(busy.out, "queued as"));
    assert_said(&busy, "421 4.3.2");
    assert_true(busy.closed);
    assert_false(w->t.stopped);
    hang_up(w, &busy);
    assert_true(w->t.stopped); /* without another turn */
}

static void shutdown_of_an_idle_worker(void **state)
{
    struct world *w = *state;
    smtp_worker_shutdown(w->w);
    w->t.app.turn(w->t.app.app);
    assert_true(w->t.stopped);
}

static void shutdown_has_an_end(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    w->cfg.shutdown_s = 0;
    assert_int_equal(smtp_worker_reload(w->w, &w->cfg), 0);
    connect_from(w, &m, "127.0.0.1");
    say(w, &m, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<u@example.com>\r\nDATA\r\nx\r\n");
    smtp_worker_shutdown(w->w);
    w->t.app.turn(w->t.app.app);
    assert_int_equal(m.timer_us, 1);
    assert_said(&m, "421 4.3.2");
    assert_true(m.closed);
    assert_false(txn.open);
    assert_true(w->t.stopped);
    hang_up(w, &m);
}

static void reload_changes_limits(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    connect_from(w, &m, "127.0.0.1");
    say(w, &m, "EHLO c\r\n");
    assert_said(&m, "250 SIZE 52428800");
    w->cfg.limits.message_bytes = 1000;
    w->cfg.hostname = "new.test";
    assert_int_equal(smtp_worker_reload(w->w, &w->cfg), 0);
    w->t.app.turn(w->t.app.app);
    say(w, &m, "EHLO c\r\n");
    assert_said(&m, "250 SIZE 1000");
    assert_non_null(strstr(m.out, "250-new.test"));
    w->cfg.hostname = "";
    assert_int_equal(smtp_worker_reload(w->w, &w->cfg), -SATCHEL_EINVAL);
    hang_up(w, &m);
}

static void envelopes_have_a_budget(void **state)
{
    struct world *w = *state;
    struct mem_conn a, b;
    w->cfg.envelope_bytes = 100;
    assert_int_equal(smtp_worker_reload(w->w, &w->cfg), 0);
    w->t.app.turn(w->t.app.app);
    connect_from(w, &a, "127.0.0.1");
    connect_from(w, &b, "127.0.0.1");
    say(w, &b, "EHLO c\r\n");
    say(w, &a, "EHLO c\r\nMAIL FROM:<a@b>\r\n");
    say(w, &a, "RCPT TO:<u@example.com>\r\n");
    say(w, &b, "MAIL FROM:<a@b>\r\n");
    assert_said(&b, "452 4.3.1");
    hang_up(w, &a);
    say(w, &b, "MAIL FROM:<a@b>\r\n");
    assert_said(&b, "250 2.1.0");
    hang_up(w, &b);
}

/* The domain's list; its hash. */
static void set_list(struct world *w, const char *text, char hash_r[RECIPIENTS_HASH_MAX])
{
    struct recipients_text t;
    char why[256];
    assert_int_equal(recipients_text_parse(slice_str(text), "example.com", &t, why), 0);
    assert_int_equal(recipients_keep(domains_recipients(w->domains), &t, hash_r, why), 0);
    assert_int_equal(domains_set_recipients(w->domains, SLICE_LIT("example.com"), hash_r, t.count, why), 0);
    recipients_text_free(&t);
}

static void forget_list(struct world *w, const char *hash)
{
    char path[160];
    snprintf(path, sizeof path, "%s/lists/%s", w->dir, hash);
    unlink(path);
    snprintf(path, sizeof path, "%s/lists", w->dir);
    rmdir(path);
}

static void only_listed_recipients_are_taken(void **state)
{
    struct world *w = *state;
    struct mem_conn m;
    char hash[RECIPIENTS_HASH_MAX], why[256];
    uint64_t refused = metric_read(M_SMTP_RCPT_REFUSED);
    connect_from(w, &m, "192.0.2.1");
    say(w, &m, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<anybody@example.com>\r\n");
    assert_said(&m, "250 2.1.5");
    set_list(w, "bob\nsales+\n", hash);
    say(w, &m, "RCPT TO:<mallory@example.com>\r\n");
    assert_said(&m, "550 5.1.1 No such recipient at example.com");
    say(w, &m, "RCPT TO:<BOB@Example.COM>\r\n");
    assert_said(&m, "250 2.1.5");
    say(w, &m, "RCPT TO:<sales+spring@example.com>\r\n");
    assert_said(&m, "250 2.1.5");
    say(w, &m, "RCPT TO:<bob+x@example.com>\r\n");
    assert_said(&m, "550 5.1.1");
    say(w, &m, "RCPT TO:<postmaster@example.com>\r\n");
    assert_said(&m, "250 2.1.5");
    assert_int_equal(metric_read(M_SMTP_RCPT_REFUSED), refused + 2);
    assert_int_equal(domains_set_recipients(w->domains, SLICE_LIT("example.com"), "", 0, why), 0);
    say(w, &m, "RCPT TO:<mallory@example.com>\r\n");
    assert_said(&m, "250 2.1.5");
    hang_up(w, &m);
    forget_list(w, hash);
}

/* A list that this node has not got: not now at first, unchecked in the end. */
static void a_list_that_does_not_come(void **state)
{
    static const char late[] = "00112233445566778899aabbccddeeff", lost[] = "ffeeddccbbaa99887766554433221100";
    struct world *w = *state;
    struct mem_conn m;
    char why[256];
    uint64_t unchecked = metric_read(M_SMTP_RCPT_UNCHECKED);
    connect_from(w, &m, "192.0.2.1");
    assert_int_equal(domains_set_recipients(w->domains, SLICE_LIT("example.com"), late, 5, why), 0);
    say(w, &m, "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<bob@example.com>\r\n");
    assert_said(&m, "451 4.3.0 The recipients of example.com");
    assert_int_equal(metric_read(M_SMTP_RCPT_UNCHECKED), unchecked);
    recipients_missing_us(domains_recipients(w->domains), lost, 0); /* since the machine started */
    assert_int_equal(domains_set_recipients(w->domains, SLICE_LIT("example.com"), lost, 5, why), 0);
    say(w, &m, "RCPT TO:<bob@example.com>\r\n");
    assert_said(&m, "250 2.1.5");
    assert_int_equal(metric_read(M_SMTP_RCPT_UNCHECKED), unchecked + 1);
    hang_up(w, &m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_a_message, setup, teardown),
        cmocka_unit_test_setup_teardown(asks_the_registry, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_sessions, setup, teardown),
        cmocka_unit_test_setup_teardown(input_waits_for_the_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_a_client_that_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(timers_run, setup, teardown),
        cmocka_unit_test_setup_teardown(shutdown_drains, setup, teardown),
        cmocka_unit_test_setup_teardown(shutdown_of_an_idle_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(shutdown_has_an_end, setup, teardown),
        cmocka_unit_test_setup_teardown(reload_changes_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(envelopes_have_a_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(only_listed_recipients_are_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_that_does_not_come, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
