/* addr_text.c - IP addresses and networks as people write them. */
#include "dataplane/tcp/addr_text.h"

#include <arpa/inet.h>
#include <stdio.h>

bool addr_parse(struct slice text, struct ip_addr *a_r)
{
    char s[INET6_ADDRSTRLEN];
    struct in_addr in4;
    if (text.n >= sizeof s || memchr(text.p, 0, text.n))
        return false;
    memcpy(s, text.p, text.n);
    s[text.n] = 0;
    if (inet_pton(AF_INET, s, &in4) == 1) {
        *a_r = ip_addr_of4(in4.s_addr);
        return true;
    }
    return inet_pton(AF_INET6, s, a_r->b) == 1 && !ip_addr_is4(a_r);
}

/* 0 to 128 in decimal digits, no more of them than needed. */
static bool length_parse(struct slice text, unsigned max, unsigned *bits_r)
{
    unsigned v = 0;
    if (text.n == 0 || text.n > 3 || (text.p[0] == '0' && text.n > 1))
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        v = v * 10 + (text.p[i] - '0');
    }
    *bits_r = v;
    return v <= max;
}

bool addr_parse_prefix(struct slice text, struct ip_prefix *p_r)
{
    const uint8_t *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
    size_t n = slash ? (size_t)(slash - text.p) : text.n;
    unsigned bits, max;
    if (n == 0 || !addr_parse(slice_of(text.p, n), &p_r->addr))
        return false;
    max = ip_addr_is4(&p_r->addr) ? 32 : 128;
    bits = max;
    if (slash && !length_parse(slice_of(slash + 1, text.n - n - 1), max, &bits))
        return false;
    p_r->bits = (uint8_t)(bits + 128 - max);
    return true;
}

const char *addr_format(const struct ip_addr *a, char out_r[ADDR_TEXT_MAX])
{
    bool is4 = ip_addr_is4(a);
    return inet_ntop(is4 ? AF_INET : AF_INET6, is4 ? a->b + 12 : a->b, out_r, ADDR_TEXT_MAX);
}

const char *addr_format_prefix(const struct ip_prefix *p, char out_r[ADDR_TEXT_MAX])
{
    size_t n = strlen(addr_format(&p->addr, out_r));
    snprintf(out_r + n, ADDR_TEXT_MAX - n, "/%u", ip_addr_is4(&p->addr) ? p->bits - 96u : p->bits);
    return out_r;
}
