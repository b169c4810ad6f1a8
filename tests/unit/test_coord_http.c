/* test_coord_http.c - the etcd backend against servers that misbehave: silence, nonsense, cut and endless answers,
 * forgotten tokens, pages whose revision is gone.  The servers run in the test's own thread. */
#include "tests/unit/coord_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LEASE = 7, CONNS_MAX = 64, REQUEST_MAX = 65536, TIMEOUT_MS = 900 };

struct conn {
    int fd; /* 0: none */
    char in[REQUEST_MAX];
    size_t n;
    size_t flood; /* bytes of 'x' still to send */
};

struct server {
    int listen;
    char url[64];
    unsigned connections, requests;
    unsigned lists, txns, auths, watches, keepalives;
    uint64_t heard_us; /* the last request */
    int stage;
    /* A whole request; the answer goes out by itself. */
    void (*answer)(struct server *s, struct conn *c, const char *path, const char *body);
    struct conn conns[CONNS_MAX];
};

static void server_open(struct server *s)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    s->listen = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listen, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(listen(s->listen, 64), 0);
    assert_int_equal(getsockname(s->listen, (struct sockaddr *)&sa, &n), 0);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", ntohs(sa.sin_port));
}

static void conn_close(struct conn *c)
{
    if (c->fd)
        close(c->fd);
    c->fd = 0;
    c->n = c->flood = 0;
}

static void server_close(struct server *s)
{
    for (size_t i = 0; i < CONNS_MAX; i++)
        conn_close(&s->conns[i]);
    close(s->listen);
}

static void conn_send(struct conn *c, const char *text)
{
    assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void reply(struct conn *c, int status, const char *json)
{
    char head[256];
    snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
             status, strlen(json));
    conn_send(c, head);
    conn_send(c, json);
}

static void server_count(struct server *s, const char *path)
{
    s->requests++;
    s->heard_us = clock_boot_us(clock_system());
    s->lists += strcmp(path, "/v3/kv/range") == 0;
    s->txns += strcmp(path, "/v3/kv/txn") == 0;
    s->auths += strcmp(path, "/v3/auth/authenticate") == 0;
    s->watches += strcmp(path, "/v3/watch") == 0;
    s->keepalives += strcmp(path, "/v3/lease/keepalive") == 0;
}

static void conn_request(struct server *s, struct conn *c)
{
    char path[128] = "";
    c->in[c->n] = 0;
    const char *body = strstr(c->in, "\r\n\r\n"), *length = strstr(c->in, "Content-Length: ");
    if (!body || !length || strlen(body + 4) < (size_t)atoi(length + 16))
        return;
    assert_int_equal(sscanf(c->in, "POST %127s", path), 1);
    assert_non_null(strstr(c->in, "Grpc-Metadata-hasleader: true"));
    server_count(s, path);
    c->n = 0;
    s->answer(s, c, path, body + 4);
}

static void conn_turn(struct server *s, struct conn *c)
{
    static char chunk[65536];
    ssize_t n = recv(c->fd, c->in + c->n, sizeof c->in - 1 - c->n, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        conn_close(c);
        return;
    }
    if (n > 0) {
        c->n += (size_t)n;
        conn_request(s, c);
    }
    while (c->flood > 0) {
        n = send(c->fd, memset(chunk, 'x', sizeof chunk), c->flood < sizeof chunk ? c->flood : sizeof chunk,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            break;
        c->flood -= (size_t)n;
    }
}

static void server_turn(struct server *s)
{
    int fd = accept4(s->listen, NULL, NULL, SOCK_CLOEXEC);
    for (size_t i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &s->conns[i];
        if (!c->fd && fd >= 0) {
            c->fd = fd;
            fd = -1;
            s->connections++;
        }
        if (c->fd)
            conn_turn(s, c);
    }
    assert_int_equal(fd, -1);
}

static struct server servers[2];

static void turn(struct coord *c)
{
    for (size_t i = 0; i < 2; i++)
        if (servers[i].answer)
            server_turn(&servers[i]);
    struct pollfd fd = {.fd = c->fd, .events = POLLIN};
    poll(&fd, 1, 1);
    c->ops->poll(c);
}

static bool wait_for(struct coord *c, const bool *flag)
{
    for (uint64_t until = now_ms() + WAIT_MS; !*flag && now_ms() < until;)
        turn(c);
    return *flag;
}

static bool wait_count(struct coord *c, const unsigned *count, unsigned least)
{
    for (uint64_t until = now_ms() + WAIT_MS; *count < least && now_ms() < until;)
        turn(c);
    return *count >= least;
}

static struct coord *open_within(uint32_t timeout_ms, const char *a, const char *b, const char *user)
{
    const char *endpoints[] = {a, b, NULL};
    struct coord_etcd_config cfg = {.endpoints = endpoints, .prefix = "p/", .timeout_ms = timeout_ms, .user = user};
    struct coord *c = NULL;
    char why[256] = "";
    cfg.password = user ? "secret" : NULL;
    if (coord_etcd_open(&c, &cfg, clock_system(), why) != 0)
        fail_msg("%s", why);
    return c;
}

static struct coord *open_at(const char *a, const char *b, const char *user)
{
    return open_within(TIMEOUT_MS, a, b, user);
}

#define ANSWERS(name) static void name(struct server *s, struct conn *c, const char *path, const char *body)

static struct coord *serve(void (*answer)(struct server *, struct conn *, const char *, const char *), const char *user)
{
    servers[0].answer = answer;
    server_open(&servers[0]);
    return open_at(servers[0].url, NULL, user);
}

static void servers_end(void)
{
    for (size_t i = 0; i < 2; i++)
        if (servers[i].answer)
            server_close(&servers[i]);
    memset(servers, 0, sizeof servers);
}

static void serve_end(struct coord **c)
{
    (*c)->ops->close(c);
    servers_end();
}

static struct answer list(struct coord *c)
{
    struct answer a = {0};
    assert_int_equal(c->ops->list(c, SLICE_LIT(""), answer_list, &a), 0);
    assert_true(wait_for(c, &a.done));
    return a;
}

static struct answer txn(struct coord *c)
{
    struct answer a = {0};
    struct coord_op op = {COORD_PUT, SLICE_LIT("a"), SLICE_LIT("1"), 0};
    assert_int_equal(c->ops->txn(c, NULL, 0, &op, 1, answer_txn, &a), 0);
    assert_true(wait_for(c, &a.done));
    return a;
}

static struct answer keepalive(struct coord *c)
{
    struct answer a = {0};
    assert_int_equal(c->ops->keepalive(c, LEASE, answer_lease, &a), 0);
    assert_true(wait_for(c, &a.done));
    return a;
}

#define EMPTY "{\"header\":{\"revision\":\"9\"}}"
#define DONE  "{\"header\":{\"revision\":\"9\"},\"succeeded\":true}"

/* ---- answers that are none */

ANSWERS(answer_stage)
{
    static const char *const raw[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<html>nginx!!</html>",
        "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"header\":", /* cut: the connection ends */
        "",
    };
    (void)path;
    (void)body;
    conn_send(c, raw[s->stage]);
    conn_close(c);
}

static void test_nonsense(void **state)
{
    static const int expected[] = {-SATCHEL_EINVAL, -SATCHEL_EINVAL, -SATCHEL_EINVAL,
                                   -SATCHEL_EINVAL, -SATCHEL_EAGAIN, -SATCHEL_EAGAIN};
    struct coord_info info;
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct coord *c = serve(answer_stage, NULL);
        servers[0].stage = i;
        struct answer a = list(c);
        if (a.res != expected[i])
            fail_msg("answer %d: %d", i, a.res);
        assert_int_equal(servers[0].lists, 2); /* once more, then the caller hears of it */
        c->ops->info(c, &info);
        assert_false(info.reachable);
        assert_true(info.why[0] && info.failures == 1);
        free(a.kvs);
        serve_end(&c);
    }
}

ANSWERS(answer_flood)
{
    (void)path;
    if (strstr(body, "\"limit\":\"5000\"")) {
        conn_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n");
        c->flood = 99999999;
    } else {
        assert_non_null(strstr(body, "\"limit\":\"625\""));
        s->stage++;
        reply(c, 200, EMPTY);
    }
}

/* Answers are bounded; a list asks for smaller pages then.  Reading up to the bound takes what time it takes. */
static void test_flood(void **state)
{
    (void)state;
    servers[0].answer = answer_flood;
    server_open(&servers[0]);
    struct coord *c = open_within(WAIT_MS, servers[0].url, NULL, NULL);
    struct answer a = list(c);
    assert_int_equal(a.res, 0);
    assert_int_equal(servers[0].stage, 1);
    free(a.kvs);
    serve_end(&c);
}

/* ---- silence, and whom to ask then */

ANSWERS(answer_never)
{
    (void)s;
    (void)c;
    (void)path;
    (void)body;
}

ANSWERS(answer_well)
{
    (void)s;
    (void)body;
    reply(c, 200, strcmp(path, "/v3/kv/txn") == 0 ? DONE : EMPTY);
}

ANSWERS(answer_kept)
{
    (void)s;
    (void)path;
    (void)body;
    reply(c, 200, "{\"result\":{\"header\":{\"revision\":\"9\"},\"ID\":\"7\",\"TTL\":\"3\"}}");
}

static void test_silence(void **state)
{
    (void)state;
    struct coord *c = serve(answer_never, NULL);
    uint64_t from = now_ms();
    struct answer a = txn(c);
    assert_int_equal(a.res, -SATCHEL_EAGAIN);
    assert_in_range(now_ms() - from, TIMEOUT_MS - 1, TIMEOUT_MS * 2);
    assert_int_equal(servers[0].txns, 1);
    serve_end(&c);
}

/* A list asked of a silent endpoint is answered by the other within its time; later calls go there at once. */
static void test_rotation(void **state)
{
    (void)state;
    servers[0].answer = answer_never;
    servers[1].answer = answer_well;
    server_open(&servers[0]);
    server_open(&servers[1]);
    struct coord *c = open_at(servers[0].url, servers[1].url, NULL);
    for (int i = 0; i < 3; i++) {
        struct answer a = list(c);
        assert_int_equal(a.res, 0);
        free(a.kvs);
    }
    assert_int_equal(txn(c).res, 0);
    assert_true(servers[0].requests <= 1);
    serve_end(&c);
}

/* A lease has no time to wait for a member that hangs: the other one is asked long before a call's time is over.  The
 * next keepalive begins there. */
static void test_keepalive_rotates(void **state)
{
    const char *endpoints[] = {servers[0].url, servers[1].url, NULL};
    struct coord_etcd_config cfg = {.endpoints = endpoints, .prefix = "p/", .timeout_ms = 60000, .keepalive_ms = 300};
    char why[256];
    (void)state;
    servers[0].answer = answer_never;
    servers[1].answer = answer_kept;
    server_open(&servers[0]);
    server_open(&servers[1]);
    for (int i = 0; i < 6; i++) { /* which endpoint is first is chance */
        struct coord *c = NULL;
        assert_int_equal(coord_etcd_open(&c, &cfg, clock_system(), why), 0);
        for (int again = 0; again < 2; again++) {
            struct answer a = keepalive(c);
            assert_int_equal(a.res, 0);
            assert_true(a.sent_us >= servers[0].heard_us); /* counts from the attempt that was answered */
        }
        c->ops->close(&c);
    }
    assert_true(servers[0].keepalives <= 6);
    servers_end();
}

/* Nobody answers: the caller hears of it in a keepalive's time, to ask again while the lease stands. */
static void test_keepalive_given_up(void **state)
{
    const char *endpoints[] = {servers[0].url, NULL};
    struct coord_etcd_config cfg = {.endpoints = endpoints, .prefix = "p/", .timeout_ms = 60000, .keepalive_ms = 300};
    struct coord *c = NULL;
    char why[256];
    (void)state;
    servers[0].answer = answer_never;
    server_open(&servers[0]);
    assert_int_equal(coord_etcd_open(&c, &cfg, clock_system(), why), 0);
    uint64_t from = now_ms();
    assert_int_equal(keepalive(c).res, -SATCHEL_EAGAIN);
    assert_in_range(now_ms() - from, 299, 3000);
    serve_end(&c);
}

/* A dead endpoint costs nobody an answer: what never left is asked of the next one. */
static void test_dead_endpoint(void **state)
{
    char dead[64];
    (void)state;
    server_open(&servers[0]);
    snprintf(dead, sizeof dead, "%s", servers[0].url);
    server_close(&servers[0]);
    servers[1].answer = answer_well;
    server_open(&servers[1]);
    for (int i = 0; i < 6; i++) { /* which endpoint is first is chance */
        struct coord *c = open_at(dead, servers[1].url, NULL);
        assert_int_equal(txn(c).res, 0);
        c->ops->close(&c);
    }
    struct coord *c = open_at(dead, NULL, NULL);
    assert_int_equal(txn(c).res, -SATCHEL_EAGAIN);
    serve_end(&c);
}

ANSWERS(answer_drop)
{
    if (++s->stage == 2)
        conn_close(c);
    else
        answer_well(s, c, path, body);
}

/* A kept connection that dies with the request: etcd may have done it.  A txn is not sent again, a list is. */
static void test_never_twice(void **state)
{
    (void)state;
    struct coord *c = serve(answer_drop, NULL);
    assert_int_equal(txn(c).res, 0);
    assert_int_equal(txn(c).res, -SATCHEL_EAGAIN);
    assert_int_equal(servers[0].txns, 2);
    assert_int_equal(txn(c).res, 0);
    assert_int_equal(servers[0].txns, 3);
    servers[0].stage = 1;
    struct answer a = list(c);
    assert_int_equal(a.res, 0);
    assert_int_equal(servers[0].lists, 2);
    free(a.kvs);
    serve_end(&c);
}

ANSWERS(answer_close)
{
    (void)s;
    (void)path;
    (void)body;
    conn_close(c);
}

/* A store that fails is not hammered, and found again when it is back. */
static void test_backoff(void **state)
{
    struct answer a = {0};
    unsigned calls = 0;
    (void)state;
    struct coord *c = serve(answer_close, NULL);
    for (uint64_t until = now_ms() + 1500; now_ms() < until; turn(c)) {
        if (calls && !a.done)
            continue;
        free(a.kvs);
        a = (struct answer){0};
        assert_int_equal(c->ops->list(c, SLICE_LIT(""), answer_list, &a), 0); /* a caller without patience */
        calls++;
    }
    assert_in_range(servers[0].requests, 3, 20);
    servers[0].answer = answer_well;
    assert_true(wait_for(c, &a.done));
    free(a.kvs);
    a = list(c);
    assert_int_equal(a.res, 0);
    free(a.kvs);
    serve_end(&c);
}

/* ---- pages */

#define KV(key)              "{\"key\":\"" key "\",\"create_revision\":\"2\",\"mod_revision\":\"3\",\"value\":\"Yg==\"}"
#define PAGE(rev, kvs, more) "{\"header\":{\"revision\":\"" rev "\"},\"kvs\":[" kvs "],\"more\":" more "}"

ANSWERS(answer_pages)
{
    (void)path;
    bool second = strstr(body, "\"key\":\"cC9iAA==\""); /* from p/b, and a zero byte */
    assert_true(second || strstr(body, "\"key\":\"cC8=\""));
    assert_non_null(strstr(body, "\"range_end\":\"cDA=\"")); /* p0 */
    assert_true(second == (strstr(body, "\"revision\":") != NULL));
    if (!second)
        reply(c, 200, s->stage ? PAGE("12", KV("cC9h") "," KV("cC9i"), "true") : PAGE("9", KV("cC9i"), "true"));
    else if (s->stage++ == 0)
        reply(c, 400, "{\"error\":\"etcdserver: mvcc: required revision has been compacted\",\"code\":11}");
    else if (s->stage == 2)
        reply(c, 200, PAGE("14", KV("cC9j") "," KV("cC9h"), "true")); /* half of it is nonsense */
    else
        reply(c, 200, PAGE("14", KV("cC9j"), "false"));
}

static void test_pages(void **state)
{
    (void)state;
    struct coord *c = serve(answer_pages, NULL);
    struct answer a = list(c);
    assert_int_equal(a.res, 0);
    assert_int_equal(a.n, 3); /* the first page, from before the compaction, is forgotten */
    assert_int_equal(a.rev, 12);
    assert_true(slice_eq(a.kvs[0].key, SLICE_LIT("a")) && slice_eq(a.kvs[2].key, SLICE_LIT("c")));
    free(a.kvs);
    serve_end(&c);
}

/* ---- tokens */

#define TOKEN(n) "{\"header\":{\"revision\":\"9\"},\"token\":\"token-" n "\"}"

ANSWERS(answer_token)
{
    if (strcmp(path, "/v3/auth/authenticate") == 0) {
        assert_string_equal(body, "{\"name\":\"satchel\",\"password\":\"secret\"}");
        reply(c, 200, s->auths == 1 ? TOKEN("1") : TOKEN("2"));
        return;
    }
    bool right = strstr(c->in, s->stage ? "Authorization: token-2\r\n" : "Authorization: token-1\r\n");
    if (right)
        answer_well(s, c, path, body);
    else
        reply(c, 401, "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}");
}

static void test_token_renewed(void **state)
{
    (void)state;
    struct coord *c = serve(answer_token, "satchel");
    assert_int_equal(txn(c).res, 0);
    assert_int_equal(servers[0].auths, 1);
    servers[0].stage = 1; /* the first token is forgotten */
    assert_int_equal(txn(c).res, 0);
    assert_int_equal(txn(c).res, 0);
    assert_int_equal(servers[0].auths, 2);
    assert_int_equal(servers[0].txns, 4);
    serve_end(&c);
}

ANSWERS(answer_denied)
{
    (void)s;
    (void)body;
    if (strcmp(path, "/v3/auth/authenticate") == 0)
        reply(c, 400, "{\"error\":\"etcdserver: authentication failed, invalid user ID or password\",\"code\":3}");
    else
        reply(c, 400, "{\"error\":\"etcdserver: user name is empty\",\"code\":3}");
}

static void test_denied(void **state)
{
    struct coord_info info;
    (void)state;
    struct coord *c = serve(answer_denied, "satchel");
    assert_int_equal(txn(c).res, -SATCHEL_EBUSY);
    assert_int_equal(servers[0].txns, 0);
    c->ops->info(c, &info);
    assert_non_null(strstr(info.why, "password"));
    serve_end(&c);
    c = serve(answer_denied, NULL);
    assert_int_equal(txn(c).res, -SATCHEL_EBUSY);
    assert_int_equal(servers[0].auths, 0);
    c->ops->info(c, &info);
    assert_non_null(strstr(info.why, "configure user"));
    serve_end(&c);
}

ANSWERS(answer_open)
{
    if (strcmp(path, "/v3/auth/authenticate") == 0)
        reply(c, 412, "{\"error\":\"etcdserver: authentication is not enabled\",\"code\":9}");
    else
        answer_well(s, c, path, body);
}

static void test_auth_not_enabled(void **state)
{
    (void)state;
    struct coord *c = serve(answer_open, "satchel");
    assert_int_equal(txn(c).res, 0);
    assert_int_equal(txn(c).res, 0);
    assert_int_equal(servers[0].auths, 1);
    serve_end(&c);
}

/* ---- watches */

#define CREATED   "{\"result\":{\"header\":{\"revision\":\"9\"},\"created\":true}}\n"
#define EVENT     "{\"result\":{\"header\":{\"revision\":\"10\"},\"events\":[{\"kv\":{}}]}}\n"
#define CANCELLED "{\"result\":{\"header\":{\"revision\":\"10\"},\"canceled\":true}}\n"

static struct conn *stream;

ANSWERS(answer_watch)
{
    if (strcmp(path, "/v3/watch") != 0) {
        answer_well(s, c, path, body);
        return;
    }
    assert_string_equal(body, "{\"create_request\":{\"key\":\"cC93Lw==\",\"range_end\":\"cC93MA==\"}}");
    conn_send(c, "HTTP/1.1 200 OK\r\n\r\n" CREATED);
    stream = c;
}

static void test_watch(void **state)
{
    unsigned changed = 0;
    (void)state;
    struct coord *c = serve(answer_watch, NULL);
    assert_int_equal(c->ops->watch(c, SLICE_LIT("w/"), count_changed, &changed), 0);
    assert_true(wait_count(c, &changed, 1)); /* it begins: what was before is unknown */
    conn_send(stream, EVENT);
    assert_true(wait_count(c, &changed, 2));
    stream->flood = 300000; /* one long line */
    while (stream->flood)
        turn(c);
    conn_send(stream, "\n");
    assert_true(wait_count(c, &changed, 3));
    assert_int_equal(servers[0].watches, 1);
    conn_send(stream, CANCELLED); /* the stream stays, without a watch */
    assert_true(wait_count(c, &changed, 5));
    assert_int_equal(servers[0].watches, 2);
    conn_close(stream);
    assert_true(wait_count(c, &changed, 7));
    assert_int_equal(servers[0].watches, 3);
    serve_end(&c);
}

/* ---- closing */

static void test_close(void **state)
{
    struct answer flying = {0}, waiting = {0};
    unsigned changed = 0;
    (void)state;
    struct coord *c = serve(answer_never, NULL);
    c->ops->watch(c, SLICE_LIT(""), count_changed, &changed);
    assert_int_equal(c->ops->list(c, SLICE_LIT(""), answer_list, &flying), 0);
    assert_true(wait_count(c, &servers[0].lists, 1));
    assert_int_equal(c->ops->keepalive(c, 77, answer_lease, &waiting), 0);
    serve_end(&c);
    assert_null(c);
    assert_true(flying.done && flying.res == -SATCHEL_ESHUT);
    assert_true(waiting.done && waiting.res == -SATCHEL_ESHUT);
    free(flying.kvs);
}

static void test_config_refused(void **state)
{
    static const char *const none[] = {NULL}, *const odd[] = {"10.0.0.1:2379", NULL},
                             *const good[] = {"http://a:1", NULL};
    const struct coord_etcd_config refused[] = {
        {.endpoints = none, .prefix = "", .timeout_ms = 1},
        {.endpoints = odd, .prefix = "", .timeout_ms = 1},
        {.endpoints = good, .prefix = ""},
        {.endpoints = good, .prefix = "", .timeout_ms = 1, .user = "u"},
        {.endpoints = good, .prefix = "", .timeout_ms = 1, .cert = "/dev/null"},
        {.endpoints = good, .prefix = "", .timeout_ms = 1, .ca = "/nonexistent/ca.pem"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct coord *c = NULL;
        char why[256] = "";
        assert_true(coord_etcd_open(&c, &refused[i], clock_system(), why) < 0);
        assert_null(c);
        assert_true(why[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_keepalive_rotates),
        cmocka_unit_test(test_keepalive_given_up),
        cmocka_unit_test(test_dead_endpoint),
        cmocka_unit_test(test_never_twice),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_token_renewed),
        cmocka_unit_test(test_denied),
        cmocka_unit_test(test_auth_not_enabled),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_config_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
