/* cmd_status.c - satchelctl status, reload, version; and the table of domains. */
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "ctl/table.h"
#include "ctl/version.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *json_text(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

uint64_t json_count(const json_t *j, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(j, key));
}

double json_number(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

/* "2026-11-23T23:21:40.123Z" -> "23:21:40" */
static const char *time_of_day(const char *text, char out_r[9])
{
    out_r[0] = 0;
    if (strlen(text) >= 19) {
        memcpy(out_r, text + 11, 8);
        out_r[8] = 0;
    }
    return out_r;
}

void domains_table_print(const json_t *list)
{
    static const struct table_column columns[] = {
        {"DOMAIN", false},  {"STATE", false},      {"BAGGED", true},        {"OLDEST", true},
        {"PRIMARY", false}, {"NEXT PROBE", false}, {"LAST FAILURE", false},
    };
    struct table *t = table_new(columns, sizeof columns / sizeof *columns);
    size_t i;
    json_t *d;
    json_array_foreach(list, i, d)
    {
        const json_t *bag = json_object_get(d, "bag"), *relay = json_object_get(d, "relay");
        uint64_t bagged = json_count(bag, "messages");
        char n[HUMAN_MAX], age[HUMAN_MAX], probe[9];
        const char *primary = json_string_value(json_array_get(json_object_get(d, "primaries"), 0));
        snprintf(n, sizeof n, "%" PRIu64, bagged);
        const char *cells[] = {
            json_text(d, "name"),
            !json_is_true(json_object_get(d, "served")) ? "not served"
            : json_is_true(json_object_get(d, "held"))  ? "held"
                                                        : json_text(relay, "state"),
            n,
            bagged ? human_age(json_number(bag, "oldest_s"), age) : "",
            primary ? primary : "",
            time_of_day(json_text(relay, "next_probe"), probe),
            json_text(relay, "last"),
        };
        table_row(t, cells);
    }
    table_print(&t);
}

static void cluster_print(const json_t *part)
{
    if (!json_is_object(part))
        return;
    printf("cluster    node %s, leader %s, owns %" PRIu64 " shards", json_text(part, "node"),
           *json_text(part, "leader") ? json_text(part, "leader") : "none known", json_count(part, "owned"));
    if (json_count(part, "adopting"))
        printf(", adopting %" PRIu64, json_count(part, "adopting"));
    if (json_count(part, "handing_over"))
        printf(", handing over %" PRIu64, json_count(part, "handing_over"));
    if (json_is_true(json_object_get(part, "leased")))
        printf("; lease for %.1f s", json_number(part, "lease_s"));
    else
        printf("; no lease: relays nothing");
    puts(!json_is_true(json_object_get(part, "coordination_reachable")) ? "; etcd cannot be reached"
         : *json_text(part, "coordination_refused")                     ? "; what etcd has is refused"
                                                                        : "");
    if (*json_text(part, "refused"))
        printf("           takes no part: %s\n", json_text(part, "refused"));
}

static void node_print(const json_t *s)
{
    const json_t *spool = json_object_get(s, "spool"), *queue = json_object_get(s, "queue");
    const json_t *rates = json_object_get(s, "rates");
    char a[HUMAN_MAX], b[HUMAN_MAX];
    bool good = json_is_true(json_object_get(s, "accepting"));
    printf("node       %s, satchel %s, up %s\n", json_text(s, "node"), json_text(s, "version"),
           human_age(json_number(s, "uptime_s"), a));
    printf("health     %s%s%s\n", json_text(s, "reason"), good ? "" : ": ", json_text(s, "remedy"));
    cluster_print(json_object_get(s, "cluster"));
    printf("bagged     %s, %s, in %" PRIu64 " of %" PRIu64 " domains",
           human_count(json_count(queue, "messages"), "message", b), human_bytes(json_count(queue, "bytes"), a),
           json_count(queue, "domains"), json_count(s, "domains_served"));
    if (json_count(queue, "messages") > 0)
        printf(", the oldest %s", human_age(json_number(queue, "oldest_s"), b));
    printf("\nroom       %s for new mail; %s in use, %" PRIu64 " spare\n",
           human_bytes(json_count(spool, "room_bytes"), a),
           human_count(json_count(spool, "used_segments"), "segment", b), json_count(spool, "spare_segments"));
    printf("rates      %.1f accepted/s (%s/s), %.1f delivered/s, over the last %.0f s; %" PRIu64 " sessions\n",
           json_number(rates, "accepted_per_s"), human_bytes((uint64_t)json_number(rates, "accepted_bytes_per_s"), a),
           json_number(rates, "delivered_per_s"), json_number(rates, "over_s"), json_count(s, "sessions"));
    if (json_count(spool, "damaged_ranges") > 0)
        printf("damage     %" PRIu64 " ranges of the log were damaged at the start: see spool.damaged in the log\n",
               json_count(spool, "damaged_ranges"));
}

int cmd_status(struct ctl *c)
{
    const char *most = ctl_given(c, "domains");
    if (most && (*most == 0 || strspn(most, "0123456789") != strlen(most)))
        return ctl_usage(c, "--domains: \"%s\" is not a number", most);
    json_t *s = ctl_call(c, "GET", ctl_path("/v1/status?domains=%s", most ? most : "20"), NULL);
    if (!s)
        return EXIT_FAILURE;
    const json_t *domains = json_object_get(s, "domains");
    if (!ctl_json(c, s)) {
        node_print(s);
        if (json_array_size(domains) > 0) {
            putchar('\n');
            domains_table_print(domains);
        } else {
            puts("\nNo domain is served yet: satchelctl domain add NAME --primary HOST:PORT");
        }
    }
    json_decref(s);
    return EXIT_SUCCESS;
}

int cmd_reload(struct ctl *c)
{
    json_t *answer = ctl_call(c, "POST", ctl_path("/v1/reload"), NULL);
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer))
        puts("Asked for. The daemon's log says what came of it.");
    json_decref(answer);
    return EXIT_SUCCESS;
}

int cmd_version(struct ctl *c)
{
    if (c->json)
        printf("{\"version\": \"%s\"}\n", SATCHEL_VERSION);
    else
        printf("satchelctl %s\n", SATCHEL_VERSION);
    return EXIT_SUCCESS;
}
