/* admin_page.c - the status page at /: the node and its bags on one screen, for a browser on the machine. */
#include "ctl/admin_impl.h"
#include "ctl/human.h"
#include "ctl/version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE_DOMAINS = 200 };

static const char head[] =
    "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
    "<meta name=viewport content=\"width=device-width\"><title>Satchel</title><style>"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1{font-size:1.4rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem "
    "1rem}dt{color:#666}dd{margin:0}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd}"
    "th{color:#666;font-weight:normal}.n{text-align:right}.bad{color:#b00;font-weight:bold}.good{color:#070}"
    "</style>";

static void html_put(FILE *f, const char *text)
{
    for (; text && *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", f);
            break;
        case '>':
            fputs("&gt;", f);
            break;
        case '&':
            fputs("&amp;", f);
            break;
        case '"':
            fputs("&quot;", f);
            break;
        default:
            fputc(*text, f);
        }
    }
}

static const char *text_at(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

static void cluster_put(FILE *f, const json_t *part)
{
    if (!json_is_object(part))
        return;
    bool leased = json_is_true(json_object_get(part, "leased"));
    fputs("<dt>cluster<dd>node ", f);
    html_put(f, text_at(part, "node"));
    fputs(", leader ", f);
    html_put(f, *text_at(part, "leader") ? text_at(part, "leader") : "none known");
    fprintf(f, ", owns %" JSON_INTEGER_FORMAT " shards, ", json_integer_value(json_object_get(part, "owned")));
    if (leased)
        fprintf(f, "lease for %.1f s", json_number_value(json_object_get(part, "lease_s")));
    else
        fputs("<span class=bad>no lease: relays nothing</span>", f);
    if (!json_is_true(json_object_get(part, "coordination_reachable")))
        fputs(", <span class=bad>etcd cannot be reached</span>", f);
    else if (*text_at(part, "coordination_refused"))
        fputs(", <span class=bad>what etcd has is refused</span>", f);
}

static void node_put(FILE *f, struct admin *a)
{
    struct spool_info info;
    char age[HUMAN_MAX], room[HUMAN_MAX], bytes[HUMAN_MAX], oldest[HUMAN_MAX];
    double per_s[RATES_MAX];
    json_t *part = admin_gauges(a);
    spool_info(a->deps.spool, &info);
    rates_read(a->rates, per_s);
    const struct admin_health_info *h = admin_health(a, &info);
    fputs("<h1>Satchel on ", f);
    html_put(f, a->hostname);
    fprintf(f, "</h1><dl><dt>health<dd class=%s>%s", *h->remedy ? "bad" : "good", h->reason);
    if (*h->remedy)
        fprintf(f, " <small>(%s)</small>", h->remedy);
    cluster_put(f, part);
    json_decref(part);
    fprintf(f, "<dt>up<dd>%s, version %s", human_age(admin_age_s(a, a->deps.started_us), age), SATCHEL_VERSION);
    fprintf(f, "<dt>bagged<dd>%" PRIu64 " messages, %s, in %" PRIu64 " domains, the oldest %s",
            metric_read(M_QUEUE_MESSAGES), human_bytes(metric_read(M_QUEUE_BYTES), bytes), metric_read(M_QUEUE_DOMAINS),
            human_age((double)metric_read(M_QUEUE_OLDEST_SECONDS), oldest));
    fprintf(f, "<dt>room<dd>%s; %u segments in use, %u spare", human_bytes(info.log.room_bytes, room),
            info.log.used_segments, info.log.spare_segments);
    fprintf(f, "<dt>last minute<dd>%.1f accepted/s, %.1f delivered/s<dt>sessions<dd>%" PRIu64 "</dl>",
            per_s[RATE_ACCEPTED], per_s[RATE_DELIVERED], metric_read(M_SMTP_SESSIONS));
}

static void domain_put(FILE *f, const json_t *d)
{
    const json_t *bag = json_object_get(d, "bag"), *relay = json_object_get(d, "relay");
    char age[HUMAN_MAX];
    const char *state = json_is_true(json_object_get(d, "served")) ? text_at(relay, "state") : "not served";
    fputs("<tr><td>", f);
    html_put(f, text_at(d, "name"));
    fprintf(f, "<td>%s<td class=n>%" JSON_INTEGER_FORMAT "<td>", state,
            json_integer_value(json_object_get(bag, "messages")));
    if (json_integer_value(json_object_get(bag, "messages")) > 0)
        fputs(human_age(json_number_value(json_object_get(bag, "oldest_s")), age), f);
    fputs("<td>", f);
    html_put(f, json_string_value(json_array_get(json_object_get(d, "primaries"), 0)));
    fputs("<td>", f);
    html_put(f, text_at(relay, "next_probe"));
    fputs("<td>", f);
    html_put(f, text_at(relay, "last"));
}

enum MHD_Result admin_page_get(struct admin_request *r)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *one, *list = admin_domains_top(r->a, PAGE_DOMAINS);
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return MHD_NO;
    fputs(head, f);
    node_put(f, r->a);
    fputs("<table><tr><th>domain<th>state<th class=n>bagged<th>oldest<th>primary<th>next probe<th>last failure", f);
    json_array_foreach(list, i, one) domain_put(f, one);
    fputs("</table>", f);
    json_decref(list);
    if (fclose(f) != 0)
        return MHD_NO;
    return admin_reply_text(r, MHD_HTTP_OK, "text/html; charset=utf-8", text, n);
}
