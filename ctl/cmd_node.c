/* cmd_node.c - satchelctl node: who is in the cluster, and taking them in and out. */
#include "ctl/client.h"
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "ctl/progress.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_US = 300000 };

/* ---- looking */

static const char *state_of(const json_t *n)
{
    bool live = json_is_true(json_object_get(n, "live"));
    const json_t *link = json_object_get(n, "link");
    if (!live)
        return "dead";
    if (link && !json_is_true(json_object_get(link, "up")))
        return "no link";
    return json_text(n, "state");
}

static void nodes_print(const json_t *list)
{
    static const struct table_column columns[] = {
        {"NODE", false},  {"STATE", false}, {"POOL", false}, {"ZONE", false}, {"OWNS", true},
        {"STORES", true}, {"HOLDS", true},  {"BYTES", true}, {"ROOM", true},  {"", false},
    };
    struct table *t = table_new(columns, sizeof columns / sizeof *columns);
    size_t i;
    json_t *n;
    json_array_foreach(list, i, n)
    {
        const json_t *load = json_object_get(n, "load");
        char owns[HUMAN_MAX], stores[HUMAN_MAX], holds[HUMAN_MAX], bytes[HUMAN_MAX], room[HUMAN_MAX];
        snprintf(owns, sizeof owns, "%" PRIu64, json_count(n, "owned"));
        snprintf(stores, sizeof stores, "%" PRIu64, json_count(n, "stored"));
        snprintf(holds, sizeof holds, "%" PRIu64, json_count(load, "messages"));
        const char *cells[] = {
            json_text(n, "name"),
            state_of(n),
            json_text(n, "pool"),
            json_text(n, "zone"),
            owns,
            stores,
            load ? holds : "",
            load ? human_bytes(json_count(load, "bytes"), bytes) : "",
            load ? human_bytes(json_count(load, "room_bytes"), room) : "",
            json_is_true(json_object_get(n, "leader")) ? "leader" : "",
        };
        table_row(t, cells);
    }
    table_print(&t);
}

int cmd_node_list(struct ctl *c)
{
    json_t *answer = ctl_call(c, "GET", ctl_path("/v1/nodes"), NULL);
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer))
        nodes_print(json_object_get(answer, "nodes"));
    json_decref(answer);
    return EXIT_SUCCESS;
}

static json_t *node_get(struct ctl *c, const char *name)
{
    char *escaped = client_escape(name);
    json_t *n = ctl_call(c, "GET", ctl_path("/v1/nodes/%s", escaped), NULL);
    free(escaped);
    return n;
}

static void node_print(const json_t *n)
{
    const json_t *load = json_object_get(n, "load"), *link = json_object_get(n, "link");
    char a[HUMAN_MAX], b[HUMAN_MAX];
    printf("node      %s, %s%s\n", json_text(n, "name"), state_of(n),
           json_is_true(json_object_get(n, "leader")) ? ", leads the cluster" : "");
    printf("storage   %s\n", json_text(n, "storage"));
    printf("address   %s\n", json_text(n, "address"));
    printf("place     pool %s, zone %s, weight %" PRIu64 "\n", json_text(n, "pool"),
           *json_text(n, "zone") ? json_text(n, "zone") : "of its own", json_count(n, "weight"));
    printf("shards    owns %" PRIu64 ", stores %" PRIu64 ", still has something of %" PRIu64 " more\n",
           json_count(n, "owned"), json_count(n, "stored"), json_count(n, "former"));
    if (load)
        printf("holds     %s, %s; ends that others do not know yet: %" PRIu64 "\n",
               human_count(json_count(load, "messages"), "message", a), human_bytes(json_count(load, "bytes"), b),
               json_count(load, "ends_owed"));
    if (link && json_is_true(json_object_get(link, "up")))
        printf("link      up, %.1f ms, its clock %+.3f s\n", json_number(link, "rtt_ms"), json_number(link, "skew_s"));
    else if (link)
        printf("link      down: %s\n", json_text(link, "why"));
}

int cmd_node_show(struct ctl *c)
{
    json_t *n = node_get(c, c->words[0]);
    if (!n)
        return EXIT_FAILURE;
    if (!ctl_json(c, n))
        node_print(n);
    json_decref(n);
    return EXIT_SUCCESS;
}

/* ---- changing */

static int node_post(struct ctl *c, const char *verb, const char *said)
{
    char *escaped = client_escape(c->words[0]);
    json_t *answer = ctl_call(c, "POST", ctl_path("/v1/nodes/%s/%s", escaped, verb), NULL);
    free(escaped);
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer) && said)
        printf("%s %s\n", c->words[0], said);
    json_decref(answer);
    return EXIT_SUCCESS;
}

int cmd_node_cordon(struct ctl *c)
{
    return node_post(c, "cordon", "gets nothing new from now on, and keeps what it has.");
}

int cmd_node_undrain(struct ctl *c)
{
    return node_post(c, "undrain", "takes part again.");
}

/* ---- draining: shards count as much as a thousand messages in the bar, since each is a hand-over */

enum { SHARD_WEIGHT = 1000 };

static uint64_t drain_left(const json_t *n, char what_r[128])
{
    const json_t *load = json_object_get(n, "load");
    uint64_t messages = json_count(load, "messages"), ends = json_count(load, "ends_owed");
    uint64_t shards = json_count(n, "owned") + json_count(n, "stored") + json_count(n, "former");
    char a[HUMAN_MAX], b[HUMAN_MAX];
    snprintf(what_r, 128, "%s, %s", human_count(messages, "message", a), human_count(shards, "shard", b));
    return messages + ends + shards * SHARD_WEIGHT;
}

static int drain_wait(struct ctl *c)
{
    struct progress p;
    progress_start(&p);
    for (;;) {
        char what[128];
        json_t *n = node_get(c, c->words[0]);
        if (!n)
            return EXIT_FAILURE;
        bool drained = strcmp(json_text(n, "state"), "drained") == 0;
        bool draining = strcmp(json_text(n, "state"), "draining") == 0;
        uint64_t left = drain_left(n, what);
        json_decref(n);
        if (!draining) {
            progress_end(&p);
            if (drained)
                printf("%s is drained: nothing that was acknowledged lies on it alone.\n", c->words[0]);
            return drained ? EXIT_SUCCESS : ctl_fail("somebody ended the drain of %s", c->words[0]);
        }
        progress_show(&p, left, what);
        usleep(POLL_US);
    }
}

int cmd_node_drain(struct ctl *c)
{
    bool wait = !ctl_given(c, "no-wait") && !c->json;
    int code = node_post(c, "drain", wait ? NULL : "is being emptied: `satchelctl node show` tells how far it is.");
    return code == EXIT_SUCCESS && wait ? drain_wait(c) : code;
}

/* ---- removing */

static int node_delete(struct ctl *c, bool lost, const char *said)
{
    char *escaped = client_escape(c->words[0]);
    json_t *answer = ctl_call(c, "DELETE", ctl_path("/v1/nodes/%s%s", escaped, lost ? "?lost=1" : ""), NULL);
    free(escaped);
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer))
        printf("%s %s\n", c->words[0], said);
    json_decref(answer);
    return EXIT_SUCCESS;
}

int cmd_node_remove(struct ctl *c)
{
    return node_delete(c, false, "is no part of the cluster any more.");
}

int cmd_node_replace(struct ctl *c)
{
    if (!ctl_given(c, "yes"))
        return ctl_fail("what only %s had is given up by this: say --yes if its disk will never come back",
                        c->words[0]);
    return node_delete(c, true,
                       "is given up. Its copies are being made again from the others; start the new node under the "
                       "same name.");
}
