/* cmd_queue.c - satchelctl queue: what is bagged, and what to do about it. */
#include "ctl/client.h"
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "ctl/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 1000, LIMIT_PRESET = 100 };

/* ---- list */

/* One page; json: the messages are gathered in `all`, otherwise printed. Returns how many, -1: it is said why.
 * node: whose bags; NULL: whoever owns the domain.  after: the cursor, replaced by the next one; NULL at the end. */
static int64_t page_get(struct ctl *c, const char *node, uint64_t limit, char **after, json_t **messages_r)
{
    char *domain = client_escape(c->words_n ? c->words[0] : "");
    json_t *page = ctl_call(c, "GET",
                            ctl_path("/v1/queue?limit=%" PRIu64 "%s%s%s%s%s%s", limit, *domain ? "&domain=" : "",
                                     domain, **after ? "&after=" : "", *after, node ? "&node=" : "", node ? node : ""),
                            NULL);
    free(domain);
    free(*after);
    *after = NULL;
    if (!page)
        return -1;
    const char *next = json_string_value(json_object_get(page, "next"));
    if (next)
        *after = strdup(next);
    *messages_r = json_incref(json_object_get(page, "messages"));
    json_decref(page);
    return (int64_t)json_array_size(*messages_r);
}

static void page_print(const json_t *messages)
{
    static const struct table_column columns[] = {
        {"ID", false},  {"DOMAIN", false}, {"AGE", true},    {"SIZE", true},
        {"RCPT", true}, {"TRIES", true},   {"STATE", false},
    };
    struct table *t = table_new(columns, sizeof columns / sizeof *columns);
    size_t i;
    json_t *m;
    json_array_foreach(messages, i, m)
    {
        char age[HUMAN_MAX], size[HUMAN_MAX], rcpt[HUMAN_MAX], tries[HUMAN_MAX];
        uint64_t live = json_count(m, "live"), all = json_count(m, "recipients");
        snprintf(rcpt, sizeof rcpt, live == all ? "%" PRIu64 : "%" PRIu64 "/%" PRIu64, live, all);
        snprintf(tries, sizeof tries, "%" PRIu64, json_count(m, "attempts"));
        const char *cells[] = {
            json_text(m, "id"),
            json_text(m, "domain"),
            human_age(json_number(m, "age_s"), age),
            human_bytes(json_count(m, "bytes"), size),
            rcpt,
            tries,
            json_text(m, "state"),
        };
        table_row(t, cells);
    }
    table_print(&t);
}

/* One walk through the bags of a node, or of one domain. */
struct listing {
    json_t *all;
    uint64_t limit, shown;
    bool more;
};

static bool list_node(struct ctl *c, const char *node, struct listing *l)
{
    char *after = strdup("");
    json_t *messages;
    while (after && l->shown < l->limit) {
        uint64_t left = l->limit - l->shown;
        int64_t n = page_get(c, node, left < PAGE ? left : PAGE, &after, &messages);
        if (n < 0)
            return false;
        l->shown += (uint64_t)n;
        if (c->json)
            json_array_extend(l->all, messages);
        else if (n > 0)
            page_print(messages);
        json_decref(messages);
    }
    l->more = l->more || after;
    free(after);
    return true;
}

/* Each live node of a cluster shows the bags that it owns. */
static bool list_nodes(struct ctl *c, const json_t *nodes, struct listing *l)
{
    size_t i;
    json_t *n;
    json_array_foreach(nodes, i, n)
    {
        if (json_is_true(json_object_get(n, "live")) && !list_node(c, json_text(n, "name"), l))
            return false;
    }
    return true;
}

static bool list_all(struct ctl *c, struct listing *l)
{
    json_t *answer = NULL;
    char why[CLIENT_WHY_MAX];
    bool domain = c->words_n > 0;
    if (!domain && client_call(ctl_client(c), "GET", "/v1/nodes?local=1", NULL, &answer, why) == 0) {
        bool ok = list_nodes(c, json_object_get(answer, "nodes"), l);
        json_decref(answer);
        return ok;
    }
    return list_node(c, NULL, l);
}

static void list_end(const struct ctl *c, const struct listing *l)
{
    if (!ctl_json(c, l->all) && l->shown == 0)
        puts("Nothing is bagged.");
    if (!c->json && l->more)
        printf("There is more: --limit N shows more, --limit 0 all.\n");
}

int cmd_queue_list(struct ctl *c)
{
    const char *text = ctl_given(c, "limit");
    if (text && (*text == 0 || strlen(text) > 18 || strspn(text, "0123456789") != strlen(text)))
        return ctl_usage(c, "--limit: \"%s\" is not a number", text);
    struct listing l = {.all = json_array(), .limit = text ? strtoull(text, NULL, 10) : LIMIT_PRESET};
    l.limit = l.limit ? l.limit : UINT64_MAX;
    bool ok = list_all(c, &l);
    if (ok)
        list_end(c, &l);
    json_decref(l.all);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- one message */

static char *message_path(const char *id, const char *behind)
{
    char *name = client_escape(id), *path = ctl_path("/v1/queue/%s%s", name, behind);
    free(name);
    return path;
}

/* Text from clients: control characters would speak to the terminal. */
static const char *safe(const char *text, char *out_r, size_t cap)
{
    size_t i = 0;
    for (; text[i] && i + 1 < cap; i++)
        out_r[i] = (char)((unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i]);
    out_r[i] = 0;
    return out_r;
}

static void message_print(const json_t *m)
{
    char a[HUMAN_MAX], b[HUMAN_MAX], s1[512], s2[512];
    size_t i;
    json_t *r;
    printf("message    %s\ndomain     %s\narrived    %s, %s ago\nsize       %s\n", json_text(m, "id"),
           json_text(m, "domain"), json_text(m, "arrival"), human_age(json_number(m, "age_s"), a),
           human_bytes(json_count(m, "bytes"), b));
    if (json_is_true(json_object_get(m, "unreadable")))
        printf("unreadable its record is damaged; a copy on another node repairs it, or `queue delete` ends it\n");
    else
        printf("from       <%s>\nclient     %s [%s]\n", safe(json_text(m, "sender"), s1, sizeof s1),
               safe(json_text(m, "helo"), s2, sizeof s2), json_text(m, "client"));
    printf("tries      %" PRIu64 "%s%s%s\n", json_count(m, "attempts"), *json_text(m, "due") ? ", next due " : "",
           json_text(m, "due"), json_is_true(json_object_get(m, "held")) ? ", held" : "");
    json_array_foreach(json_object_get(m, "recipients"), i, r)
        printf("%s <%s> %s\n", i ? "          " : "to        ", safe(json_text(r, "address"), s1, sizeof s1),
               json_text(r, "state"));
}

int cmd_queue_show(struct ctl *c)
{
    json_t *m = ctl_call(c, "GET", message_path(c->words[0], ""), NULL);
    if (!m)
        return EXIT_FAILURE;
    if (!ctl_json(c, m))
        message_print(m);
    json_decref(m);
    return EXIT_SUCCESS;
}

int cmd_queue_view(struct ctl *c)
{
    char why[CLIENT_WHY_MAX], *path = message_path(c->words[0], "/content");
    int res = client_fetch(ctl_client(c), path, stdout, why);
    free(path);
    return res < 0 ? ctl_fail("%s", why) : EXIT_SUCCESS;
}

/* ---- flush */

int cmd_queue_flush(struct ctl *c)
{
    bool all = ctl_given(c, "all") != NULL;
    char count[HUMAN_MAX];
    if (all == (c->words_n == 1))
        return ctl_usage(c, "name a domain, or say --all");
    char *domain = client_escape(all ? "" : c->words[0]);
    json_t *answer = ctl_call(c, "POST", ctl_path("/v1/queue/flush%s%s", all ? "" : "?domain=", domain), NULL);
    free(domain);
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer))
        printf("%s due now; %s.\n", human_count(json_count(answer, "flushed"), "deferred message", count),
               all ? "primaries are tried at once" : "the primary is tried at once");
    json_decref(answer);
    return EXIT_SUCCESS;
}

/* ---- delete */

static bool confirmed(const struct ctl *c, const char *domain)
{
    char line[16] = "";
    if (ctl_given(c, "yes"))
        return true;
    if (!isatty(STDIN_FILENO))
        return false;
    fprintf(stderr, "Delete all bagged mail of %s? Type yes: ", domain);
    return fgets(line, sizeof line, stdin) && strcmp(line, "yes\n") == 0;
}

static int domain_delete(struct ctl *c, const char *domain)
{
    uint64_t deleted = 0;
    char count[HUMAN_MAX];
    bool more = true;
    if (!confirmed(c, domain))
        return ctl_fail("nothing was deleted: confirm with --yes");
    char *name = client_escape(domain);
    while (more) {
        json_t *answer = ctl_call(c, "DELETE", ctl_path("/v1/queue?domain=%s", name), NULL);
        if (!answer)
            break;
        deleted += json_count(answer, "deleted");
        more = json_is_true(json_object_get(answer, "more"));
        json_decref(answer);
    }
    free(name);
    if (c->json)
        printf("{\"deleted\": %" PRIu64 "}\n", deleted);
    else if (!more || deleted > 0)
        printf("%s deleted\n", human_count(deleted, "message", count));
    return more ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int ids_delete(struct ctl *c)
{
    int code = EXIT_SUCCESS;
    json_t *done = json_array();
    for (size_t i = 0; i < c->words_n; i++) {
        json_t *answer = ctl_call(c, "DELETE", message_path(c->words[i], ""), NULL);
        if (!answer) {
            code = EXIT_FAILURE;
            continue;
        }
        json_array_append(done, json_object_get(answer, "deleted"));
        if (!c->json)
            printf("%s: deleted\n", c->words[i]);
        json_decref(answer);
    }
    ctl_json(c, done);
    json_decref(done);
    return code;
}

int cmd_queue_delete(struct ctl *c)
{
    const char *domain = ctl_given(c, "domain");
    if ((domain != NULL) == (c->words_n > 0))
        return ctl_usage(c, "name message IDs, or --domain NAME");
    return domain ? domain_delete(c, domain) : ids_delete(c);
}
