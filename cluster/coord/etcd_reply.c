/* etcd_reply.c - answers of etcd's JSON gateway: what they say, or that they are nonsense.  See etcd_json.h.
 *
 * An error of a plain call is {"error": WORDS, "code": GRPC CODE} with an HTTP status that follows the code; one of a
 * stream is {"error": {"grpc_code":, "message":, ...}}, possibly after HTTP 200. */
#include "cluster/coord/base64.h"
#include "cluster/coord/etcd_json.h"
#include "spool/base/err.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LIST_MAX_BYTES (UINT64_C(1) << 30) /* keys and values of one list */

enum grpc_code {
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_NOT_FOUND = 5,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNAUTHENTICATED = 16,
};

/* What etcd says in one code but means apart: its words decide.  api/v3rpc/rpctypes/error.go names them all. */
static const struct {
    const char *words;
    enum etcd_outcome outcome;
} by_words[] = {
    {"requested lease not found", ETCD_NO_LEASE},
    {"invalid auth token", ETCD_TOKEN},
    {"user name is empty", ETCD_TOKEN},
    {"revision of auth store is old", ETCD_TOKEN},
    {"invalid user ID or password", ETCD_DENIED},
    {"permission denied", ETCD_DENIED},
    {"authentication is not enabled", ETCD_NO_AUTH},
    {"revision has been compacted", ETCD_COMPACTED},
    {"future revision", ETCD_COMPACTED}, /* the member asked now lags behind the one that gave the page before */
};

void etcd_kvs_init(struct etcd_kvs *k)
{
    *k = (struct etcd_kvs){0};
    arena_init(&k->bytes, LIST_MAX_BYTES);
}

void etcd_kvs_reset(struct etcd_kvs *k)
{
    arena_free(&k->bytes);
    free(k->kvs);
    etcd_kvs_init(k);
}

/* Always false, for `return nonsense(...)`. */
__attribute__((format(printf, 2, 3))) static bool nonsense(struct etcd_reply *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->why, sizeof r->why, fmt, ap);
    va_end(ap);
    r->outcome = ETCD_NONSENSE;
    return false;
}

/* Text from outside, for a log line. */
static void words_copy(char why_r[ETCD_WHY_MAX], const char *words)
{
    snprintf(why_r, ETCD_WHY_MAX, "%s", words);
    for (char *p = why_r; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
}

static bool int_parse(const json_t *v, int64_t *v_r)
{
    char *end;
    if (json_is_integer(v)) {
        *v_r = json_integer_value(v);
        return *v_r >= 0;
    }
    const char *text = json_string_value(v);
    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *v_r = strtoll(text, &end, 10);
    return errno == 0 && !*end;
}

/* Not there: 0. */
static bool int_field(const json_t *o, const char *name, int64_t *v_r)
{
    const json_t *v = json_object_get(o, name);
    *v_r = 0;
    return !v || int_parse(v, v_r);
}

static bool bool_field(const json_t *o, const char *name, bool *v_r)
{
    const json_t *v = json_object_get(o, name);
    *v_r = json_is_true(v);
    return !v || json_is_boolean(v);
}

/* Not there: empty.  False: not base64, or no room. */
static bool bytes_field(struct arena *a, const json_t *o, const char *name, struct slice *s_r)
{
    const json_t *v = json_object_get(o, name);
    *s_r = slice_of("", 0);
    if (!v)
        return true;
    if (!json_is_string(v))
        return false;
    struct slice text = slice_of(json_string_value(v), json_string_length(v));
    uint8_t *p = arena_alloc(a, text.n / 4 * 3);
    s_r->p = p;
    return p && base64_decode(text, p, &s_r->n);
}

static bool header_read(const json_t *o, struct etcd_reply *r)
{
    if (!int_field(json_object_get(o, "header"), "revision", &r->rev) || r->rev <= 0)
        return nonsense(r, "no header with a revision");
    return true;
}

static bool kv_push(struct etcd_kvs *k, const struct coord_kv *kv)
{
    if (k->n == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 64;
        k->kvs = realloc(k->kvs, k->cap * sizeof *k->kvs);
        if (!k->kvs)
            abort();
    }
    k->kvs[k->n++] = *kv;
    return true;
}

static bool key_after(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c > 0 : a.n > b.n;
}

static bool kv_read(const json_t *o, struct slice prefix, struct etcd_kvs *k, struct etcd_reply *r)
{
    struct coord_kv kv = {0};
    if (!bytes_field(&k->bytes, o, "key", &kv.key) || !bytes_field(&k->bytes, o, "value", &kv.value))
        return nonsense(r, "a key or value that is not base64, or over %" PRIu64 " bytes of them", LIST_MAX_BYTES);
    if (!int_field(o, "mod_revision", &kv.mod_rev) || !int_field(o, "create_revision", &kv.create_rev) ||
        !int_field(o, "lease", &kv.lease) || kv.mod_rev <= 0 || kv.create_rev <= 0 || kv.create_rev > kv.mod_rev)
        return nonsense(r, "a key with impossible revisions");
    if (kv.key.n < prefix.n || memcmp(kv.key.p, prefix.p, prefix.n) != 0)
        return nonsense(r, "a key that was not asked for");
    kv.key = slice_of(kv.key.p + prefix.n, kv.key.n - prefix.n);
    if (k->n && !key_after(kv.key, k->kvs[k->n - 1].key))
        return nonsense(r, "keys out of order");
    return kv_push(k, &kv);
}

static bool list_read(const json_t *o, struct slice prefix, struct etcd_kvs *k, struct etcd_reply *r)
{
    const json_t *kvs = json_object_get(o, "kvs"), *kv;
    size_t i;
    if (!header_read(o, r))
        return false;
    if (!bool_field(o, "more", &r->more) || (kvs && !json_is_array(kvs)))
        return nonsense(r, "kvs or more of a wrong type");
    json_array_foreach(kvs, i, kv) if (!kv_read(kv, prefix, k, r)) return false;
    if (r->more && json_array_size(kvs) == 0)
        return nonsense(r, "more keys to come, but none here");
    return true;
}

static bool lease_read(const json_t *o, struct etcd_reply *r)
{
    int64_t ttl;
    if (!int_field(o, "ID", &r->lease) || r->lease <= 0 || !int_field(o, "TTL", &ttl) || ttl > UINT32_MAX)
        return nonsense(r, "no lease, or one without a possible TTL");
    r->ttl_s = (uint32_t)ttl;
    return true;
}

static bool grant_read(const json_t *o, struct etcd_reply *r)
{
    if (!header_read(o, r) || !lease_read(o, r))
        return false;
    return r->ttl_s > 0 || nonsense(r, "a lease without TTL");
}

/* A lease that is not known (any more) is answered with 200, without TTL. */
static bool keepalive_read(const json_t *o, int64_t lease, struct etcd_reply *r)
{
    const json_t *result = json_object_get(o, "result");
    if (!header_read(result, r) || !lease_read(result, r))
        return false;
    if (r->lease != lease)
        return nonsense(r, "another lease than asked for");
    if (r->ttl_s > 0)
        return true;
    r->outcome = ETCD_NO_LEASE;
    words_copy(r->why, "lease not found");
    return false;
}

static bool txn_read(const json_t *o, struct etcd_reply *r)
{
    if (!header_read(o, r))
        return false;
    return bool_field(o, "succeeded", &r->succeeded) || nonsense(r, "succeeded is no boolean");
}

static bool auth_read(const json_t *o, struct etcd_reply *r)
{
    const char *token = json_string_value(json_object_get(o, "token"));
    if (!token || !*token || strpbrk(token, "\r\n"))
        return nonsense(r, "no token");
    r->token = strdup(token);
    if (!r->token)
        abort();
    return true;
}

static enum etcd_outcome error_outcome(long status, int64_t code, const char *words)
{
    for (size_t i = 0; i < sizeof by_words / sizeof *by_words; i++)
        if (strstr(words, by_words[i].words))
            return by_words[i].outcome;
    if (code == GRPC_UNAUTHENTICATED || status == 401)
        return ETCD_TOKEN;
    if (code == GRPC_PERMISSION_DENIED || status == 403)
        return ETCD_DENIED;
    if (code == GRPC_INVALID_ARGUMENT || code == GRPC_NOT_FOUND || code == GRPC_FAILED_PRECONDITION ||
        code == GRPC_OUT_OF_RANGE)
        return ETCD_REFUSED;
    return ETCD_UNAVAILABLE;
}

/* True: o is an error, and r says which. */
static bool error_read(long status, const json_t *o, struct etcd_reply *r)
{
    const json_t *error = json_object_get(o, "error"), *words = error, *code = json_object_get(o, "code");
    int64_t number = 0;
    if (!error)
        return false;
    if (json_is_object(error)) {
        words = json_object_get(error, "message");
        code = json_object_get(error, "grpc_code");
    }
    if (!json_is_string(words) || (code && !int_parse(code, &number))) {
        nonsense(r, "HTTP %ld and an error without words", status);
        return true;
    }
    r->outcome = error_outcome(status, number, json_string_value(words));
    words_copy(r->why, json_string_value(words));
    return true;
}

static bool kind_read(enum etcd_kind kind, const json_t *o, int64_t lease, struct slice prefix, struct etcd_kvs *kvs,
                      struct etcd_reply *r)
{
    switch (kind) {
    case ETCD_LIST:
        return list_read(o, prefix, kvs, r);
    case ETCD_TXN:
        return txn_read(o, r);
    case ETCD_GRANT:
        return grant_read(o, r);
    case ETCD_KEEPALIVE:
        return keepalive_read(o, lease, r);
    case ETCD_REVOKE:
        return header_read(o, r);
    case ETCD_AUTH:
        return auth_read(o, r);
    }
    return false;
}

/* A proxy's words, or a stranger's: a 5xx may pass, the rest is no etcd. */
static void stranger(long status, struct etcd_reply *r)
{
    if (status == 401)
        r->outcome = ETCD_TOKEN;
    else if (status == 403)
        r->outcome = ETCD_DENIED;
    else if (status >= 500)
        r->outcome = ETCD_UNAVAILABLE;
    else
        r->outcome = ETCD_NONSENSE;
    snprintf(r->why, sizeof r->why, "HTTP %ld without a word of etcd's: is that etcd 3.4, at /v3?", status);
}

void etcd_json_reply(enum etcd_kind kind, long status, struct slice body, int64_t lease, struct slice prefix,
                     struct etcd_kvs *kvs, struct etcd_reply *r_r)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)body.p, body.n, 0, &error);
    *r_r = (struct etcd_reply){.outcome = ETCD_OK};
    if (json_is_object(root) && error_read(status, root, r_r))
        ;
    else if (status != 200)
        stranger(status, r_r);
    else if (!json_is_object(root))
        nonsense(r_r, "HTTP 200, but no JSON object");
    else
        kind_read(kind, root, lease, prefix, kvs, r_r);
    json_decref(root);
}

void etcd_json_watch_line(struct slice line, struct etcd_watch_line *l_r)
{
    json_t *root = json_loadb((const char *)line.p, line.n, 0, NULL);
    const json_t *result = json_object_get(root, "result");
    struct etcd_reply r = {.outcome = ETCD_OK};
    bool sane = bool_field(result, "created", &l_r->created) && bool_field(result, "canceled", &l_r->over);
    if (error_read(0, root, &r)) {
        l_r->over = true;
    } else if (!json_is_object(result) || !sane) {
        l_r->over = true;
        nonsense(&r, "a watch that says what is no event");
    } else if (l_r->over) {
        const char *reason = json_string_value(json_object_get(result, "cancel_reason"));
        r.outcome = error_outcome(0, 0, reason ? reason : "");
        words_copy(r.why, reason ? reason : "cancelled without a reason");
    }
    l_r->created = l_r->created && !l_r->over;
    l_r->outcome = r.outcome;
    memcpy(l_r->why, r.why, sizeof r.why);
    json_decref(root);
}
