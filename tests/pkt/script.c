/* script.c - reads packet scripts. */
#include "tests/pkt/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A remark starts with '#' at the start of a word. Returns it, or NULL. */
static char *cut_remark(char *text)
{
    for (char *p = text; *p; p++)
        if (*p == '#' && (p == text || p[-1] == ' ' || p[-1] == '\t')) {
            *p = 0;
            return p + 1 + strspn(p + 1, " ");
        }
    return NULL;
}

static bool split_words(struct line *l)
{
    char *words[SCRIPT_WORDS_MAX + 1], *save = NULL, *copy = strdup(l->text);
    for (char *w = strtok_r(copy, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        if (l->n == SCRIPT_WORDS_MAX) {
            free(copy);
            return false;
        }
        words[l->n++] = strdup(w);
    }
    free(copy);
    l->words = calloc(l->n + 1u, sizeof *l->words);
    memcpy(l->words, words, l->n * sizeof *words);
    return true;
}

/* What concerns the whole script. */
static void note_scope(struct script *s, const struct line *l)
{
    if (strcmp(l->words[0], "only") != 0)
        return;
    for (unsigned i = 1; i < l->n; i++) {
        if (!strcmp(l->words[i], "ipv4"))
            s->v6 = false;
        else if (!strcmp(l->words[i], "ipv6"))
            s->v4 = false;
        else if (!strcmp(l->words[i], "whole"))
            s->truncated = false;
    }
}

static bool add_line(struct script *s, char *text, unsigned number)
{
    text[strcspn(text, "\r\n")] = 0;
    const char *remark = cut_remark(text);
    if (remark && !*s->title)
        snprintf(s->title, sizeof s->title, "%s", remark);
    struct line l = {.number = number, .text = strdup(text)};
    if (!split_words(&l)) {
        fprintf(stderr, "%s:%u: too many words\n", s->path, number);
        free(l.text);
        return false;
    }
    s->lines = realloc(s->lines, (s->n + 1) * sizeof *s->lines);
    s->lines[s->n++] = l;
    if (l.n > 0)
        note_scope(s, &l);
    return true;
}

bool script_load(struct script *s, const char *path)
{
    *s = (struct script){.path = strdup(path), .v4 = true, .v6 = true, .truncated = true};
    FILE *f = fopen(path, "re");
    if (!f) {
        perror(path);
        return false;
    }
    char *text = NULL;
    size_t room = 0;
    bool ok = true;
    for (unsigned number = 1; ok && getline(&text, &room, f) >= 0; number++)
        ok = add_line(s, text, number);
    free(text);
    fclose(f);
    return ok;
}

void script_free(struct script *s)
{
    for (size_t i = 0; i < s->n; i++) {
        for (unsigned k = 0; k < s->lines[i].n; k++)
            free(s->lines[i].words[k]);
        free(s->lines[i].words);
        free(s->lines[i].text);
    }
    free(s->lines);
    free(s->path);
}
