/* settings.c - the configuration file: from YAML to a checked struct settings.
 *
 * The file is read as one libyaml document, whose nodes know their place, and walked once: a mapping descends ("smtp"
 * -> "smtp."), anything else is the value of a key in the table.  `domains:` is read last, since `keep:` may follow it.
 * Diagnostics: FILE:LINE:COL: KEY: what was found; expected what. */
#include "dataplane/conf/settings.h"
#include "dataplane/conf/settings_dataplane.h"
#include "dataplane/conf/settings_domains.h"
#include "dataplane/conf/settings_table.h"
#include "spool/base/err.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_MAX 128

static int reader_fail(struct settings_reader *r, const yaml_node_t *at, const char *key, const char *why)
{
    if (at)
        snprintf(r->err_r, r->cap, "%s:%zu:%zu: %s%s%s", r->file, at->start_mark.line + 1, at->start_mark.column + 1,
                 key, *key ? ": " : "", why);
    else
        snprintf(r->err_r, r->cap, "%s%s%s%s%s", r->file, *r->file ? ": " : "", key, *key ? ": " : "", why);
    return -SATCHEL_ECONFIG;
}

int settings_reader_fail(struct settings_reader *r, const yaml_node_t *at, const char *key, const char *fmt, ...)
{
    char why[SETTINGS_WHY_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return reader_fail(r, at, key, why);
}

/* Scalars are NUL-terminated by libyaml; a NUL inside cuts the text, and then it is too short to pass a check. */
const char *settings_scalar(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

bool settings_scalar_is_null(const yaml_node_t *n)
{
    const char *s = settings_scalar(n);
    return s && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (*s == 0 || !strcmp(s, "~") || !strcmp(s, "null"));
}

/* ---- values */

static int value_read(struct settings_reader *r, const struct setting_info *i, const yaml_node_t *value)
{
    char why[SETTINGS_WHY_MAX];
    const char *text = settings_scalar(value);
    if (!text) {
        char expects[SETTINGS_WHY_MAX / 2];
        setting_expects(i, expects, sizeof expects);
        return settings_reader_fail(r, value, i->key, "a %s is not wanted here; expected %s",
                                    value->type == YAML_SEQUENCE_NODE ? "list" : "mapping", expects);
    }
    if (setting_set(r->st, i, settings_scalar_is_null(value) ? "" : text, why) < 0)
        return reader_fail(r, value, i->key, why);
    return 0;
}

/* A list, or one value in place of a list of one; nothing empties it. */
static int list_read(struct settings_reader *r, const struct setting_info *i, const yaml_node_t *value)
{
    setting_list_clear(setting_field(r->st, i));
    if (settings_scalar_is_null(value))
        return 0;
    if (value->type != YAML_SEQUENCE_NODE)
        return value_read(r, i, value);
    for (yaml_node_item_t *it = value->data.sequence.items.start; it < value->data.sequence.items.top; it++) {
        int res = value_read(r, i, yaml_document_get_node(&r->doc, *it));
        if (res < 0)
            return res;
    }
    return 0;
}

static bool is_group(const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        if (strncmp(setting_infos[i].key, key, n) == 0 && setting_infos[i].key[n] == '.')
            return true;
    }
    return false;
}

static int mapping_read(struct settings_reader *r, const yaml_node_t *map, const char *prefix);

static int pair_read(struct settings_reader *r, const yaml_node_t *name, const yaml_node_t *value, const char *key)
{
    if (is_group(key)) {
        if (settings_scalar_is_null(value))
            return 0;
        if (value->type != YAML_MAPPING_NODE)
            return reader_fail(r, value, key, "expected settings below it, indented, such as `key: value`");
        return mapping_read(r, value, key);
    }
    if (strcmp(key, "domains") == 0) {
        r->domains = value;
        return 0;
    }
    int at = setting_find(key);
    if (at < 0)
        return settings_reader_fail(r, name, "", "unknown setting %s; did you mean %s?", key, setting_nearest(key));
    r->seen[at] = value;
    const struct setting_info *i = &setting_infos[at];
    return i->kind == SETTING_KIND_LIST ? list_read(r, i, value) : value_read(r, i, value);
}

int settings_no_duplicate(struct settings_reader *r, const yaml_node_t *map, const yaml_node_pair_t *pair)
{
    const yaml_node_t *name = yaml_document_get_node(&r->doc, pair->key);
    const char *text = settings_scalar(name);
    if (!text)
        return reader_fail(r, name, "", "a key must be a plain word");
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < pair; p++) {
        const yaml_node_t *earlier = yaml_document_get_node(&r->doc, p->key);
        if (strcmp(settings_scalar(earlier), text) == 0)
            return settings_reader_fail(r, name, "", "%s is there twice; the first one is in line %zu", text,
                                        earlier->start_mark.line + 1);
    }
    return 0;
}

static int mapping_read(struct settings_reader *r, const yaml_node_t *map, const char *prefix)
{
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        int res = settings_no_duplicate(r, map, p);
        if (res < 0)
            return res;
        const yaml_node_t *name = yaml_document_get_node(&r->doc, p->key);
        char key[KEY_MAX];
        snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", settings_scalar(name));
        res = pair_read(r, name, yaml_document_get_node(&r->doc, p->value), key);
        if (res < 0)
            return res;
    }
    return 0;
}

/* ---- what one value alone cannot say */

static int bounds_check(struct settings_reader *r, uint64_t low, uint64_t high, enum setting_index at_low,
                        enum setting_index at_high)
{
    if (low <= high)
        return 0;
    const yaml_node_t *where = r->seen[at_low] ? r->seen[at_low] : r->seen[at_high];
    return settings_reader_fail(r, where, setting_infos[at_low].key, "is above %s", setting_infos[at_high].key);
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static int addresses_check(struct settings_reader *r)
{
    const struct settings *st = r->st;
    char why[256];
    struct primary at;
    if (st->listen.n == 0 && !settings_on_dpdk(st))
        return reader_fail(r, r->seen[SETTING_AT_listen], "listen", "is empty; expected one address such as *:25");
    for (size_t i = 0; i < st->listen.n; i++) {
        const char *text = st->listen.v[i];
        if (primary_parse(slice_str(text[0] == '*' ? text + 1 : text), &at, why) < 0 && text[0] != '*')
            return reader_fail(r, r->seen[SETTING_AT_listen], "listen", why);
        if (!strrchr(text, ':') || strspn(strrchr(text, ':') + 1, "0123456789") == 0)
            return settings_reader_fail(r, r->seen[SETTING_AT_listen], "listen",
                                        "\"%.64s\" has no port; expected an address such as *:25 or 127.0.0.1:2525",
                                        text);
    }
    if (*st->admin_http && (primary_parse(slice_str(st->admin_http), &at, why) < 0 || !is_loopback(at.host)))
        return settings_reader_fail(
            r, r->seen[SETTING_AT_admin_http], "admin.http",
            "\"%.64s\" is not a loopback address; expected one such as 127.0.0.1:8025, or nothing for off",
            st->admin_http);
    if (*st->relay_smarthost && primary_parse(slice_str(st->relay_smarthost), &at, why) < 0)
        return reader_fail(r, r->seen[SETTING_AT_relay_smarthost], "relay.smarthost", why);
    return 0;
}

static int together_check(struct settings_reader *r)
{
    const struct settings *st = r->st;
    int res = bounds_check(r, st->relay_probe_min_us, st->relay_probe_max_us, SETTING_AT_relay_probe_min_us,
                           SETTING_AT_relay_probe_max_us);
    if (res == 0)
        res = bounds_check(r, st->relay_retry_min_us, st->relay_retry_max_us, SETTING_AT_relay_retry_min_us,
                           SETTING_AT_relay_retry_max_us);
    if (res < 0)
        return res;
    uint64_t least = (st->spool_reserve_segments + UINT64_C(2)) * st->spool_segment_bytes;
    char text[UNITS_TEXT_MAX];
    if (st->spool_max_bytes != 0 && st->spool_max_bytes < least)
        return settings_reader_fail(r, r->seen[SETTING_AT_spool_max_bytes], "spool.max",
                                    "is too small; expected at least %s: the reserve and two segments for mail",
                                    size_format(least, text));
    if (*st->data_dir == 0)
        return reader_fail(r, r->seen[SETTING_AT_data_dir], "data_dir", "is empty; expected a directory");
    res = addresses_check(r);
    return res < 0 ? res : settings_dataplane_check(r);
}

/* The machine's name as it stands: asking DNS for a longer one could block the start. */
static void derived_fill(struct settings *st)
{
    char name[256] = "localhost";
    if (*st->hostname == 0) {
        gethostname(name, sizeof name - 1);
        free(st->hostname);
        st->hostname = strdup(name);
    }
    if (*st->admin_socket == 0) {
        free(st->admin_socket);
        if (asprintf(&st->admin_socket, "%s/admin.sock", st->data_dir) < 0)
            abort();
    }
}

/* ---- the file */

static void presets_set(struct settings *st)
{
    char why[SETTINGS_WHY_MAX];
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting_info *info = &setting_infos[i];
        if (info->kind == SETTING_KIND_LIST)
            ((struct setting_list *)setting_field(st, info))->v = calloc(1, sizeof(char *));
        if (info->kind == SETTING_KIND_LIST && *info->preset == 0)
            continue;
        if (setting_set(st, info, info->preset, why) < 0)
            abort(); /* a defect in settings.def */
    }
}

static int yaml_fail(struct settings_reader *r)
{
    const char *problem = r->parser.problem ? r->parser.problem : "cannot be read";
    bool tab = strstr(problem, "cannot start any token") != NULL;
    snprintf(r->err_r, r->cap, "%s:%zu:%zu: not YAML: %s%s%s%s", r->file, r->parser.problem_mark.line + 1,
             r->parser.problem_mark.column + 1, problem, r->parser.context ? ", " : "",
             r->parser.context ? r->parser.context : "", tab ? "; indent with spaces, not tabs" : "");
    return -SATCHEL_ECONFIG;
}

static int document_read(struct settings_reader *r)
{
    const yaml_node_t *root = yaml_document_get_root_node(&r->doc);
    if (!root || settings_scalar_is_null(root))
        return together_check(r);
    if (root->type != YAML_MAPPING_NODE)
        return reader_fail(r, root, "", "expected settings such as `hostname: mx.example.net`");
    int res = mapping_read(r, root, "");
    if (res == 0)
        res = together_check(r);
    return res == 0 && r->domains ? settings_domains_read(r, r->domains) : res;
}

/* Nothing may follow the first document: it would be ignored in silence. */
static int second_document_check(struct settings_reader *r)
{
    yaml_document_t more;
    if (!yaml_parser_load(&r->parser, &more))
        return yaml_fail(r);
    const yaml_node_t *root = yaml_document_get_root_node(&more);
    int res = root ? reader_fail(r, root, "", "a second document; expected one") : 0;
    yaml_document_delete(&more);
    return res;
}

static int file_read(struct settings_reader *r, FILE *f)
{
    if (!yaml_parser_initialize(&r->parser))
        abort();
    yaml_parser_set_input_file(&r->parser, f);
    int res;
    if (!yaml_parser_load(&r->parser, &r->doc)) {
        res = yaml_fail(r);
    } else {
        bool empty = yaml_document_get_root_node(&r->doc) == NULL;
        res = document_read(r);
        if (res == 0 && !empty)
            res = second_document_check(r);
        yaml_document_delete(&r->doc);
    }
    yaml_parser_delete(&r->parser);
    return res;
}

static int file_load(struct settings_reader *r)
{
    struct stat sb;
    FILE *f = fopen(r->file, "re");
    if (!f || fstat(fileno(f), &sb) < 0 || S_ISDIR(sb.st_mode)) {
        int err = f ? EISDIR : errno;
        snprintf(r->err_r, r->cap, "%s: cannot read the configuration: %s", r->file, satchel_strerror(err));
        if (f)
            fclose(f);
        return -err;
    }
    int res = file_read(r, f);
    fclose(f);
    return res;
}

int settings_load(struct settings *st_r, const char *file, char *err_r, size_t cap)
{
    struct settings_reader r = {.st = st_r, .file = file ? file : "", .err_r = err_r, .cap = cap};
    memset(st_r, 0, sizeof *st_r);
    if (cap > 0)
        err_r[0] = 0;
    presets_set(st_r);
    int res = file ? file_load(&r) : together_check(&r);
    if (res < 0)
        settings_free(st_r);
    else
        derived_fill(st_r);
    return res;
}

void settings_free(struct settings *st)
{
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting_info *info = &setting_infos[i];
        if (info->kind == SETTING_KIND_LIST) {
            struct setting_list *l = setting_field(st, info);
            setting_list_clear(l);
            free(l->v);
        } else if (info->kind == SETTING_KIND_STRING || info->kind == SETTING_KIND_PATH) {
            free(*(char **)setting_field(st, info));
        }
    }
    free(st->domains);
    memset(st, 0, sizeof *st);
}

size_t settings_changed_needs_restart(const struct settings *running, const struct settings *loaded, char *names_r,
                                      size_t cap)
{
    size_t n = 0, at = 0;
    if (cap > 0)
        names_r[0] = 0;
    for (int i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting_info *info = &setting_infos[i];
        if (info->live || setting_equal(running, loaded, info))
            continue;
        int w = snprintf(at < cap ? names_r + at : NULL, at < cap ? cap - at : 0, "%s%s", n ? ", " : "", info->key);
        at += (size_t)w;
        n++;
    }
    return n;
}
