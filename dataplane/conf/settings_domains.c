/* settings_domains.c - `domains:` of the configuration file: the domains to begin with.
 *
 *   domains:
 *     - name: example.com
 *       primary: [mail.example.com:25, backup.example.com]
 *       keep: 30d */
#include "dataplane/conf/settings_domains.h"
#include "spool/base/err.h"

#include <stdio.h>
#include <stdlib.h>

/* Each key of a domain: reads its value; what it refuses is in why_r (SETTINGS_WHY_MAX). */
typedef int domain_key_read(struct domain *dom, const char *text, char *why_r);

static int primary_read(struct domain *dom, const char *text, char *why_r)
{
    if (dom->primaries_n == PRIMARIES_MAX) {
        snprintf(why_r, SETTINGS_WHY_MAX, "more than %d primaries", PRIMARIES_MAX);
        return -SATCHEL_EINVAL;
    }
    return primary_parse(slice_str(text), &dom->primaries[dom->primaries_n++], why_r);
}

static int keep_read(struct domain *dom, const char *text, char *why_r)
{
    uint64_t us;
    if (duration_parse(slice_str(text), &us) < 0 || us < MINUTE || us > 3650 * DAY) {
        snprintf(why_r, SETTINGS_WHY_MAX, "\"%.64s\" is no such time; expected one such as 30d, between 1m and 3650d",
                 text);
        return -SATCHEL_EINVAL;
    }
    dom->keep_s = us / SECOND;
    return 0;
}

static int connections_read(struct domain *dom, const char *text, char *why_r)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != 0 || v < 1 || v > CONNECTIONS_MAX) {
        snprintf(why_r, SETTINGS_WHY_MAX, "\"%.64s\" is no such number; expected one between 1 and %d", text,
                 CONNECTIONS_MAX);
        return -SATCHEL_EINVAL;
    }
    dom->connections = (uint32_t)v;
    return 0;
}

static int order_read(struct domain *dom, const char *text, char *why_r)
{
    if (domain_order_parse(text, &dom->order))
        return 0;
    snprintf(why_r, SETTINGS_WHY_MAX, "\"%.64s\" is not known; expected one of strict|window", text);
    return -SATCHEL_EINVAL;
}

static const struct domain_key {
    const char *name;
    domain_key_read *read; /* NULL: the name, read before all others */
    bool list;
} domain_keys[] = {
    {"name", NULL, false},        {"primary", primary_read, true},
    {"keep", keep_read, false},   {"connections", connections_read, false},
    {"order", order_read, false},
};
#define DOMAIN_KEYS (sizeof domain_keys / sizeof *domain_keys)

static const struct domain_key *domain_key_find(const char *name)
{
    for (size_t i = 0; i < DOMAIN_KEYS; i++) {
        if (strcmp(domain_keys[i].name, name) == 0)
            return &domain_keys[i];
    }
    return NULL;
}

static int one_read(struct settings_reader *r, struct domain *dom, const struct domain_key *k, const yaml_node_t *value)
{
    char why[SETTINGS_WHY_MAX], key[64];
    const char *text = settings_scalar(value);
    snprintf(key, sizeof key, "domains: %s", k->name);
    if (!text)
        return settings_reader_fail(r, value, key, "expected a single value");
    return k->read(dom, text, why) < 0 ? settings_reader_fail(r, value, key, "%s", why) : 0;
}

static int value_read(struct settings_reader *r, struct domain *dom, const struct domain_key *k,
                      const yaml_node_t *value)
{
    if (!k->list || value->type != YAML_SEQUENCE_NODE)
        return one_read(r, dom, k, value);
    for (yaml_node_item_t *it = value->data.sequence.items.start; it < value->data.sequence.items.top; it++) {
        int res = one_read(r, dom, k, yaml_document_get_node(&r->doc, *it));
        if (res < 0)
            return res;
    }
    return 0;
}

static int name_read(struct settings_reader *r, const yaml_node_t *map, struct domain *dom)
{
    char why[256];
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const char *key = settings_scalar(yaml_document_get_node(&r->doc, p->key));
        const yaml_node_t *value = yaml_document_get_node(&r->doc, p->value);
        const char *text = settings_scalar(value);
        if (!key || strcmp(key, "name") != 0)
            continue;
        if (!text || domain_init(dom, slice_str(text), why) < 0)
            return settings_reader_fail(r, value, "domains: name", "%s", text ? why : "expected a domain name");
        dom->keep_s = r->st->keep_us / SECOND;
        return 0;
    }
    return settings_reader_fail(r, map, "domains", "a domain without name; expected `name: example.com`");
}

static int domain_read(struct settings_reader *r, const yaml_node_t *map, struct domain *dom)
{
    if (map->type != YAML_MAPPING_NODE)
        return settings_reader_fail(r, map, "domains", "expected `- name: example.com` and its settings");
    int res = name_read(r, map, dom);
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; res == 0 && p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *name = yaml_document_get_node(&r->doc, p->key);
        res = settings_no_duplicate(r, map, p);
        if (res < 0)
            return res;
        const struct domain_key *k = domain_key_find(settings_scalar(name));
        if (!k)
            return settings_reader_fail(r, name, "domains",
                                        "unknown key %.64s; known are name, primary, keep, connections, order",
                                        settings_scalar(name));
        if (k->read)
            res = value_read(r, dom, k, yaml_document_get_node(&r->doc, p->value));
    }
    if (res == 0 && dom->primaries_n == 0)
        return settings_reader_fail(r, map, "domains", "%s has no primary; expected `primary: mail.%s:25`", dom->name,
                                    dom->name);
    return res;
}

static int repeated_check(struct settings_reader *r, const yaml_node_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(r->st->domains[i].name, r->st->domains[n].name) == 0)
            return settings_reader_fail(r, at, "domains", "%s is there twice", r->st->domains[n].name);
    }
    return 0;
}

int settings_domains_read(struct settings_reader *r, const yaml_node_t *list)
{
    if (settings_scalar_is_null(list))
        return 0;
    if (list->type != YAML_SEQUENCE_NODE)
        return settings_reader_fail(r, list, "domains", "expected a list: `- name: example.com` and its settings");
    size_t n = (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
    r->st->domains = calloc(n ? n : 1, sizeof *r->st->domains);
    if (!r->st->domains)
        abort();
    for (size_t i = 0; i < n; i++) {
        const yaml_node_t *map = yaml_document_get_node(&r->doc, list->data.sequence.items.start[i]);
        int res = domain_read(r, map, &r->st->domains[i]);
        if (res == 0)
            res = repeated_check(r, map, i);
        if (res < 0)
            return res;
    }
    r->st->domains_n = n;
    return 0;
}
