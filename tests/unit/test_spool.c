/* The spool with its threads on a real disk: both doors, restarts, limits.  The simulator does what a real disk cannot.
 */
#include "spool/base/err.h"
#include "spool/segment/disk_file.h"
#include "spool/spool_impl.h"
#include "tests/unit/scratch.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[SCRATCH_MAX];

static int setup(void **state)
{
    (void)state;
    scratch_make_on_disk(dir, "spool");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return scratch_remove(dir);
}

static struct spool *open_spool(uint64_t max_bytes, uint64_t memory)
{
    struct spool_config cfg;
    struct spool *s = NULL;
    char why[512] = "";
    spool_config_init(&cfg, dir);
    cfg.log.segment_bytes = 1 << 20;
    cfg.log.spare_segments = 1;
    cfg.log.reserve_segments = 1;
    cfg.log.max_bytes = max_bytes;
    cfg.chunk_bytes = 64 << 10;
    if (memory)
        cfg.memory_bytes = memory;
    int rc = spool_open(&s, &cfg, why, sizeof why);
    if (rc < 0)
        print_message("# %s\n", why);
    assert_int_equal(rc, 0);
    return s;
}

/* ---- a client of the intake door */

struct post {
    int done, res;
    size_t ids_n;
    struct msgid ids[8];
    bool room;
};

static void on_done(void *arg, int res, const struct msgid *ids, size_t n)
{
    struct post *p = arg;
    p->done++;
    p->res = res;
    p->ids_n = n;
    for (size_t i = 0; i < n && i < 8; i++)
        p->ids[i] = ids[i];
}

static void on_room(void *arg)
{
    ((struct post *)arg)->room = true;
}

static size_t on_trace(void *arg, const struct envelope *env, const struct msgid *id, char *out_r, size_t cap)
{
    (void)arg, (void)id;
    return (size_t)snprintf(out_r, cap, "Received: for %.*s\r\n", SLICE_FMT(env->domain));
}

static void turn_for(struct intake *in, int most_ms)
{
    in->ops->poll(in);
    if (in->ops->sleep(in)) {
        struct pollfd p = {in->fd, POLLIN, 0};
        poll(&p, 1, most_ms);
    }
    in->ops->poll(in);
}

static void turn(struct intake *in)
{
    turn_for(in, 1000);
}

static uint8_t body_byte(uint64_t at, uint64_t seed)
{
    return (uint8_t)('a' + (at * 7 + at / 251 + seed) % 26);
}

/* Feeds a body of `bytes` in pieces of 5,000; 0 or the door's error. */
static int feed(struct intake *in, struct intake_txn *t, uint64_t bytes, uint64_t seed, struct post *p)
{
    uint8_t piece[5000];
    for (uint64_t at = 0; at < bytes;) {
        size_t n = bytes - at < sizeof piece ? (size_t)(bytes - at) : sizeof piece;
        for (size_t i = 0; i < n; i++)
            piece[i] = body_byte(at + i, seed);
        int rc = in->ops->append(t, slice_of(piece, n), on_room, p);
        if (rc == -SATCHEL_EAGAIN) {
            for (p->room = false; !p->room;)
                turn(in);
            continue;
        }
        if (rc < 0)
            return rc;
        at += n;
    }
    return 0;
}

static struct envelope envelope_to(const char *domain, const struct slice *rcpts, size_t n)
{
    return (struct envelope){slice_str(domain),      SLICE_LIT("me@sender.test"), rcpts, n,
                             SLICE_LIT("helo.test"), SLICE_LIT("192.0.2.1"),      0};
}

static int post_to(struct intake *in, const char **domains, size_t n, uint64_t bytes, uint64_t seed, struct post *p)
{
    const struct slice rcpts[2] = {SLICE_LIT("one@d"), SLICE_LIT("two@d")};
    struct envelope envs[4];
    struct intake_txn *t;
    *p = (struct post){0};
    for (size_t i = 0; i < n; i++)
        envs[i] = envelope_to(domains[i], rcpts, 2);
    int rc = in->ops->begin(in, envs, n, on_trace, NULL, &t);
    if (rc < 0)
        return rc;
    rc = feed(in, t, bytes, seed, p);
    if (rc == 0)
        rc = in->ops->commit(t, on_done, p);
    if (rc < 0) {
        in->ops->abort(t);
        return rc;
    }
    while (!p->done)
        turn(in);
    assert_int_equal(p->done, 1);
    return p->res;
}

static int post_one(struct intake *in, const char *domain, uint64_t bytes, uint64_t seed, struct post *p)
{
    return post_to(in, &domain, 1, bytes, seed, p);
}

/* ---- a client of the outlet door */

static void check_content(struct outlet *o, struct outlet_msg *m, uint64_t body, uint64_t seed)
{
    char trace[100];
    int trace_n = snprintf(trace, sizeof trace, "Received: for %.*s\r\n", SLICE_FMT(m->domain));
    assert_int_equal(m->bytes, body + (uint64_t)trace_n);
    uint64_t at = 0;
    struct slice data;
    int n;
    while ((n = o->ops->read(o, m, at, 10000, &data)) > 0) {
        for (int i = 0; i < n; i++, at++) {
            uint8_t want = at < (uint64_t)trace_n ? (uint8_t)trace[at] : body_byte(at - (uint64_t)trace_n, seed);
            if (data.p[i] != want)
                fail_msg("byte %llu differs", (unsigned long long)at);
        }
    }
    assert_int_equal(n, 0);
    assert_int_equal(at, m->bytes);
}

/* Messages are applied a moment after their 250: claims until there is one, bounded. */
static struct outlet_msg *claim_one(struct outlet *o, const char *domain)
{
    struct outlet_msg *m = NULL;
    for (int i = 0; i < 5000 && o->ops->claim(o, slice_str(domain), CLAIM_DUE, 0, &m, 1) == 0; i++)
        poll(NULL, 0, 1);
    assert_non_null(m);
    return m;
}

static void finish_all(struct outlet *o, struct outlet_msg *m, enum item_end end)
{
    struct item_result res[8];
    for (size_t i = 0; i < m->rcpts_n; i++) {
        res[i] = (struct item_result){.item = (uint32_t)i, .end = end};
        status_set(&res[i].status, 250, 2, 0, 0, "ok");
    }
    assert_int_equal(o->ops->finish(o, m, res, m->rcpts_n, 0, false, NULL), 0);
    struct slice name;
    while (o->ops->ready(o, &name))
        ;
    o->ops->sleep(o);
}

static void wait_empty(struct spool *s, const char *domain)
{
    struct bag_stat st = {.messages = 1};
    for (int i = 0; i < 5000 && st.messages > 0; i++) {
        poll(NULL, 0, 1);
        spool_bag_stat(s, slice_str(domain), &st);
    }
    assert_int_equal(st.messages, 0);
}

/* ---- tests */

static void messages_come_out_as_they_went_in(void **state)
{
    (void)state;
    const uint64_t sizes[] = {0, 1, 4096, 65536, 65537, 200000, 1000000};
    struct spool *s = open_spool(0, 0);
    struct intake *in;
    struct outlet *o;
    struct post p;
    assert_int_equal(spool_intake(s, &in), 0);
    assert_int_equal(spool_outlet(s, &o), 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_int_equal(post_one(in, "a.test", sizes[i], i, &p), 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct outlet_msg *m = claim_one(o, "a.test");
        assert_int_equal(m->rcpts_n, 2);
        assert_true(slice_eq(m->sender, SLICE_LIT("me@sender.test")));
        check_content(o, m, sizes[i], i);
        finish_all(o, m, ITEM_DELIVERED);
    }
    wait_empty(s, "a.test");
    o->ops->close(&o);
    in->ops->close(&in);
    spool_close(&s);
}

/* Short ones, of which a group is one piece, and long ones, whose blocks are pieces of their own. */
static void all_groups_go_out_from_registered_memory(void **state)
{
    (void)state;
    struct rlimit lock;
    getrlimit(RLIMIT_MEMLOCK, &lock);
    struct spool *s = open_spool(0, 0);
    const struct uring_disk *u = ((struct disk_file *)s->disk)->uring;
    bool may = u && (geteuid() == 0 || lock.rlim_cur >= s->pinned.bytes);
    struct intake *in;
    struct post p;
    assert_int_equal(spool_intake(s, &in), 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(post_one(in, "a.test", i % 2 ? 150000 : 3000, 1, &p), 0);
    in->ops->close(&in);
    struct spool_info info;
    struct uring_disk_stat st = {0};
    spool_info(s, &info);
    if (u)
        uring_disk_stat(u, &st);
    spool_close(&s);
    if (!may)
        skip();
    assert_true(info.log.groups >= 8);
    assert_true(st.vectored ? st.from_registered >= info.log.groups : st.from_registered >= 4);
}

/* The index follows the log some milliseconds later; who has the ID of the 250 need not know. */
static void what_was_acknowledged_is_there_at_once(void **state)
{
    (void)state;
    struct spool *s = open_spool(64u << 20, 0);
    struct intake *in;
    struct outlet *o;
    assert_int_equal(spool_intake(s, &in), 0);
    assert_int_equal(spool_outlet(s, &o), 0);
    for (int i = 0; i < 40; i++) {
        struct post p = {0};
        const char *domain = "now.test";
        struct outlet_msg *m;
        assert_int_equal(post_to(in, &domain, 1, 100, 1, &p), 0);
        while (!p.done)
            turn(in);
        assert_int_equal(p.res, 0);
        assert_int_equal(o->ops->claim_id(o, &p.ids[0], &m), 0);
        o->ops->release(o, m);
    }
    struct msgid none = {.counter = 1};
    struct outlet_msg *m;
    assert_int_equal(o->ops->claim_id(o, &none, &m), -SATCHEL_ENOENT);
    in->ops->close(&in);
    o->ops->close(&o);
    spool_close(&s);
}

static void restart_finds_everything(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0);
    struct intake *in;
    struct outlet *o;
    struct post p;
    struct msgid ids[200];
    assert_int_equal(spool_intake(s, &in), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(post_one(in, i % 2 ? "a.test" : "b.test", (uint64_t)i * 700, (uint64_t)i, &p), 0);
        ids[i] = p.ids[0];
    }
    in->ops->close(&in);
    spool_close(&s);

    s = open_spool(0, 0);
    assert_int_equal(spool_outlet(s, &o), 0);
    for (int i = 0; i < 200; i++) {
        struct outlet_msg *m = claim_one(o, i % 2 ? "a.test" : "b.test");
        assert_true(msgid_eq(&m->id, &ids[i])); /* in order */
        check_content(o, m, (uint64_t)i * 700, (uint64_t)i);
        finish_all(o, m, ITEM_DELIVERED);
    }
    wait_empty(s, "a.test");
    wait_empty(s, "b.test");
    o->ops->close(&o);
    spool_close(&s);

    s = open_spool(0, 0);
    struct bag_stat st;
    spool_bag_stat(s, SLICE_LIT("a.test"), &st);
    assert_int_equal(st.messages, 0);
    spool_close(&s);
}

static void one_body_for_two_domains(void **state)
{
    (void)state;
    const char *domains[] = {"a.test", "b.test"};
    const uint64_t sizes[] = {5000, 300000};
    struct spool *s = open_spool(0, 0);
    struct intake *in;
    struct outlet *o;
    struct post p;
    assert_int_equal(spool_intake(s, &in), 0);
    assert_int_equal(spool_outlet(s, &o), 0);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(post_to(in, domains, 2, sizes[k], 3, &p), 0);
        assert_int_equal(p.ids_n, 2);
        assert_false(msgid_eq(&p.ids[0], &p.ids[1]));
        for (int i = 0; i < 2; i++) {
            struct outlet_msg *m = claim_one(o, domains[i]);
            check_content(o, m, sizes[k], 3);
            finish_all(o, m, ITEM_DELIVERED);
        }
    }
    o->ops->close(&o);
    in->ops->close(&in);
    spool_close(&s);
}

static void aborted_messages_leave_nothing(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0);
    struct intake *in;
    struct intake_txn *t;
    struct post p = {0};
    const struct slice rcpt = SLICE_LIT("one@a.test");
    struct envelope env = envelope_to("a.test", &rcpt, 1);
    assert_int_equal(spool_intake(s, &in), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(in->ops->begin(in, &env, 1, on_trace, NULL, &t), 0);
        assert_int_equal(feed(in, t, (uint64_t)i * 20000, 1, &p), 0);
        in->ops->abort(t);
        turn_for(in, 5);
    }
    assert_int_equal(post_one(in, "b.test", 10, 1, &p), 0);
    for (int i = 0; i < 10; i++)
        turn_for(in, 5); /* the chunks under way come back */
    in->ops->close(&in);
    spool_close(&s);
    s = open_spool(0, 0);
    struct bag_stat st;
    spool_bag_stat(s, SLICE_LIT("a.test"), &st);
    assert_int_equal(st.messages, 0);
    spool_bag_stat(s, SLICE_LIT("b.test"), &st);
    assert_int_equal(st.messages, 1);
    spool_close(&s);
}

static void full_disk_refuses_drains_and_accepts_again(void **state)
{
    (void)state;
    struct spool *s = open_spool(6 << 20, 0);
    struct intake *in;
    struct outlet *o;
    struct post p;
    int stored = 0, rc;
    assert_int_equal(spool_intake(s, &in), 0);
    assert_int_equal(spool_outlet(s, &o), 0);
    while ((rc = post_one(in, "a.test", 50000, (uint64_t)stored, &p)) == 0)
        assert_true(++stored < 200);
    assert_int_equal(rc, -SATCHEL_EFULL);
    assert_true(stored > 20);
    assert_int_equal(in->ops->admit(in, 0), -SATCHEL_EFULL);
    for (int i = 0; i < stored; i++) {
        struct outlet_msg *m = claim_one(o, "a.test");
        check_content(o, m, 50000, (uint64_t)i);
        finish_all(o, m, ITEM_DELIVERED);
    }
    for (int i = 0; i < 10000 && in->ops->admit(in, 0) < 0; i++)
        poll(NULL, 0, 1);
    assert_int_equal(in->ops->admit(in, 0), 0);
    assert_int_equal(post_one(in, "a.test", 50000, 1, &p), 0);
    o->ops->close(&o);
    in->ops->close(&in);
    spool_close(&s);
}

static void memory_budget_spills_early(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 1); /* everything is over this budget */
    struct intake *in;
    struct outlet *o;
    struct intake_txn *t, *u;
    struct post p = {0};
    const struct slice rcpt = SLICE_LIT("one@a.test");
    struct envelope env = envelope_to("a.test", &rcpt, 1);
    assert_int_equal(spool_intake(s, &in), 0);
    assert_int_equal(spool_outlet(s, &o), 0);
    assert_int_equal(in->ops->begin(in, &env, 1, on_trace, NULL, &t), 0);
    assert_int_equal(in->ops->begin(in, &env, 1, on_trace, NULL, &u), 0);
    assert_int_equal(feed(in, u, 5000, 2, &p), 0); /* holds memory, and does not hold t up */
    assert_int_equal(in->ops->admit(in, 0), -SATCHEL_ENOMEM);
    assert_int_equal(feed(in, t, 100000, 1, &p), 0);
    assert_int_equal(in->ops->commit(t, on_done, &p), 0);
    while (!p.done)
        turn(in);
    assert_int_equal(p.res, 0);
    in->ops->abort(u);
    struct outlet_msg *m = claim_one(o, "a.test");
    assert_true(m->bytes > 100000);
    check_content(o, m, 100000, 1);
    o->ops->release(o, m);
    m = claim_one(o, "a.test"); /* a released message comes again */
    finish_all(o, m, ITEM_DELIVERED);
    turn_for(in, 5);
    o->ops->close(&o);
    in->ops->close(&in);
    spool_close(&s);
}

static void too_long_a_message_is_refused(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0);
    struct intake *in;
    struct post p;
    assert_int_equal(spool_intake(s, &in), 0);
    assert_int_equal(in->ops->admit(in, 51u << 20), -SATCHEL_ETOOBIG);
    assert_int_equal(in->ops->admit(in, 50u << 20), 0);
    spool_drain(s);
    assert_int_equal(post_one(in, "a.test", 10, 0, &p), -SATCHEL_ESHUT);
    in->ops->close(&in);
    spool_close(&s);
}

static void two_daemons_do_not_share_a_directory(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0), *second = NULL;
    struct spool_config cfg;
    char why[512] = "";
    spool_config_init(&cfg, dir);
    assert_int_equal(spool_open(&second, &cfg, why, sizeof why), -SATCHEL_EBUSY);
    assert_non_null(strstr(why, "in use by another satcheld"));
    assert_null(second);
    spool_close(&s);
}

static void other_versions_are_refused(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0);
    struct spool_config cfg;
    char why[512] = "", path[512];
    spool_close(&s);
    snprintf(path, sizeof path, "%s/log/FORMAT", dir);
    FILE *f = fopen(path, "w");
    fputs("satchel-log 999\nstorage 00000000000000000000000000000000\n", f);
    fclose(f);
    spool_config_init(&cfg, dir);
    assert_int_equal(spool_open(&s, &cfg, why, sizeof why), -SATCHEL_EVERSION);
    assert_non_null(strstr(why, "another version"));
}

static void lost_index_is_rebuilt(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0);
    struct intake *in;
    struct post p;
    char cmd[600];
    struct bag_stat st;
    struct spool_info info;
    assert_int_equal(spool_intake(s, &in), 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(post_one(in, "a.test", 3000, 1, &p), 0);
    in->ops->close(&in);
    spool_close(&s);
    snprintf(cmd, sizeof cmd, "for f in %s/index/CURRENT %s/index/MANIFEST*; do echo rubbish > $f; done", dir, dir);
    assert_int_equal(system(cmd), 0);
    s = open_spool(0, 0);
    spool_info(s, &info);
    assert_true(info.index_rebuilt);
    spool_bag_stat(s, SLICE_LIT("a.test"), &st);
    assert_int_equal(st.messages, 50);
    spool_close(&s);
}

/* Somebody removed a segment: its mail is gone, but the rest is served and the node starts. */
static void index_that_contradicts_the_log_is_rebuilt(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0);
    struct intake *in;
    struct post p;
    char cmd[600];
    struct bag_stat st;
    struct spool_info info;
    assert_int_equal(spool_intake(s, &in), 0);
    for (int i = 0; i < 60; i++) /* some segments of 1 MiB */
        assert_int_equal(post_one(in, "a.test", 50000, 1, &p), 0);
    in->ops->close(&in);
    spool_close(&s);
    s = open_spool(0, 0);
    spool_info(s, &info);
    assert_false(info.index_rebuilt);
    spool_close(&s);
    snprintf(cmd, sizeof cmd, "rm $(grep -l STCR %s/log/slot-*.seg | head -n 1)", dir);
    assert_int_equal(system(cmd), 0);
    s = open_spool(0, 0);
    spool_info(s, &info);
    assert_true(info.index_rebuilt);
    spool_bag_stat(s, SLICE_LIT("a.test"), &st);
    assert_in_range(st.messages, 20, 59);
    spool_close(&s);
}

/* Four doors on four threads, one relay beside them: for ThreadSanitizer as much as for the counts. */
struct hammer {
    struct spool *s;
    int number;
};

static void *hammer_main(void *arg)
{
    struct hammer *h = arg;
    struct intake *in;
    struct post p;
    assert_int_equal(spool_intake(h->s, &in), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(post_one(in, "a.test", i % 10 ? 3000 : 150000, 9, &p), 0);
    in->ops->close(&in);
    return NULL;
}

static void doors_work_side_by_side(void **state)
{
    (void)state;
    struct spool *s = open_spool(0, 0);
    struct outlet *o;
    struct hammer h[4];
    pthread_t t[4];
    assert_int_equal(spool_outlet(s, &o), 0);
    for (int i = 0; i < 4; i++) {
        h[i] = (struct hammer){s, i};
        pthread_create(&t[i], NULL, hammer_main, &h[i]);
    }
    uint64_t last = 0;
    for (int i = 0; i < 400; i++) {
        struct outlet_msg *m = claim_one(o, "a.test");
        assert_true(m->arrival_us > last);
        last = m->arrival_us;
        check_content(o, m, m->bytes > 100000 ? 150000 : 3000, 9);
        finish_all(o, m, ITEM_DELIVERED);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    wait_empty(s, "a.test");
    o->ops->close(&o);
    spool_close(&s);
}

int main(void)
{
#define SPOOL_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        SPOOL_TEST(messages_come_out_as_they_went_in),
        SPOOL_TEST(all_groups_go_out_from_registered_memory),
        SPOOL_TEST(what_was_acknowledged_is_there_at_once),
        SPOOL_TEST(restart_finds_everything),
        SPOOL_TEST(one_body_for_two_domains),
        SPOOL_TEST(aborted_messages_leave_nothing),
        SPOOL_TEST(full_disk_refuses_drains_and_accepts_again),
        SPOOL_TEST(memory_budget_spills_early),
        SPOOL_TEST(too_long_a_message_is_refused),
        SPOOL_TEST(two_daemons_do_not_share_a_directory),
        SPOOL_TEST(other_versions_are_refused),
        SPOOL_TEST(lost_index_is_rebuilt),
        SPOOL_TEST(index_that_contradicts_the_log_is_rebuilt),
        SPOOL_TEST(doors_work_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
