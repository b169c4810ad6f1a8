/* admin_message.c - /v1/queue/ID: one message looked at, read, deleted.
 *
 * The message is claimed meanwhile, so that it is not delivered in the middle; so the claim is never held while a
 * client is waited for: the content is copied into memory first and sent from there. */
#include "ctl/admin_impl.h"
#include "spool/base/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024 };

/* false: it is answered. */
static bool message_claim(struct admin_request *r, struct outlet_msg **m_r, enum MHD_Result *answered_r)
{
    struct outlet *o = r->a->deps.outlet;
    struct msgid id;
    char error[128];
    if (msgid_parse(slice_str(r->name), &id) < 0) {
        *answered_r = admin_reply_error(r, MHD_HTTP_BAD_REQUEST, "not a message ID",
                                        "copy it from `satchelctl queue list` or from the log");
        return false;
    }
    int res = o->ops->claim_id(o, &id, m_r);
    if (res == 0)
        return true;
    if (res == -SATCHEL_ENOENT)
        *answered_r = admin_reply_error(r, MHD_HTTP_NOT_FOUND, "this message is not bagged here",
                                        "it was delivered, ended or deleted: search the log for its ID");
    else if (res == -SATCHEL_EAGAIN)
        *answered_r = admin_reply_error(r, MHD_HTTP_MISDIRECTED_REQUEST, "another node owns this message's bag now",
                                        "try again in a moment: it is being handed over");
    else if (res == -SATCHEL_EBUSY)
        *answered_r = admin_reply_error(r, MHD_HTTP_CONFLICT, "this message is being delivered or moved right now",
                                        "try again in a moment, or hold its domain first");
    else {
        snprintf(error, sizeof error, "this message cannot be read: %s", satchel_strerror(res));
        *answered_r = admin_reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, error, "see spool.unreadable in the log");
    }
    return false;
}

/* ---- looking */

/* Addresses and names come from clients: bytes that are not UTF-8 are shown as '?'. */
static json_t *text_json(struct slice s)
{
    json_t *j = json_stringn((const char *)s.p, s.n);
    if (j)
        return j;
    char *copy = malloc(s.n + 1);
    if (!copy)
        return json_null();
    for (size_t i = 0; i < s.n; i++)
        copy[i] = (char)(s.p[i] < 0x80 ? s.p[i] : '?');
    j = json_stringn(copy, s.n);
    free(copy);
    return j ? j : json_null();
}

static const char *const end_names[] = {
    [ITEM_LIVE] = "bagged",     [ITEM_DELIVERED] = "delivered", [ITEM_BOUNCED] = "bounced",
    [ITEM_EXPIRED] = "expired", [ITEM_DELETED] = "deleted",
};

static json_t *recipients_json(const struct outlet_msg *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->rcpts_n; i++)
        json_array_append_new(list, json_pack("{so ss}", "address", text_json(m->rcpts[i]), "state",
                                              end_names[state_end(&m->state, (uint32_t)i)]));
    return list;
}

static json_t *message_json(const struct admin *a, const struct outlet_msg *m)
{
    char id[MSGID_TEXT_MAX];
    msgid_format(&m->id, id);
    return json_pack("{ss so so sf sI so so so sI so sb sb so}", "id", id, "domain", text_json(m->domain), "arrival",
                     admin_json_time(m->arrival_us), "age_s", admin_age_s(a, m->arrival_us), "bytes",
                     (json_int_t)m->bytes, "sender", text_json(m->sender), "helo", text_json(m->helo), "client",
                     text_json(m->client), "attempts", (json_int_t)m->state.attempts, "due",
                     admin_json_time(m->state.due_us), "held", m->state.held, "unreadable", m->unreadable, "recipients",
                     recipients_json(m));
}

enum MHD_Result admin_message_get(struct admin_request *r)
{
    struct outlet_msg *m;
    enum MHD_Result answered;
    if (!message_claim(r, &m, &answered))
        return answered;
    json_t *j = message_json(r->a, m);
    r->a->deps.outlet->ops->release(r->a->deps.outlet, m);
    return admin_reply_json(r, MHD_HTTP_OK, j);
}

/* ---- reading */

static int fd_write(int fd, struct slice data)
{
    while (data.n > 0) {
        ssize_t n = write(fd, data.p, data.n);
        if (n < 0)
            return -errno;
        data = slice_of(data.p + n, data.n - (size_t)n);
    }
    return 0;
}

static int content_copy(struct outlet *o, struct outlet_msg *m, int fd)
{
    uint64_t off = 0;
    for (;;) {
        struct slice data;
        int n = o->ops->read(o, m, off, READ_BYTES, &data);
        if (n <= 0)
            return n;
        int res = fd_write(fd, data);
        if (res < 0)
            return res;
        off += (uint64_t)n;
    }
}

enum MHD_Result admin_message_content(struct admin_request *r)
{
    struct outlet *o = r->a->deps.outlet;
    struct outlet_msg *m;
    enum MHD_Result answered;
    if (!message_claim(r, &m, &answered))
        return answered;
    uint64_t bytes = m->bytes;
    int fd = memfd_create("satchel-view", MFD_CLOEXEC);
    int res = fd < 0 ? -errno : content_copy(o, m, fd);
    o->ops->release(o, m);
    if (res == 0)
        return admin_reply_fd(r, "message/rfc822", fd, bytes);
    if (fd >= 0)
        close(fd);
    return admin_reply_error(r, MHD_HTTP_INTERNAL_SERVER_ERROR, satchel_strerror(res),
                             "see the log; `satchelctl spool check` examines a stopped node");
}

/* ---- deleting */

int admin_message_end(struct admin *a, struct outlet_msg *m)
{
    struct item_result *results = calloc(m->rcpts_n ? m->rcpts_n : 1, sizeof *results);
    char id[MSGID_TEXT_MAX];
    size_t n = 0;
    if (!results) {
        a->deps.outlet->ops->release(a->deps.outlet, m);
        return -SATCHEL_ENOMEM;
    }
    for (uint32_t i = 0; i < m->rcpts_n; i++) {
        if (state_end(&m->state, i) != ITEM_LIVE)
            continue;
        results[n].item = i;
        results[n].end = ITEM_DELETED;
        status_set(&results[n++].status, 0, 5, 0, 0, "deleted by an operator");
    }
    msgid_format(&m->id, id);
    int res = a->deps.outlet->ops->finish(a->deps.outlet, m, results, n, 0, false, NULL);
    free(results);
    if (res == 0)
        metric_add(M_RELAY_DELETED, n);
    log_info("admin.delete", "id=%s items=%zu result=%s", id, n, res == 0 ? "deleted" : satchel_strerror(res));
    return res;
}

enum MHD_Result admin_message_delete(struct admin_request *r)
{
    struct outlet_msg *m;
    enum MHD_Result answered;
    if (!message_claim(r, &m, &answered))
        return answered;
    int res = admin_message_end(r->a, m);
    if (res < 0)
        return admin_reply_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, satchel_strerror(res), "see /health, then try again");
    return admin_reply_json(r, MHD_HTTP_OK, json_pack("{ss}", "deleted", r->name));
}
