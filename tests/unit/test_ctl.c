/* test_ctl.c - satchelctl without a daemon: usage, errors with their remedy, numbers for people, its page. */
#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/human.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Runs the program with standard error caught in `said`. */
static char said[4096];

static int run(const char *const *args)
{
    char *argv[16] = {(char *)(uintptr_t) "satchelctl"};
    int argc = 1, saved = dup(STDERR_FILENO);
    FILE *f = tmpfile();
    assert_non_null(f);
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    dup2(fileno(f), STDERR_FILENO);
    int code = ctl_main(argc, argv);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(f);
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    fclose(f);
    return code;
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static void wrong_usage_says_what_is_right(void **state)
{
    (void)state;
    assert_int_equal(RUN("bogus"), CTL_USAGE);
    assert_non_null(strstr(said, "unknown command: bogus"));
    assert_int_equal(RUN("queue", "bogus"), CTL_USAGE);
    assert_non_null(strstr(said, "satchelctl queue delete [ID...]"));
    assert_int_equal(RUN("domain", "add"), CTL_USAGE);
    assert_non_null(strstr(said, "expected NAME"));
    assert_int_equal(RUN("domain", "add", "example.com"), CTL_USAGE);
    assert_non_null(strstr(said, "--primary mail.example.com:25"));
    assert_int_equal(RUN("domain", "add", "example.com", "--primary", "x", "--keep", "soon"), CTL_USAGE);
    assert_non_null(strstr(said, "\"soon\" is not a time"));
    assert_int_equal(RUN("domain", "add", "example.com", "--primary"), CTL_USAGE);
    assert_non_null(strstr(said, "--primary needs a value: HOST[:PORT]"));
    assert_int_equal(RUN("status", "--limit", "5"), CTL_USAGE);
    assert_non_null(strstr(said, "unknown option --limit"));
    assert_int_equal(RUN("status", "more"), CTL_USAGE);
    assert_int_equal(RUN("status", "--json=yes"), CTL_USAGE);
    assert_int_equal(RUN("queue", "flush"), CTL_USAGE);
    assert_int_equal(RUN("queue", "flush", "a.b", "--all"), CTL_USAGE);
    assert_int_equal(RUN("queue", "delete"), CTL_USAGE);
    assert_int_equal(RUN("queue", "list", "--limit", "many"), CTL_USAGE);
    assert_non_null(strstr(said, "\"many\" is not a number"));
}

static void nobody_there_names_the_remedy(void **state)
{
    (void)state;
    assert_int_equal(RUN("--socket", "/nonexistent/admin.sock", "status"), EXIT_FAILURE);
    assert_string_equal(said,
                        "satchelctl: cannot reach /nonexistent/admin.sock: is satcheld running? try `make run`, or "
                        "name its socket with --socket\n");
    assert_int_equal(RUN("queue", "delete", "--domain", "a.b", "--socket=/nonexistent/admin.sock", "--yes"),
                     EXIT_FAILURE);
    assert_non_null(strstr(said, "cannot reach"));
}

static void no_spool_there_names_the_remedy(void **state)
{
    (void)state;
    assert_int_equal(RUN("spool", "check", "--dir", "/nonexistent"), EXIT_FAILURE);
    assert_non_null(strstr(said, "is this the data directory of a Satchel? name it with --dir"));
}

static void text_is_escaped_for_a_path(void **state)
{
    (void)state;
    char *e = client_escape("a b/c?d=\xc3\xbc%&~.-_");
    assert_string_equal(e, "a%20b%2Fc%3Fd%3D%C3%BC%25%26~.-_");
    free(e);
}

static void numbers_are_written_for_people(void **state)
{
    (void)state;
    char t[HUMAN_MAX];
    assert_string_equal(human_bytes(0, t), "0 B");
    assert_string_equal(human_bytes(1536, t), "1.5 KiB");
    assert_string_equal(human_bytes(UINT64_MAX, t), "16.0 EiB");
    assert_string_equal(human_age(-1, t), "0 s");
    assert_string_equal(human_age(61, t), "1 min 1 s");
    assert_string_equal(human_age(3 * 86400 + 4 * 3600 + 59, t), "3 d 4 h");
    assert_string_equal(human_count(1, "message", t), "1 message");
    assert_string_equal(human_count(0, "message", t), "0 messages");
}

static void every_command_is_documented(void **state)
{
    (void)state;
    char *made = NULL, *kept = calloc(1, 1 << 16);
    size_t n;
    FILE *f = open_memstream(&made, &n), *page = fopen("docs/satchelctl.md", "r");
    assert_non_null(page);
    ctl_docs(f);
    fclose(f);
    kept[fread(kept, 1, (1 << 16) - 1, page)] = 0;
    fclose(page);
    if (strcmp(made, kept) != 0)
        fail_msg("docs/satchelctl.md is old: build/bin/satchelctl docs > docs/satchelctl.md");
    free(made);
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage_says_what_is_right),  cmocka_unit_test(nobody_there_names_the_remedy),
        cmocka_unit_test(no_spool_there_names_the_remedy), cmocka_unit_test(text_is_escaped_for_a_path),
        cmocka_unit_test(numbers_are_written_for_people),  cmocka_unit_test(every_command_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
