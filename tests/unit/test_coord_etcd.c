/* test_coord_etcd.c - the etcd backend against real etcd: compare-and-swap, leases, watches, members that die and come
 * back, TLS and users.  etcd runs on ports of its own with data below /tmp, and ends with the test.  Skipped where
 * etcd, or openssl for the certificate, is not installed. */
#include "cluster/coord/etcd_http.h"
#include "tests/unit/coord_rig.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMBERS = 3, UP_MS = 10000 };

static char dir[SCRATCH_MAX];

struct member {
    pid_t pid; /* 0: not running */
    char name[32], client[64], peer[64], data[128];
};

static struct member members[MEMBERS];
static char initial[512];
static const char *scheme = "http";

/* Held until all are chosen, so that they differ. */
static int port_free(int *fd_r)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    *fd_r = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd_r, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(getsockname(*fd_r, (struct sockaddr *)&sa, &n), 0);
    return ntohs(sa.sin_port);
}

static void members_choose(size_t n)
{
    int fds[MEMBERS * 2];
    size_t at = 0;
    memset(members, 0, sizeof members);
    for (size_t i = 0; i < n; i++) {
        struct member *m = &members[i];
        snprintf(m->name, sizeof m->name, "m%zu", i);
        snprintf(m->client, sizeof m->client, "%s://127.0.0.1:%d", scheme, port_free(&fds[i * 2]));
        snprintf(m->peer, sizeof m->peer, "http://127.0.0.1:%d", port_free(&fds[i * 2 + 1]));
        snprintf(m->data, sizeof m->data, "%s/%s-%s", dir, m->name, strrchr(m->client, ':') + 1);
        at += (size_t)snprintf(initial + at, sizeof initial - at, "%s%s=%s", i ? "," : "", m->name, m->peer);
    }
    for (size_t i = 0; i < n * 2; i++)
        close(fds[i]);
}

static void child_run(char *const argv[])
{
    int log = open("/dev/null", O_RDWR);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, 0);
    dup2(log, 1);
    dup2(log, 2);
    execvp(argv[0], argv);
    _exit(127);
}

static pid_t child_start(char *const argv[])
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child_run(argv);
    return pid;
}

static int child_wait(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define A(s) (char *)(s)

static void member_start(struct member *m)
{
    char cert[96], key[96];
    char *argv[40] = {A("etcd"), A("--name"),
                      m->name,   A("--data-dir"),
                      m->data,   A("--listen-client-urls"),
                      m->client, A("--advertise-client-urls"),
                      m->client, A("--listen-peer-urls"),
                      m->peer,   A("--initial-advertise-peer-urls"),
                      m->peer,   A("--initial-cluster"),
                      initial,   A("--heartbeat-interval"),
                      A("50"),   A("--election-timeout"),
                      A("500"),  A("--snapshot-count"),
                      A("1000")};
    size_t n = 21;
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    char *tls[] = {A("--cert-file"), cert, A("--key-file"), key, A("--trusted-ca-file"), cert, A("--client-cert-auth")};
    for (size_t i = 0; strcmp(scheme, "https") == 0 && i < 7; i++)
        argv[n++] = tls[i];
    m->pid = child_start(argv);
}

static void member_kill(struct member *m)
{
    if (!m->pid)
        return;
    kill(m->pid, SIGKILL);
    child_wait(m->pid);
    m->pid = 0;
}

static bool program_there(const char *name, const char *word)
{
    char *const argv[] = {A(name), A(word), NULL};
    return child_wait(child_start(argv)) == 0;
}

static struct coord *open_with(struct coord_etcd_config *cfg, size_t n)
{
    const char *endpoints[MEMBERS + 1] = {0};
    struct coord *c = NULL;
    char why[256] = "";
    for (size_t i = 0; i < n; i++)
        endpoints[i] = members[i].client;
    cfg->endpoints = endpoints;
    cfg->prefix = cfg->prefix ? cfg->prefix : "/satchel/test/";
    cfg->timeout_ms = cfg->timeout_ms ? cfg->timeout_ms : 1500;
    if (coord_etcd_open(&c, cfg, clock_system(), why) != 0)
        fail_msg("%s", why);
    return c;
}

static struct coord *open_plain(size_t n)
{
    return open_with(&(struct coord_etcd_config){0}, n);
}

/* Lists until it works. */
static void await_up(struct coord *c)
{
    int res = -1;
    for (uint64_t until = now_ms() + UP_MS; res != 0 && now_ms() < until;) {
        struct answer a = do_list(c, "");
        res = a.res;
        free(a.kvs);
    }
    assert_int_equal(res, 0);
}

static struct coord *start(size_t n)
{
    members_choose(n);
    for (size_t i = 0; i < n; i++)
        member_start(&members[i]);
    struct coord *c = open_plain(n);
    await_up(c);
    return c;
}

static int stop(void **state)
{
    (void)state;
    for (size_t i = 0; i < MEMBERS; i++)
        member_kill(&members[i]);
    return 0;
}

static size_t count_keys(struct coord *c, const char *prefix)
{
    struct answer a = do_list(c, prefix);
    assert_int_equal(a.res, 0);
    free(a.kvs);
    return a.n;
}

static void check_cas(struct coord *c)
{
    struct coord_cmp none = {SLICE_LIT("a\0b"), 0};
    struct coord_op put = {COORD_PUT, SLICE_LIT("a\0b"), SLICE_LIT("\xff\0\n"), 0};
    struct answer first = do_txn(c, &none, 1, &put, 1);
    assert_true(first.res == 0 && first.succeeded);
    struct answer again = do_txn(c, &none, 1, &put, 1);
    assert_true(again.res == 0 && !again.succeeded);
    struct answer l = do_list(c, "a");
    assert_int_equal(l.n, 1);
    assert_true(slice_eq(l.kvs[0].key, put.key) && slice_eq(l.kvs[0].value, put.value));
    assert_true(l.kvs[0].mod_rev == first.rev && l.kvs[0].create_rev == first.rev);
    free(l.kvs);
    struct coord_cmp there = {put.key, first.rev};
    struct coord_op del = {COORD_DELETE, put.key, {0}, 0}, twice[] = {put, put};
    assert_int_equal(do_txn(c, NULL, 0, twice, 2).res, -SATCHEL_EINVAL);
    assert_true(do_txn(c, &there, 1, &del, 1).succeeded);
    assert_int_equal(count_keys(c, "a"), 0);
}

/* More keys than one page, in many txns at once; another prefix beside them stays out of sight. */
static void check_pages(struct coord *c)
{
    enum { TXNS = 52, OPS = COORD_TXN_OPS_MAX };
    static char keys[TXNS * OPS][32];
    struct answer done[TXNS] = {0};
    struct coord_op ops[OPS];
    for (size_t i = 0; i < TXNS; i++) {
        for (size_t j = 0; j < OPS; j++) {
            snprintf(keys[i * OPS + j], sizeof keys[0], "k/%06zu", i * OPS + j);
            ops[j] = (struct coord_op){COORD_PUT, slice_str(keys[i * OPS + j]), SLICE_LIT("v"), 0};
        }
        assert_int_equal(c->ops->txn(c, NULL, 0, ops, OPS, answer_txn, &done[i]), 0);
    }
    for (size_t i = 0; i < TXNS; i++)
        assert_true(coord_wait(c, &done[i].done, WAIT_MS) && done[i].succeeded);
    assert_int_equal(do_put(c, "l", "beyond", 0).res, 0);
    struct answer l = do_list(c, "k/");
    assert_int_equal(l.n, TXNS * OPS);
    for (size_t i = 0; i < l.n; i++)
        assert_true(slice_eq(l.kvs[i].key, slice_str(keys[i])));
    free(l.kvs);
}

static void check_lease(struct coord *c)
{
    uint64_t before = clock_boot_us(clock_system());
    struct answer g = do_grant(c, 1);
    assert_true(g.res == 0 && g.lease > 0 && g.ttl_s >= 1);
    assert_in_range(g.sent_us, before, clock_boot_us(clock_system()));
    assert_int_equal(do_put(c, "live/x", "x", g.lease).res, 0);
    for (uint64_t until = now_ms() + 1700; now_ms() < until; coord_turn(c, now_ms() + 300)) {
        struct answer k = do_keepalive(c, g.lease);
        assert_true(k.res == 0 && k.ttl_s == g.ttl_s && k.sent_us > g.sent_us);
    }
    assert_int_equal(count_keys(c, "live/"), 1);
    uint64_t until = now_ms() + 5000;
    while (count_keys(c, "live/") && now_ms() < until)
        coord_turn(c, now_ms() + 50);
    assert_int_equal(count_keys(c, "live/"), 0);
    assert_int_equal(do_keepalive(c, g.lease).res, -SATCHEL_ENOENT);
    assert_int_equal(do_put(c, "live/x", "x", g.lease).res, -SATCHEL_ENOENT);
    g = do_grant(c, 60);
    assert_int_equal(do_put(c, "live/y", "y", g.lease).res, 0);
    assert_int_equal(do_revoke(c, g.lease).res, 0);
    assert_int_equal(count_keys(c, "live/"), 0);
    assert_int_equal(do_revoke(c, g.lease).res, -SATCHEL_ENOENT);
}

static void check_watch(struct coord *c)
{
    static unsigned changed; /* the watch outlives this function */
    struct coord *other = open_plain(1);
    assert_int_equal(c->ops->watch(c, SLICE_LIT("w/"), count_changed, &changed), 0);
    assert_true(coord_wait_count(c, &changed, 0, 2000));
    unsigned before = changed;
    assert_int_equal(do_put(other, "w/1", "x", 0).res, 0);
    assert_true(coord_wait_count(c, &changed, before, 1000));
    other->ops->close(&other);
}

/* etcd dies and comes back: calls say so, later they work, and so does the watch that was open before. */
static void check_restart(struct coord *c)
{
    static unsigned changed; /* the watch outlives this function */
    struct coord_info info;
    assert_int_equal(c->ops->watch(c, SLICE_LIT("r/"), count_changed, &changed), 0);
    assert_true(coord_wait_count(c, &changed, 0, 2000));
    member_kill(&members[0]);
    struct answer a = do_list(c, "");
    assert_int_equal(a.res, -SATCHEL_EAGAIN);
    free(a.kvs);
    assert_int_equal(do_put(c, "r/1", "x", 0).res, -SATCHEL_EAGAIN);
    c->ops->info(c, &info);
    assert_true(!info.reachable && info.why[0]);
    unsigned before = changed;
    member_start(&members[0]);
    await_up(c);
    assert_true(coord_wait_count(c, &changed, before, 4000));
    before = changed;
    assert_int_equal(do_put(c, "r/2", "x", 0).res, 0);
    assert_true(coord_wait_count(c, &changed, before, 2000));
    c->ops->info(c, &info);
    assert_true(info.reachable);
}

/* A member that hangs answers nothing: one timeout, and it is fine when it goes on. */
static void check_hang(struct coord *c)
{
    kill(members[0].pid, SIGSTOP);
    uint64_t from = now_ms();
    assert_int_equal(do_put(c, "h", "x", 0).res, -SATCHEL_EAGAIN);
    assert_true(now_ms() - from < 2500);
    kill(members[0].pid, SIGCONT);
    await_up(c);
}

static void test_one(void **state)
{
    (void)state;
    struct coord *c = start(1);
    check_cas(c);
    check_pages(c);
    check_lease(c);
    check_watch(c);
    check_restart(c);
    check_hang(c);
    c->ops->close(&c);
}

static struct member *member_at(const char *client)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (strcmp(members[i].client, client) == 0)
            return &members[i];
    fail_msg("no member at %s", client);
    return NULL;
}

/* Three, less the one in use; less another: no quorum, which is said well before etcd's own 7 s; and back. */
static void test_three(void **state)
{
    struct coord_info info;
    (void)state;
    struct coord *c = start(3);
    assert_int_equal(do_put(c, "t", "1", 0).res, 0);
    c->ops->info(c, &info);
    struct member *first = member_at(info.endpoint);
    member_kill(first);
    await_up(c);
    assert_int_equal(do_put(c, "t", "2", 0).res, 0);
    c->ops->info(c, &info);
    struct member *second = member_at(info.endpoint);
    assert_ptr_not_equal(first, second);
    member_kill(second);
    uint64_t from = now_ms();
    struct answer a = do_list(c, "");
    assert_int_equal(a.res, -SATCHEL_EAGAIN);
    assert_true(now_ms() - from < 2500);
    free(a.kvs);
    member_start(first);
    await_up(c);
    a = do_list(c, "t");
    assert_true(a.n == 1 && slice_eq(a.kvs[0].value, SLICE_LIT("2")));
    free(a.kvs);
    c->ops->close(&c);
}

/* ---- TLS and users */

struct posted {
    bool done;
    long status;
};

static void post_done(void *arg, const struct etcd_http_answer *a)
{
    struct posted *p = arg;
    *p = (struct posted){true, a->end == ETCD_HTTP_ANSWERED ? a->status : 0};
}

static void post(const struct coord_etcd_config *cfg, const char *path, const char *json)
{
    struct etcd_http *h;
    struct posted p = {0};
    struct etcd_http_config hc = {.ca = cfg->ca, .cert = cfg->cert, .key = cfg->key, .clock = clock_system()};
    assert_int_equal(etcd_http_open(&h, &hc), 0);
    etcd_http_post(h, &(struct etcd_http_ask){.endpoint = members[0].client,
                                              .path = path,
                                              .body = slice_str(json),
                                              .connect_ms = 2000,
                                              .timeout_ms = 5000,
                                              .done = post_done,
                                              .arg = &p});
    for (uint64_t until = now_ms() + 6000; !p.done && now_ms() < until; etcd_http_poll(h)) {
        struct pollfd fd = {.fd = etcd_http_fd(h), .events = POLLIN};
        poll(&fd, 1, 5);
    }
    if (p.status != 200)
        fail_msg("POST %s: HTTP %ld", path, p.status);
    etcd_http_close(&h);
}

static void users_make(const struct coord_etcd_config *cfg)
{
    post(cfg, "/v3/auth/user/add", "{\"name\":\"root\",\"password\":\"r\"}");
    post(cfg, "/v3/auth/role/add", "{\"name\":\"root\"}");
    post(cfg, "/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}");
    post(cfg, "/v3/auth/user/add", "{\"name\":\"satchel\",\"password\":\"s\"}");
    post(cfg, "/v3/auth/role/add", "{\"name\":\"satchel\"}");
    /* "/satchel/test/" to "/satchel/test0" */
    post(cfg, "/v3/auth/role/grant",
         "{\"name\":\"satchel\",\"perm\":{\"permType\":\"READWRITE\",\"key\":\"L3NhdGNoZWwvdGVzdC8=\","
         "\"range_end\":\"L3NhdGNoZWwvdGVzdDA=\"}}");
    post(cfg, "/v3/auth/user/grant", "{\"user\":\"satchel\",\"role\":\"satchel\"}");
    post(cfg, "/v3/auth/enable", "{}");
}

static int put_as(struct coord_etcd_config cfg, struct coord_info *info_r)
{
    cfg.timeout_ms = 1000;
    struct coord *c = open_with(&cfg, 1);
    int res = do_put(c, "u", "x", 0).res;
    c->ops->info(c, info_r);
    c->ops->close(&c);
    return res;
}

static void certificate_make(void)
{
    char cert[96], key[96];
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    char *const argv[] = {A("openssl"),
                          A("req"),
                          A("-x509"),
                          A("-newkey"),
                          A("ec"),
                          A("-pkeyopt"),
                          A("ec_paramgen_curve:P-256"),
                          A("-nodes"),
                          A("-days"),
                          A("2"),
                          A("-subj"),
                          A("/O=satchel test"),
                          A("-addext"),
                          A("subjectAltName=IP:127.0.0.1"),
                          A("-keyout"),
                          key,
                          A("-out"),
                          cert,
                          NULL};
    assert_int_equal(child_wait(child_start(argv)), 0);
}

static void check_refusals(const struct coord_etcd_config *right)
{
    struct coord_etcd_config cfg = *right;
    struct coord_info info;
    cfg.password = "wrong";
    assert_int_equal(put_as(cfg, &info), -SATCHEL_EBUSY);
    assert_non_null(strstr(info.why, "password"));
    cfg = *right;
    cfg.user = cfg.password = NULL;
    assert_int_equal(put_as(cfg, &info), -SATCHEL_EBUSY);
    cfg = *right;
    cfg.prefix = "/another/";
    assert_int_equal(put_as(cfg, &info), -SATCHEL_EBUSY);
    assert_non_null(strstr(info.why, "permission denied"));
    cfg = *right;
    cfg.cert = cfg.key = NULL;
    assert_int_equal(put_as(cfg, &info), -SATCHEL_EAGAIN);
    assert_non_null(strstr(info.why, "check the CA, certificate and key"));
    cfg = *right;
    cfg.ca = NULL; /* the system's CAs don't know ours */
    assert_int_equal(put_as(cfg, &info), -SATCHEL_EAGAIN);
    assert_non_null(strstr(info.why, "certificate"));
}

static void test_tls_users(void **state)
{
    char cert[96], key[96];
    unsigned changed = 0;
    (void)state;
    if (!program_there("openssl", "version"))
        skip();
    certificate_make();
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    scheme = "https";
    members_choose(1);
    member_start(&members[0]);
    struct coord_etcd_config cfg = {.ca = cert, .cert = cert, .key = key};
    struct coord *c = open_with(&cfg, 1);
    await_up(c);
    c->ops->close(&c);
    users_make(&cfg);
    cfg.user = "satchel";
    cfg.password = "s";
    check_refusals(&cfg);
    c = open_with(&cfg, 1);
    assert_int_equal(c->ops->watch(c, SLICE_LIT(""), count_changed, &changed), 0);
    assert_int_equal(do_put(c, "u", "x", 0).res, 0);
    assert_true(coord_wait_count(c, &changed, 0, 3000));
    member_kill(&members[0]); /* and with it goes the token */
    member_start(&members[0]);
    await_up(c);
    unsigned before = changed;
    assert_int_equal(do_put(c, "u", "y", 0).res, 0);
    assert_true(coord_wait_count(c, &changed, before, 4000));
    c->ops->close(&c);
    scheme = "http";
}

static int dir_make(void **state)
{
    (void)state;
    scratch_make(dir, "etcd");
    return 0;
}

static int dir_remove(void **state)
{
    (void)state;
    return scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_one, stop),
        cmocka_unit_test_teardown(test_three, stop),
        cmocka_unit_test_teardown(test_tls_users, stop),
    };
    if (!program_there("etcd", "--version")) {
        printf("# SKIP all: etcd is not installed (Debian: etcd-server)\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
