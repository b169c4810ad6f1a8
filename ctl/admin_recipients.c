/* admin_recipients.c - /v1/domains/NAME/recipients: the list of those for whom a domain takes mail.
 *
 * A list is kept on this node's disk first, in a cluster on others' too, and then the domain names it.  Requests bring
 * text: one recipient a line. */
#include "ctl/admin_impl.h"
#include "spool/base/log.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 1000, PAGE_MOST = 100000, FOLLOW_MS = 2000, FOLLOW_STEP_MS = 10 };

/* ---- the domain */

/* false: it is not served here; that is answered. */
static bool served(struct admin_request *r, struct domain *dom_r, enum MHD_Result *answered_r)
{
    const struct domains_snapshot *s = domains_get(r->a->deps.domains);
    const struct domain *dom = domains_find(s, slice_str(r->name));
    if (dom)
        *dom_r = *dom;
    domains_put(s);
    if (!dom)
        *answered_r = admin_domain_not_served(r);
    return dom != NULL;
}

static enum MHD_Result refused(struct admin_request *r, int res, const char *why)
{
    why = *why ? why : satchel_strerror(res);
    switch (res) {
    case -SATCHEL_ENOENT:
        return admin_domain_not_served(r);
    case -SATCHEL_EINVAL:
        return admin_reply_error(r, MHD_HTTP_BAD_REQUEST, why,
                                 "send one recipient a line: an address of the domain, or its local part");
    case -SATCHEL_ETOOBIG:
        return admin_reply_error(r, MHD_HTTP_CONTENT_TOO_LARGE, "the list is too large", "send at most 64 MiB");
    case -SATCHEL_EBUSY:
        return admin_reply_error(r, MHD_HTTP_CONFLICT, why, "send it again");
    case -SATCHEL_EAGAIN:
    case -SATCHEL_ESHUT:
        return admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, why, "see `satchelctl cluster status`");
    default:
        return admin_reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, why,
                                 "nothing was changed; see to the data directory and send it again");
    }
}

/* ---- changing */

/* In a cluster the registry follows coordination; who asks next should see what was changed. */
static void follow(struct admin *a, const char *name, const char *hash)
{
    const struct timespec step = {.tv_nsec = FOLLOW_STEP_MS * 1000000L};
    bool there = false;
    for (int ms = 0; !there && ms < FOLLOW_MS; ms += FOLLOW_STEP_MS) {
        const struct domains_snapshot *s = domains_get(a->deps.domains);
        const struct domain *dom = domains_find(s, slice_str(name));
        there = !dom || strcmp(dom->recipients, hash) == 0;
        domains_put(s);
        if (!there)
            nanosleep(&step, NULL);
    }
}

/* was NULL: whichever list it has. */
static enum MHD_Result list_name(struct admin_request *r, const struct domain *dom, const char *was, const char *hash,
                                 size_t n)
{
    struct admin *a = r->a;
    char why[CLUSTER_WHY_MAX] = "";
    int res = a->deps.cluster ? cluster_recipients_set(a->deps.cluster, slice_str(dom->name), was, hash, n, why)
                              : domains_set_recipients(a->deps.domains, slice_str(dom->name), hash, n, why);
    if (res < 0)
        return refused(r, res, why);
    if (a->deps.cluster)
        follow(a, dom->name, hash);
    log_info("admin.recipients", "domain=%s list=%s count=%zu", dom->name, *hash ? hash : "none", n);
    return admin_reply_json(r, MHD_HTTP_OK,
                            json_pack("{ss so sI sI}", "domain", dom->name, "list",
                                      *hash ? json_string(hash) : json_null(), "count", (json_int_t)n, "was",
                                      (json_int_t)dom->recipients_n));
}

static enum MHD_Result list_set(struct admin_request *r, const struct domain *dom, const char *was,
                                const struct recipients_text *t)
{
    char hash[RECIPIENTS_HASH_MAX], why[RECIPIENTS_WHY_MAX];
    if (t->count == 0)
        return admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "nobody would be on the list",
                                 "to take every recipient, remove the list: satchelctl domain recipients NAME --clear");
    int res = recipients_keep(domains_recipients(r->a->deps.domains), t, hash, why);
    return res < 0 ? refused(r, res, why) : list_name(r, dom, was, hash, t->count);
}

/* The body; false: it is answered. */
static bool body_text(struct admin_request *r, const struct domain *dom, struct recipients_text *t_r,
                      enum MHD_Result *answered_r)
{
    char why[RECIPIENTS_WHY_MAX];
    int res = recipients_text_parse(slice_of(r->body, r->body_n), dom->name, t_r, why);
    if (res != 0)
        *answered_r = refused(r, res, why);
    return res == 0;
}

enum MHD_Result admin_recipients_put(struct admin_request *r)
{
    struct domain dom;
    struct recipients_text t;
    enum MHD_Result answered;
    if (!served(r, &dom, &answered) || !body_text(r, &dom, &t, &answered))
        return answered;
    answered = list_set(r, &dom, NULL, &t);
    recipients_text_free(&t);
    return answered;
}

enum MHD_Result admin_recipients_delete(struct admin_request *r)
{
    struct domain dom;
    enum MHD_Result answered;
    return served(r, &dom, &answered) ? list_name(r, &dom, NULL, "", 0) : answered;
}

static enum MHD_Result no_list(struct admin_request *r)
{
    return admin_reply_error(r, MHD_HTTP_CONFLICT, "this domain has no list: it takes every recipient",
                             "set a whole list first: satchelctl domain recipients NAME --set FILE");
}

/* The list as it is now; false: it is answered. */
static bool list_read(struct admin_request *r, const struct domain *dom, struct recipients_text *t_r,
                      enum MHD_Result *answered_r)
{
    char why[RECIPIENTS_WHY_MAX];
    int res = recipients_read(domains_recipients(r->a->deps.domains), dom->recipients, t_r, why);
    if (res != 0)
        *answered_r = admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, *why ? why : "the list is not here yet",
                                        "in a cluster wait a moment and ask again; or set the list anew");
    return res == 0;
}

static enum MHD_Result list_change(struct admin_request *r,
                                   int (*op)(struct slice a, struct slice b, struct recipients_text *t_r))
{
    struct domain dom;
    struct recipients_text now = {0}, more = {0}, to = {0};
    enum MHD_Result answered;
    if (!served(r, &dom, &answered))
        return answered;
    if (!*dom.recipients)
        return no_list(r);
    if (body_text(r, &dom, &more, &answered) && list_read(r, &dom, &now, &answered)) {
        int res = op(slice_of(now.p, now.n), slice_of(more.p, more.n), &to);
        answered = res < 0 ? refused(r, res, "") : list_set(r, &dom, dom.recipients, &to);
    }
    recipients_text_free(&now);
    recipients_text_free(&more);
    recipients_text_free(&to);
    return answered;
}

enum MHD_Result admin_recipients_add(struct admin_request *r)
{
    return list_change(r, recipients_text_add);
}

enum MHD_Result admin_recipients_remove(struct admin_request *r)
{
    return list_change(r, recipients_text_remove);
}

/* ---- showing */

/* As it was given in ?after=, canonical; false: it is answered. */
static bool after_of(struct admin_request *r, const struct domain *dom, struct recipients_text *after_r,
                     enum MHD_Result *answered_r)
{
    const char *after = admin_arg(r, "after");
    char why[RECIPIENTS_WHY_MAX];
    int res = recipients_text_parse(slice_str(after ? after : ""), dom->name, after_r, why);
    if (res != 0)
        *answered_r = admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "after: no recipient", "give \"next\" as it came");
    return res == 0;
}

static json_t *address_json(struct slice local, const char *domain)
{
    char address[RECIPIENT_MAX + DOMAIN_NAME_MAX + 2];
    snprintf(address, sizeof address, "%.*s@%s", SLICE_FMT(local), domain);
    return json_string(address);
}

static json_t *page_json(const struct domain *dom, struct slice rest, struct recipients_text *after, uint64_t limit)
{
    json_t *list = json_array(), *next = json_null();
    struct slice line, last = after->n ? slice_of(after->p, after->n - 1) : slice_of("", 0);
    while (recipients_line(&rest, &line)) {
        if (last.n && recipients_order(line, last) <= 0)
            continue;
        if (json_array_size(list) == limit) {
            next = json_incref(json_array_get(list, limit - 1));
            break;
        }
        json_array_append_new(list, address_json(line, dom->name));
    }
    return json_pack("{ss ss sI so so}", "domain", dom->name, "list", dom->recipients, "count",
                     (json_int_t)dom->recipients_n, "recipients", list, "next", next);
}

enum MHD_Result admin_recipients_get(struct admin_request *r)
{
    struct domain dom;
    struct recipients_text t = {0}, after = {0};
    uint64_t limit;
    enum MHD_Result answered;
    if (!admin_arg_number(r, "limit", PAGE, PAGE_MOST, &limit, &answered) || !served(r, &dom, &answered))
        return answered;
    if (!*dom.recipients)
        return admin_reply_json(
            r, MHD_HTTP_OK,
            json_pack("{ss sn sI s[] sn}", "domain", dom.name, "list", "count", (json_int_t)0, "recipients", "next"));
    if (after_of(r, &dom, &after, &answered) && list_read(r, &dom, &t, &answered))
        answered = admin_reply_json(r, MHD_HTTP_OK, page_json(&dom, slice_of(t.p, t.n), &after, limit));
    recipients_text_free(&t);
    recipients_text_free(&after);
    return answered;
}
