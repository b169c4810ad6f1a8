/* ctl_util.c - what satchelctl's commands share. */
#include "ctl/client.h"
#include "ctl/commands.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *ctl_given(const struct ctl *c, const char *option)
{
    for (size_t i = c->given_n; i-- > 0;) {
        if (strcmp(c->given[i].option, option) == 0)
            return c->given[i].value;
    }
    return NULL;
}

int ctl_fail(const char *fmt, ...)
{
    va_list ap;
    fflush(stdout);
    fputs("satchelctl: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return EXIT_FAILURE;
}

int ctl_usage(const struct ctl *c, const char *fmt, ...)
{
    va_list ap;
    fputs("satchelctl: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (c->command)
        fprintf(stderr, "\nUsage: satchelctl %s %s; see `satchelctl %s --help`\n", c->command->name, c->command->args,
                c->command->name);
    else
        fputs("\nTry `satchelctl --help`.\n", stderr);
    return CTL_USAGE;
}

struct client *ctl_client(struct ctl *c)
{
    if (!c->client && client_open(&c->client, c->socket) < 0)
        abort();
    return c->client;
}

json_t *ctl_call(struct ctl *c, const char *method, char *path, const json_t *body)
{
    char why[CLIENT_WHY_MAX];
    json_t *answer = NULL;
    if (client_call(ctl_client(c), method, path, body, &answer, why) < 0)
        ctl_fail("%s", why);
    free(path);
    return answer;
}

json_t *ctl_send(struct ctl *c, const char *method, char *path, const char *text)
{
    char why[CLIENT_WHY_MAX];
    json_t *answer = NULL;
    if (client_send(ctl_client(c), method, path, text, &answer, why) < 0)
        ctl_fail("%s", why);
    free(path);
    return answer;
}

char *ctl_path(const char *fmt, ...)
{
    char *path;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&path, fmt, ap) < 0)
        abort();
    va_end(ap);
    return path;
}

bool ctl_json(const struct ctl *c, const json_t *answer)
{
    if (!c->json)
        return false;
    json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    fputc('\n', stdout);
    return true;
}
