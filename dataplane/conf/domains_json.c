/* domains_json.c - a domain as JSON. */
#include "dataplane/conf/domains_json.h"
#include "spool/base/err.h"

#include <stdio.h>

#define WHY_MAX    256
#define POOL_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

json_t *domain_json(const struct domain *dom)
{
    json_t *primaries = json_array();
    char text[PRIMARY_TEXT_MAX];
    for (uint32_t i = 0; i < dom->primaries_n; i++)
        json_array_append_new(primaries, json_string(primary_format(&dom->primaries[i], text)));
    json_t *j = json_pack("{ss so sI sI ss sb sb sI ss}", "name", dom->name, "primaries", primaries, "keep_s",
                          (json_int_t)dom->keep_s, "connections", (json_int_t)dom->connections, "order",
                          domain_order_name(dom->order), "held", dom->held, "pending", dom->pending,
                          "max_message_bytes", (json_int_t)dom->max_message_bytes, "pool", dom->pool);
    if (j && *dom->recipients)
        json_object_set_new(j, "recipients",
                            json_pack("{ss sI}", "list", dom->recipients, "count", (json_int_t)dom->recipients_n));
    return j;
}

static int refuse(char *why_r, const char *key, const char *expected)
{
    snprintf(why_r, WHY_MAX, "%s: expected %s", key, expected);
    return -SATCHEL_EINVAL;
}

/* ---- one reader a key */

typedef int key_read(struct domain *dom, const char *key, const json_t *v, char *why_r);

static int name_skip(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    (void)dom, (void)key, (void)v, (void)why_r;
    return 0;
}

static int primaries_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    if (!json_is_array(v) || json_array_size(v) > PRIMARIES_MAX)
        return refuse(why_r, key, "a list of 1 to 8 texts such as \"mail.example.com:25\"");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        if (!json_is_string(one))
            return refuse(why_r, key, "a list of texts such as \"mail.example.com:25\"");
        struct slice text = slice_of(json_string_value(one), json_string_length(one));
        int res = primary_parse(text, &dom->primaries[i], why_r);
        if (res < 0)
            return res;
        dom->primaries_n++;
    }
    return 0;
}

static int number_read(const char *key, const json_t *v, json_int_t most, uint64_t *v_r, char *why_r)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > most)
        return refuse(why_r, key, "a whole number that is not negative");
    *v_r = (uint64_t)json_integer_value(v);
    return 0;
}

static int keep_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    return number_read(key, v, KEEP_MAX_S, &dom->keep_s, why_r);
}

static int connections_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    uint64_t n = dom->connections;
    int res = number_read(key, v, CONNECTIONS_MAX, &n, why_r);
    dom->connections = (uint32_t)n;
    return res;
}

static int order_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    if (!json_is_string(v) || !domain_order_parse(json_string_value(v), &dom->order))
        return refuse(why_r, key, "\"strict\" or \"window\"");
    return 0;
}

static int flag_read(const char *key, const json_t *v, bool *v_r, char *why_r)
{
    if (!json_is_boolean(v))
        return refuse(why_r, key, "true or false");
    *v_r = json_is_true(v);
    return 0;
}

static int held_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    return flag_read(key, v, &dom->held, why_r);
}

static int pending_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    return flag_read(key, v, &dom->pending, why_r);
}

static int max_message_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    return number_read(key, v, INT64_MAX, &dom->max_message_bytes, why_r);
}

static int pool_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n >= sizeof dom->pool || strspn(json_string_value(v), POOL_CHARS) != n)
        return refuse(why_r, key, "the name of a pool: at most 31 letters, digits, - and _");
    memcpy(dom->pool, json_string_value(v), n + 1);
    return 0;
}

static int list_read(struct domain *dom, const char *key, const json_t *v, char *why_r)
{
    const char *list = json_string_value(json_object_get(v, "list"));
    const json_t *count = json_object_get(v, "count");
    if (json_is_null(v))
        return 0;
    if (!list || !recipients_hash_ok(list) || json_object_size(v) != 2)
        return refuse(why_r, key,
                      "{\"list\": 32 hex digits, \"count\": N}, as made by "
                      "`satchelctl domain recipients`");
    memcpy(dom->recipients, list, sizeof dom->recipients);
    return number_read(key, count, INT64_MAX, &dom->recipients_n, why_r);
}

static const struct {
    const char *key;
    key_read *read;
} keys[] = {
    {"name", name_skip},       {"primaries", primaries_read},
    {"keep_s", keep_read},     {"connections", connections_read},
    {"order", order_read},     {"held", held_read},
    {"pending", pending_read}, {"max_message_bytes", max_message_read},
    {"pool", pool_read},       {"recipients", list_read},
};

static key_read *key_find(const char *key)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(keys[i].key, key) == 0)
            return keys[i].read;
    }
    return NULL;
}

int domain_from_json(const json_t *j, uint64_t keep_s, struct domain *dom_r, char *why_r)
{
    const json_t *name = json_object_get(j, "name");
    if (!json_is_string(name))
        return refuse(why_r, "name", "a text such as \"example.com\"");
    int res = domain_init(dom_r, slice_of(json_string_value(name), json_string_length(name)), why_r);
    dom_r->keep_s = keep_s;
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)j, key, v)
    {
        key_read *read = key_find(key);
        if (res == 0 && !read) {
            snprintf(why_r, WHY_MAX, "%.64s: not a key of a domain", key);
            return -SATCHEL_EINVAL;
        }
        if (res == 0)
            res = read(dom_r, key, v, why_r);
    }
    return res == 0 ? domain_check(dom_r, why_r) : res;
}
