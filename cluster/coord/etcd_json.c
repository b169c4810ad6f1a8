/* etcd_json.c - requests to etcd's JSON gateway: writing them; etcd_reply.c reads the answers.  See etcd_json.h. */
#include "cluster/coord/etcd_json.h"
#include "cluster/coord/base64.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *must(json_t *v)
{
    if (!v)
        abort();
    return v;
}

static char *dump(json_t *root)
{
    char *text = json_dumps(must(root), JSON_COMPACT);
    json_decref(root);
    if (!text)
        abort();
    return text;
}

static json_t *bytes_json(struct slice s)
{
    size_t n = base64_encoded_n(s.n);
    char *text = malloc(n + 1);
    if (!text)
        abort();
    base64_encode(s, text);
    json_t *v = must(json_stringn_nocheck(text, n));
    free(text);
    return v;
}

static json_t *int_json(int64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, v);
    return must(json_string(text));
}

static json_t *key_json(struct slice prefix, struct slice key)
{
    size_t n = prefix.n + key.n;
    uint8_t *whole = malloc(n + 1);
    if (!whole)
        abort();
    memcpy(whole, prefix.p, prefix.n);
    if (key.n)
        memcpy(whole + prefix.n, key.p, key.n);
    json_t *v = bytes_json(slice_of(whole, n));
    free(whole);
    return v;
}

char *etcd_json_range(struct slice from, struct slice to, int64_t rev, int64_t since, uint32_t limit)
{
    json_t *root = must(
        json_pack("{s:o,s:o,s:o}", "key", bytes_json(from), "range_end", bytes_json(to), "limit", int_json(limit)));
    if (rev)
        json_object_set_new(root, "revision", int_json(rev));
    if (since)
        json_object_set_new(root, "min_mod_revision", int_json(since));
    return dump(root);
}

static json_t *op_json(struct slice prefix, const struct coord_op *op)
{
    if (op->kind == COORD_DELETE)
        return json_pack("{s:{s:o}}", "requestDeleteRange", "key", key_json(prefix, op->key));
    json_t *put = must(json_pack("{s:o,s:o}", "key", key_json(prefix, op->key), "value", bytes_json(op->value)));
    if (op->lease)
        json_object_set_new(put, "lease", int_json(op->lease));
    return json_pack("{s:o}", "requestPut", put);
}

/* A key that is not there has mod_revision 0. */
char *etcd_json_txn(struct slice prefix, const struct coord_cmp *cmps, size_t cmps_n, const struct coord_op *ops,
                    size_t ops_n)
{
    json_t *compare = must(json_array()), *success = must(json_array());
    for (size_t i = 0; i < cmps_n; i++)
        json_array_append_new(compare,
                              must(json_pack("{s:o,s:s,s:s,s:o}", "key", key_json(prefix, cmps[i].key), "target", "MOD",
                                             "result", "EQUAL", "mod_revision", int_json(cmps[i].mod_rev))));
    for (size_t i = 0; i < ops_n; i++)
        json_array_append_new(success, must(op_json(prefix, &ops[i])));
    return dump(json_pack("{s:o,s:o}", "compare", compare, "success", success));
}

char *etcd_json_grant(uint32_t ttl_s)
{
    return dump(json_pack("{s:o}", "TTL", int_json(ttl_s)));
}

char *etcd_json_lease(int64_t lease)
{
    return dump(json_pack("{s:o}", "ID", int_json(lease)));
}

char *etcd_json_auth(const char *user, const char *password)
{
    return dump(json_pack("{s:s,s:s}", "name", user, "password", password));
}

char *etcd_json_watch(struct slice from, struct slice to)
{
    return dump(json_pack("{s:{s:o,s:o}}", "create_request", "key", bytes_json(from), "range_end", bytes_json(to)));
}
