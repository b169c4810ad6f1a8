/* cmd_recipients.c - satchelctl domain recipients: for whom a domain takes mail. */
#include "ctl/client.h"
#include "ctl/cmd_table.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "dataplane/conf/recipients_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 50000 };

/* The path of the domain's list, with what comes behind. */
static char *list_path(const struct ctl *c, const char *behind)
{
    char *name = client_escape(c->words[0]), *path = ctl_path("/v1/domains/%s/recipients%s", name, behind);
    free(name);
    return path;
}

/* ---- texts to send */

static char *read_whole(FILE *f, size_t *n_r)
{
    char *text = NULL;
    size_t n = 0, cap = 0, got = 1;
    while (got > 0 && n <= RECIPIENTS_TEXT_MAX) {
        if (cap - n < 65536) {
            cap = cap ? cap * 2 : 1 << 17;
            text = realloc(text, cap);
            if (!text)
                abort();
        }
        got = fread(text + n, 1, cap - n - 1, f);
        n += got;
    }
    text[n] = 0;
    *n_r = n;
    return text;
}

static size_t line_of(const char *text, const char *at)
{
    size_t line = 1;
    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

/* The file's text, "-" for standard input; NULL: it is said why. */
static char *file_text(const char *path)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    size_t n;
    if (!f) {
        ctl_fail("cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    char *text = read_whole(f, &n), *nul = memchr(text, 0, n);
    bool failed = ferror(f);
    if (f != stdin)
        fclose(f);
    if (!failed && !nul && n <= RECIPIENTS_TEXT_MAX)
        return text;
    if (failed)
        ctl_fail("cannot read %s", path);
    else if (nul)
        ctl_fail("%s: line %zu holds a NUL byte: give a text file, one recipient a line", path, line_of(text, nul));
    else
        ctl_fail("%s: larger than the 64 MiB of a list", path);
    free(text);
    return NULL;
}

/* All values of an option, a line each; NULL: it is not given. */
static char *given_text(const struct ctl *c, const char *option)
{
    char *text = NULL, *longer;
    for (size_t i = 0; i < c->given_n; i++) {
        if (strcmp(c->given[i].option, option) != 0)
            continue;
        if (asprintf(&longer, "%s%s\n", text ? text : "", c->given[i].value) < 0)
            abort();
        free(text);
        text = longer;
    }
    return text;
}

/* ---- changing */

static int answer_end(const struct ctl *c, json_t *answer)
{
    char n[HUMAN_MAX];
    if (!answer)
        return EXIT_FAILURE;
    if (ctl_json(c, answer)) {
    } else if (json_is_null(json_object_get(answer, "list"))) {
        printf("%s: no list any more: every recipient is taken\n", json_text(answer, "domain"));
    } else {
        printf("%s: %s; others are refused\n", json_text(answer, "domain"),
               human_count(json_count(answer, "count"), "recipient", n));
    }
    json_decref(answer);
    return EXIT_SUCCESS;
}

static int list_send(struct ctl *c, const char *method, const char *behind, char *text)
{
    int code = text ? answer_end(c, ctl_send(c, method, list_path(c, behind), text)) : EXIT_FAILURE;
    free(text);
    return code;
}

static int list_change(struct ctl *c)
{
    char *add = given_text(c, "add"), *remove = given_text(c, "remove");
    int code = EXIT_SUCCESS;
    if (add)
        code = list_send(c, "POST", "/add", add);
    if (remove && code == EXIT_SUCCESS)
        code = list_send(c, "POST", "/remove", remove);
    else
        free(remove);
    return code;
}

/* ---- showing */

static void page_print(const json_t *page)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(page, "recipients"), i, one) puts(json_string_value(one));
}

/* The first page takes in what follows, for --json. */
static int list_show(struct ctl *c)
{
    json_t *all = NULL, *page;
    char *after = strdup(""), behind[64];
    bool more = true;
    snprintf(behind, sizeof behind, "?limit=%d", PAGE);
    while (more) {
        char *path = list_path(c, behind), *whole = ctl_path("%s%s%s", path, *after ? "&after=" : "", after);
        free(path);
        free(after);
        page = ctl_call(c, "GET", whole, NULL);
        if (!page) {
            json_decref(all);
            return EXIT_FAILURE;
        }
        more = json_is_string(json_object_get(page, "next"));
        after = client_escape(json_text(page, "next"));
        if (!c->json)
            page_print(page);
        else if (all)
            json_array_extend(json_object_get(all, "recipients"), json_object_get(page, "recipients"));
        if (!all)
            all = json_incref(page);
        json_decref(page);
    }
    free(after);
    json_object_del(all, "next");
    if (!ctl_json(c, all) && json_is_null(json_object_get(all, "list")))
        fprintf(stderr, "%s has no list: every recipient is taken\n", c->words[0]);
    json_decref(all);
    return EXIT_SUCCESS;
}

int cmd_domain_recipients(struct ctl *c)
{
    const char *set = ctl_given(c, "set");
    bool clear = ctl_given(c, "clear") != NULL, change = ctl_given(c, "add") || ctl_given(c, "remove");
    if ((set != NULL) + clear + change > 1)
        return ctl_usage(c, "give --set, --clear, or --add and --remove: only one of these");
    if (set)
        return list_send(c, "PUT", "", file_text(set));
    if (clear)
        return answer_end(c, ctl_call(c, "DELETE", list_path(c, ""), NULL));
    return change ? list_change(c) : list_show(c);
}
