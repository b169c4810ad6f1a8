/* test_admin.c - the admin API on a real spool: what an operator may do through the socket, and what TCP may not. */
#include "ctl/admin.h"
#include "ctl/client.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 10000 };

/* One node without SMTP and relay, in a directory of its own. */
static struct node {
    char dir[SCRATCH_MAX], socket[96], why[FRONT_WHY_MAX];
    uint16_t port;
    struct spool *spool;
    struct intake *intake;
    struct outlet *outlet;
    struct domains *domains;
    struct front *front; /* NULL: none */
    struct settings front_settings;
    struct admin *admin;
    struct client *client;
    atomic_bool stopping;
    atomic_int reloads;
} node;

static bool is_stopping(void *arg)
{
    return atomic_load(&((struct node *)arg)->stopping);
}

static void reload_asked(void *arg)
{
    atomic_fetch_add(&((struct node *)arg)->reloads, 1);
}

/* A port that nobody has just now. */
static uint16_t free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

static void node_admin_open(void)
{
    struct settings st;
    char err[SETTINGS_WHY_MAX], http[32];
    const struct admin_deps deps = {
        .spool = node.spool,
        .domains = node.domains,
        .front = node.front,
        .outlet = node.outlet,
        .clock = clock_system(),
        .started_us = clock_wall_us(clock_system()),
        .request_reload = reload_asked,
        .shutting_down = is_stopping,
        .arg = &node,
    };
    assert_int_equal(settings_load(&st, NULL, err, sizeof err), 0);
    free(st.admin_socket);
    free(st.admin_http);
    snprintf(http, sizeof http, "127.0.0.1:%u", node.port);
    st.admin_socket = strdup(node.socket);
    st.admin_http = strdup(http);
    st.keep_us = 5 * UINT64_C(86400000000);
    if (admin_open(&node.admin, &deps, &st, err, sizeof err) < 0)
        fail_msg("%s", err);
    settings_free(&st);
}

static int setup(void **state)
{
    struct spool_config cfg;
    (void)state;
    memset(&node, 0, sizeof node);
    scratch_make(node.dir, "admin");
    snprintf(node.socket, sizeof node.socket, "%s/admin.sock", node.dir);
    node.port = free_port();
    spool_config_init(&cfg, node.dir);
    cfg.log.segment_bytes = 1 << 20;
    cfg.log.spare_segments = 1;
    if (spool_open(&node.spool, &cfg, node.why, sizeof node.why) < 0)
        fail_msg("%s", node.why);
    assert_int_equal(spool_intake(node.spool, &node.intake), 0);
    assert_int_equal(spool_outlet(node.spool, &node.outlet), 0);
    assert_int_equal(domains_open(&node.domains, node.dir, node.why), 0);
    node_admin_open();
    return client_open(&node.client, node.socket);
}

static int teardown(void **state)
{
    (void)state;
    client_close(&node.client);
    admin_close(&node.admin);
    front_close(&node.front);
    settings_free(&node.front_settings);
    domains_close(&node.domains);
    node.outlet->ops->close(&node.outlet);
    node.intake->ops->close(&node.intake);
    spool_close(&node.spool);
    return scratch_remove(node.dir);
}

/* ---- mail */

static void committed(void *arg, int res, const struct msgid *ids, size_t n)
{
    assert_int_equal(res, 0);
    assert_int_equal(n, 1);
    *(struct msgid *)arg = ids[0];
}

static size_t no_trace(void *arg, const struct envelope *env, const struct msgid *id, char *out_r, size_t cap)
{
    (void)arg, (void)env, (void)id;
    return (size_t)snprintf(out_r, cap, "Received: here\r\n");
}

static uint64_t bagged(const char *domain)
{
    struct bag_stat st;
    spool_bag_stat(node.spool, slice_str(domain), &st);
    return st.messages;
}

static void bag_wait(const char *domain, uint64_t n)
{
    for (int i = 0; i < WAIT_MS && bagged(domain) != n; i++)
        poll(NULL, 0, 1);
    assert_int_equal(bagged(domain), n);
}

static void accept_mail(const char *domain, const char *body, char id_r[MSGID_TEXT_MAX])
{
    struct slice rcpts[] = {SLICE_LIT("one@x"), SLICE_LIT("tw\xf6@x")};
    struct envelope env = {.domain = slice_str(domain),
                           .sender = SLICE_LIT("me@example.net"),
                           .rcpts = rcpts,
                           .rcpts_n = 2,
                           .helo = SLICE_LIT("client"),
                           .client = SLICE_LIT("192.0.2.7")};
    struct intake_txn *txn;
    struct msgid id = {0};
    uint64_t before = bagged(domain);
    assert_int_equal(node.intake->ops->begin(node.intake, &env, 1, no_trace, NULL, &txn), 0);
    assert_int_equal(node.intake->ops->append(txn, slice_str(body), NULL, NULL), 0);
    assert_int_equal(node.intake->ops->commit(txn, committed, &id), 0);
    for (int i = 0; i < WAIT_MS && id.counter == 0; i++) {
        node.intake->ops->poll(node.intake);
        poll(NULL, 0, 1);
    }
    assert_true(id.counter > 0);
    msgid_format(&id, id_r);
    bag_wait(domain, before + 1);
}

/* ---- asking */

static json_t *ask(const char *method, const char *path, const json_t *body)
{
    char why[CLIENT_WHY_MAX];
    json_t *answer = NULL;
    if (client_call(node.client, method, path, body, &answer, why) < 0)
        fail_msg("%s %s: %s", method, path, why);
    return answer;
}

/* The error is the expected one, with the words in it. */
static void refuses(const char *method, const char *path, const char *body, int res, const char *words)
{
    char why[CLIENT_WHY_MAX];
    json_t *answer = NULL, *j = body ? json_loads(body, 0, NULL) : NULL;
    int got = client_call(node.client, method, path, j, &answer, why);
    json_decref(answer);
    json_decref(j);
    assert_int_equal(got, res);
    if (!strstr(why, words))
        fail_msg("%s %s: %s", method, path, why);
}

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "(none)";
}

/* Status of a GET over TCP, the whole answer in out_r. */
static int tcp_get(const char *method, const char *path, const char *host, char *out_r, size_t cap)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(node.port)};
    char request[256];
    size_t at = 0;
    ssize_t n;
    int fd = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    int len = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, path,
                       host);
    assert_int_equal(write(fd, request, (size_t)len), len);
    while (at + 1 < cap && (n = read(fd, out_r + at, cap - at - 1)) > 0)
        at += (size_t)n;
    out_r[at] = 0;
    close(fd);
    sscanf(out_r, "HTTP/1.1 %d", &status);
    return status;
}

/* ---- the tests */

static void the_socket_is_for_its_owner(void **state)
{
    struct stat sb;
    (void)state;
    assert_int_equal(stat(node.socket, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    admin_close(&node.admin);
    assert_int_equal(stat(node.socket, &sb), -1);
    /* what a killed daemon leaves behind is replaced */
    FILE *f = fopen(node.socket, "w");
    fclose(f);
    struct settings st;
    char err[SETTINGS_WHY_MAX];
    const struct admin_deps deps = {.clock = clock_system()};
    assert_int_equal(settings_load(&st, NULL, err, sizeof err), 0);
    free(st.admin_socket);
    st.admin_socket = strdup(node.socket);
    *st.admin_http = 0;
    assert_true(admin_open(&node.admin, &deps, &st, err, sizeof err) < 0); /* but never a file */
    assert_non_null(strstr(err, "set admin.socket"));
    settings_free(&st);
    unlink(node.socket);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    strcpy(sa.sun_path, node.socket);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    close(fd);
    node_admin_open();
    json_decref(ask("GET", "/health", NULL));
}

static void domains_are_added_changed_removed(void **state)
{
    (void)state;
    json_t *dom = json_pack("{ss s[s]}", "name", "Example.com", "primaries", "[::1]:2526");
    json_t *answer = ask("POST", "/v1/domains", dom);
    assert_string_equal(text(answer, "name"), "example.com");
    assert_int_equal(json_integer_value(json_object_get(answer, "keep_s")), 5 * 86400); /* the server's preset */
    json_decref(answer);
    json_object_set_new(dom, "connections", json_integer(9));
    json_decref(ask("PUT", "/v1/domains/example.com", dom));
    json_decref(dom);
    json_decref(ask("POST", "/v1/domains/example.com/hold", NULL));
    answer = ask("GET", "/v1/domains/EXAMPLE.com", NULL);
    assert_int_equal(json_integer_value(json_object_get(answer, "connections")), 9);
    assert_true(json_is_true(json_object_get(answer, "held")));
    json_decref(answer);
    json_decref(ask("POST", "/v1/domains/example.com/release", NULL));
    const struct domains_snapshot *s = domains_get(node.domains);
    assert_false(domains_find(s, SLICE_LIT("example.com"))->held);
    domains_put(s);
    json_decref(ask("DELETE", "/v1/domains/example.com", NULL));
    refuses("GET", "/v1/domains/example.com", NULL, -SATCHEL_ENOENT, "satchelctl domain add");
}

static void wrong_domains_are_refused(void **state)
{
    (void)state;
    json_t *dom = json_pack("{ss s[s]}", "name", "a.b", "primaries", "x");
    json_decref(ask("POST", "/v1/domains", dom));
    json_decref(dom);
    refuses("POST", "/v1/domains", "{\"name\": \"a.b\", \"primaries\": [\"x\"]}", -SATCHEL_EBUSY, "there already");
    refuses("POST", "/v1/domains", "{\"name\": \"c.d\"}", -SATCHEL_EINVAL, "primaries: none given");
    refuses("POST", "/v1/domains", "{\"name\": \"c.d\", \"primaries\": [7]}", -SATCHEL_EINVAL, "primaries: expected");
    refuses("POST", "/v1/domains", "{\"name\": \"c.d\", \"primaries\": [\"x\"], \"color\": 1}", -SATCHEL_EINVAL,
            "color: not a key");
    refuses("POST", "/v1/domains", "[1]", -SATCHEL_EINVAL, "not a JSON object");
    refuses("PUT", "/v1/domains/a.b", "{\"name\": \"b.c\", \"primaries\": [\"x\"]}", -SATCHEL_EINVAL, "the path says");
    refuses("PUT", "/v1/domains/q.r", "{\"primaries\": [\"x\"]}", -SATCHEL_ENOENT, "not served");
    refuses("DELETE", "/v1/domains/q.r", NULL, -SATCHEL_ENOENT, "not served");
    refuses("PATCH", "/v1/domains", NULL, -SATCHEL_EINVAL, "method");
    refuses("GET", "/v1/nothing", NULL, -SATCHEL_ENOENT, "nothing is served");
    refuses("GET", "/v1/domains?limit=0", NULL, -SATCHEL_EINVAL, "between 1 and 10000");
}

static void the_list_of_domains_has_pages(void **state)
{
    (void)state;
    char body[64], path[64] = "/v1/domains?limit=2";
    size_t seen = 0;
    for (int i = 0; i < 5; i++) {
        snprintf(body, sizeof body, "{\"name\": \"d%d.test\", \"primaries\": [\"x\"]}", i);
        json_t *j = json_loads(body, 0, NULL);
        json_decref(ask("POST", "/v1/domains", j));
        json_decref(j);
    }
    for (bool more = true; more;) {
        json_t *page = ask("GET", path, NULL), *list = json_object_get(page, "domains");
        for (size_t i = 0; i < json_array_size(list); i++, seen++) {
            snprintf(body, sizeof body, "d%zu.test", seen);
            assert_string_equal(text(json_array_get(list, i), "name"), body);
        }
        more = json_is_string(json_object_get(page, "next"));
        snprintf(path, sizeof path, "/v1/domains?limit=2&after=%s", text(page, "next"));
        json_decref(page);
    }
    assert_int_equal(seen, 5);
}

static void messages_are_listed_in_pages(void **state)
{
    (void)state;
    char ids[5][MSGID_TEXT_MAX], other[MSGID_TEXT_MAX], path[1024] = "/v1/queue?domain=a.test&limit=2";
    size_t seen = 0;
    for (int i = 0; i < 5; i++)
        accept_mail("a.test", "Subject: x\r\n\r\n", ids[i]);
    accept_mail("b.test", "Subject: y\r\n\r\n", other);
    for (bool more = true; more;) {
        json_t *page = ask("GET", path, NULL), *list = json_object_get(page, "messages");
        for (size_t i = 0; i < json_array_size(list); i++, seen++) {
            assert_in_range(seen, 0, 4);
            assert_string_equal(text(json_array_get(list, i), "id"), ids[seen]);
            assert_string_equal(text(json_array_get(list, i), "state"), "bagged");
        }
        more = json_is_string(json_object_get(page, "next"));
        snprintf(path, sizeof path, "/v1/queue?domain=a.test&limit=2&after=%s", text(page, "next"));
        json_decref(page);
    }
    assert_int_equal(seen, 5);
    json_t *all = ask("GET", "/v1/queue", NULL);
    assert_int_equal(json_array_size(json_object_get(all, "messages")), 6);
    json_decref(all);
    refuses("GET", "/v1/queue?after=!!", NULL, -SATCHEL_EINVAL, "not a cursor");
}

static void a_message_is_shown_and_read(void **state)
{
    (void)state;
    char id[MSGID_TEXT_MAX], path[128], why[CLIENT_WHY_MAX], *got = NULL;
    size_t n;
    accept_mail("a.test", "Subject: x\r\n\r\n.dot\r\nbody\r\n", id);
    snprintf(path, sizeof path, "/v1/queue/%s", id);
    json_t *m = ask("GET", path, NULL);
    assert_string_equal(text(m, "sender"), "me@example.net");
    assert_string_equal(text(m, "client"), "192.0.2.7");
    json_t *rcpts = json_object_get(m, "recipients");
    assert_int_equal(json_array_size(rcpts), 2);
    assert_string_equal(text(json_array_get(rcpts, 0), "address"), "one@x");
    assert_string_equal(text(json_array_get(rcpts, 1), "address"), "tw?@x"); /* not UTF-8 */
    assert_string_equal(text(json_array_get(rcpts, 0), "state"), "bagged");
    json_decref(m);
    strcat(path, "/content");
    FILE *f = open_memstream(&got, &n);
    assert_int_equal(client_fetch(node.client, path, f, why), 0);
    fclose(f);
    assert_string_equal(got, "Received: here\r\nSubject: x\r\n\r\n.dot\r\nbody\r\n");
    free(got);
    /* the claim was given back */
    struct outlet_msg *again;
    assert_int_equal(node.outlet->ops->claim(node.outlet, SLICE_LIT("a.test"), CLAIM_DUE, 0, &again, 1), 1);
    refuses("GET", path, NULL, -SATCHEL_EBUSY, "being delivered");
    refuses("DELETE", "/v1/queue/nonsense", NULL, -SATCHEL_EINVAL, "not a message ID");
    node.outlet->ops->release(node.outlet, again);
}

static void messages_are_deleted(void **state)
{
    (void)state;
    char id[MSGID_TEXT_MAX], path[128];
    uint64_t deleted = metric_read(M_RELAY_DELETED);
    accept_mail("a.test", "x\r\n", id);
    accept_mail("b.test", "x\r\n", path);
    snprintf(path, sizeof path, "/v1/queue/%s", id);
    json_decref(ask("DELETE", path, NULL));
    bag_wait("a.test", 0);
    assert_int_equal(metric_read(M_RELAY_DELETED), deleted + 2);
    refuses("GET", path, NULL, -SATCHEL_ENOENT, "not bagged");
    for (int i = 0; i < 70; i++) /* more than one batch of claims */
        accept_mail("a.test", "x\r\n", id);
    json_t *answer = ask("DELETE", "/v1/queue?domain=a.test", NULL);
    assert_int_equal(json_integer_value(json_object_get(answer, "deleted")), 70);
    assert_true(json_is_false(json_object_get(answer, "more")));
    json_decref(answer);
    bag_wait("a.test", 0);
    assert_int_equal(bagged("b.test"), 1);
    refuses("DELETE", "/v1/queue", NULL, -SATCHEL_EINVAL, "domain: not given");
}

static void the_node_says_how_it_is(void **state)
{
    (void)state;
    char id[MSGID_TEXT_MAX];
    accept_mail("a.test", "x\r\n", id);
    json_t *s = ask("GET", "/v1/status", NULL);
    assert_true(json_is_true(json_object_get(s, "accepting")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(s, "queue"), "messages")), 1);
    json_t *first = json_array_get(json_object_get(s, "domains"), 0);
    assert_string_equal(text(first, "name"), "a.test");
    assert_true(json_is_false(json_object_get(first, "served")));
    json_decref(s);
    json_decref(ask("POST", "/v1/reload", NULL));
    assert_int_equal(atomic_load(&node.reloads), 1);
    atomic_store(&node.stopping, true);
    refuses("GET", "/health", NULL, -SATCHEL_EINVAL, "unexpected answer with status 503");
    s = ask("GET", "/v1/status", NULL);
    assert_string_equal(text(s, "health"), "stopping");
    json_decref(s);
}

/* A front-end that does not serve yet. */
static void front_is_opened(const char *dataplane)
{
    char path[96];
    snprintf(path, sizeof path, "%s/satcheld.yaml", node.dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "hostname: mx.test\nlisten: ['127.0.0.1:%u']\n%s", free_port(), dataplane);
    fclose(file);
    admin_close(&node.admin);
    front_close(&node.front);
    settings_free(&node.front_settings);
    if (settings_load(&node.front_settings, path, node.why, sizeof node.why) < 0 ||
        front_open(&node.front, &node.front_settings, node.why) < 0)
        fail_msg("%s", node.why);
    node_admin_open();
}

static void port_refused(unsigned status, const char *words)
{
    char why[CLIENT_WHY_MAX];
    struct client_answer a;
    assert_int_equal(client_raw(node.client, "GET", "/v1/port", NULL, &a, why), 0);
    assert_int_equal(a.status, status);
    if (!strstr(a.body, words))
        fail_msg("%s", a.body);
    free(a.type);
    free(a.body);
}

static void a_port_is_not_there(void **state)
{
    (void)state;
    port_refused(404, "set dataplane.engine to dpdk");
    front_is_opened("");
    port_refused(404, "set dataplane.engine to dpdk");
    front_is_opened("dataplane:\n  engine: dpdk\n  addresses: [192.0.2.25/24]\n");
    port_refused(503, "ask again in a moment");
    atomic_store(&node.stopping, true);
    port_refused(503, "start satcheld again when it has ended");
}

static void tcp_serves_nothing_that_is_secret(void **state)
{
    (void)state;
    static const char *const open[] = {"/", "/metrics", "/health", "/v1/status"};
    static const char *const closed[] = {"/v1/port", "/v1/domains", "/v1/queue/x/content", "/v1/nothing"};
    static const char *const hosts[] = {"localhost", "127.0.0.1:8025", "[::1]", "LOCALHOST:1"};
    static const char *const strangers[] = {"evil.example", "127.0.0.1.evil.example", "", "192.0.2.1", "localhost.x"};
    char answer[16384], id[MSGID_TEXT_MAX];
    accept_mail("a.test", "Subject: secret\r\n", id);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(tcp_get("GET", open[i], "127.0.0.1", answer, sizeof answer), 200);
        assert_null(strstr(answer, "me@example.net"));
        assert_int_equal(tcp_get("GET", closed[i], "127.0.0.1", answer, sizeof answer), 403);
        assert_non_null(strstr(answer, "use satchelctl"));
        assert_int_equal(tcp_get("GET", "/health", hosts[i], answer, sizeof answer), 200);
    }
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(tcp_get("GET", "/health", strangers[i], answer, sizeof answer), 403);
    assert_int_equal(tcp_get("DELETE", "/v1/queue?domain=a.test", "127.0.0.1", answer, sizeof answer), 403);
    assert_int_equal(tcp_get("POST", "/v1/reload", "127.0.0.1", answer, sizeof answer), 403);
    assert_int_equal(tcp_get("HEAD", "/health", "127.0.0.1", answer, sizeof answer), 200);
    assert_int_equal(bagged("a.test"), 1);
    assert_int_equal(tcp_get("GET", "/metrics", "127.0.0.1", answer, sizeof answer), 200);
    assert_non_null(strstr(answer, "\nsatchel_queue_messages 1\n"));
    assert_int_equal(tcp_get("GET", "/", "127.0.0.1", answer, sizeof answer), 200);
    assert_non_null(strstr(answer, "a.test"));
}

/* ---- lists of recipients */

static json_t *send_list(const char *method, const char *path, const char *lines)
{
    char why[CLIENT_WHY_MAX];
    json_t *answer = NULL;
    if (client_send(node.client, method, path, lines, &answer, why) < 0)
        fail_msg("%s %s: %s", method, path, why);
    return answer;
}

static void list_refused(const char *method, const char *path, const char *lines, int res, const char *words)
{
    char why[CLIENT_WHY_MAX];
    json_t *answer = NULL;
    assert_int_equal(client_send(node.client, method, path, lines, &answer, why), res);
    if (!strstr(why, words))
        fail_msg("%s %s: %s", method, path, why);
}

/* The recipients of a page, "a b c"; " ..." behind them where there are more. */
static const char *page(const char *path, char out_r[256])
{
    json_t *j = ask("GET", path, NULL), *one;
    size_t i;
    out_r[0] = 0;
    json_array_foreach(json_object_get(j, "recipients"), i, one)
    {
        strcat(out_r, i ? " " : "");
        strcat(out_r, json_string_value(one));
    }
    if (json_is_string(json_object_get(j, "next")))
        strcat(out_r, " ...");
    json_decref(j);
    return out_r;
}

static void add_example(void)
{
    json_t *dom = json_pack("{ss s[s]}", "name", "example.com", "primaries", "127.0.0.1");
    json_decref(ask("POST", "/v1/domains", dom));
    json_decref(dom);
}

#define LIST "/v1/domains/example.com/recipients"

static void a_list_is_set_changed_shown_and_cleared(void **state)
{
    char out[256];
    (void)state;
    list_refused("PUT", LIST, "bob\n", -SATCHEL_ENOENT, "not served here");
    add_example();
    assert_string_equal(page(LIST, out), "");
    list_refused("POST", LIST "/add", "bob\n", -SATCHEL_EBUSY, "set a whole list first");
    json_t *j = send_list("PUT", "/v1/domains/Example.COM/recipients", "bob\nAlice@example.com\n# x\ncarol\nbob\n");
    assert_int_equal(json_integer_value(json_object_get(j, "count")), 3);
    assert_int_equal(strlen(text(j, "list")), 32);
    json_decref(j);
    assert_string_equal(page(LIST, out), "alice@example.com bob@example.com carol@example.com");
    assert_string_equal(page(LIST "?limit=2", out), "alice@example.com bob@example.com ...");
    assert_string_equal(page(LIST "?limit=2&after=bob@example.com", out), "carol@example.com");
    assert_string_equal(page(LIST "?after=b", out), "bob@example.com carol@example.com");
    json_decref(send_list("POST", LIST "/add", "dave\nbob\n"));
    json_decref(send_list("POST", LIST "/remove", "carol\nnobody\n"));
    assert_string_equal(page(LIST, out), "alice@example.com bob@example.com dave@example.com");
    j = ask("GET", "/v1/domains/example.com", NULL);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "recipients"), "count")), 3);
    json_decref(j);
    json_decref(ask("DELETE", LIST, NULL));
    assert_string_equal(page(LIST, out), "");
    j = ask("GET", "/v1/domains/example.com", NULL);
    assert_null(json_object_get(j, "recipients"));
    json_decref(j);
}

static void a_wrong_list_changes_nothing(void **state)
{
    char out[256], *large = malloc(RECIPIENTS_TEXT_MAX + 2);
    (void)state;
    add_example();
    json_decref(send_list("PUT", LIST, "bob\n"));
    list_refused("PUT", LIST, "bob\nmallory@other.example\n", -SATCHEL_EINVAL, "line 2: \"mallory@other.example\"");
    list_refused("PUT", LIST, "# nobody\n\n", -SATCHEL_EINVAL, "--clear");
    list_refused("POST", LIST "/remove", "bob\n", -SATCHEL_EINVAL, "--clear");
    list_refused("POST", LIST "/add", "two words\n", -SATCHEL_EINVAL, "line 1");
    refuses("GET", LIST "?after=two%20words", NULL, -SATCHEL_EINVAL, "after");
    memset(large, 'x', RECIPIENTS_TEXT_MAX + 1);
    large[RECIPIENTS_TEXT_MAX + 1] = 0;
    list_refused("PUT", LIST, large, -SATCHEL_EINVAL, "64 MiB");
    large[512 * 1024] = 0;
    list_refused("PUT", "/v1/domains/example.com", large, -SATCHEL_EINVAL, "256 KiB");
    free(large);
    assert_string_equal(page(LIST, out), "bob@example.com");
}

/* Whoever changes a domain does not change its list by the way. */
static void a_list_outlives_changes_of_its_domain(void **state)
{
#define OTHER_LIST "\"recipients\": {\"list\": \"00112233445566778899aabbccddeeff\", \"count\": 1}}"
    char out[256];
    (void)state;
    add_example();
    json_decref(send_list("PUT", LIST, "bob\n"));
    json_t *dom = json_pack("{s[s] si}", "primaries", "127.0.0.1", "connections", 9);
    json_decref(ask("PUT", "/v1/domains/example.com", dom));
    json_decref(dom);
    json_decref(ask("POST", "/v1/domains/example.com/hold", NULL));
    assert_string_equal(page(LIST, out), "bob@example.com");
    refuses("PUT", "/v1/domains/example.com", "{\"primaries\": [\"127.0.0.1\"], " OTHER_LIST, -SATCHEL_EBUSY,
            "another list");
    refuses("POST", "/v1/domains", "{\"name\": \"b.example\", \"primaries\": [\"127.0.0.1\"], " OTHER_LIST,
            -SATCHEL_EINVAL, "no such list");
    assert_string_equal(page(LIST, out), "bob@example.com");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    log_level_now = LOG_LEVEL_ERROR;
    const struct CMUnitTest tests[] = {
        T(the_socket_is_for_its_owner),
        T(domains_are_added_changed_removed),
        T(wrong_domains_are_refused),
        T(the_list_of_domains_has_pages),
        T(messages_are_listed_in_pages),
        T(a_message_is_shown_and_read),
        T(messages_are_deleted),
        T(the_node_says_how_it_is),
        T(a_port_is_not_there),
        T(tcp_serves_nothing_that_is_secret),
        T(a_list_is_set_changed_shown_and_cleared),
        T(a_wrong_list_changes_nothing),
        T(a_list_outlives_changes_of_its_domain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
