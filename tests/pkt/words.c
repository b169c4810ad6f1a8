/* words.c - words of a line. */
#include "tests/pkt/words.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>

const char *words_look(const struct words *s)
{
    return s->i < s->l->n ? s->l->words[s->i] : NULL;
}

const char *words_next(struct words *s)
{
    if (s->i < s->l->n)
        return s->l->words[s->i++];
    fail(s->w, "the line ends too early");
    return "";
}

bool words_take(struct words *s, const char *word)
{
    const char *next = words_look(s);
    if (!next || strcmp(next, word) != 0)
        return false;
    s->i++;
    return true;
}

void words_unknown(struct words *s, const char *word)
{
    fail(s->w, "the script: what is \"%s\"?", word);
}

/* A number, or "$" with one added. */
static int64_t place(const struct words *s, const char *p, char **end_r)
{
    bool edge = *p == '$';
    return (edge ? s->edge : 0) + strtoll(p + edge, end_r, 0);
}

bool words_number(const struct words *s, const char *word, int64_t *n_r)
{
    char *end;
    *n_r = place(s, word, &end);
    return end != word && *end == 0;
}

int64_t words_int(struct words *s)
{
    int64_t n = 0;
    const char *word = words_next(s);
    if (!words_number(s, word, &n))
        words_unknown(s, word);
    return n;
}

static uint32_t hex_repeat(const char *word, uint8_t *out, uint32_t cap)
{
    unsigned n, v;
    if (sscanf(word, "x%u:%2x", &n, &v) != 2 || n > cap)
        return UINT32_MAX;
    memset(out, (int)v, n);
    return n;
}

static uint32_t hex_word(const char *word, uint8_t *out, uint32_t cap)
{
    uint32_t n = 0;
    for (const char *p = word; *p;) {
        unsigned v;
        if (*p == ':' || *p == '.') {
            p++;
            continue;
        }
        if (n == cap || !isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) || sscanf(p, "%2x", &v) != 1)
            return UINT32_MAX;
        out[n++] = (uint8_t)v;
        p += 2;
    }
    return n;
}

uint32_t words_hex(struct words *s, uint8_t *out, uint32_t cap)
{
    const char *word = words_next(s);
    uint32_t n = *word == 'x' ? hex_repeat(word, out, cap) : hex_word(word, out, cap);
    if (n == UINT32_MAX) {
        words_unknown(s, word);
        return 0;
    }
    return n;
}

struct ip_addr words_addr(struct words *s)
{
    const char *word = words_next(s);
    struct ip_addr a = world_host(s->w, HOST_US);
    struct in_addr a4;
    int64_t n;
    if (!strcmp(word, "us"))
        return a;
    if (words_number(s, word, &n))
        return world_host(s->w, (unsigned)n);
    if (inet_pton(AF_INET, word, &a4) == 1)
        return ip_addr_of4(a4.s_addr);
    if (inet_pton(AF_INET6, word, a.b) != 1)
        words_unknown(s, word);
    return a;
}

bool words_range(const struct words *s, const char *word, int64_t *start_r, int64_t *end_r, bool *any_end_r)
{
    char *p;
    *any_end_r = false;
    *start_r = *end_r = place(s, word, &p);
    if (p == word)
        return false;
    if (*p == ':' && !strcmp(p + 1, "*")) {
        *any_end_r = true;
        return true;
    }
    if (*p == ':')
        *end_r = place(s, p + 1, &p);
    if (*p == '(') {
        int64_t n = strtoll(p + 1, &p, 10);
        if (*start_r == *end_r)
            *end_r += n;
        return *p == ')' && p[1] == 0 && *end_r - *start_r == n;
    }
    return *p == 0;
}

int words_flags(const char *word)
{
    static const char letters[] = "FSRP.UEW";
    int flags = 0;
    if (!strcmp(word, "-"))
        return 0;
    for (const char *p = word; *p; p++) {
        const char *at = strchr(letters, *p);
        if (!at)
            return -1;
        flags |= 1 << (at - letters);
    }
    return *word ? flags : -1;
}

static uint64_t us_of(double seconds)
{
    return (uint64_t)(seconds * 1e6 + 0.5);
}

bool words_time(struct words *s, uint64_t *low_r, uint64_t *high_r)
{
    const char *word = words_look(s);
    char low[32], *end;
    *low_r = *high_r = 0;
    if (!word || *word != '+')
        return false;
    const char *to = strstr(word, "..");
    snprintf(low, sizeof low, "%.*s", to ? (int)(to - word - 1) : (int)sizeof low - 1, word + 1);
    *low_r = *high_r = us_of(strtod(low, &end));
    if (to && !*end)
        *high_r = us_of(strtod(to + 2, &end));
    if (*end)
        words_unknown(s, word);
    s->i++;
    return true;
}

uint64_t words_seconds(struct words *s)
{
    const char *word = words_next(s);
    char *end;
    double v = strtod(word, &end);
    if (end == word || *end)
        words_unknown(s, word);
    return us_of(v);
}
