/* map_json.c - the values of the map's keys as JSON (RFC 8259), the only place that knows their fields.
 *
 * Reading: unknown fields are passed over, so that a newer version may add some; a known field of the wrong type or out
 * of its range is refused.  64-bit numbers that JSON cannot be trusted with (boot) are hex text. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/map/map_impl.h"
#include "spool/base/err.h"

#define VALUE_MAX_BYTES (64u << 10)

/* A value being read: the first thing wrong with it sticks. */
struct rd {
    json_t *root;
    char *why; /* 128 bytes */
    bool bad;
};

static void refuse(struct rd *r, const char *field, const char *what)
{
    if (!r->bad)
        snprintf(r->why, 128, "\"%s\" %s", field, what);
    r->bad = true;
}

static struct rd rd_open(struct slice value, char *why_r)
{
    struct rd r = {.why = why_r};
    json_error_t err;
    if (value.n <= VALUE_MAX_BYTES)
        r.root = json_loadb((const char *)value.p, value.n, 0, &err);
    if (!json_is_object(r.root)) {
        snprintf(why_r, 128, "no JSON object of at most %u bytes", VALUE_MAX_BYTES);
        r.bad = true;
    }
    return r;
}

static int rd_close(struct rd *r)
{
    json_decref(r->root);
    return r->bad ? -SATCHEL_EINVAL : 0;
}

static json_t *field(struct rd *r, const char *name)
{
    return r->bad ? NULL : json_object_get(r->root, name);
}

static uint64_t rd_int(struct rd *r, const char *name, uint64_t min, uint64_t max, uint64_t or_else)
{
    const json_t *v = field(r, name);
    if (!v)
        return or_else;
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 0 || (uint64_t)n < min || (uint64_t)n > max)
        refuse(r, name, "is no number in its range");
    return (uint64_t)n;
}

static void rd_text(struct rd *r, const char *name, char *out_r, size_t cap)
{
    json_t *v = field(r, name);
    out_r[0] = 0;
    if (!v)
        return;
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n >= cap || memchr(json_string_value(v), 0, n))
        refuse(r, name, "is no text, or too long");
    else
        memcpy(out_r, json_string_value(v), n + 1);
}

/* A name; empty where it may be. */
static void rd_name(struct rd *r, const char *name, char *out_r, size_t cap, bool may_be_empty)
{
    rd_text(r, name, out_r, cap);
    if (!r->bad && !(may_be_empty && !out_r[0]) && !cmap_name_valid(slice_str(out_r), cap))
        refuse(r, name, "is no name");
}

static void id_of(struct rd *r, const char *name, const json_t *v, struct storage_id *id_r)
{
    struct slice s = slice_of(json_string_value(v), json_string_length(v));
    if (!json_is_string(v) || storage_id_parse(s, id_r) < 0 || storage_id_zero(id_r))
        refuse(r, name, "is no UUID of 32 hex digits");
}

/* Missing, null or empty: zero. */
static void rd_id(struct rd *r, const char *name, struct storage_id *id_r)
{
    const json_t *v = field(r, name);
    *id_r = (struct storage_id){0};
    if (v && !json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0))
        id_of(r, name, v, id_r);
}

static uint8_t rd_ids(struct rd *r, const char *name, struct storage_id *ids_r, size_t max)
{
    json_t *list = field(r, name);
    if (!list)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > max) {
        refuse(r, name, "is no list, or too long");
        return 0;
    }
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n && !r->bad; i++) {
        id_of(r, name, json_array_get(list, i), &ids_r[i]);
        for (size_t j = 0; j < i; j++)
            if (storage_id_eq(&ids_r[i], &ids_r[j]))
                refuse(r, name, "names a storage twice");
    }
    return (uint8_t)n;
}

int map_json_node(struct slice value, struct map_node *n_r, char *why_r)
{
    struct rd r = rd_open(value, why_r);
    char state[16];
    rd_id(&r, "storage", &n_r->storage);
    if (storage_id_zero(&n_r->storage))
        refuse(&r, "storage", "is missing");
    rd_text(&r, "address", n_r->address, sizeof n_r->address);
    if (!n_r->address[0])
        refuse(&r, "address", "is missing");
    rd_text(&r, "admin", n_r->admin, sizeof n_r->admin);
    rd_name(&r, "zone", n_r->zone, sizeof n_r->zone, true);
    rd_name(&r, "pool", n_r->pool, sizeof n_r->pool, true);
    if (!n_r->pool[0])
        snprintf(n_r->pool, sizeof n_r->pool, "%s", POOL_SHARED);
    n_r->weight = (uint32_t)rd_int(&r, "weight", 1, 10000, 100);
    rd_id(&r, "shared", &n_r->shared);
    rd_text(&r, "state", state, sizeof state);
    n_r->state = NODE_ACTIVE;
    if (!r.bad && state[0] && !node_state_parse(slice_str(state), &n_r->state))
        refuse(&r, "state", "is none of active, cordoned, draining, drained");
    return rd_close(&r);
}

int map_json_live(struct slice value, struct map_live *l_r, char *why_r)
{
    struct rd r = rd_open(value, why_r);
    char boot[24], *end = boot;
    rd_id(&r, "storage", &l_r->storage);
    rd_text(&r, "boot", boot, sizeof boot);
    l_r->boot = strtoull(boot, &end, 16);
    if (*end)
        refuse(&r, "boot", "is no hex number");
    l_r->proto = (uint32_t)rd_int(&r, "proto", 0, UINT32_MAX, 0);
    return rd_close(&r);
}

int map_json_pool(struct slice value, struct map_pool *p_r, char *why_r)
{
    struct rd r = rd_open(value, why_r);
    p_r->copies = (uint32_t)rd_int(&r, "copies", 1, POOL_COPIES_MAX, 3);
    p_r->acks = (uint32_t)rd_int(&r, "acks", 1, POOL_COPIES_MAX, p_r->copies < 2 ? 1 : 2);
    if (p_r->acks > p_r->copies)
        refuse(&r, "acks", "is more than copies");
    p_r->shards = (uint32_t)rd_int(&r, "shards", 1, SHARDS_MAX, 64);
    rd_name(&r, "fallback", p_r->fallback, sizeof p_r->fallback, true);
    return rd_close(&r);
}

int map_json_shard(struct slice value, struct map_shard *s_r, char *why_r)
{
    struct rd r = rd_open(value, why_r);
    rd_id(&r, "owner", &s_r->owner);
    rd_id(&r, "next", &s_r->next);
    s_r->members_n = rd_ids(&r, "members", s_r->members, MEMBERS_MAX);
    s_r->former_n = rd_ids(&r, "former", s_r->former, FORMER_MAX);
    s_r->epoch = rd_int(&r, "epoch", 0, INT64_MAX, 0);
    if (!r.bad && !storage_id_zero(&s_r->owner) && !cmap_is_member(s_r, &s_r->owner))
        refuse(&r, "owner", "is not among the members");
    return rd_close(&r);
}

int map_json_meta(struct slice value, struct map_meta *m_r, char *why_r)
{
    struct rd r = rd_open(value, why_r);
    rd_id(&r, "id", &m_r->cluster);
    m_r->version = (uint32_t)rd_int(&r, "version", 0, UINT32_MAX, 1);
    m_r->repair_delay_s = (uint32_t)rd_int(&r, "repair_delay_s", 0, 30u * 86400, 60);
    return rd_close(&r);
}

int map_json_leader(struct slice value, char node_r[NODE_NAME_MAX], char *why_r)
{
    struct rd r = rd_open(value, why_r);
    rd_name(&r, "node", node_r, NODE_NAME_MAX, false);
    return rd_close(&r);
}

/* ---- writing */

static void put(json_t *o, const char *name, json_t *v)
{
    json_object_set_new(o, name, v);
}

static json_t *id_text(const struct storage_id *id)
{
    char text[STORAGE_ID_TEXT_MAX];
    storage_id_format(id, text);
    return json_string(text);
}

static json_t *id_list(const struct storage_id *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, id_text(&ids[i]));
    return list;
}

static char *print(json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(o);
    return text;
}

char *cmap_node_encode(const struct map_node *n)
{
    json_t *o = json_object();
    put(o, "storage", id_text(&n->storage));
    put(o, "address", json_string(n->address));
    if (n->admin[0])
        put(o, "admin", json_string(n->admin));
    put(o, "zone", json_string(n->zone));
    put(o, "pool", json_string(n->pool));
    put(o, "weight", json_integer(n->weight));
    put(o, "state", json_string(node_state_name(n->state)));
    if (!storage_id_zero(&n->shared))
        put(o, "shared", id_text(&n->shared));
    return print(o);
}

char *cmap_live_encode(const struct map_node *n, uint64_t wall_us)
{
    char boot[24];
    snprintf(boot, sizeof boot, "%016" PRIx64, n->boot);
    json_t *o = json_object();
    put(o, "storage", id_text(&n->storage));
    put(o, "boot", json_string(boot));
    put(o, "proto", json_integer(n->proto));
    put(o, "wall_us", json_integer((json_int_t)wall_us));
    return print(o);
}

char *cmap_pool_encode(const struct map_pool *p)
{
    json_t *o = json_object();
    put(o, "copies", json_integer(p->copies));
    put(o, "acks", json_integer(p->acks));
    put(o, "shards", json_integer(p->shards));
    if (p->fallback[0])
        put(o, "fallback", json_string(p->fallback));
    return print(o);
}

char *cmap_shard_encode(const struct map_shard *s)
{
    json_t *o = json_object();
    if (!storage_id_zero(&s->owner))
        put(o, "owner", id_text(&s->owner));
    put(o, "members", id_list(s->members, s->members_n));
    if (s->former_n)
        put(o, "former", id_list(s->former, s->former_n));
    if (!storage_id_zero(&s->next))
        put(o, "next", id_text(&s->next));
    put(o, "epoch", json_integer((json_int_t)s->epoch));
    return print(o);
}

char *cmap_meta_encode(const struct cmap *m)
{
    json_t *o = json_object();
    if (!storage_id_zero(&m->cluster))
        put(o, "id", id_text(&m->cluster));
    put(o, "version", json_integer(m->version));
    put(o, "repair_delay_s", json_integer(m->repair_delay_s));
    return print(o);
}

char *cmap_leader_encode(const char *node, const struct storage_id *storage)
{
    json_t *o = json_object();
    put(o, "node", json_string(node));
    put(o, "storage", id_text(storage));
    return print(o);
}
