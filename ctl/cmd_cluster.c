/* cmd_cluster.c - satchelctl cluster: how the cluster is, and its settings. */
#include "ctl/client.h"
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- status */

/* A count below `part`, over all nodes that answered. */
static uint64_t sum(const json_t *nodes, const char *part, const char *key)
{
    uint64_t n = 0;
    const char *name;
    json_t *node;
    json_object_foreach((json_t *)nodes, name, node) n += json_count(part ? json_object_get(node, part) : node, key);
    return n;
}

static void coordination_print(const json_t *s)
{
    const json_t *c = json_object_get(s, "coordination");
    char age[HUMAN_MAX];
    if (json_is_true(json_object_get(c, "reachable")))
        printf("etcd        %s, reachable for %s%s%s%s\n", json_text(c, "endpoint"),
               human_age(json_number(c, "for_s"), age),
               *json_text(c, "refused") ? ", but what it has is refused: " : "", json_text(c, "refused"),
               *json_text(c, "refused") ? "; the map before that is used" : "");
    else
        printf("etcd        not reachable for %s: %s\n", human_age(json_number(c, "for_s"), age), json_text(c, "why"));
}

/* Who leads by a map that coordination does not stand behind may do so no more. */
static const char *leader_text(const json_t *s)
{
    const json_t *c = json_object_get(s, "coordination");
    if (!json_is_true(json_object_get(c, "reachable")))
        return "not known: etcd is not reachable";
    if (*json_text(c, "refused"))
        return "not known: what etcd has is refused";
    return *json_text(s, "leader") ? json_text(s, "leader") : "none: shards of dead nodes wait for one";
}

static void node_line(const char *name, const json_t *n)
{
    const json_t *own = json_object_get(n, "ownership"), *lease = json_object_get(n, "lease");
    if (!json_is_object(n)) {
        printf("  %-12s does not answer\n", name);
        return;
    }
    if (*json_text(n, "refused")) {
        printf("  %-12s takes no part: %s\n", name, json_text(n, "refused"));
        return;
    }
    printf("  %-12s owns %" PRIu64, name, json_count(own, "owned"));
    if (json_count(own, "merging"))
        printf(", adopting %" PRIu64, json_count(own, "merging"));
    if (json_count(own, "handing"))
        printf(", handing over %" PRIu64, json_count(own, "handing"));
    if (json_is_true(json_object_get(lease, "held")))
        printf("; lease for %.1f s\n", json_number(lease, "left_s"));
    else
        printf("; no lease: relays nothing\n");
}

static void cluster_print(const json_t *s)
{
    const json_t *nodes = json_object_get(s, "nodes"), *lead = NULL;
    const char *name, *leader = json_text(s, "leader");
    json_t *node;
    printf("cluster     %s\n", json_text(s, "cluster"));
    printf("leader      %s\n", leader_text(s));
    coordination_print(s);
    lead = *leader ? json_object_get(json_object_get(nodes, leader), "leadership") : NULL;
    printf("map         revision %" PRIu64 ", highest epoch %" PRIu64 "\n", json_count(s, "map_rev"),
           json_count(s, "epoch"));
    printf("shards      %" PRIu64 " without an owner, %" PRIu64 " moves under way, %" PRIu64 " to come, %" PRIu64
           " copies that no node can take\n",
           json_count(lead, "shards_ownerless"), json_count(lead, "moves_under_way"), json_count(lead, "moves_planned"),
           json_count(lead, "copies_short"));
    printf("messages    %" PRIu64 " under-replicated, %" PRIu64 " held by nodes that should not, %" PRIu64
           " unaccounted, %" PRIu64 " in doubt\n",
           sum(nodes, "copies", "under_replicated"), sum(nodes, "copies", "unowned"),
           sum(nodes, "copies", "unaccounted"), sum(nodes, NULL, "in_doubt"));
    printf("damage      %" PRIu64 " quarantined ranges; %" PRIu64 " records repaired by scrubbing\n",
           sum(nodes, NULL, "quarantined"), sum(nodes, "copies", "scrub_repaired"));
    puts("nodes");
    json_object_foreach((json_t *)nodes, name, node) node_line(name, node);
}

int cmd_cluster_status(struct ctl *c)
{
    json_t *s = ctl_call(c, "GET", ctl_path("/v1/cluster"), NULL);
    if (!s)
        return EXIT_FAILURE;
    if (ctl_json(c, s)) {
    } else if (json_object_get(s, "lease")) {
        cluster_print(s);
    } else {
        puts("This node is in no cluster. docs/operations.md says how to make one.");
    }
    json_decref(s);
    return EXIT_SUCCESS;
}

/* ---- settings */

static void settings_print(const json_t *s)
{
    static const struct table_column columns[] = {
        {"POOL", false}, {"COPIES", true}, {"ACKS", true}, {"SHARDS", true}, {"FALLS BACK TO", false},
    };
    struct table *t = table_new(columns, sizeof columns / sizeof *columns);
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(s, "pools"), i, p)
    {
        char copies[HUMAN_MAX], acks[HUMAN_MAX], shards[HUMAN_MAX];
        snprintf(copies, sizeof copies, "%" PRIu64, json_count(p, "copies"));
        snprintf(acks, sizeof acks, "%" PRIu64, json_count(p, "acks"));
        snprintf(shards, sizeof shards, "%" PRIu64, json_count(p, "shards"));
        const char *cells[] = {json_text(p, "name"), copies, acks, shards, json_text(p, "fallback")};
        table_row(t, cells);
    }
    table_print(&t);
    printf("\nA dead node's copies are made again after %" PRIu64 " s (--repair-delay).\n",
           json_count(s, "repair_delay_s"));
}

static const struct {
    const char *option, *arg;
} settings_args[] = {
    {"pool", "pool"},     {"copies", "copies"},     {"acks", "acks"},
    {"shards", "shards"}, {"fallback", "fallback"}, {"repair-delay", "repair_delay_s"},
};

/* "?pool=x&copies=2", "" where nothing is to be changed; the caller frees it. */
static char *settings_query(const struct ctl *c)
{
    char *query = strdup("");
    for (size_t i = 0; i < sizeof settings_args / sizeof *settings_args; i++) {
        const char *value = ctl_given(c, settings_args[i].option);
        char *escaped = value ? client_escape(value) : NULL, *longer;
        if (!escaped)
            continue;
        if (asprintf(&longer, "%s%c%s=%s", query, *query ? '&' : '?', settings_args[i].arg, escaped) < 0)
            abort();
        free(query);
        free(escaped);
        query = longer;
    }
    return query;
}

static int settings_change(struct ctl *c, const char *query)
{
    json_t *answer = ctl_call(c, "PUT", ctl_path("/v1/cluster/settings%s", query), NULL);
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer))
        puts("Changed, for the whole cluster.");
    json_decref(answer);
    return EXIT_SUCCESS;
}

int cmd_cluster_settings(struct ctl *c)
{
    char *query = settings_query(c);
    if (*query) {
        int code = settings_change(c, query);
        free(query);
        return code;
    }
    free(query);
    json_t *s = ctl_call(c, "GET", ctl_path("/v1/cluster/settings"), NULL);
    if (!s)
        return EXIT_FAILURE;
    if (!ctl_json(c, s))
        settings_print(s);
    json_decref(s);
    return EXIT_SUCCESS;
}
