/* domain.c - one domain as a value: names, primaries, and the rules they keep. */
#include "dataplane/conf/domains.h"
#include "spool/base/err.h"

#include <arpa/inet.h>
#include <stdio.h>

#define WHY_MAX 256

#define why(why_r, ...) (snprintf((why_r), WHY_MAX, __VA_ARGS__), -SATCHEL_EINVAL)

/* ---- host names: RFC 1123 section 2.1, with `_` as some providers have it */

static bool host_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Lower case. Labels of 1..63 bytes, not starting or ending with '-'; returns how many, 0: not a host name. */
static size_t host_labels(const char *name, size_t n)
{
    size_t labels = 0;
    for (size_t at = 0; at <= n;) {
        size_t len = 0;
        while (at + len < n && host_byte((uint8_t)name[at + len]))
            len++;
        bool ends = at + len == n || name[at + len] == '.';
        if (len == 0 || len > 63 || !ends || name[at] == '-' || name[at + len - 1] == '-')
            return 0;
        labels++;
        at += len + 1;
    }
    return labels;
}

/* Copies in lower case; false: does not fit, or a NUL is inside. */
static bool lower_copy(struct slice s, char *out_r, size_t cap)
{
    if (s.n >= cap || memchr(s.p, 0, s.n))
        return false;
    for (size_t i = 0; i < s.n; i++)
        out_r[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] | 0x20 : s.p[i]);
    out_r[s.n] = 0;
    return true;
}

static bool last_label_is_number(const char *name)
{
    const char *last = strrchr(name, '.');
    last = last ? last + 1 : name;
    return strspn(last, "0123456789") == strlen(last);
}

static bool has_high_bytes(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] & 0x80)
            return true;
    }
    return false;
}

int domain_init(struct domain *dom, struct slice name, char *why_r)
{
    memset(dom, 0, sizeof *dom);
    if (has_high_bytes(name))
        return why(why_r, "name: \"%.*s\" is not ASCII; expected the A-label form (xn--...)", SLICE_FMT(name));
    if (name.n == 0 || !lower_copy(name, dom->name, sizeof dom->name))
        return why(why_r, "name: a domain name has 1 to %d characters", DOMAIN_NAME_MAX - 1);
    if (host_labels(dom->name, name.n) < 2 || last_label_is_number(dom->name))
        return why(why_r,
                   "name: \"%.120s\" is not a domain name; expected one such as example.com, without a final dot",
                   dom->name);
    dom->keep_s = KEEP_PRESET_S;
    dom->connections = 4;
    dom->order = ORDER_STRICT;
    return 0;
}

int domain_check(const struct domain *dom, char *why_r)
{
    if (dom->primaries_n == 0)
        return why(why_r, "primaries: none given; expected one such as mail.%.200s:25", dom->name);
    if (dom->primaries_n > PRIMARIES_MAX)
        return why(why_r, "primaries: more than %d", PRIMARIES_MAX);
    if (dom->keep_s < 60 || dom->keep_s > KEEP_MAX_S)
        return why(why_r, "keep_s: expected seconds between 60 and %u", KEEP_MAX_S);
    if (dom->connections < 1 || dom->connections > CONNECTIONS_MAX)
        return why(why_r, "connections: expected a number between 1 and %d", CONNECTIONS_MAX);
    return 0;
}

/* ---- orders */

static const char *const order_names[] = {[ORDER_STRICT] = "strict", [ORDER_WINDOW] = "window"};

const char *domain_order_name(enum domain_order o)
{
    return order_names[o];
}

bool domain_order_parse(const char *name, enum domain_order *o_r)
{
    for (size_t i = 0; i < sizeof order_names / sizeof *order_names; i++) {
        if (strcmp(order_names[i], name) == 0) {
            *o_r = (enum domain_order)i;
            return true;
        }
    }
    return false;
}

/* ---- primaries */

/* Splits "host", "host:port", "[v6]:port", "v6": port is empty where there is none. */
static bool primary_split(struct slice text, struct slice *host_r, struct slice *port_r)
{
    const uint8_t *end = text.p + text.n, *colon;
    *port_r = slice_of(end, 0);
    if (text.n > 0 && text.p[0] == '[') {
        const uint8_t *close = memchr(text.p, ']', text.n);
        if (!close || (close + 1 < end && close[1] != ':'))
            return false;
        *host_r = slice_of(text.p + 1, (size_t)(close - text.p - 1));
        if (close + 1 < end)
            *port_r = slice_of(close + 2, (size_t)(end - close - 2));
        return close + 1 == end || port_r->n > 0;
    }
    colon = memchr(text.p, ':', text.n);
    *host_r = text;
    if (!colon || memchr(colon + 1, ':', (size_t)(end - colon - 1)))
        return true;
    *host_r = slice_of(text.p, (size_t)(colon - text.p));
    *port_r = slice_of(colon + 1, (size_t)(end - colon - 1));
    return port_r->n > 0;
}

static bool port_parse(struct slice text, uint16_t *port_r)
{
    uint32_t v = 0;
    if (text.n > 5)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        v = v * 10 + (text.p[i] - '0');
    }
    *port_r = (uint16_t)v;
    return v >= 1 && v <= 65535;
}

int primary_parse(struct slice text, struct primary *p_r, char *why_r)
{
    struct slice host, port;
    struct in6_addr v6;
    struct in_addr v4;
    memset(p_r, 0, sizeof *p_r);
    p_r->port = 25;
    int shown = text.n > 100 ? 100 : (int)text.n;
    if (!primary_split(text, &host, &port) || !lower_copy(host, p_r->host, sizeof p_r->host))
        return why(why_r, "\"%.*s\" is not a host; expected host, host:port or [IPv6]:port", shown, text.p);
    if (port.n > 0 && !port_parse(port, &p_r->port))
        return why(why_r, "\"%.*s\": the port is not a number between 1 and 65535", shown, text.p);
    if (inet_pton(AF_INET, p_r->host, &v4) == 1 || inet_pton(AF_INET6, p_r->host, &v6) == 1)
        return 0;
    if (host_labels(p_r->host, host.n) == 0 || last_label_is_number(p_r->host))
        return why(why_r, "\"%.*s\" is not a host name or address; expected one such as mail.example.com:25", shown,
                   text.p);
    return 0;
}

const char *primary_format(const struct primary *p, char out_r[PRIMARY_TEXT_MAX])
{
    bool v6 = strchr(p->host, ':') != NULL;
    snprintf(out_r, PRIMARY_TEXT_MAX, "%s%s%s:%u", v6 ? "[" : "", p->host, v6 ? "]" : "", p->port);
    return out_r;
}
