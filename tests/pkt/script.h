/* script.h - a packet script as lines of words. README.md describes the language. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define SCRIPT_WORDS_MAX 96u

struct line {
    unsigned number;
    char *text;   /* as it stands in the file, without its remark */
    char **words; /* words[n] is NULL */
    unsigned n;
};

struct script {
    char *path;
    char title[160]; /* the first remark */
    struct line *lines;
    size_t n;
    bool v4, v6;    /* which families it runs over */
    bool truncated; /* also with each frame preceded by its truncations */
};

/* False with a message on stderr: not readable, or a line with too many words. */
bool script_load(struct script *s, const char *path);
void script_free(struct script *s);
