/* admin_status.c - how the node is: /health, /metrics, /v1/status. */
#include "ctl/admin_impl.h"
#include "ctl/version.h"

#include <stdlib.h>
#include <string.h>

enum { STATUS_DOMAINS = 100, STATUS_DOMAINS_MOST = 10000 };

/* Less room than this takes no message: a group of the log would not fit. */
#define ROOM_LEAST_BYTES (UINT64_C(1) << 20)

static const struct admin_health_info healths[] = {
    [HEALTH_OK] = {"ok", "accepting mail", ""},
    [HEALTH_FENCED] = {"fenced", "a write or sync failed: the disk is fenced, new mail gets 451",
                       "see spool.fenced in the log, check the disk, then restart satcheld"},
    [HEALTH_INDEX] = {"index", "the index cannot follow the log: new mail gets 451, accepted mail is safe in the log",
                      "see spool.index_failed in the log, free disk space or check the disk, then restart satcheld"},
    [HEALTH_FULL] = {"full", "no room for new mail: clients get 452",
                     "free disk space or raise spool.max; room also comes back as primaries take their mail"},
    [HEALTH_STOPPING] = {"stopping", "shutting down: new mail gets 421", "start satcheld again when it has ended"},
};

const struct admin_health_info *admin_health(struct admin *a, const struct spool_info *info)
{
    enum admin_health h = HEALTH_OK;
    if (info->log.fenced)
        h = HEALTH_FENCED;
    else if (info->index_failed)
        h = HEALTH_INDEX;
    else if (a->deps.shutting_down && a->deps.shutting_down(a->deps.arg))
        h = HEALTH_STOPPING;
    else if (info->log.room_bytes < ROOM_LEAST_BYTES)
        h = HEALTH_FULL;
    return &healths[h];
}

enum MHD_Result admin_health_get(struct admin_request *r)
{
    struct spool_info info;
    spool_info(r->a->deps.spool, &info);
    const struct admin_health_info *h = admin_health(r->a, &info);
    return admin_reply_json(r, h == &healths[HEALTH_OK] ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                            json_pack("{ss ss ss}", "status", h->word, "reason", h->reason, "remedy", h->remedy));
}

enum MHD_Result admin_metrics_get(struct admin_request *r)
{
    json_decref(admin_gauges(r->a));
    size_t cap = metrics_text(NULL, 0) + 256, n = 0; /* values may grow until the second time */
    char *own = malloc(cap), *text = NULL;
    FILE *out = open_memstream(&text, &n);
    if (own && out) {
        metrics_text(own, cap);
        fputs(own, out);
        admin_port_metrics(r->a->deps.front, out);
    }
    free(own);
    if (!out || fclose(out) != 0)
        return MHD_NO;
    return admin_reply_text(r, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, n);
}

static json_t *spool_json(const struct spool_info *i)
{
    char uuid[33];
    for (int b = 0; b < 16; b++)
        snprintf(uuid + 2 * b, 3, "%02x", i->log.storage_uuid[b]);
    return json_pack("{ss sI sI sI sb sI sI sI sI sI sI sb}", "storage", uuid, "room_bytes",
                     (json_int_t)i->log.room_bytes, "used_segments", (json_int_t)i->log.used_segments, "spare_segments",
                     (json_int_t)i->log.spare_segments, "fenced", i->log.fenced, "groups", (json_int_t)i->log.groups,
                     "records", (json_int_t)i->log.records, "written_bytes", (json_int_t)i->log.written_bytes,
                     "open_ms", (json_int_t)(i->open_us / 1000), "damaged_ranges", (json_int_t)i->opened.damaged_ranges,
                     "torn_bytes", (json_int_t)i->opened.torn_bytes, "index_rebuilt", i->index_rebuilt);
}

/* admin_gauges() was called. */
static json_t *queue_json(void)
{
    return json_pack("{sI sI sI sI}", "messages", (json_int_t)metric_read(M_QUEUE_MESSAGES), "bytes",
                     (json_int_t)metric_read(M_QUEUE_BYTES), "domains", (json_int_t)metric_read(M_QUEUE_DOMAINS),
                     "oldest_s", (json_int_t)metric_read(M_QUEUE_OLDEST_SECONDS));
}

static json_t *rates_json(struct admin *a)
{
    double per_s[RATES_MAX];
    double over = rates_read(a->rates, per_s);
    return json_pack("{sf sf sf sf sf}", "over_s", over, "accepted_per_s", per_s[RATE_ACCEPTED], "accepted_bytes_per_s",
                     per_s[RATE_ACCEPTED_BYTES], "delivered_per_s", per_s[RATE_DELIVERED], "groups_per_s",
                     per_s[RATE_GROUPS]);
}

static json_t *counters_json(void)
{
    json_t *j = json_object();
    for (int m = 0; m < METRIC_COUNT; m++) {
        if (metric_infos[m].kind == METRIC_COUNTER)
            json_object_set_new(j, metric_infos[m].name, json_integer((json_int_t)metric_read((enum metric)m)));
    }
    return j;
}

static size_t domains_served(struct admin *a)
{
    const struct domains_snapshot *s = domains_get(a->deps.domains);
    size_t n = domains_count(s);
    domains_put(s);
    return n;
}

enum MHD_Result admin_status_get(struct admin_request *r)
{
    struct admin *a = r->a;
    struct spool_info info;
    uint64_t most;
    enum MHD_Result answered;
    if (!admin_arg_number(r, "domains", STATUS_DOMAINS, STATUS_DOMAINS_MOST, &most, &answered))
        return answered;
    json_t *part = admin_gauges(a);
    spool_info(a->deps.spool, &info);
    const struct admin_health_info *h = admin_health(a, &info);
    return admin_reply_json(
        r, MHD_HTTP_OK,
        json_pack("{ss ss so sI sb ss ss ss so so so so sI sI so so}", "node", a->hostname, "version", SATCHEL_VERSION,
                  "started", admin_json_time(a->deps.started_us), "uptime_s",
                  (json_int_t)admin_age_s(a, a->deps.started_us), "accepting", h == &healths[HEALTH_OK], "health",
                  h->word, "reason", h->reason, "remedy", h->remedy, "spool", spool_json(&info), "queue", queue_json(),
                  "rates", rates_json(a), "counters", counters_json(), "sessions",
                  (json_int_t)metric_read(M_SMTP_SESSIONS), "domains_served", (json_int_t)domains_served(a), "domains",
                  admin_domains_top(a, most), "cluster", part));
}

enum MHD_Result admin_reload_post(struct admin_request *r)
{
    if (!r->a->deps.request_reload)
        return admin_reply_error(r, MHD_HTTP_NOT_IMPLEMENTED, "this daemon has no configuration to read again",
                                 "restart it");
    r->a->deps.request_reload(r->a->deps.arg);
    return admin_reply_json(r, MHD_HTTP_ACCEPTED,
                            json_pack("{ss}", "reload", "asked for; the log says what came of it"));
}
