/* test_coord.c - coordination without a network: the store in memory, the standalone backend, base64, and what
 * etcd's answers, recorded and hostile, are taken for. */
#include "cluster/coord/base64.h"
#include "cluster/coord/etcd_json.h"
#include "tests/unit/coord_rig.h"

#define KEY(s) SLICE_LIT(s)

static struct coord_op put(const char *key, const char *value, int64_t lease)
{
    return (struct coord_op){COORD_PUT, slice_str(key), slice_str(value), lease};
}

static struct coord_op del(const char *key)
{
    return (struct coord_op){COORD_DELETE, slice_str(key), {0}, 0};
}

/* ---- the store */

static bool txn1(struct kvstore *s, const char *key, int64_t mod_rev, struct coord_op op)
{
    struct coord_cmp cmp = {slice_str(key), mod_rev};
    bool succeeded;
    int64_t rev;
    assert_int_equal(kvstore_txn(s, &cmp, 1, &op, 1, &succeeded, &rev), 0);
    assert_int_equal(rev, kvstore_rev(s));
    return succeeded;
}

static void test_store_compares(void **state)
{
    struct kvstore *s = kvstore_new();
    (void)state;
    assert_int_equal(kvstore_rev(s), 1);
    assert_true(txn1(s, "a", 0, put("a", "1", 0)));
    assert_false(txn1(s, "a", 0, put("a", "2", 0)));
    assert_int_equal(kvstore_rev(s), 2);
    assert_true(txn1(s, "a", 2, put("a", "3", 0)));
    const struct coord_kv *kv = kvstore_get(s, KEY("a"));
    assert_true(slice_eq(kv->value, KEY("3")));
    assert_int_equal(kv->create_rev, 2);
    assert_int_equal(kv->mod_rev, 3);
    assert_true(txn1(s, "b", 0, del("b"))); /* of nothing: no revision */
    assert_int_equal(kvstore_rev(s), 3);
    assert_true(txn1(s, "a", 3, del("a")));
    assert_int_equal(kvstore_rev(s), 4);
    assert_null(kvstore_get(s, KEY("a")));
    assert_true(txn1(s, "a", 0, put("a", "new", 0)));
    assert_int_equal(kvstore_get(s, KEY("a"))->create_rev, 5);
    kvstore_free(&s);
    assert_null(s);
}

/* All or nothing, one revision for all of it. */
static void test_store_txn_whole(void **state)
{
    struct kvstore *s = kvstore_new();
    struct coord_op ops[] = {put("x", "1", 0), put("y", "2", 0)}, twice[] = {put("x", "1", 0), del("x")};
    struct coord_op leased[] = {put("z", "1", 0), put("w", "2", 77)};
    bool succeeded;
    int64_t rev;
    (void)state;
    assert_int_equal(kvstore_txn(s, NULL, 0, ops, 2, &succeeded, &rev), 0);
    assert_true(succeeded);
    assert_int_equal(kvstore_get(s, KEY("x"))->mod_rev, 2);
    assert_int_equal(kvstore_get(s, KEY("y"))->mod_rev, 2);
    assert_int_equal(kvstore_txn(s, NULL, 0, twice, 2, &succeeded, &rev), -SATCHEL_EINVAL);
    assert_int_equal(kvstore_txn(s, NULL, 0, leased, 2, &succeeded, &rev), -SATCHEL_ENOENT);
    assert_false(succeeded);
    assert_null(kvstore_get(s, KEY("z")));
    assert_int_equal(rev, 2);
    kvstore_free(&s);
}

static void test_store_lists(void **state)
{
    static const char *const keys[] = {"b/2", "a", "b/1", "b", "b/", "c", "b0", "b/10"};
    struct kvstore *s = kvstore_new();
    const struct coord_kv *kvs;
    (void)state;
    for (size_t i = 0; i < 8; i++)
        assert_true(txn1(s, keys[i], 0, put(keys[i], "v", 0)));
    assert_int_equal(kvstore_list(s, KEY(""), &kvs), 8);
    assert_int_equal(kvstore_list(s, KEY("b/"), &kvs), 4);
    assert_true(slice_eq(kvs[0].key, KEY("b/")) && slice_eq(kvs[1].key, KEY("b/1")));
    assert_true(slice_eq(kvs[2].key, KEY("b/10")) && slice_eq(kvs[3].key, KEY("b/2")));
    assert_int_equal(kvstore_list(s, KEY("d"), &kvs), 0);
    kvstore_free(&s);
}

struct seen {
    unsigned puts, deletes;
};

static void see_change(void *arg, struct slice key, const struct coord_kv *kv)
{
    struct seen *s = arg;
    assert_true(key.n > 0);
    s->puts += kv != NULL;
    s->deletes += kv == NULL;
}

static void test_store_leases(void **state)
{
    struct kvstore *s = kvstore_new();
    struct seen seen = {0};
    uint32_t ttl_s;
    (void)state;
    kvstore_on_change(s, see_change, &seen);
    assert_true(kvstore_expiry_us(s) == UINT64_MAX);
    int64_t a = kvstore_grant(s, 10, 1000000), b = kvstore_grant(s, 10, 2000000);
    assert_true(a > 0 && b != a);
    assert_true(txn1(s, "live/a", 0, put("live/a", "x", a)));
    assert_true(txn1(s, "lead", 0, put("lead", "a", a)));
    assert_true(txn1(s, "live/b", 0, put("live/b", "x", b)));
    assert_true(kvstore_expiry_us(s) == 11000000);
    assert_int_equal(kvstore_expire(s, 10999999), 0);
    assert_int_equal(kvstore_keepalive(s, b, 11000000, &ttl_s), 0);
    assert_int_equal(ttl_s, 10);
    assert_int_equal(kvstore_expire(s, 11000000), 1); /* a; b was kept */
    assert_int_equal(kvstore_rev(s), 5);              /* both keys in one revision */
    assert_int_equal(seen.deletes, 2);
    assert_int_equal(seen.puts, 3);
    assert_null(kvstore_get(s, KEY("lead")));
    assert_non_null(kvstore_get(s, KEY("live/b")));
    assert_int_equal(kvstore_keepalive(s, a, 12000000, &ttl_s), -SATCHEL_ENOENT);
    assert_int_equal(kvstore_revoke(s, a), -SATCHEL_ENOENT);
    assert_true(txn1(s, "live/b", 4, put("live/b", "x", 0))); /* no more under the lease */
    assert_int_equal(kvstore_revoke(s, b), 0);
    assert_non_null(kvstore_get(s, KEY("live/b")));
    kvstore_free(&s);
}

static void test_store_copies(void **state)
{
    struct coord_op ops[] = {put("k", "v", 3), del("gone")};
    struct coord_cmp cmp = {KEY("c"), 9};
    struct kvstore_txn_args *a = kvstore_txn_copy(&cmp, 1, ops, 2);
    (void)state;
    assert_true(a->cmps[0].mod_rev == 9 && slice_eq(a->cmps[0].key, KEY("c")) && a->cmps[0].key.p != cmp.key.p);
    assert_true(slice_eq(a->ops[0].value, KEY("v")) && a->ops[0].lease == 3 && a->ops[1].kind == COORD_DELETE);
    free(a);
}

/* ---- standalone */

static int open_standalone(void **state)
{
    return coord_standalone_open((struct coord **)state, clock_system());
}

static int close_coord(void **state)
{
    struct coord *c = *state;
    if (c)
        c->ops->close(&c);
    return 0;
}

static void test_standalone_calls(void **state)
{
    struct coord *c = *state;
    struct coord_cmp none = {KEY("a"), 0};
    struct coord_op op = put("a", "1", 0);
    assert_true(do_txn(c, &none, 1, &op, 1).succeeded);
    assert_false(do_txn(c, &none, 1, &op, 1).succeeded);
    struct answer l = do_list(c, "");
    assert_int_equal(l.n, 1);
    assert_int_equal(l.rev, 2);
    free(l.kvs);
    struct answer g = do_grant(c, 10);
    assert_int_equal(g.ttl_s, 10);
    assert_int_equal(do_put(c, "b", "2", g.lease).res, 0);
    assert_int_equal(do_keepalive(c, g.lease).ttl_s, 10);
    assert_int_equal(do_revoke(c, g.lease).res, 0);
    assert_int_equal(do_keepalive(c, g.lease).res, -SATCHEL_ENOENT);
    l = do_list(c, "b");
    assert_int_equal(l.n, 0);
    free(l.kvs);
    struct coord_info info;
    c->ops->info(c, &info);
    assert_true(info.reachable && info.calls == 9);
}

static bool fd_ready(const struct coord *c)
{
    struct pollfd fd = {.fd = c->fd, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

/* Nothing runs inside the call; a watch runs in the poll after the one that changed something. */
static void test_standalone_polls(void **state)
{
    struct coord *c = *state;
    struct answer a = {0};
    struct coord_op op = put("w/x", "1", 0);
    unsigned changed = 0, other = 0;
    c->ops->watch(c, KEY("w/"), count_changed, &changed);
    c->ops->watch(c, KEY("v/"), count_changed, &other);
    assert_false(fd_ready(c));
    c->ops->txn(c, NULL, 0, &op, 1, answer_txn, &a);
    assert_false(a.done);
    assert_true(fd_ready(c));
    c->ops->poll(c);
    assert_true(a.done && a.succeeded);
    assert_int_equal(changed, 0);
    assert_true(fd_ready(c));
    c->ops->poll(c);
    assert_int_equal(changed, 1);
    assert_int_equal(other, 0);
    assert_false(fd_ready(c));
}

struct chain {
    struct coord *c;
    struct answer first, second;
    int refused;
};

static void chain_list(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct chain *ch = arg;
    struct coord_op op = put("b", "2", 0);
    ch->refused = ch->c->ops->txn(ch->c, NULL, 0, &op, 1, answer_txn, &ch->second);
    answer_list(&ch->first, res, rev, kvs, n); /* still there, and unchanged, after a call from within */
}

static void test_standalone_nests(void **state)
{
    struct chain ch = {.c = *state};
    assert_int_equal(do_put(ch.c, "a", "1", 0).res, 0);
    ch.c->ops->list(ch.c, KEY(""), chain_list, &ch);
    ch.c->ops->poll(ch.c);
    assert_true(ch.first.done && ch.first.n == 1 && !ch.second.done);
    free(ch.first.kvs);
    ch.c->ops->poll(ch.c);
    assert_true(ch.second.done && ch.second.succeeded);
}

static void test_standalone_closes(void **state)
{
    struct chain ch = {.c = *state};
    ch.c->ops->list(ch.c, KEY(""), chain_list, &ch);
    *state = NULL;
    struct coord *c = ch.c;
    c->ops->close(&c);
    assert_null(c);
    assert_true(ch.first.done);
    assert_int_equal(ch.first.res, -SATCHEL_ESHUT);
    assert_int_equal(ch.refused, -SATCHEL_ESHUT);
    assert_false(ch.second.done);
    free(ch.first.kvs);
}

/* ---- base64 */

static void test_base64(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    static const char *const bad[] = {"Z", "Zg", "Zg=", "Zg==Zg==", "Z===", "====", "Zm9*", "Zh==", "Zm9=", "Zm 9"};
    char text[64];
    uint8_t bytes[64];
    size_t n;
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        base64_encode(slice_str(pairs[i][0]), text);
        assert_string_equal(text, pairs[i][1]);
        assert_true(base64_decode(slice_str(pairs[i][1]), bytes, &n));
        assert_true(slice_eq(slice_of(bytes, n), slice_str(pairs[i][0])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (base64_decode(slice_str(bad[i]), bytes, &n))
            fail_msg("%s was taken for base64", bad[i]);
}

/* ---- etcd's answers.  H: a header as etcd 3.4.23 writes it; keys are below "p/": cC9h is "p/a", cC9i "p/b". */

#define H                                                                                                              \
    "\"header\":{\"cluster_id\":\"7801232528081817440\",\"member_id\":\"13458989633860879742\",\"revision\":\"9\","    \
    "\"raft_term\":\"2\"}"
#define KV(key, rev)                                                                                                   \
    "{\"key\":\"" key "\",\"create_revision\":\"2\",\"mod_revision\":\"" rev "\",\"version\":\"1\",\"value\":\"Yg=="   \
    "\"}"

static struct etcd_reply read_reply(enum etcd_kind kind, long status, const char *body, struct etcd_kvs *kvs)
{
    struct etcd_reply r;
    etcd_json_reply(kind, status, slice_str(body), 77, KEY("p/"), kvs, &r);
    free(r.token);
    r.token = NULL;
    return r;
}

static void test_replies_recorded(void **state)
{
    struct etcd_kvs kvs;
    (void)state;
    etcd_kvs_init(&kvs);
    struct etcd_reply r =
        read_reply(ETCD_LIST, 200,
                   "{" H ",\"kvs\":[" KV("cC9h", "3") "," KV("cC9i", "4") "],\"more\":true,\"count\":\"7\"}", &kvs);
    assert_int_equal(r.outcome, ETCD_OK);
    assert_true(r.more && r.rev == 9 && kvs.n == 2);
    assert_true(slice_eq(kvs.kvs[1].key, KEY("b")) && slice_eq(kvs.kvs[1].value, KEY("b")));
    assert_true(kvs.kvs[1].mod_rev == 4 && kvs.kvs[1].create_rev == 2 && kvs.kvs[1].lease == 0);
    r = read_reply(ETCD_TXN, 200,
                   "{" H ",\"succeeded\":true,\"responses\":[{\"response_put\":{\"header\":{\"revision\":\"9\"}}}]}",
                   &kvs);
    assert_true(r.outcome == ETCD_OK && r.succeeded && r.rev == 9);
    r = read_reply(ETCD_TXN, 200, "{" H "}", &kvs);
    assert_true(r.outcome == ETCD_OK && !r.succeeded);
    r = read_reply(ETCD_GRANT, 200, "{" H ",\"ID\":\"5007618005716586506\",\"TTL\":\"5\"}", &kvs);
    assert_true(r.outcome == ETCD_OK && r.lease == 5007618005716586506 && r.ttl_s == 5);
    r = read_reply(ETCD_KEEPALIVE, 200, "{\"result\":{" H ",\"ID\":\"77\",\"TTL\":\"10\"}}\n", &kvs);
    assert_true(r.outcome == ETCD_OK && r.ttl_s == 10);
    r = read_reply(ETCD_KEEPALIVE, 200, "{\"result\":{" H ",\"ID\":\"77\"}}\n", &kvs);
    assert_int_equal(r.outcome, ETCD_NO_LEASE);
    r = read_reply(ETCD_REVOKE, 200, "{" H "}", &kvs);
    assert_int_equal(r.outcome, ETCD_OK);
    r = read_reply(ETCD_AUTH, 200, "{" H ",\"token\":\"sZYLdjJsYOkqhXyJ.25\"}", &kvs);
    assert_int_equal(r.outcome, ETCD_OK);
    etcd_kvs_reset(&kvs);
}

#define ERR(words, code) "{\"error\":\"" words "\",\"message\":\"" words "\",\"code\":" code "}"

static void test_replies_errors(void **state)
{
    static const struct {
        enum etcd_kind kind;
        long status;
        const char *body;
        enum etcd_outcome outcome;
    } cases[] = {
        {ETCD_REVOKE, 404, ERR("etcdserver: requested lease not found", "5"), ETCD_NO_LEASE},
        {ETCD_TXN, 400, ERR("etcdserver: duplicate key given in txn request", "3"), ETCD_REFUSED},
        {ETCD_LIST, 401, ERR("etcdserver: invalid auth token", "16"), ETCD_TOKEN},
        {ETCD_LIST, 400, ERR("etcdserver: user name is empty", "3"), ETCD_TOKEN},
        {ETCD_TXN, 400, ERR("etcdserver: revision of auth store is old", "3"), ETCD_TOKEN},
        {ETCD_LIST, 403, ERR("etcdserver: permission denied", "7"), ETCD_DENIED},
        {ETCD_AUTH, 400, ERR("etcdserver: authentication failed, invalid user ID or password", "3"), ETCD_DENIED},
        {ETCD_AUTH, 412, ERR("etcdserver: authentication is not enabled", "9"), ETCD_NO_AUTH},
        {ETCD_LIST, 503, ERR("etcdserver: no leader", "14"), ETCD_UNAVAILABLE},
        {ETCD_TXN, 503, ERR("etcdserver: request timed out", "14"), ETCD_UNAVAILABLE},
        {ETCD_TXN, 429, ERR("etcdserver: mvcc: database space exceeded", "8"), ETCD_UNAVAILABLE},
        {ETCD_LIST, 400, ERR("etcdserver: mvcc: required revision has been compacted", "11"), ETCD_COMPACTED},
        {ETCD_LIST, 400, ERR("etcdserver: mvcc: required revision is a future revision", "11"), ETCD_COMPACTED},
        {ETCD_KEEPALIVE, 200,
         "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no "
         "leader\",\"http_status\":\"Service Unavailable\"}}",
         ETCD_UNAVAILABLE},
        {ETCD_LIST, 502, "<html>Bad Gateway</html>", ETCD_UNAVAILABLE},
        {ETCD_LIST, 404, "Not Found", ETCD_NONSENSE},
        {ETCD_LIST, 401, "", ETCD_TOKEN},
        {ETCD_LIST, 403, "", ETCD_DENIED},
    };
    struct etcd_kvs kvs;
    (void)state;
    etcd_kvs_init(&kvs);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct etcd_reply r = read_reply(cases[i].kind, cases[i].status, cases[i].body, &kvs);
        if (r.outcome != cases[i].outcome)
            fail_msg("%s: outcome %d", cases[i].body, r.outcome);
        assert_true(r.why[0]);
    }
    etcd_kvs_reset(&kvs);
}

static const struct {
    enum etcd_kind kind;
    const char *body;
} hostile[] = {
    {ETCD_LIST, ""},
    {ETCD_LIST, "<!DOCTYPE html><html>Welcome to nginx</html>"},
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("cC9h", "3")},
    {ETCD_LIST, "[]"},
    {ETCD_LIST, "\"yes\""},
    {ETCD_LIST, "{}"},
    {ETCD_LIST, "{\"header\":[]}"},
    {ETCD_LIST, "{\"header\":{\"revision\":\"-4\"}}"},
    {ETCD_LIST, "{\"header\":{\"revision\":\"99999999999999999999\"}}"},
    {ETCD_LIST, "{\"header\":{\"revision\":\"9 \"}}"},
    {ETCD_LIST, "{\"header\":{\"revision\":9.5}}"},
    {ETCD_LIST, "{" H ",\"kvs\":{}}"},
    {ETCD_LIST, "{" H ",\"kvs\":[1,2]}"},
    {ETCD_LIST, "{" H ",\"kvs\":[{}]}"},
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("!!!!", "3") "]}"},
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("cC9h", "0") "]}"},
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("cC9h", "1") "]}"}, /* changed before it was created */
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("cS9h", "3") "]}"}, /* "q/a" */
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("cA==", "3") "]}"}, /* "p" */
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("cC9i", "3") "," KV("cC9h", "3") "]}"},
    {ETCD_LIST, "{" H ",\"kvs\":[" KV("cC9h", "3") "," KV("cC9h", "3") "]}"},
    {ETCD_LIST, "{" H ",\"more\":true}"},
    {ETCD_LIST, "{" H ",\"more\":\"true\"}"},
    {ETCD_LIST, "{\"error\":7}"},
    {ETCD_LIST, "{\"error\":{\"grpc_code\":\"many\",\"message\":\"x\"}}"},
    {ETCD_TXN, "{\"succeeded\":true}"},
    {ETCD_TXN, "{" H ",\"succeeded\":\"true\"}"},
    {ETCD_GRANT, "{" H "}"},
    {ETCD_GRANT, "{" H ",\"ID\":\"0\",\"TTL\":\"5\"}"},
    {ETCD_GRANT, "{" H ",\"ID\":\"5\"}"},
    {ETCD_GRANT, "{" H ",\"ID\":\"5\",\"TTL\":\"4294967296\"}"},
    {ETCD_KEEPALIVE, "{" H ",\"ID\":\"77\",\"TTL\":\"10\"}"},
    {ETCD_KEEPALIVE, "{\"result\":{" H ",\"ID\":\"78\",\"TTL\":\"10\"}}"},
    {ETCD_REVOKE, "{}"},
    {ETCD_AUTH, "{" H "}"},
    {ETCD_AUTH, "{" H ",\"token\":\"x\\r\\nHost: y\"}"},
};

static void test_replies_hostile(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct etcd_kvs kvs;
        etcd_kvs_init(&kvs);
        struct etcd_reply r = read_reply(hostile[i].kind, 200, hostile[i].body, &kvs);
        if (r.outcome != ETCD_NONSENSE)
            fail_msg("%s: outcome %d", hostile[i].body, r.outcome);
        assert_true(r.why[0]);
        etcd_kvs_reset(&kvs);
    }
}

/* Every answer, cut anywhere, and with each byte spoilt: whatever it is taken for, nothing breaks. */
static void test_replies_cut(void **state)
{
    static const char whole[] =
        "{" H ",\"kvs\":[" KV("cC9h", "3") "," KV("cC9i", "4") "],\"more\":true,\"count\":\"7\"}";
    char body[sizeof whole];
    struct etcd_kvs kvs;
    struct etcd_reply r;
    (void)state;
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        etcd_kvs_init(&kvs);
        etcd_json_reply(ETCD_LIST, 200, slice_of(whole, n), 0, KEY("p/"), &kvs, &r);
        assert_int_equal(r.outcome, ETCD_NONSENSE);
        memcpy(body, whole, sizeof whole);
        body[n] ^= 0x15;
        etcd_json_reply(ETCD_LIST, 200, slice_of(body, sizeof whole - 1), 0, KEY("p/"), &kvs, &r);
        etcd_kvs_reset(&kvs);
    }
}

static void test_watch_lines(void **state)
{
    struct etcd_watch_line l;
    (void)state;
    etcd_json_watch_line(KEY("{\"result\":{" H ",\"created\":true}}"), &l);
    assert_true(l.created && !l.over);
    etcd_json_watch_line(KEY("{\"result\":{" H ",\"events\":[{\"kv\":" KV("cC9h", "3") "}]}}"), &l);
    assert_true(!l.created && !l.over);
    etcd_json_watch_line(
        KEY("{\"result\":{" H
            ",\"created\":true,\"canceled\":true,\"cancel_reason\":\"etcdserver: permission denied\"}}"),
        &l);
    assert_true(!l.created && l.over && l.outcome == ETCD_DENIED);
    etcd_json_watch_line(KEY("{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no leader\"}}"),
                         &l);
    assert_true(l.over && l.outcome == ETCD_UNAVAILABLE);
    etcd_json_watch_line(KEY("{\"result\":{\"created\":7}}"), &l);
    assert_true(l.over && l.outcome == ETCD_NONSENSE);
    etcd_json_watch_line(KEY("GET / HTTP/1.1"), &l);
    assert_true(l.over && l.outcome == ETCD_NONSENSE);
}

static void test_requests(void **state)
{
    struct coord_cmp cmps[] = {{KEY("a"), 0}, {KEY("b"), 12}};
    struct coord_op ops[] = {put("a", "v", 77), del("b")};
    (void)state;
    char *json = etcd_json_txn(KEY("p/"), cmps, 2, ops, 2);
    assert_string_equal(
        json, "{\"compare\":[{\"key\":\"cC9h\",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"0\"},"
              "{\"key\":\"cC9i\",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"12\"}],"
              "\"success\":[{\"requestPut\":{\"key\":\"cC9h\",\"value\":\"dg==\",\"lease\":\"77\"}},"
              "{\"requestDeleteRange\":{\"key\":\"cC9i\"}}]}");
    free(json);
    json = etcd_json_auth("ro\"ot", "p\\w");
    assert_string_equal(json, "{\"name\":\"ro\\\"ot\",\"password\":\"p\\\\w\"}");
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_compares),
        cmocka_unit_test(test_store_txn_whole),
        cmocka_unit_test(test_store_lists),
        cmocka_unit_test(test_store_leases),
        cmocka_unit_test(test_store_copies),
        cmocka_unit_test_setup_teardown(test_standalone_calls, open_standalone, close_coord),
        cmocka_unit_test_setup_teardown(test_standalone_polls, open_standalone, close_coord),
        cmocka_unit_test_setup_teardown(test_standalone_nests, open_standalone, close_coord),
        cmocka_unit_test_setup_teardown(test_standalone_closes, open_standalone, close_coord),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_replies_recorded),
        cmocka_unit_test(test_replies_errors),
        cmocka_unit_test(test_replies_hostile),
        cmocka_unit_test(test_replies_cut),
        cmocka_unit_test(test_watch_lines),
        cmocka_unit_test(test_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
