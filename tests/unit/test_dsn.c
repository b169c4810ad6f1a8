/* test_dsn.c - the shape of delivery status notifications: RFC 3464, RFC 6522, RFC 3834. */
#include "dataplane/relay/dsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const char original[] = "Received: by us\r\nSubject: hello\r\n\r\nthe body\r\n";

static char *build(struct dsn_request *q, size_t *n_r, bool *eight_bit_r)
{
    char *content = NULL;
    q->hostname = "mx.test";
    q->sender = SLICE_LIT("s@sender.test");
    q->id = (struct msgid){.counter = 7};
    q->arrival_us = 1700000000000000;
    q->now_us = 1700000100000000;
    assert_int_equal(dsn_build(q, &content, n_r, eight_bit_r), 0);
    assert_int_equal(strlen(content), *n_r);
    return content;
}

static void assert_crlf(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] == '\n' || s[i] == '\r')
            assert_true(s[i] == '\n' ? i > 0 && s[i - 1] == '\r' : s[i + 1] == '\n');
}

static void two_refused(void **state)
{
    (void)state;
    struct smtp_status a, b;
    struct dsn_failure f[] = {{SLICE_LIT("a@d.test"), &a}, {SLICE_LIT("b@d.test"), &b}};
    struct dsn_request q = {.remote = "192.0.2.1:25", .failures = f, .failures_n = 2, .original = slice_str(original)};
    size_t n;
    bool eight_bit;
    status_set(&a, 550, 5, 1, 1, "no such user");
    status_set(&b, 554, 5, 7, 1, "policy");
    char *s = build(&q, &n, &eight_bit);
    static const char *const parts[] = {
        "To: <s@sender.test>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;\r\n",
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.test\r\n",
        "\r\n\r\nFinal-Recipient: rfc822; a@d.test\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
        "\r\n\r\nFinal-Recipient: rfc822; b@d.test\r\n",
        "Content-Type: text/rfc822-headers\r\n\r\nReceived: by us\r\nSubject: hello\r\n\r\n--",
    };
    const char *at = s;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        at = strstr(at, parts[i]);
        assert_non_null(at);
    }
    assert_null(strstr(s, "the body"));
    assert_crlf(s, n);
    assert_false(eight_bit);
    assert_string_equal(s + n - 4, "--\r\n");
    free(s);
}

static void expired(void **state)
{
    (void)state;
    struct smtp_status st;
    struct dsn_failure f = {SLICE_LIT("a@d.test"), &st};
    struct dsn_request q = {.remote = "", .failures = &f, .failures_n = 1, .expired = true};
    size_t n;
    bool eight_bit;
    status_set(&st, 0, 4, 4, 7, "kept too long");
    char *s = build(&q, &n, &eight_bit);
    assert_non_null(strstr(s, "Status: 5.4.7\r\n")); /* failed for good: class 5 */
    assert_null(strstr(s, "Remote-MTA"));
    assert_non_null(strstr(s, "Diagnostic-Code: X-Satchel; kept too long\r\n"));
    free(s);
}

/* However large the original's header: the notification is bounded, and cut between lines. */
static void huge_header(void **state)
{
    (void)state;
    struct smtp_status st;
    struct dsn_failure f = {SLICE_LIT("a@d.test"), &st};
    size_t n, big = 100000;
    bool eight_bit;
    char *head = malloc(big);
    for (size_t i = 0; i < big; i++)
        head[i] = "X: y\xc3\xa4z\r\n"[i % 9];
    struct dsn_request q = {.remote = "", .failures = &f, .failures_n = 1, .original = slice_of(head, big)};
    status_set(&st, 550, 5, 0, 0, "no");
    char *s = build(&q, &n, &eight_bit);
    assert_true(n < DSN_HEADER_MAX + 2500);
    assert_crlf(s, n);
    assert_true(eight_bit);
    free(s);
    free(head);
}

static void who_is_told(void **state)
{
    (void)state;
    char domain[256];
    assert_false(dsn_wanted(SLICE_LIT(""), domain));
    assert_false(dsn_wanted(SLICE_LIT("postmaster"), domain));
    assert_false(dsn_wanted(SLICE_LIT("x@"), domain));
    assert_true(dsn_wanted(SLICE_LIT("\"a@b\"@Sender.TEST"), domain));
    assert_string_equal(domain, "sender.test");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_refused),
        cmocka_unit_test(expired),
        cmocka_unit_test(huge_header),
        cmocka_unit_test(who_is_told),
    };
    return cmocka_run_group_tests_name("dsn", tests, NULL, NULL);
}
