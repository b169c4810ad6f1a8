/* Becoming an ordinary user: in a child, so that the test itself stays who it is. */
#include "dataplane/conf/privileges.h"

#include <errno.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/satchel-test-privileges-XXXXXX");
    return mkdtemp(dir) && rmdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    rmdir(dir);
    return 0;
}

static void need_root(void)
{
    if (geteuid() != 0) {
        print_message("needs root\n");
        skip();
    }
}

/* 0 where the child became nobody for good, with the directory its own; else which check failed. */
static int become_nobody(void)
{
    char why[256] = "";
    const struct passwd *pw = getpwnam("nobody");
    struct stat st;
    if (!pw || privileges_drop("nobody", dir, why, sizeof why) != 0)
        return 1;
    if (getuid() != pw->pw_uid || geteuid() != pw->pw_uid || getgid() != pw->pw_gid)
        return 2;
    if (setuid(0) == 0 || setgid(0) == 0)
        return 3;
    if (stat(dir, &st) != 0 || st.st_uid != pw->pw_uid || (st.st_mode & 0777) != 0700)
        return 4;
    char caps[4096];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(caps, sizeof caps, f))
        if (strncmp(caps, "CapEff:", 7) == 0 && strtoull(caps + 7, NULL, 16) != 0)
            return 5;
    return f ? 0 : 6;
}

static void drops_for_good(void **state)
{
    (void)state;
    need_root();
    pid_t pid = fork();
    if (pid == 0)
        _exit(become_nobody());
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void names_the_remedy(void **state)
{
    (void)state;
    char why[256];
    assert_int_equal(privileges_drop("no-such-user-here", dir, why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, "no-such-user-here"));
    assert_non_null(strstr(why, "create it, or change `user:`"));
    assert_int_equal(privileges_drop("", "/no/such/parent/dir", why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, "make its parent"));
}

static void stays_without_a_user(void **state)
{
    (void)state;
    char why[256];
    uid_t before = geteuid();
    assert_int_equal(privileges_drop("", dir, why, sizeof why), 0);
    assert_int_equal(geteuid(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(drops_for_good, setup, teardown),
        cmocka_unit_test_setup_teardown(names_the_remedy, setup, teardown),
        cmocka_unit_test_setup_teardown(stays_without_a_user, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
