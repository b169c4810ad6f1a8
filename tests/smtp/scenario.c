/* scenario.c - reads scenarios. */
#include "tests/smtp/scenario.h"

#include <stdio.h>
#include <stdlib.h>

struct reader {
    const char *file;
    unsigned line;
    struct scenario *list;
    size_t n;
};

static void refuse(const struct reader *r, const char *why)
{
    fprintf(stderr, "%s:%u: %s\n", r->file, r->line, why);
    exit(2);
}

size_t unescape(char *text)
{
    char *out = text;
    for (const char *p = text; *p; p++) {
        unsigned v;
        if (*p != '\\' || !p[1]) {
            *out++ = *p;
            continue;
        }
        p++;
        if (*p == 'x' && sscanf(p + 1, "%2x", &v) == 1) {
            *out++ = (char)v;
            p += 2;
        } else {
            *out++ = *p == 'r' ? '\r' : *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
        }
    }
    *out = 0;
    return (size_t)(out - text);
}

static struct step *add_step(struct reader *r, enum step_kind kind)
{
    if (r->n == 0)
        refuse(r, "a scenario starts with: = title");
    struct scenario *s = &r->list[r->n - 1];
    s->steps = realloc(s->steps, (s->n + 1) * sizeof *s->steps);
    struct step *st = &s->steps[s->n++];
    *st = (struct step){.kind = kind, .line = r->line};
    return st;
}

/* '#' stands for the number of the repetition. */
static char *numbered(const char *text, unsigned i)
{
    char *out = malloc(strlen(text) + 16), *o = out;
    const char *hash = strchr(text, '#');
    if (!hash)
        return strcpy(out, text);
    o += sprintf(o, "%.*s%u", (int)(hash - text), text, i);
    strcpy(o, hash + 1);
    return out;
}

static void add_send(struct reader *r, const char *text, bool crlf, unsigned times)
{
    for (unsigned i = 1; i <= times; i++) {
        struct step *st = add_step(r, STEP_SEND);
        char *bytes = times > 1 ? numbered(text, i) : strdup(text);
        st->n = unescape(bytes);
        st->bytes = realloc(bytes, st->n + 2);
        if (crlf) {
            memcpy(st->bytes + st->n, "\r\n", 2);
            st->n += 2;
        }
    }
}

static void add_text(struct reader *r, enum step_kind kind, const char *text, unsigned times)
{
    for (unsigned i = 1; i <= times; i++)
        add_step(r, kind)->text = strdup(text);
}

static void add_scenario(struct reader *r, const char *title)
{
    r->list = realloc(r->list, (r->n + 1) * sizeof *r->list);
    r->list[r->n++] = (struct scenario){.file = r->file, .title = strdup(title)};
}

/* "C: text", "C*3: text", "R: text", "S: pattern", "S*3: pattern" */
static void read_talk(struct reader *r, char *line)
{
    char *colon = strchr(line, ':');
    unsigned times = line[1] == '*' ? (unsigned)strtoul(line + 2, NULL, 10) : 1;
    if (!colon || (line[1] != ':' && line[1] != '*') || times == 0)
        refuse(r, "expected C:, R:, S:, !, =, # or an empty line");
    const char *text = colon + (colon[1] == ' ' ? 2 : 1);
    if (line[0] == 'S')
        add_text(r, STEP_EXPECT, text, times);
    else
        add_send(r, text, line[0] == 'C', times);
}

static void read_line(struct reader *r, char *line)
{
    switch (line[0]) {
    case 0:
    case '#':
        break;
    case '=':
        add_scenario(r, line + 1 + strspn(line + 1, " "));
        break;
    case '!':
        add_text(r, STEP_DO, line + 1 + strspn(line + 1, " "), 1);
        break;
    case 'C':
    case 'R':
    case 'S':
        read_talk(r, line);
        break;
    default:
        refuse(r, "expected C:, R:, S:, !, =, # or an empty line");
    }
}

struct scenario *scenarios_load(const char *file, size_t *n_r)
{
    struct reader r = {.file = file};
    FILE *f = fopen(file, "r");
    if (!f)
        refuse(&r, "cannot be opened");
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, f)) >= 0;) {
        r.line++;
        line[n > 0 && line[n - 1] == '\n' ? n - 1 : n] = 0;
        read_line(&r, line);
    }
    free(line);
    fclose(f);
    *n_r = r.n;
    return r.list;
}

void scenarios_free(struct scenario *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < s[i].n; j++) {
            free(s[i].steps[j].text);
            free(s[i].steps[j].bytes);
        }
        free(s[i].steps);
        free(s[i].title);
    }
    free(s);
}
