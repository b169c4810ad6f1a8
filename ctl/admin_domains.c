/* admin_domains.c - /v1/domains: the registry, with what the bags and the relay know of each domain. */
#include "ctl/admin_impl.h"
#include "dataplane/conf/domains_json.h"
#include "spool/base/log.h"

#include <stdlib.h>
#include <string.h>

enum { DOMAINS_PAGE = 1000, DOMAINS_PAGE_MOST = 10000 };

/* ---- showing */

static json_t *bag_json(const struct admin *a, const struct bag_stat *st)
{
    return json_pack("{sI sI sI sI sI sf}", "messages", (json_int_t)st->messages, "bytes", (json_int_t)st->bytes,
                     "deferred", (json_int_t)st->deferred, "held", (json_int_t)st->held, "claimed",
                     (json_int_t)st->claimed, "oldest_s", admin_age_s(a, st->oldest_us));
}

static json_t *status_json(const struct smtp_status *st)
{
    char text[SMTP_STATUS_TEXT_MAX + 32];
    if (st->code == 0 && st->class == 0)
        return json_null();
    int n = status_format(st, text, sizeof text);
    const char *shown = st->code == 0 && n > 4 ? text + 4 : text; /* no reply: no code to show */
    json_t *j = json_string(shown); /* NULL where a primary said something that is not UTF-8 */
    return j ? j : json_string("(not UTF-8)");
}

static json_t *relay_json(struct admin *a, struct slice name)
{
    struct relay_domain_info i;
    if (!a->deps.relay || !relay_domain(a->deps.relay, name, &i))
        return json_pack("{ss}", "state", relay_state_name(RELAY_IDLE));
    return json_pack("{ss so so ss sI sI sI sI sI so}", "state", relay_state_name(i.state), "since",
                     admin_json_time(i.since_us), "next_probe", admin_json_time(i.next_probe_us), "address", i.address,
                     "connections", (json_int_t)i.connections, "in_flight", (json_int_t)i.in_flight, "delivered",
                     (json_int_t)i.delivered, "deferred", (json_int_t)i.deferred, "bounced", (json_int_t)i.bounced,
                     "last", status_json(&i.last));
}

json_t *admin_domain_json(struct admin *a, struct slice name, const struct domain *dom)
{
    struct bag_stat st;
    spool_bag_stat(a->deps.spool, name, &st);
    json_t *j = dom ? domain_json(dom) : json_pack("{ss#}", "name", name.p, (int)name.n);
    json_object_set_new(j, "served", json_boolean(dom != NULL));
    json_object_set_new(j, "bag", bag_json(a, &st));
    json_object_set_new(j, "relay", relay_json(a, name));
    return j;
}

/* ---- the fullest */

struct bag_name {
    uint64_t messages;
    char name[DOMAIN_NAME_MAX];
};

struct bag_names {
    struct bag_name *v;
    size_t n, cap;
};

/* Under the queue's lock: copies, nothing else. */
static void bag_name_add(void *arg, struct slice domain, const struct bag_stat *st)
{
    struct bag_names *b = arg;
    if (domain.n >= DOMAIN_NAME_MAX)
        return;
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->v = realloc(b->v, b->cap * sizeof *b->v);
        if (!b->v)
            abort();
    }
    b->v[b->n].messages = st->messages;
    memcpy(b->v[b->n].name, domain.p, domain.n);
    b->v[b->n++].name[domain.n] = 0;
}

static int fullest_first(const void *x, const void *y)
{
    const struct bag_name *a = x, *b = y;
    if (a->messages != b->messages)
        return a->messages < b->messages ? 1 : -1;
    return strcmp(a->name, b->name);
}

json_t *admin_domains_top(struct admin *a, size_t most)
{
    struct bag_names bags = {0};
    json_t *list = json_array();
    const struct domains_snapshot *s = domains_get(a->deps.domains);
    spool_bags(a->deps.spool, bag_name_add, &bags);
    if (bags.n > 0)
        qsort(bags.v, bags.n, sizeof *bags.v, fullest_first);
    for (size_t i = 0; i < bags.n && json_array_size(list) < most; i++) {
        struct slice name = slice_str(bags.v[i].name);
        json_array_append_new(list, admin_domain_json(a, name, domains_find(s, name)));
    }
    for (size_t i = 0; i < domains_count(s) && json_array_size(list) < most; i++) {
        const struct domain *dom = domains_at(s, i);
        struct bag_stat st;
        spool_bag_stat(a->deps.spool, slice_str(dom->name), &st);
        if (st.messages == 0)
            json_array_append_new(list, admin_domain_json(a, slice_str(dom->name), dom));
    }
    free(bags.v);
    domains_put(s);
    return list;
}

/* ---- GET */

/* The first place behind the name. */
static size_t place_after(const struct domains_snapshot *s, const char *name)
{
    size_t low = 0, high = domains_count(s);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(domains_at(s, mid)->name, name) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

enum MHD_Result admin_domains_get(struct admin_request *r)
{
    const char *after = admin_arg(r, "after");
    uint64_t limit;
    enum MHD_Result answered;
    if (!admin_arg_number(r, "limit", DOMAINS_PAGE, DOMAINS_PAGE_MOST, &limit, &answered))
        return answered;
    const struct domains_snapshot *s = domains_get(r->a->deps.domains);
    json_t *list = json_array();
    size_t at = after ? place_after(s, after) : 0, n = domains_count(s);
    for (; at < n && json_array_size(list) < limit; at++) {
        const struct domain *dom = domains_at(s, at);
        json_array_append_new(list, admin_domain_json(r->a, slice_str(dom->name), dom));
    }
    json_t *next = at < n && at > 0 ? json_string(domains_at(s, at - 1)->name) : json_null();
    domains_put(s);
    return admin_reply_json(r, MHD_HTTP_OK, json_pack("{so so}", "domains", list, "next", next));
}

enum MHD_Result admin_domain_not_served(struct admin_request *r)
{
    char error[ADMIN_NAME_MAX + 32];
    snprintf(error, sizeof error, "%s is not served here", r->name);
    return admin_reply_error(r, MHD_HTTP_NOT_FOUND, error, "add it: satchelctl domain add NAME --primary HOST");
}

enum MHD_Result admin_domain_get(struct admin_request *r)
{
    const struct domains_snapshot *s = domains_get(r->a->deps.domains);
    const struct domain *dom = domains_find(s, slice_str(r->name));
    struct bag_stat st;
    spool_bag_stat(r->a->deps.spool, slice_str(r->name), &st);
    enum MHD_Result res =
        dom || st.messages > 0
            ? admin_reply_json(r, MHD_HTTP_OK, admin_domain_json(r->a, slice_str(dom ? dom->name : r->name), dom))
            : admin_domain_not_served(r);
    domains_put(s);
    return res;
}

/* ---- changing */

static enum MHD_Result change_refused(struct admin_request *r, int res, const char *why)
{
    switch (res) {
    case -SATCHEL_EEXIST:
        return admin_reply_error(r, MHD_HTTP_CONFLICT, why,
                                 "change it: satchelctl domain set NAME, or PUT; or remove it first");
    case -SATCHEL_ENOENT:
        return admin_domain_not_served(r);
    case -SATCHEL_EINVAL:
        return admin_reply_error(r, MHD_HTTP_BAD_REQUEST, why, "correct the value and send it again");
    case -SATCHEL_EAGAIN:
    case -SATCHEL_ESHUT:
        return admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, why, "see `satchelctl cluster status`");
    default:
        return admin_reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, why,
                                 "nothing was changed; see to the data directory and send it again");
    }
}

/* Durable, seen by everyone, told to the relay. */
static enum MHD_Result domain_change(struct admin_request *r, const struct domain *dom, bool replace, const char *verb)
{
    char why[CLUSTER_WHY_MAX];
    struct admin *a = r->a;
    int res = a->deps.cluster ? cluster_domain_set(a->deps.cluster, dom, replace, why)
                              : domains_set(a->deps.domains, dom, replace, why);
    if (res < 0)
        return change_refused(r, res, why);
    log_info("admin.domain", "domain=%s change=%s", dom->name, verb);
    if (r->a->deps.relay)
        relay_kick(r->a->deps.relay, slice_str(dom->name));
    return admin_reply_json(r, replace ? MHD_HTTP_OK : MHD_HTTP_CREATED,
                            admin_domain_json(r->a, slice_str(dom->name), dom));
}

/* The body as a domain; name: of the path, or NULL. false: it is answered. */
static bool body_domain(struct admin_request *r, const char *name, struct domain *dom_r, enum MHD_Result *answered_r)
{
    json_error_t err;
    char why[256];
    json_t *j = r->body ? json_loadb(r->body, r->body_n, JSON_REJECT_DUPLICATES, &err) : NULL;
    if (!json_is_object(j)) {
        json_decref(j);
        *answered_r = admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "the body is not a JSON object",
                                        "send {\"name\": \"example.com\", \"primaries\": [\"mail.example.com:25\"]}");
        return false;
    }
    if (name && !json_object_get(j, "name"))
        json_object_set_new(j, "name", json_string(name));
    int res = domain_from_json(j, atomic_load(&r->a->keep_s), dom_r, why);
    json_decref(j);
    if (res == 0 && name && strcasecmp(name, dom_r->name) != 0) {
        snprintf(why, sizeof why, "name: the path says %.100s, the body says %.100s", name, dom_r->name);
        res = -SATCHEL_EINVAL;
    }
    if (res < 0)
        *answered_r = change_refused(r, res, why);
    return res == 0;
}

/* A new domain may name a list that is here already. */
static bool list_is_here(struct admin_request *r, const struct domain *dom, enum MHD_Result *answered_r)
{
    if (!*dom->recipients || recipients_have(domains_recipients(r->a->deps.domains), dom->recipients))
        return true;
    *answered_r = admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "recipients: there is no such list on this node",
                                    "leave it out, then send the list: PUT /v1/domains/NAME/recipients");
    return false;
}

/* The list stays as it is, named in the body or not: it is changed by itself. */
static bool list_stays(struct admin_request *r, struct domain *dom, enum MHD_Result *answered_r)
{
    const struct domains_snapshot *s = domains_get(r->a->deps.domains);
    const struct domain *now = domains_find(s, slice_str(dom->name));
    bool same = !*dom->recipients || (now && strcmp(now->recipients, dom->recipients) == 0);
    if (now) {
        memcpy(dom->recipients, now->recipients, sizeof dom->recipients);
        dom->recipients_n = now->recipients_n;
    }
    domains_put(s);
    if (!same)
        *answered_r = admin_reply_error(r, MHD_HTTP_CONFLICT, "recipients: the domain has another list now",
                                        "leave it out, or change it: PUT /v1/domains/NAME/recipients");
    return same;
}

enum MHD_Result admin_domains_post(struct admin_request *r)
{
    struct domain dom;
    enum MHD_Result answered;
    if (!body_domain(r, NULL, &dom, &answered) || !list_is_here(r, &dom, &answered))
        return answered;
    return domain_change(r, &dom, false, "added");
}

enum MHD_Result admin_domain_put(struct admin_request *r)
{
    struct domain dom;
    enum MHD_Result answered;
    if (!body_domain(r, r->name, &dom, &answered) || !list_stays(r, &dom, &answered))
        return answered;
    return domain_change(r, &dom, true, "replaced");
}

enum MHD_Result admin_domain_delete(struct admin_request *r)
{
    char why[CLUSTER_WHY_MAX];
    struct bag_stat st;
    struct admin *a = r->a;
    int res = a->deps.cluster ? cluster_domain_remove(a->deps.cluster, slice_str(r->name), why)
                              : domains_remove(a->deps.domains, slice_str(r->name), why);
    if (res < 0)
        return change_refused(r, res, why);
    log_info("admin.domain", "domain=%s change=removed", r->name);
    spool_bag_stat(r->a->deps.spool, slice_str(r->name), &st);
    return admin_reply_json(r, MHD_HTTP_OK,
                            json_pack("{ss sI}", "removed", r->name, "bagged", (json_int_t)st.messages));
}

/* Changes of a domain are made by the socket's thread alone, so none comes between the reading and the writing. */
static enum MHD_Result held_set(struct admin_request *r, bool held)
{
    const struct domains_snapshot *s = domains_get(r->a->deps.domains);
    const struct domain *found = domains_find(s, slice_str(r->name));
    struct domain dom;
    if (found)
        dom = *found;
    domains_put(s);
    if (!found)
        return admin_domain_not_served(r);
    dom.held = held;
    return domain_change(r, &dom, true, held ? "held" : "released");
}

enum MHD_Result admin_domain_hold(struct admin_request *r)
{
    return held_set(r, true);
}

enum MHD_Result admin_domain_release(struct admin_request *r)
{
    return held_set(r, false);
}
