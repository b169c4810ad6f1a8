/* test_user.c - the user transport: who is let in, who waits, who must go, and that no byte is lost on the way. */
#include "tests/unit/user_rig.h"

static const char sorry[] = "554 5.5.1 Error: you spoke before the greeting\r\n";

/* ---- early talkers and the tar */

static void with_silence(struct user_config *cfg)
{
    cfg->early_talker_ms = 200;
}

static void with_tar(struct user_config *cfg)
{
    cfg->early_talker_ms = 200;
    cfg->tarpit_ms = 20000;
}

static void the_silent_are_greeted(void **state)
{
    (void)state;
    rig_open(with_silence);
    struct rig_client *c = rig_connect();
    assert_int_equal(c->in_n, 0);
    assert_int_equal(rig.sessions_n, 0);
    rig_pass_ms(220);
    assert_true(rig_heard(c, "220 hello\r\n"));
    rig_say(c, SLICE_LIT("EHLO x\r\n"));
    assert_int_equal(rig.sessions[0].in_n, 8);
    rig_close();
}

static void who_speaks_first_gets_no_session(void **state)
{
    (void)state;
    rig_open(with_silence);
    struct rig_client *c = rig_connect();
    rig_say(c, SLICE_LIT("EHLO x\r\n"));
    assert_true(rig_heard(c, sorry));
    assert_true(c->fin);
    rig_pass_ms(300);
    assert_int_equal(rig.sessions_n, 0);
    assert_int_equal(rig_stat(STAT_EARLY_TALKER), 1);
    rig_close();
}

static void the_tar_says_nothing_and_keeps_nothing(void **state)
{
    static uint8_t much[20000];
    (void)state;
    rig_open(with_tar);
    struct rig_client *c = rig_connect();
    rig_say(c, slice_of(much, sizeof much));
    rig_pass_ms(10000);
    assert_int_equal(rig_stat(STAT_TARPIT), 1);
    assert_int_equal(rig_stat(STAT_PAGES_USED), 0);
    assert_int_equal(rig_stat(STAT_TXBLOCKS_USED), 0);
    assert_int_equal(c->in_n, 0);
    rig_pass_ms(10100);
    assert_true(rig_heard(c, sorry));
    assert_int_equal(rig_stat(STAT_TARPIT), 0);
    assert_int_equal(rig.sessions_n, 0);
    rig_close();
}

static void the_tar_has_an_end_for_those_who_talk_on(void **state)
{
    static uint8_t much[16384];
    (void)state;
    rig_open(with_tar);
    struct rig_client *c = rig_connect();
    for (int i = 0; i < 10 && c->tc; i++)
        rig_say(c, slice_of(much, sizeof much));
    rig_turns(10);
    assert_true(c->reset);
    assert_int_equal(rig_stat(STAT_TARPIT), 0);
    rig_close();
}

static void who_leaves_the_tar_is_forgotten(void **state)
{
    (void)state;
    rig_open(with_tar);
    struct rig_client *c = rig_connect();
    rig_say(c, SLICE_LIT("x"));
    rig_bye(c);
    rig_turns(10);
    assert_int_equal(rig_stat(STAT_TARPIT), 0);
    assert_int_equal(rig_stat(STAT_CONNS), 0);
    rig_close();
}

static void the_tar_takes_one_in_eight(void **state)
{
    (void)state;
    rig_open(with_tar); /* of 32 */
    for (uint32_t i = 0; i < 5; i++)
        rig_say(rig_connect(), SLICE_LIT("x"));
    assert_int_equal(rig_stat(STAT_TARPIT), 4);
    assert_int_equal(rig.clients[3].in_n, 0);
    assert_true(rig_heard(&rig.clients[4], sorry));
    rig_close();
}

/* ---- who is let in */

static void one_too_many_hears_421(void **state)
{
    (void)state;
    rig_open(NULL);
    for (uint32_t i = 0; i < 32; i++)
        assert_true(rig_heard(rig_connect(), "220 hello\r\n"));
    struct rig_client *c = rig_connect();
    assert_true(rig_heard(c, "421 4.3.2 Too many connections, try again later\r\n"));
    assert_true(c->fin);
    rig_bye(&rig.clients[0]);
    rig_turns(10);
    assert_int_equal(rig.sessions[0].how, CONN_END_PEER);
    assert_true(rig_heard(rig_connect(), "220 hello\r\n"));
    rig_close();
}

static void a_refusal_of_the_app_closes(void **state)
{
    (void)state;
    rig_open(NULL);
    rig.does = REFUSE;
    struct rig_client *c = rig_connect();
    rig_turns(4);
    assert_true(c->fin);
    assert_int_equal(c->in_n, 0);
    rig_close();
}

/* ---- bytes */

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

static void assert_pattern(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != pattern(i))
            fail_msg("byte %zu of %zu is %u", i, n, p[i]);
}

/* More than the window: the rest comes when the app goes on, in order. */
static void who_leaves_bytes_shuts_the_window(void **state)
{
    enum { ALL = 200000 };
    uint8_t *all = malloc(ALL);
    size_t at = 0;
    (void)state;
    for (size_t i = 0; i < ALL; i++)
        all[i] = pattern(i);
    rig_open(NULL);
    rig.does = LEAVE;
    struct rig_client *c = rig_connect();
    for (int i = 0; i < 500; i++) {
        at += tcp_write(rig_tcp(), c->tc, slice_of(all + at, ALL - at));
        rig_turn();
    }
    assert_in_range(rig_stat(STAT_DATA_IN), 1, 65536 + 4096);
    assert_int_equal(rig.sessions[0].in_n, 0);
    rig.does = TAKE;
    conn_resume(rig.sessions[0].c);
    for (int i = 0; i < 2000 && rig.sessions[0].in_n < ALL; i++) {
        at += tcp_write(rig_tcp(), c->tc, slice_of(all + at, ALL - at));
        rig_turn();
    }
    assert_int_equal(rig.sessions[0].in_n, ALL);
    assert_pattern(rig.sessions[0].in, ALL);
    free(all);
    rig_close();
}

/* More than TCP takes, more than there are blocks for, to two who do not read at first: all of it comes. */
static void what_is_sent_waits_for_blocks(void **state)
{
    enum { PIECE = 40000, PIECES = 10 };
    uint8_t *all = malloc(PIECE * PIECES);
    (void)state;
    for (size_t i = 0; i < PIECE * PIECES; i++)
        all[i] = pattern(i);
    rig_open(NULL);
    for (int k = 0; k < 2; k++)
        rig_connect()->mute = true;
    for (int i = 0; i < PIECES; i++)
        for (int k = 0; k < 2; k++)
            conn_send(rig.sessions[k].c, slice_of(all + i * PIECE, PIECE));
    rig_pass_ms(1000);
    rig_say(&rig.clients[0], SLICE_LIT("more"));
    assert_int_equal(rig.sessions[0].in_n, 0); /* who does not read is not listened to */
    for (int k = 0; k < 2; k++) {
        rig.clients[k].mute = false;
        rig_read(&rig.clients[k]);
    }
    for (int i = 0; i < 3000 && rig.clients[0].in_n + rig.clients[1].in_n < 2u * (PIECE * PIECES + 11); i++)
        rig_pass_ms(10);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(rig.clients[k].in_n, PIECE * PIECES + 11);
        assert_pattern(rig.clients[k].in + 11, PIECE * PIECES);
    }
    assert_int_equal(rig.sessions[0].in_n, 4);
    free(all);
    rig_close();
}

static void eight_blocks(struct user_config *cfg)
{
    cfg->stack.tcp.txblocks_max = 8;
}

/* Too little to be choked by, too much for the blocks: what comes free with the acknowledgement takes it. */
static void a_few_words_wait_for_blocks(void **state)
{
    enum { FEW = 3500 };
    static uint8_t words[FEW];
    (void)state;
    for (size_t i = 0; i < FEW; i++)
        words[i] = pattern(i);
    rig_open(eight_blocks);
    for (int k = 0; k < 2; k++)
        rig_connect();
    rig_pass_ms(200);
    for (int k = 0; k < 2; k++)
        conn_send(rig.sessions[k].c, slice_of(words, FEW));
    const struct uconn *late = (const struct uconn *)rig.sessions[1].c;
    assert_true(late->over && !late->choked && !late->over->thirsty);
    rig_pass_ms(1000);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(rig.clients[k].in_n, FEW + 11);
        assert_pattern(rig.clients[k].in + 11, FEW);
    }
    rig_close();
}

/* ---- ends */

static void who_is_owed_an_answer_gets_it_after_his_fin(void **state)
{
    (void)state;
    rig_open(NULL);
    rig.owes = true;
    struct rig_client *c = rig_connect();
    rig_say(c, SLICE_LIT("mail"));
    rig_bye(c);
    rig_pass_ms(1000);
    assert_non_null(rig.sessions[0].c);
    rig.owes = false;
    uint64_t before = stat_get(&rig.stats[1], STAT_DATA_IN); /* a client that has closed keeps nothing of it */
    conn_send(rig.sessions[0].c, SLICE_LIT("250 kept\r\n"));
    conn_resume(rig.sessions[0].c);
    rig_turns(10);
    assert_int_equal(stat_get(&rig.stats[1], STAT_DATA_IN) - before, 10);
    assert_null(c->tc);
    assert_int_equal(rig.sessions[0].how, CONN_END_PEER);
    rig_close();
}

static void a_reset_ends_the_session(void **state)
{
    (void)state;
    rig_open(NULL);
    struct rig_client *c = rig_connect();
    tcp_abort(rig_tcp(), c->tc);
    rig_turns(4);
    assert_null(rig.sessions[0].c);
    assert_int_equal(rig.sessions[0].how, CONN_END_ERROR);
    rig_close();
}

static void the_apps_end_comes_after_its_words(void **state)
{
    (void)state;
    rig_open(NULL);
    struct rig_client *c = rig_connect();
    conn_send(rig.sessions[0].c, SLICE_LIT("221 bye\r\n"));
    conn_close(rig.sessions[0].c);
    conn_send(rig.sessions[0].c, SLICE_LIT("too late"));
    rig_turns(6);
    assert_true(rig_heard(c, "220 hello\r\n221 bye\r\n"));
    assert_true(c->fin);
    rig_bye(c);
    rig_pass_ms(3000);
    assert_int_equal(rig.sessions[0].how, CONN_END_LOCAL);
    rig_close();
}

static void the_timer_is_the_apps(void **state)
{
    (void)state;
    rig_open(NULL);
    rig_connect();
    conn_timer(rig.sessions[0].c, 600 * UINT64_C(1000000));
    rig_pass_ms(599000);
    assert_int_equal(rig.sessions[0].timers, 0);
    rig_pass_ms(1500);
    assert_int_equal(rig.sessions[0].timers, 1);
    rig_close();
}

/* ---- who must go */

static void with_few_pages(struct user_config *cfg)
{
    cfg->stack.tcp.pages_max = 64;
}

static void say_much(struct rig_client *c)
{
    static uint8_t some[6000];
    for (int i = 0; i < 4 && c->tc; i++)
        rig_say(c, slice_of(some, sizeof some));
}

/* It reads nothing, and more waits for it than it may: the first of them holds so much that all others may little. */
static void choke(uint32_t i, size_t first_bytes)
{
    static uint8_t words[340000];
    rig.clients[i].mute = true;
    conn_send(rig.sessions[i].c, slice_of(words, first_bytes));
    rig_turns(100);
    assert_true(((struct uconn *)rig.sessions[i].c)->choked);
}

/* Whose session has said all and waits for our 250 stays, whatever it holds; so does who holds nothing of what is
 * short, as a newcomer that has not acknowledged its greeting; who does not take our replies goes. */
static void the_paused_stay_and_the_choked_go(void **state)
{
    enum { PAUSED = 2, ALL = 11, SAID = 24000 };
    (void)state;
    rig_open(with_few_pages);
    for (int i = 0; i < ALL; i++)
        rig_connect();
    for (uint32_t i = PAUSED; i < ALL; i++)
        choke(i, i == PAUSED ? 340000 : 72000);
    rig.does = LEAVE;
    struct rig_client *newcomer = rig_connect();
    for (int i = 0; i < ALL; i++) {
        assert_non_null(rig.sessions[i].c);
        say_much(&rig.clients[i]);
    }
    assert_in_range(rig_stat(STAT_CONN_EVICTED), 1, ALL - PAUSED);
    assert_non_null(newcomer->tc);
    rig.does = TAKE;
    for (int i = 0; i < PAUSED; i++)
        conn_resume(rig.sessions[i].c);
    rig_pass_ms(3000);
    for (int i = 0; i < PAUSED; i++)
        assert_int_equal(rig.sessions[i].in_n, SAID);
    rig_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_silent_are_greeted),
        cmocka_unit_test(who_speaks_first_gets_no_session),
        cmocka_unit_test(the_tar_says_nothing_and_keeps_nothing),
        cmocka_unit_test(the_tar_has_an_end_for_those_who_talk_on),
        cmocka_unit_test(who_leaves_the_tar_is_forgotten),
        cmocka_unit_test(the_tar_takes_one_in_eight),
        cmocka_unit_test(one_too_many_hears_421),
        cmocka_unit_test(a_refusal_of_the_app_closes),
        cmocka_unit_test(who_leaves_bytes_shuts_the_window),
        cmocka_unit_test(what_is_sent_waits_for_blocks),
        cmocka_unit_test(a_few_words_wait_for_blocks),
        cmocka_unit_test(who_is_owed_an_answer_gets_it_after_his_fin),
        cmocka_unit_test(a_reset_ends_the_session),
        cmocka_unit_test(the_apps_end_comes_after_its_words),
        cmocka_unit_test(the_timer_is_the_apps),
        cmocka_unit_test(the_paused_stay_and_the_choked_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
