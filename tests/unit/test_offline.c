/* test_offline.c - satchelctl spool: a whole spool is good, a damaged one is named, a running one is left alone. */
#include "ctl/commands.h"
#include "spool/base/log.h"
#include "spool/spool.h"
#include "tests/unit/scratch.h"

#include <glob.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 10000, MESSAGES = 3 };

static char dir[SCRATCH_MAX], out[16384], why[256];

static void committed(void *arg, int res, const struct msgid *ids, size_t n)
{
    (void)ids, (void)n;
    assert_int_equal(res, 0);
    *(bool *)arg = true;
}

static size_t no_trace(void *arg, const struct envelope *env, const struct msgid *id, char *out_r, size_t cap)
{
    (void)arg, (void)env, (void)id, (void)out_r, (void)cap;
    return 0;
}

static void accept_mail(struct intake *in, const char *body)
{
    struct slice rcpt = SLICE_LIT("you@a.test");
    struct envelope env = {.domain = SLICE_LIT("a.test"), .rcpts = &rcpt, .rcpts_n = 1};
    struct intake_txn *txn;
    bool done = false;
    assert_int_equal(in->ops->begin(in, &env, 1, no_trace, NULL, &txn), 0);
    assert_int_equal(in->ops->append(txn, slice_str(body), NULL, NULL), 0);
    assert_int_equal(in->ops->commit(txn, committed, &done), 0);
    for (int i = 0; i < WAIT_MS && !done; i++) {
        in->ops->poll(in);
        poll(NULL, 0, 1);
    }
    assert_true(done);
}

static struct spool *opened(void)
{
    struct spool_config cfg;
    struct spool *s;
    spool_config_init(&cfg, dir);
    cfg.log.segment_bytes = 1 << 20;
    cfg.log.spare_segments = 1;
    if (spool_open(&s, &cfg, why, sizeof why) < 0)
        fail_msg("%s", why);
    return s;
}

static int setup(void **state)
{
    struct intake *in;
    (void)state;
    scratch_make(dir, "offline");
    struct spool *s = opened();
    assert_int_equal(spool_intake(s, &in), 0);
    for (int i = 0; i < MESSAGES; i++)
        accept_mail(in, "Subject: find me\r\n\r\nbody\r\n");
    in->ops->close(&in);
    spool_close(&s);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return scratch_remove(dir);
}

/* Exit code; standard output and error are in `out`. */
static int run(const char *verb, const char *option)
{
    const char *args[] = {"satchelctl", "spool", verb, "--dir", dir, option};
    FILE *f = tmpfile();
    int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    fflush(stdout);
    dup2(fileno(f), STDOUT_FILENO);
    dup2(fileno(f), STDERR_FILENO);
    int code = ctl_main(option ? 6 : 5, (char **)args);
    fflush(stdout);
    dup2(saved[0], STDOUT_FILENO);
    dup2(saved[1], STDERR_FILENO);
    close(saved[0]);
    close(saved[1]);
    rewind(f);
    out[fread(out, 1, sizeof out - 1, f)] = 0;
    fclose(f);
    return code;
}

static void says(const char *words)
{
    if (!strstr(out, words))
        fail_msg("expected \"%s\" in: %s", words, out);
}

/* Flips a bit of the first stored body. */
static void body_damage(void)
{
    char pattern[96], *text = calloc(1, 1 << 20);
    glob_t g;
    bool hit = false;
    snprintf(pattern, sizeof pattern, "%s/log/*.seg", dir);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    for (size_t i = 0; i < g.gl_pathc && !hit; i++) {
        FILE *f = fopen(g.gl_pathv[i], "r+");
        size_t n = fread(text, 1, 1 << 20, f);
        const char *at = memmem(text, n, "find me", 7);
        if ((hit = at != NULL)) {
            assert_int_equal(fseek(f, at - text, SEEK_SET), 0);
            fputc('F', f);
        }
        fclose(f);
    }
    globfree(&g);
    free(text);
    assert_true(hit);
}

static void a_whole_spool_is_good(void **state)
{
    (void)state;
    assert_int_equal(run("check", NULL), EXIT_SUCCESS);
    says("MSG        3 records");
    says("live       3 messages\nindex      agrees with the log\ngood\n");
    assert_int_equal(run("check", "--json"), EXIT_SUCCESS);
    says("\"live_messages\": 3");
}

static void looking_changes_nothing(void **state)
{
    (void)state;
    char command[320];
    snprintf(command, sizeof command, "cd %s && find . -type f | sort | xargs sha256sum > %s.sum", dir, dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(run("check", NULL), EXIT_SUCCESS);
    assert_int_equal(run("dump", NULL), EXIT_SUCCESS);
    snprintf(command, sizeof command, "cd %s && find . -type f | sort | xargs sha256sum | cmp - %s.sum && rm %s.sum",
             dir, dir, dir);
    assert_int_equal(system(command), 0);
}

static void a_damaged_body_is_named(void **state)
{
    (void)state;
    body_damage();
    assert_int_equal(run("check", NULL), EXIT_FAILURE);
    says("damaged    segment 1 offset ");
    says("DAMAGED");
    assert_int_equal(run("dump", NULL), EXIT_FAILURE);
}

static void a_broken_index_is_told_apart(void **state)
{
    (void)state;
    char path[96];
    snprintf(path, sizeof path, "%s/index/CURRENT", dir);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(run("check", NULL), EXIT_FAILURE);
    says("live       3 messages");
    says("index      cannot be opened");
    says("satcheld rebuilds it from the log");
}

static void records_are_dumped(void **state)
{
    (void)state;
    assert_int_equal(run("dump", "--body"), EXIT_SUCCESS);
    says("type=MSG");
    says("domain=a.test");
    says("rcpt=you@a.test");
    says("Subject: find me");
}

static void a_running_node_is_left_alone(void **state)
{
    (void)state;
    struct spool *s = opened();
    assert_int_equal(run("check", NULL), EXIT_FAILURE);
    says("is in use by a running satcheld: stop it first");
    assert_int_equal(run("dump", NULL), EXIT_FAILURE);
    spool_close(&s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_whole_spool_is_good),        T(looking_changes_nothing), T(a_damaged_body_is_named),
        T(a_broken_index_is_told_apart), T(records_are_dumped),      T(a_running_node_is_left_alone),
    };
    log_level_now = LOG_LEVEL_ERROR;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
