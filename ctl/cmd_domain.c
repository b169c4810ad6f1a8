/* cmd_domain.c - satchelctl domain: which domains are served, and how. */
#include "ctl/client.h"
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "dataplane/conf/units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The path of the domain named by the first word, with what comes behind. */
static char *domain_path(const struct ctl *c, const char *behind)
{
    char *name = client_escape(c->words[0]), *path = ctl_path("/v1/domains/%s%s", name, behind);
    free(name);
    return path;
}

/* ---- options into JSON */

static json_t *primaries_given(const struct ctl *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->given_n; i++) {
        if (strcmp(c->given[i].option, "primary") == 0)
            json_array_append_new(list, json_string(c->given[i].value));
    }
    return list;
}

/* 0, or the exit code. */
static int keep_put(const struct ctl *c, json_t *dom)
{
    const char *text = ctl_given(c, "keep");
    uint64_t us;
    if (!text)
        return 0;
    if (duration_parse(slice_str(text), &us) < 0)
        return ctl_usage(c, "--keep: \"%s\" is not a time; expected one such as 30d or 12h", text);
    json_object_set_new(dom, "keep_s", json_integer((json_int_t)(us / SECOND)));
    return 0;
}

static int max_message_put(const struct ctl *c, json_t *dom)
{
    const char *text = ctl_given(c, "max-message");
    uint64_t bytes;
    if (!text)
        return 0;
    if (size_parse(slice_str(text), &bytes) < 0)
        return ctl_usage(c, "--max-message: \"%s\" is not a size; expected one such as 20MiB", text);
    json_object_set_new(dom, "max_message_bytes", json_integer((json_int_t)bytes));
    return 0;
}

static int connections_put(const struct ctl *c, json_t *dom)
{
    const char *text = ctl_given(c, "connections");
    if (!text)
        return 0;
    if (*text == 0 || strlen(text) > 6 || strspn(text, "0123456789") != strlen(text))
        return ctl_usage(c, "--connections: \"%s\" is not a number", text);
    json_object_set_new(dom, "connections", json_integer(atoi(text)));
    return 0;
}

static int options_put(const struct ctl *c, json_t *dom)
{
    json_t *primaries = primaries_given(c);
    if (json_array_size(primaries) > 0)
        json_object_set(dom, "primaries", primaries);
    json_decref(primaries);
    if (ctl_given(c, "pool"))
        json_object_set_new(dom, "pool", json_string(ctl_given(c, "pool")));
    if (ctl_given(c, "order"))
        json_object_set_new(dom, "order", json_string(ctl_given(c, "order")));
    int code = keep_put(c, dom);
    if (code == 0)
        code = connections_put(c, dom);
    return code == 0 ? max_message_put(c, dom) : code;
}

/* ---- showing */

static void primaries_print(const json_t *dom)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(dom, "primaries"), i, one)
        printf("%s%s", i ? ", then " : "primary      ", json_string_value(one));
    putchar('\n');
}

static void relay_print(const json_t *relay)
{
    printf("state        %s", json_text(relay, "state"));
    if (*json_text(relay, "since"))
        printf(" since %s", json_text(relay, "since"));
    printf("\n");
    if (*json_text(relay, "address"))
        printf("address      %s, %" PRIu64 " connections, %" PRIu64 " messages under way\n",
               json_text(relay, "address"), json_count(relay, "connections"), json_count(relay, "in_flight"));
    printf("since start  %" PRIu64 " delivered, %" PRIu64 " deferred, %" PRIu64 " bounced\n",
           json_count(relay, "delivered"), json_count(relay, "deferred"), json_count(relay, "bounced"));
    if (*json_text(relay, "next_probe"))
        printf("next probe   %s\n", json_text(relay, "next_probe"));
    if (*json_text(relay, "last"))
        printf("last failure %s\n", json_text(relay, "last"));
}

static void domain_print(const json_t *dom)
{
    const json_t *bag = json_object_get(dom, "bag");
    char a[HUMAN_MAX], b[HUMAN_MAX], text[UNITS_TEXT_MAX];
    printf("domain       %s\n", json_text(dom, "name"));
    if (json_is_true(json_object_get(dom, "served"))) {
        primaries_print(dom);
        printf("keep         %s\nconnections  %" PRIu64 ", order %s\n",
               duration_format(json_count(dom, "keep_s") * SECOND, text), json_count(dom, "connections"),
               json_text(dom, "order"));
        if (json_count(dom, "max_message_bytes") > 0)
            printf("max message  %s\n", size_format(json_count(dom, "max_message_bytes"), text));
        if (json_object_get(dom, "recipients"))
            printf("recipients   %s: others are refused\n",
                   human_count(json_count(json_object_get(dom, "recipients"), "count"), "listed recipient", a));
        if (json_is_true(json_object_get(dom, "held")))
            puts("held         yes: mail is accepted and not relayed; see `satchelctl domain release`");
    } else {
        puts("served       no: recipients are refused; mail that is bagged waits");
    }
    printf("bagged       %s, %s", human_count(json_count(bag, "messages"), "message", b),
           human_bytes(json_count(bag, "bytes"), a));
    if (json_count(bag, "messages") > 0)
        printf(", the oldest %s; %" PRIu64 " deferred, %" PRIu64 " held", human_age(json_number(bag, "oldest_s"), a),
               json_count(bag, "deferred"), json_count(bag, "held"));
    putchar('\n');
    relay_print(json_object_get(dom, "relay"));
}

/* Prints the answer, or says what was done. */
static int answer_end(const struct ctl *c, json_t *answer, const char *done)
{
    if (!answer)
        return EXIT_FAILURE;
    if (!ctl_json(c, answer))
        printf("%s: %s\n", json_text(answer, "name"), done);
    json_decref(answer);
    return EXIT_SUCCESS;
}

/* ---- commands */

int cmd_domain_add(struct ctl *c)
{
    if (!ctl_given(c, "primary"))
        return ctl_usage(c, "where should the mail go? Add --primary mail.%s:25", c->words[0]);
    json_t *dom = json_pack("{ss}", "name", c->words[0]);
    if (!dom)
        return ctl_usage(c, "the name is not text");
    int code = options_put(c, dom);
    if (code == 0)
        code = answer_end(c, ctl_call(c, "POST", ctl_path("/v1/domains"), dom), "served from now on");
    json_decref(dom);
    return code;
}

int cmd_domain_set(struct ctl *c)
{
    static const char *const shown_only[] = {"served", "bag", "relay"};
    json_t *dom = ctl_call(c, "GET", domain_path(c, ""), NULL);
    if (!dom)
        return EXIT_FAILURE;
    for (size_t i = 0; i < sizeof shown_only / sizeof *shown_only; i++)
        json_object_del(dom, shown_only[i]);
    int code = options_put(c, dom);
    if (code == 0)
        code = answer_end(c, ctl_call(c, "PUT", domain_path(c, ""), dom), "changed");
    json_decref(dom);
    return code;
}

int cmd_domain_show(struct ctl *c)
{
    json_t *dom = ctl_call(c, "GET", domain_path(c, ""), NULL);
    if (!dom)
        return EXIT_FAILURE;
    if (!ctl_json(c, dom))
        domain_print(dom);
    json_decref(dom);
    return EXIT_SUCCESS;
}

int cmd_domain_list(struct ctl *c)
{
    json_t *all = json_array(), *page;
    char *after = strdup("");
    bool more = true;
    while (more) {
        page = ctl_call(c, "GET", ctl_path("/v1/domains?limit=1000%s%s", *after ? "&after=" : "", after), NULL);
        free(after);
        if (!page) {
            json_decref(all);
            return EXIT_FAILURE;
        }
        json_array_extend(all, json_object_get(page, "domains"));
        more = json_is_string(json_object_get(page, "next"));
        after = client_escape(json_text(page, "next"));
        json_decref(page);
    }
    free(after);
    if (!ctl_json(c, all))
        domains_table_print(all);
    json_decref(all);
    return EXIT_SUCCESS;
}

int cmd_domain_remove(struct ctl *c)
{
    json_t *answer = ctl_call(c, "DELETE", domain_path(c, ""), NULL);
    if (!answer)
        return EXIT_FAILURE;
    uint64_t bagged = json_count(answer, "bagged");
    if (!ctl_json(c, answer)) {
        printf("%s: not served any more\n", c->words[0]);
        if (bagged > 0)
            printf("%" PRIu64 " messages stay bagged: add the domain again to deliver them, or delete them with\n"
                   "  satchelctl queue delete --domain %s\n",
                   bagged, c->words[0]);
    }
    json_decref(answer);
    return EXIT_SUCCESS;
}

int cmd_domain_hold(struct ctl *c)
{
    return answer_end(c, ctl_call(c, "POST", domain_path(c, "/hold"), NULL), "held: mail is accepted and not relayed");
}

int cmd_domain_release(struct ctl *c)
{
    return answer_end(c, ctl_call(c, "POST", domain_path(c, "/release"), NULL), "released: mail is relayed again");
}
