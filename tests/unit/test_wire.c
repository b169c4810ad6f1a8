/* test_wire.c - one load over both wires: kernel sockets, and our own TCP over ports in memory. */
#include "front_rig.h"

#include "bench/lib/idle.h"
#include "bench/lib/load.h"

#define SECOND_US 1000000u

static struct load_spec spec(uint64_t messages, unsigned connections, unsigned per_session)
{
    return (struct load_spec){
        .connections = connections,
        .per_session = per_session,
        .pipelining = true,
        .messages = messages,
        .deadline_us = 30 * SECOND_US,
        .mint = {.run = "run", .domains = 3, .recipients = 2, .size_bytes = 4096, .sender = "a@b.test"}};
}

static void push(struct front_rig *r, const struct load_spec *s)
{
    struct load_result *got = calloc(1, sizeof *got);
    unsigned long long was = r->front.counts.messages, bytes = r->front.counts.bytes;
    load_run(s, r->wire, got);
    assert_false(got->timed_out);
    assert_int_equal(got->book.acked, s->messages);
    assert_int_equal(got->book.refused + got->book.unanswered + got->book.lost_sessions + got->connect_failures, 0);
    assert_true(got->book.sessions >= s->messages / s->per_session);
    assert_int_equal(r->front.counts.messages - was, s->messages);
    assert_int_equal(r->front.counts.bytes - bytes, s->messages * s->mint.size_bytes);
    free(got);
}

static void all_is_acknowledged(void **state)
{
    struct front_rig r;
    struct load_spec s = spec(300, 7, 20);
    rig_open(&r, *(enum carrier *)*state, 1000, 2);
    push(&r, &s);
    s.deep = true;
    push(&r, &s);
    s.pipelining = s.deep = false;
    push(&r, &s);
    s = spec(200, 20, 1);
    push(&r, &s);
    s = spec(20, 5, 2);
    s.mint.size_bytes = 1000000;
    push(&r, &s);
    rig_close(&r);
}

static void messages_are_paced(void **state)
{
    struct front_rig r;
    struct load_spec s = spec(100, 5, 10);
    rig_open(&r, *(enum carrier *)*state, 1000, 1);
    s.rate = 500;
    uint64_t begin = sock_now_us();
    push(&r, &s);
    assert_true(sock_now_us() - begin > SECOND_US / 6);
    rig_close(&r);
}

static void sessions_stand_and_answer(void **state)
{
    struct front_rig r;
    rig_open(&r, *(enum carrier *)*state, 500, 3);
    struct idle *d = idle_open(r.wire, 400);
    uint64_t end = sock_now_us() + 30 * SECOND_US;
    while (idle_turn(d, sock_now_us() + 1000) && sock_now_us() < end)
        ;
    assert_int_equal(idle_counts(d).standing, 400);
    assert_int_equal(smtp_worker_sessions(r.front.smtp), 400);
    idle_noops(d, SECOND_US / 5);
    assert_true(idle_counts(d).answered > 400);
    assert_int_equal(idle_counts(d).asked + idle_counts(d).lost + idle_counts(d).failed, 0);
    idle_close(&d);
    rig_close(&r);
}

static void too_many_are_turned_away(void **state)
{
    struct front_rig r;
    struct refuse_spec refuse = {.n = 50, .at_once = 10, .give_up_us = 10 * SECOND_US};
    rig_open(&r, *(enum carrier *)*state, 5, 1);
    struct idle *d = idle_open(r.wire, 5);
    uint64_t end = sock_now_us() + 30 * SECOND_US;
    while (idle_turn(d, sock_now_us() + 1000) && sock_now_us() < end)
        ;
    assert_int_equal(idle_counts(d).standing, 5);
    struct refuse_counts c = load_refuse(r.wire, &refuse, 30 * SECOND_US);
    assert_int_equal(c.tried, 50);
    assert_int_equal(c.ended, 50);
    assert_int_equal(c.turned_away, 50);
    assert_int_equal(c.greeted + c.silent + c.failed, 0);
    idle_close(&d);
    rig_close(&r);
}

static void block(void *arg, struct stack *s)
{
    assert_int_equal(guard_block(stack_guard(s), arg, 1), 0);
}

static void the_blocked_are_not_answered(void **state)
{
    struct front_rig r;
    struct refuse_spec refuse = {.n = 100, .at_once = 10, .give_up_us = 0};
    struct ip_prefix net = rig_net("198.18.1.0/24");
    (void)state;
    rig_open(&r, USER, 100, 2);
    transport_user_call(r.transport, block, &net);
    uint64_t was = stat_get(&r.stats, STAT_DROP_BLOCKED), accepted = stat_get(&r.stats, STAT_CONN_ACCEPTED);
    struct refuse_counts c = load_refuse(r.wire, &refuse, 30 * SECOND_US);
    assert_int_equal(c.silent, 100);
    for (uint64_t end = sock_now_us() + 5 * SECOND_US; sock_now_us() < end;)
        if (stat_get(&r.stats, STAT_DROP_BLOCKED) - was >= 100)
            break;
    assert_int_equal(stat_get(&r.stats, STAT_DROP_BLOCKED) - was, 100);
    assert_int_equal(stat_get(&r.stats, STAT_CONN_ACCEPTED), accepted);
    rig_close(&r);
}

int main(void)
{
    static enum carrier kernel = KERNEL, user = USER;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(all_is_acknowledged, &kernel),
        cmocka_unit_test_prestate(all_is_acknowledged, &user),
        cmocka_unit_test_prestate(messages_are_paced, &kernel),
        cmocka_unit_test_prestate(messages_are_paced, &user),
        cmocka_unit_test_prestate(sessions_stand_and_answer, &kernel),
        cmocka_unit_test_prestate(sessions_stand_and_answer, &user),
        cmocka_unit_test_prestate(too_many_are_turned_away, &kernel),
        cmocka_unit_test_prestate(too_many_are_turned_away, &user),
        cmocka_unit_test(the_blocked_are_not_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
