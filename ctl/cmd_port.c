/* cmd_port.c - satchelctl port: what the DPDK port is and counts. */
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "ctl/table.h"
#include "dataplane/tcp/stats.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUES_SHOWN = 8, CELL_MAX = 24 };

/* ---- the head */

static void list_print(const char *head, const json_t *list, const char *key, const char *not_ready)
{
    size_t i;
    json_t *e;
    printf("%-12s", head);
    json_array_foreach(list, i, e)
    {
        printf("%s%s", i ? ", " : "", key ? json_text(e, key) : json_string_value(e));
        if (not_ready && !json_is_true(json_object_get(e, "ready")))
            printf(" (%s)", not_ready);
    }
    puts(json_array_size(list) ? "" : "none");
}

static void offloads_print(json_t *o)
{
    const char *key;
    const json_t *v;
    bool any = false;
    printf("offloads    ");
    json_object_foreach(o, key, v)
    {
        if (!json_is_true(v))
            continue;
        printf("%s%s", any ? ", " : "", key);
        any = true;
    }
    puts(any ? "" : "none: all in software");
}

static void head_print(const json_t *p)
{
    const json_t *d = json_object_get(p, "device");
    printf("device      %s, driver %s, link %s, MAC %s, MTU %" PRIu64, json_text(d, "name"), json_text(d, "driver"),
           json_is_true(json_object_get(d, "link_up")) ? "up" : "DOWN", json_text(d, "mac"), json_count(p, "mtu"));
    if (json_count(p, "vlan"))
        printf(", VLAN %" PRIu64, json_count(p, "vlan"));
    printf("\nqueues      %" PRIu64 " on %" PRIu64 " of the device; flows are spread %s; idle workers %s\n",
           json_count(d, "queues"), json_count(d, "receive_queues"),
           json_is_true(json_object_get(d, "spreads_flows")) ? "by it" : "in software",
           json_is_true(json_object_get(d, "interrupts")) ? "are woken by it" : "look at it every millisecond");
    offloads_print(json_object_get(d, "offloads"));
    list_print("addresses", json_object_get(p, "addresses"), "address", "not usable: probed, or another has it");
    list_print("gateways", json_object_get(p, "gateways"), NULL, NULL);
}

static void load_print(const json_t *p)
{
    const json_t *l = json_object_get(p, "limits"), *c = json_object_get(p, "counters");
    char a[HUMAN_MAX], b[HUMAN_MAX];
    printf("connections %" PRIu64 " of %" PRIu64 "; %" PRIu64 " handshakes, %" PRIu64 " in TIME-WAIT\n",
           json_count(c, "connections"), json_count(l, "connections"), json_count(c, "handshakes"),
           json_count(c, "time_waits"));
    printf("memory      received bytes %s of %s; %" PRIu64 " of %" PRIu64 " frame buffers; %" PRIu64
           " bytes a connection\n",
           human_bytes(json_count(c, "receive_pages") * 4096, a), human_bytes(json_count(l, "receive_pages") * 4096, b),
           json_count(l, "buffers_used"), json_count(l, "buffers"), json_count(l, "connection_bytes"));
    if (json_count(p, "blocked_networks"))
        printf("block list  %" PRIu64 " networks\n", json_count(p, "blocked_networks"));
}

/* ---- counters */

static const char *help_of(const char *name)
{
    for (int i = 0; i < STAT_N; i++)
        if (strcmp(stat_rows[i].name, name) == 0)
            return stat_rows[i].help;
    return "";
}

static void counter_row(struct table *t, const char *name, uint64_t total, const json_t *queues, size_t shown)
{
    char numbers[QUEUES_SHOWN + 1][CELL_MAX];
    const char *cells[QUEUES_SHOWN + 3] = {name, numbers[0]};
    snprintf(numbers[0], CELL_MAX, "%" PRIu64, total);
    for (size_t q = 0; q < shown; q++) {
        snprintf(numbers[q + 1], CELL_MAX, "%" PRIu64, json_count(json_array_get(queues, q), name));
        cells[q + 2] = numbers[q + 1];
    }
    cells[shown + 2] = help_of(name);
    table_row(t, cells);
}

/* One queue is the total; many do not fit. */
static void counters_print(const json_t *p, bool all)
{
    static const char *const heads[QUEUES_SHOWN] = {"Q0", "Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7"};
    struct table_column columns[QUEUES_SHOWN + 3] = {{"COUNTER", false}, {"TOTAL", true}};
    const json_t *queues = json_object_get(p, "queues");
    size_t n = json_array_size(queues), shown = n == 1 || n > QUEUES_SHOWN ? 0 : n;
    for (size_t q = 0; q < shown; q++)
        columns[q + 2] = (struct table_column){heads[q], true};
    columns[shown + 2] = (struct table_column){"", false};
    struct table *t = table_new(columns, shown + 3);
    const char *name;
    const json_t *v;
    json_object_foreach(json_object_get(p, "counters"), name, v)
    {
        uint64_t total = (uint64_t)json_integer_value(v);
        if (all || total > 0)
            counter_row(t, name, total, queues, shown);
    }
    table_print(&t);
}

/* ---- neighbours, and what the device counted */

static void neighbours_print(const json_t *list)
{
    static const struct table_column columns[] = {
        {"NEIGHBOUR", false}, {"MAC", false}, {"STATE", false}, {"QUEUE", true}, {"AGE", true}};
    struct table *t = table_new(columns, sizeof columns / sizeof *columns);
    size_t i;
    json_t *e;
    json_array_foreach(list, i, e)
    {
        char queue[CELL_MAX], age[HUMAN_MAX];
        bool known = strcmp(json_text(e, "state"), "reachable") == 0 || strcmp(json_text(e, "state"), "stale") == 0;
        snprintf(queue, sizeof queue, "%" PRIu64, json_count(e, "queue"));
        const char *cells[] = {json_text(e, "address"), known ? json_text(e, "mac") : "", json_text(e, "state"), queue,
                               human_age(json_number(e, "age_s"), age)};
        table_row(t, cells);
    }
    table_print(&t);
}

static void device_print(json_t *counted, bool all)
{
    static const struct table_column columns[] = {{"DEVICE", false}, {"", true}};
    struct table *t = table_new(columns, 2);
    const char *name;
    const json_t *v;
    json_object_foreach(counted, name, v)
    {
        char n[CELL_MAX];
        snprintf(n, sizeof n, "%" PRIu64, (uint64_t)json_integer_value(v));
        const char *cells[] = {name, n};
        if (all || json_integer_value(v) != 0)
            table_row(t, cells);
    }
    table_print(&t);
}

int cmd_port_show(struct ctl *c)
{
    json_t *p = ctl_call(c, "GET", ctl_path("/v1/port"), NULL);
    bool all = ctl_given(c, "all") != NULL;
    if (!p)
        return EXIT_FAILURE;
    if (!ctl_json(c, p)) {
        head_print(p);
        load_print(p);
        putchar('\n');
        counters_print(p, all);
        if (json_array_size(json_object_get(p, "neighbours")) > 0) {
            putchar('\n');
            neighbours_print(json_object_get(p, "neighbours"));
        }
        putchar('\n');
        device_print(json_object_get(p, "device_counters"), all);
    }
    json_decref(p);
    return EXIT_SUCCESS;
}
