/* settings_table.c - settings.def as data: finding a key, reading and comparing one value. */
#include "dataplane/conf/settings_table.h"
#include "spool/base/err.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define LIVE    true
#define RESTART false
const struct setting_info setting_infos[SETTINGS_COUNT] = {
#define X(kind, key, field, least, most, preset, unit, reload, help)                                                   \
    {key, offsetof(struct settings, field), least, most, preset, unit, help, SETTING_KIND_##kind, reload},
#include "dataplane/conf/settings.def"
#undef X
};

int setting_find(const char *key)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        if (strcmp(setting_infos[i].key, key) == 0)
            return i;
    }
    return -1;
}

/* ---- near misses */

#define EDIT_MAX 64

/* Levenshtein distance; both are cut at EDIT_MAX. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t an = strnlen(a, EDIT_MAX), bn = strnlen(b, EDIT_MAX), row[EDIT_MAX + 1];
    for (size_t j = 0; j <= bn; j++)
        row[j] = j;
    for (size_t i = 1; i <= an; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= bn; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[bn];
}

static const char *last_part(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

const char *setting_nearest(const char *key)
{
    const char *best = "domains";
    size_t best_distance = edit_distance(key, best);
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const char *known = setting_infos[i].key;
        size_t d = edit_distance(key, known);
        /* The right word in the wrong place: one whole step better than any slip of the pen. */
        if (d > 0 && strcmp(last_part(key), last_part(known)) == 0)
            d = 1;
        if (d < best_distance) {
            best_distance = d;
            best = known;
        }
    }
    return best;
}

/* ---- one value */

void setting_expects(const struct setting_info *i, char *out_r, size_t cap)
{
    char least[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];
    switch (i->kind) {
    case SETTING_KIND_BOOL:
        snprintf(out_r, cap, "yes or no");
        return;
    case SETTING_KIND_INT:
        snprintf(out_r, cap, "a whole number of %s, between %llu and %llu", i->unit, (unsigned long long)i->least,
                 (unsigned long long)i->most);
        return;
    case SETTING_KIND_SIZE:
        snprintf(out_r, cap, "bytes with a unit such as 64MiB, between %s and %s", size_format(i->least, least),
                 size_format(i->most, most));
        return;
    case SETTING_KIND_DURATION:
        snprintf(out_r, cap, "a time with a unit (ms, s, m, h, d, w) such as 30s, between %s and %s",
                 duration_format(i->least, least), duration_format(i->most, most));
        return;
    case SETTING_KIND_CHOICE:
        snprintf(out_r, cap, "one of %s", i->unit);
        return;
    case SETTING_KIND_STRING:
    case SETTING_KIND_PATH:
        snprintf(out_r, cap, "a %s", i->unit);
        return;
    case SETTING_KIND_LIST:
        snprintf(out_r, cap, "a list of %s", i->unit);
        return;
    }
}

static bool bool_parse(const char *text, bool *v_r)
{
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *v_r = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

/* Index of text among "a|b|c"; -1. */
static int choice_parse(const char *words, const char *text)
{
    size_t n = strlen(text);
    for (int at = 0;; at++) {
        size_t w = strcspn(words, "|");
        if (w == n && memcmp(words, text, n) == 0)
            return at;
        if (words[w] == 0)
            return -1;
        words += w + 1;
    }
}

static bool int_parse(const char *text, uint64_t *v_r)
{
    if (*text == 0 || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    *v_r = strtoull(text, NULL, 10);
    return errno == 0;
}

static void string_set(char **field, const char *text)
{
    free(*field);
    *field = strdup(text);
    if (!*field)
        abort();
}

static void list_add(struct setting_list *l, const char *text)
{
    l->v = realloc(l->v, (l->n + 2) * sizeof *l->v);
    if (!l->v || !(l->v[l->n] = strdup(text)))
        abort();
    l->v[++l->n] = NULL;
}

void setting_list_clear(struct setting_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    if (l->v)
        l->v[0] = NULL;
    l->n = 0;
}

static const char *kind_noun(enum setting_kind kind)
{
    switch (kind) {
    case SETTING_KIND_BOOL:
        return "neither yes nor no";
    case SETTING_KIND_INT:
        return "not a number";
    case SETTING_KIND_SIZE:
        return "not a size";
    case SETTING_KIND_DURATION:
        return "not a time";
    case SETTING_KIND_CHOICE:
        return "not known";
    default:
        return "empty";
    }
}

static int refuse(const struct setting_info *i, const char *text, const char *what, char *why_r)
{
    char expects[SETTINGS_WHY_MAX / 2];
    setting_expects(i, expects, sizeof expects);
    snprintf(why_r, SETTINGS_WHY_MAX, "\"%.64s\" is %s; expected %s", text, what, expects);
    return -SATCHEL_EINVAL;
}

static int number_set(struct settings *st, const struct setting_info *i, const char *text, char *why_r)
{
    uint64_t v = 0;
    struct slice s = slice_str(text);
    bool good = i->kind == SETTING_KIND_INT    ? int_parse(text, &v)
                : i->kind == SETTING_KIND_SIZE ? size_parse(s, &v) == 0
                                               : duration_parse(s, &v) == 0;
    if (!good)
        return refuse(i, text, kind_noun(i->kind), why_r);
    if (v < i->least || v > i->most)
        return refuse(i, text, v < i->least ? "too small" : "too large", why_r);
    if (i->kind == SETTING_KIND_INT)
        *(uint32_t *)setting_field(st, i) = (uint32_t)v;
    else
        *(uint64_t *)setting_field(st, i) = v;
    return 0;
}

int setting_set(struct settings *st, const struct setting_info *i, const char *text, char *why_r)
{
    int at;
    switch (i->kind) {
    case SETTING_KIND_BOOL:
        return bool_parse(text, setting_field(st, i)) ? 0 : refuse(i, text, kind_noun(i->kind), why_r);
    case SETTING_KIND_CHOICE:
        at = choice_parse(i->unit, text);
        if (at < 0)
            return refuse(i, text, kind_noun(i->kind), why_r);
        *(int *)setting_field(st, i) = at;
        return 0;
    case SETTING_KIND_STRING:
    case SETTING_KIND_PATH:
        string_set(setting_field(st, i), text);
        return 0;
    case SETTING_KIND_LIST:
        if (*text == 0)
            return refuse(i, text, kind_noun(i->kind), why_r);
        list_add(setting_field(st, i), text);
        return 0;
    default:
        return number_set(st, i, text, why_r);
    }
}

static bool list_equal(const struct setting_list *a, const struct setting_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        if (strcmp(a->v[i], b->v[i]) != 0)
            return false;
    }
    return true;
}

bool setting_equal(const struct settings *a, const struct settings *b, const struct setting_info *i)
{
    const char *x = (const char *)a + i->offset, *y = (const char *)b + i->offset;
    switch (i->kind) {
    case SETTING_KIND_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case SETTING_KIND_INT:
        return *(const uint32_t *)x == *(const uint32_t *)y;
    case SETTING_KIND_CHOICE:
        return *(const int *)x == *(const int *)y;
    case SETTING_KIND_STRING:
    case SETTING_KIND_PATH:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case SETTING_KIND_LIST:
        return list_equal((const struct setting_list *)x, (const struct setting_list *)y);
    default:
        return *(const uint64_t *)x == *(const uint64_t *)y;
    }
}
