/* admin_queue.c - /v1/queue: the bags in pages, flushed, emptied.
 *
 * A page starts at once whatever the depth: the cursor is the place in the index, not a count. */
#include "ctl/admin_impl.h"
#include "spool/base/log.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUEUE_PAGE = 100,
    QUEUE_PAGE_MOST = 10000,
    DELETE_BATCH = 64,
    DELETE_MOST = 1024, /* of one request: others wait meanwhile */
};

/* ---- names of bags */

struct names {
    char **v;
    size_t n, cap;
};

static void names_add(void *arg, struct slice domain, const struct bag_stat *st)
{
    struct names *names = arg;
    (void)st;
    if (names->n == names->cap) {
        names->cap = names->cap ? names->cap * 2 : 64;
        names->v = realloc(names->v, names->cap * sizeof *names->v);
        if (!names->v)
            abort();
    }
    names->v[names->n] = strndup((const char *)domain.p, domain.n);
    if (!names->v[names->n++])
        abort();
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_sort(struct names *names)
{
    if (names->n)
        qsort(names->v, names->n, sizeof *names->v, by_text);
}

static void names_free(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->v[i]);
    free(names->v);
}

/* ---- listing */

struct page {
    const struct admin *a;
    json_t *list;
    uint64_t limit;
};

static const char *entry_state(const struct page *p, const struct queue_entry *e)
{
    if (e->state.held)
        return "held";
    return e->state.due_us > clock_wall_us(p->a->deps.clock) ? "deferred" : "bagged";
}

static bool page_add(void *arg, const struct queue_entry *e)
{
    struct page *p = arg;
    char id[MSGID_TEXT_MAX];
    msgid_format(&e->id, id);
    json_array_append_new(p->list, json_pack("{ss ss# so sf sI sI sI sI ss so}", "id", id, "domain", e->domain.p,
                                             (int)e->domain.n, "arrival", admin_json_time(e->arrival_us), "age_s",
                                             admin_age_s(p->a, e->arrival_us), "bytes", (json_int_t)e->body_bytes,
                                             "recipients", (json_int_t)e->state.items, "live",
                                             (json_int_t)e->state.live, "attempts", (json_int_t)e->state.attempts,
                                             "state", entry_state(p, e), "due", admin_json_time(e->state.due_us)));
    return json_array_size(p->list) < p->limit;
}

/* false: not a cursor of ours. */
static bool cursor_decode(const char *text, uint8_t *out_r, size_t *n_r)
{
    return sodium_base642bin(out_r, QUEUE_CURSOR_MAX, text, strlen(text), NULL, n_r, NULL,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0;
}

static json_t *cursor_json(const uint8_t *cursor, size_t n)
{
    char text[QUEUE_CURSOR_MAX * 2];
    sodium_bin2base64(text, sizeof text, cursor, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    return json_string(text);
}

static json_t *cursor_in_json(const char *bag, const uint8_t *cursor, size_t n)
{
    json_t *inner = cursor_json(cursor, n), *j = json_sprintf("%s/%s", bag, json_string_value(inner));
    json_decref(inner);
    return j;
}

/* The list is given away. */
static enum MHD_Result page_reply(struct admin_request *r, struct page *p, int res, json_t *next)
{
    if (res == 0)
        return admin_reply_json(r, MHD_HTTP_OK, json_pack("{so so}", "messages", p->list, "next", next));
    json_decref(p->list);
    json_decref(next);
    return admin_reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, satchel_strerror(res),
                             "see the log; `satchelctl spool check` examines a stopped node");
}

static enum MHD_Result bad_cursor(struct admin_request *r, struct page *p)
{
    json_decref(p->list);
    return admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "after: not a cursor", "pass the `next` of the page before");
}

/* One bag, or all of this node. */
static enum MHD_Result list_here(struct admin_request *r, struct page *p, const char *domain, const char *after)
{
    uint8_t cursor[QUEUE_CURSOR_MAX];
    size_t cursor_n = 0;
    if (after && !cursor_decode(after, cursor, &cursor_n))
        return bad_cursor(r, p);
    int res = spool_list(r->a->deps.spool, slice_str(domain ? domain : ""), slice_of(cursor, cursor_n), page_add, p,
                         cursor, &cursor_n);
    bool more = res == 0 && json_array_size(p->list) == p->limit;
    return page_reply(r, p, res, more ? cursor_json(cursor, cursor_n) : json_null());
}

/* All bags that this node owns; copies of other nodes' bags are theirs to show.  The cursor is the bag's name, a slash,
 * and the cursor in it. */
static enum MHD_Result list_owned(struct admin_request *r, struct page *p, const char *after)
{
    uint8_t cursor[QUEUE_CURSOR_MAX];
    size_t cursor_n = 0, from_n = after ? strcspn(after, "/") : 0;
    struct names names = {0};
    json_t *next = NULL;
    int res = 0;
    if (after && (!after[from_n] || !cursor_decode(after + from_n + 1, cursor, &cursor_n)))
        return bad_cursor(r, p);
    spool_bags(r->a->deps.spool, names_add, &names);
    names_sort(&names);
    for (size_t i = 0; i < names.n && res == 0 && !next; i++) {
        int before = after ? strncmp(names.v[i], after, from_n) : 1;
        bool same = before == 0 && names.v[i][from_n] == 0;
        if (before < 0 || !cluster_owns(r->a->deps.cluster, slice_str(names.v[i])))
            continue;
        cursor_n = same ? cursor_n : 0;
        res = spool_list(r->a->deps.spool, slice_str(names.v[i]), slice_of(cursor, cursor_n), page_add, p, cursor,
                         &cursor_n);
        if (json_array_size(p->list) == p->limit)
            next = cursor_in_json(names.v[i], cursor, cursor_n);
    }
    names_free(&names);
    return page_reply(r, p, res, next ? next : json_null());
}

enum MHD_Result admin_queue_get(struct admin_request *r)
{
    const char *domain = admin_arg(r, "domain"), *after = admin_arg(r, "after");
    struct page p = {.a = r->a};
    enum MHD_Result answered;
    if (!admin_arg_number(r, "limit", QUEUE_PAGE, QUEUE_PAGE_MOST, &p.limit, &answered))
        return answered;
    p.list = json_array();
    if (r->a->deps.cluster && (!domain || !*domain) && !admin_arg(r, "copies"))
        return list_owned(r, &p, after);
    return list_here(r, &p, domain, after);
}

/* ---- flushing */

static uint64_t bag_flush(struct admin *a, struct slice domain)
{
    uint64_t n = spool_flush_domain(a->deps.spool, domain);
    if (a->deps.relay)
        relay_kick(a->deps.relay, domain);
    return n;
}

/* Names first, since the listing holds the lock that flushing takes. */
static uint64_t all_flush(struct admin *a)
{
    struct names names = {0};
    uint64_t n = 0;
    spool_bags(a->deps.spool, names_add, &names);
    for (size_t i = 0; i < names.n; i++)
        n += bag_flush(a, slice_str(names.v[i]));
    names_free(&names);
    return n;
}

enum MHD_Result admin_queue_flush(struct admin_request *r)
{
    const char *domain = admin_arg(r, "domain");
    uint64_t n = domain ? bag_flush(r->a, slice_str(domain)) : all_flush(r->a);
    log_info("admin.flush", "domain=%s messages=%llu", domain ? domain : "*", (unsigned long long)n);
    return admin_reply_json(r, MHD_HTTP_OK, json_pack("{sI}", "flushed", (json_int_t)n));
}

/* ---- emptying */

enum MHD_Result admin_queue_delete(struct admin_request *r)
{
    const char *domain = admin_arg(r, "domain");
    struct outlet *o = r->a->deps.outlet;
    struct outlet_msg *msgs[DELETE_BATCH];
    uint64_t deleted = 0, failed = 0;
    size_t n = 1;
    if (!domain || *domain == 0)
        return admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "domain: not given", "say whose mail is to be deleted");
    while (n > 0 && failed == 0 && deleted < DELETE_MOST) {
        n = o->ops->claim(o, slice_str(domain), CLAIM_OLDER, UINT64_MAX, msgs, DELETE_BATCH);
        for (size_t i = 0; i < n; i++) {
            if (admin_message_end(r->a, msgs[i]) < 0)
                failed++;
            else
                deleted++;
        }
    }
    log_info("admin.deleted", "domain=%s messages=%llu", domain, (unsigned long long)deleted);
    if (failed > 0)
        return admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "some messages could not be deleted",
                                 "see the log and /health, then try again");
    return admin_reply_json(r, MHD_HTTP_OK, json_pack("{sI sb}", "deleted", (json_int_t)deleted, "more", n > 0));
}
