/* test_smtp_client.c - the SMTP client's dialogue, without a socket.  Each conversation is run with the server's bytes
 * whole, and again byte by byte. */
#include "dataplane/smtp/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What happened, as text: "ready go msg[a:250 b:550]@dot end@idle". */
struct talk {
    struct smtp_client *c;
    char log[4096], sent[65536];
    size_t log_n, sent_n;
    bool bytewise, hold;
    const char *body;
    struct client_message next[4];
    size_t next_n, next_i;
};

static struct slice rcpt_ab[] = {{(const uint8_t *)"a@x", 3}, {(const uint8_t *)"b@x", 3}};

static struct client_message message(size_t rcpts_n)
{
    return (struct client_message){.sender = SLICE_LIT("s@y"), .rcpts = rcpt_ab, .rcpts_n = rcpts_n, .bytes = 100};
}

static void note(struct talk *t, const char *text)
{
    t->log_n += (size_t)snprintf(t->log + t->log_n, sizeof t->log - t->log_n, "%s%s", t->log_n ? " " : "", text);
}

static void note_message(struct talk *t)
{
    const struct client_result *r = client_result(t->c);
    char text[256];
    size_t n = (size_t)snprintf(text, sizeof text, "msg@%s", client_stage_name(r->stage));
    for (size_t i = 0; i < r->rcpts_n; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, ":%u", r->rcpts[i].code);
    note(t, text);
}

static void drain(struct talk *t)
{
    struct slice out = client_output(t->c);
    if (out.n)
        memcpy(t->sent + t->sent_n, out.p, out.n);
    t->sent_n += out.n;
    t->sent[t->sent_n] = 0;
    client_sent(t->c, out.n);
}

static void give(struct talk *t)
{
    while (t->next_i < t->next_n && client_can_begin(t->c))
        client_begin(t->c, &t->next[t->next_i++]);
}

static void go_on(struct talk *t)
{
    char text[64];
    for (;;) {
        switch (client_next(t->c)) {
        case CLIENT_NONE:
            drain(t);
            return;
        case CLIENT_READY:
            note(t, "ready");
            break;
        case CLIENT_GO:
            note(t, "go");
            client_body(t->c, slice_str(t->body));
            client_body_end(t->c, !t->hold);
            break;
        case CLIENT_MESSAGE:
            note_message(t);
            break;
        case CLIENT_END:
            snprintf(text, sizeof text, "end@%s:%u%s%s", client_stage_name(client_end(t->c)->stage),
                     client_end(t->c)->status.code, client_end(t->c)->in_doubt ? ":doubt" : "",
                     client_end(t->c)->loop ? ":loop" : "");
            note(t, text);
            break;
        }
        give(t);
    }
}

static void hear(struct talk *t, const char *text)
{
    size_t n = strlen(text), step = t->bytewise ? 1 : n;
    for (size_t i = 0; i < n; i += step) {
        client_input(t->c, slice_of(text + i, step));
        go_on(t);
    }
}

static struct talk *talk_new(bool bytewise)
{
    struct talk *t = calloc(1, sizeof *t);
    t->c = client_new("me.test");
    t->bytewise = bytewise;
    t->body = "Subject: x\r\n\r\n.one\r\ntwo.\r\n..three\r\n";
    return t;
}

static void talk_free(struct talk *t)
{
    client_free(&t->c);
    free(t);
}

#define FULL_EHLO "220 hi\r\n250-them.test\r\n250-PIPELINING\r\n250-SIZE 5000\r\n250 8BITMIME\r\n"
#define BARE_EHLO "220 hi\r\n250 them.test\r\n"

/* Runs the server's text and checks what happened and (unless NULL) what was sent. */
static void run(const char *server, const char *lost, size_t messages, size_t rcpts, const char *log, const char *sent)
{
    for (int bytewise = 0; bytewise < 2; bytewise++) {
        struct talk *t = talk_new(bytewise);
        t->next_n = messages;
        for (size_t i = 0; i < messages; i++)
            t->next[i] = message(rcpts);
        hear(t, server);
        if (lost) {
            client_lost(t->c, lost);
            go_on(t);
        }
        assert_string_equal(t->log, log);
        if (sent)
            assert_string_equal(t->sent, sent);
        talk_free(t);
    }
}

#define BODY_SENT "Subject: x\r\n\r\n..one\r\ntwo.\r\n...three\r\n.\r\n"

static void one_message_alone(void **state)
{
    (void)state;
    run(BARE_EHLO "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n250 2.0.0 queued\r\n", NULL, 1, 2,
        "ready go msg@dot:250:550",
        "EHLO me.test\r\nMAIL FROM:<s@y>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n" BODY_SENT);
}

static void pipelined(void **state)
{
    (void)state;
    run(FULL_EHLO "250 ok\r\n250 ok\r\n354 go\r\n250 one\r\n250 ok\r\n250 ok\r\n354 go\r\n250 two\r\n", NULL, 2, 1,
        "ready go msg@dot:250 go msg@dot:250",
        "EHLO me.test\r\nMAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n" BODY_SENT
        "MAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n" BODY_SENT);
}

static void next_rides_behind_the_dot(void **state)
{
    (void)state;
    struct talk *t = talk_new(false);
    t->next_n = 2;
    t->next[0] = t->next[1] = message(1);
    hear(t, FULL_EHLO);
    t->sent_n = 0;
    hear(t, "250 ok\r\n250 ok\r\n354 go\r\n");
    assert_string_equal(t->sent, BODY_SENT "MAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n");
    talk_free(t);
}

static void helo_fallback(void **state)
{
    (void)state;
    run("220 hi\r\n502 what?\r\n250 them\r\n", NULL, 0, 1, "ready", "EHLO me.test\r\nHELO me.test\r\n");
    run("220 hi\r\n502 what?\r\n502 what?\r\n", NULL, 0, 1, "end@hello:502", NULL);
}

static void withheld_dot(void **state)
{
    (void)state;
    struct talk *t = talk_new(false);
    t->hold = true;
    t->next_n = 2;
    t->next[0] = t->next[1] = message(1);
    hear(t, FULL_EHLO "250 ok\r\n250 ok\r\n354 go\r\n");
    assert_true(client_dot_held(t->c));
    assert_false(client_can_begin(t->c));
    assert_null(strstr(t->sent, "\r\n.\r\n"));
    t->sent_n = 0;
    client_release_dot(t->c);
    give(t);
    drain(t);
    assert_string_equal(t->sent, ".\r\nMAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n");
    hear(t, "250 done\r\n");
    assert_string_equal(t->log, "ready go msg@dot:250");
    talk_free(t);
}

static void all_recipients_refused(void **state)
{
    (void)state;
    /* DATA refused as it should be; the next transaction begins with RSET */
    run(FULL_EHLO
        "250 ok\r\n550 no\r\n554 no valid recipients\r\n250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
        NULL, 2, 1, "ready msg@rcpt:550 go msg@dot:250",
        "EHLO me.test\r\nMAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n"
        "RSET\r\nMAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n" BODY_SENT);
    /* DATA taken all the same: a lone dot, whatever its answer */
    run(FULL_EHLO "250 ok\r\n550 no\r\n354 go\r\n250 empty\r\n", NULL, 1, 1, "ready msg@rcpt:550",
        "EHLO me.test\r\nMAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n.\r\n");
    run(BARE_EHLO "250 ok\r\n550 no\r\n250 reset\r\n250 ok\r\n", NULL, 2, 1, "ready msg@rcpt:550", NULL);
}

static void refusals(void **state)
{
    (void)state;
    run(FULL_EHLO "451 later\r\n503 no\r\n503 no\r\n", NULL, 1, 1, "ready msg@mail:451", NULL);
    run(BARE_EHLO "552 big\r\n", NULL, 1, 2, "ready msg@mail:552:552", NULL);
    run(FULL_EHLO "250 ok\r\n250 ok\r\n451 not now\r\n", NULL, 1, 1, "ready msg@data:451", NULL);
    run(FULL_EHLO "250 ok\r\n250 ok\r\n354 go\r\n554 5.7.1 spam\r\n", NULL, 1, 1, "ready go msg@dot:554", NULL);
    run("554 go away\r\n", NULL, 1, 1, "end@greeting:554", NULL);
    run("421 busy\r\n", NULL, 1, 1, "end@greeting:421", NULL);
}

static void hostile(void **state)
{
    (void)state;
    run(FULL_EHLO "250 ok\r\n250 ok\r\n250 no body please\r\n", NULL, 1, 1, "ready end@data:0", NULL);
    run(FULL_EHLO "250 ok\r\n421 bye\r\n", NULL, 1, 1, "ready end@rcpt:421", NULL);
    run(FULL_EHLO "250 ok\r\n250 ok\r\n354 go\r\n421 bye\r\n", NULL, 1, 1, "ready go end@dot:421", NULL);
    run(FULL_EHLO "250 what for\r\n", NULL, 0, 1, "ready end@idle:0", NULL);
    run(FULL_EHLO "421 idle too long\r\n", NULL, 0, 1, "ready end@idle:421", NULL);
    run("hello\r\n", NULL, 0, 1, "end@greeting:0", NULL);
    run("220-a\r\n250 b\r\n", NULL, 0, 1, "end@greeting:0", NULL);
    run("199 x\r\n", NULL, 0, 1, "end@greeting:0", NULL);
    run(FULL_EHLO "354 go\r\n", NULL, 1, 1, "ready end@mail:0", NULL);
}

static void endless(void **state)
{
    (void)state;
    struct talk *t = talk_new(false);
    for (int i = 0; i < 10000 && !t->log_n; i++)
        hear(t, "220-more\r\n");
    assert_string_equal(t->log, "end@greeting:0");
    talk_free(t);
    t = talk_new(false);
    for (int i = 0; i < 10000 && !t->log_n; i++)
        hear(t, "220 no end of line ");
    assert_string_equal(t->log, "end@greeting:0");
    hear(t, "220 more of it\r\n");
    assert_string_equal(t->log, "end@greeting:0");
    talk_free(t);
}

static void lost(void **state)
{
    (void)state;
    run(FULL_EHLO, "reset", 1, 1, "ready end@mail:0", NULL);
    run(FULL_EHLO "250 ok\r\n250 ok\r\n354 go\r\n", "reset", 1, 1, "ready go end@dot:0:doubt", NULL);
    /* the answer came before the connection closed */
    run(FULL_EHLO "250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n", "closed", 1, 1, "ready go msg@dot:250 end@idle:0", NULL);
    run("220 hi\r\n250 me.test hello\r\n", NULL, 1, 1, "end@hello:250:loop", NULL);
}

static void local_verdicts(void **state)
{
    (void)state;
    struct talk *t = talk_new(false);
    struct slice bad = SLICE_LIT("a\r\nQUIT");
    t->next_n = 4;
    t->next[0] = t->next[1] = t->next[2] = t->next[3] = message(1);
    t->next[0].bytes = 5001;
    t->next[1].rcpts = &bad;
    t->next[2].utf8 = true;
    hear(t, FULL_EHLO);
    assert_string_equal(t->log, "ready msg@mail:552 msg@mail:553 msg@mail:553");
    assert_string_equal(t->sent, "EHLO me.test\r\nMAIL FROM:<s@y> SIZE=100\r\nRCPT TO:<a@x>\r\nDATA\r\n");
    talk_free(t);
}

static void enhanced_codes(void **state)
{
    (void)state;
    struct talk *t = talk_new(false);
    t->next_n = 1;
    t->next[0] = message(1);
    hear(t, FULL_EHLO "250 ok\r\n250 ok\r\n354 go\r\n");
    client_input(t->c, SLICE_LIT("550-5.7.26 first\x01\r\n550 5.7.26 second\r\n"));
    assert_int_equal(client_next(t->c), CLIENT_MESSAGE);
    const struct smtp_status *st = &client_result(t->c)->rcpts[0];
    assert_int_equal(st->class, 5);
    assert_int_equal(st->subject, 7);
    assert_int_equal(st->detail, 26);
    assert_string_equal(st->text, "first? second");
    talk_free(t);
}

/* Any split of the body into pieces is stuffed alike, and a body without a last line end gets one. */
static void stuffing(void **state)
{
    (void)state;
    const char *body = ".a\r\n..\r\nb.c\r\n.\r\n.d";
    for (size_t cut = 0; cut <= strlen(body); cut++) {
        struct talk *t = talk_new(false);
        t->next_n = 1;
        t->next[0] = message(1);
        hear(t, FULL_EHLO "250 ok\r\n250 ok\r\n");
        t->sent_n = 0;
        client_input(t->c, SLICE_LIT("354 go\r\n"));
        assert_int_equal(client_next(t->c), CLIENT_GO);
        client_body(t->c, slice_of(body, cut));
        client_body(t->c, slice_str(body + cut));
        client_body_end(t->c, true);
        drain(t);
        assert_string_equal(t->sent, "..a\r\n...\r\nb.c\r\n..\r\n..d\r\n.\r\n");
        talk_free(t);
    }
}

static void timeouts(void **state)
{
    (void)state;
    struct talk *t = talk_new(false);
    assert_int_equal(client_timeout_us(t->c), 300000000);
    t->next_n = 1;
    t->next[0] = message(1);
    hear(t, FULL_EHLO "250 ok\r\n250 ok\r\n");
    assert_int_equal(client_timeout_us(t->c), 120000000);
    uint64_t replies = client_replies(t->c);
    client_input(t->c, SLICE_LIT("354 dripping"));
    assert_int_equal(client_next(t->c), CLIENT_NONE);
    assert_int_equal(client_replies(t->c), replies);
    hear(t, "\r\n");
    assert_int_equal(client_timeout_us(t->c), 600000000);
    hear(t, "250 ok\r\n");
    assert_int_equal(client_timeout_us(t->c), 0);
    client_quit(t->c);
    hear(t, "221 bye\r\n");
    assert_string_equal(t->log, "ready go msg@dot:250 end@quit:221");
    talk_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message_alone),
        cmocka_unit_test(pipelined),
        cmocka_unit_test(next_rides_behind_the_dot),
        cmocka_unit_test(helo_fallback),
        cmocka_unit_test(withheld_dot),
        cmocka_unit_test(all_recipients_refused),
        cmocka_unit_test(refusals),
        cmocka_unit_test(hostile),
        cmocka_unit_test(endless),
        cmocka_unit_test(lost),
        cmocka_unit_test(local_verdicts),
        cmocka_unit_test(enhanced_codes),
        cmocka_unit_test(stuffing),
        cmocka_unit_test(timeouts),
    };
    return cmocka_run_group_tests_name("smtp_client", tests, NULL, NULL);
}
