/* cmd_shard.c - satchelctl shard: who owns and stores which part of the domains. */
#include "ctl/client.h"
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 1000, NAMES_MAX = 512 };

/* "a, b, c" */
static const char *names_of(const json_t *list, char out_r[NAMES_MAX])
{
    size_t i, n = 0;
    json_t *name;
    out_r[0] = 0;
    json_array_foreach(list, i, name)
    {
        int put = snprintf(out_r + n, NAMES_MAX - n, "%s%s", i ? ", " : "", json_string_value(name));
        n += put > 0 && n + (size_t)put < NAMES_MAX ? (size_t)put : 0;
    }
    return out_r;
}

static bool names_have(const json_t *list, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) if (strcmp(json_string_value(one), name) == 0) return true;
    return false;
}

static bool wanted(const struct ctl *c, const json_t *s)
{
    const char *node = ctl_given(c, "node"), *pool = ctl_given(c, "pool");
    const char *name = json_text(s, "name");
    if (pool && (strncmp(name, pool, strlen(pool)) != 0 || name[strlen(pool)] != '.'))
        return false;
    return !node || names_have(json_object_get(s, "members"), node) || names_have(json_object_get(s, "former"), node);
}

static void shards_print(const json_t *list)
{
    static const struct table_column columns[] = {
        {"SHARD", false}, {"OWNER", false}, {"MEMBERS", false}, {"FORMER", false},
        {"NEXT", false},  {"EPOCH", true},  {"HERE", true},
    };
    struct table *t = table_new(columns, sizeof columns / sizeof *columns);
    size_t i;
    json_t *s;
    json_array_foreach(list, i, s)
    {
        char members[NAMES_MAX], former[NAMES_MAX], epoch[HUMAN_MAX], here[HUMAN_MAX];
        snprintf(epoch, sizeof epoch, "%" PRIu64, json_count(s, "epoch"));
        snprintf(here, sizeof here, "%" PRIu64, json_count(s, "messages"));
        const char *cells[] = {
            json_text(s, "name"),
            *json_text(s, "owner") ? json_text(s, "owner") : "(nobody)",
            names_of(json_object_get(s, "members"), members),
            names_of(json_object_get(s, "former"), former),
            json_text(s, "next"),
            epoch,
            here,
        };
        table_row(t, cells);
    }
    table_print(&t);
}

int cmd_shard_list(struct ctl *c)
{
    json_t *all = json_array();
    uint64_t after = 0;
    bool more = true;
    while (more) {
        char from[48] = "";
        if (after)
            snprintf(from, sizeof from, "&after=%" PRIu64, after);
        json_t *page = ctl_call(c, "GET", ctl_path("/v1/shards?limit=%d%s", PAGE, from), NULL);
        if (!page) {
            json_decref(all);
            return EXIT_FAILURE;
        }
        size_t i;
        json_t *s;
        json_array_foreach(json_object_get(page, "shards"), i, s) if (wanted(c, s)) json_array_append(all, s);
        more = json_is_integer(json_object_get(page, "next"));
        after = json_count(page, "next");
        json_decref(page);
    }
    if (!ctl_json(c, all))
        shards_print(all);
    json_decref(all);
    return EXIT_SUCCESS;
}

static void shard_print(const json_t *s)
{
    char names[NAMES_MAX], here[HUMAN_MAX];
    printf("shard     %s, epoch %" PRIu64 "\n", json_text(s, "name"), json_count(s, "epoch"));
    printf("owner     %s%s%s\n", *json_text(s, "owner") ? json_text(s, "owner") : "nobody",
           *json_text(s, "state") ? ", " : "", json_text(s, "state"));
    printf("members   %s\n", names_of(json_object_get(s, "members"), names));
    if (json_object_get(s, "synced"))
        printf("in sync   %s\n", names_of(json_object_get(s, "synced"), names));
    if (json_array_size(json_object_get(s, "former")))
        printf("former    %s\n", names_of(json_object_get(s, "former"), names));
    if (*json_text(s, "next"))
        printf("moves to  %s\n", json_text(s, "next"));
    printf("here      %s\n", human_count(json_count(s, "messages"), "message", here));
}

int cmd_shard_show(struct ctl *c)
{
    char *escaped = client_escape(c->words[0]);
    json_t *s = ctl_call(c, "GET", ctl_path("/v1/shards/%s", escaped), NULL);
    free(escaped);
    if (!s)
        return EXIT_FAILURE;
    if (!ctl_json(c, s))
        shard_print(s);
    json_decref(s);
    return EXIT_SUCCESS;
}

int cmd_shard_move(struct ctl *c)
{
    char *shard = client_escape(c->words[0]), *to = client_escape(c->words[1]);
    json_t *answer = ctl_call(c, "POST", ctl_path("/v1/shards/%s/move?to=%s", shard, to), NULL);
    free(shard);
    free(to);
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer))
        printf("%s goes to %s as soon as its owner has handed it over.\n", c->words[0], c->words[1]);
    json_decref(answer);
    return EXIT_SUCCESS;
}
