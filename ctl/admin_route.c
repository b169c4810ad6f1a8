/* admin_route.c - which node of a cluster answers a request, and asking it.
 *
 *   ?node=NAME     that node
 *   ?local=1       this one, whatever it is about: what other nodes ask for, so that a question never travels on
 *   otherwise      what is about one domain's bag goes to the node that owns it; a message ID to whoever has it
 *
 * A question that other nodes put (cluster_serve) is asked again of our own socket, by admin_serve. */
#include "ctl/admin_impl.h"
#include "ctl/client.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_TEXT_MAX = 8192 };

/* ---- the path as it came, percent-escaped, without node= and with local=1 */

struct path {
    char text[PATH_TEXT_MAX];
    size_t n;
    bool bad;
};

static void path_add(struct path *p, const char *text)
{
    size_t n = strlen(text);
    if (p->n + n >= sizeof p->text)
        p->bad = true;
    else
        memcpy(p->text + p->n, text, n + 1);
    p->n += p->bad ? 0 : n;
}

static void path_add_escaped(struct path *p, const char *text)
{
    char *escaped = client_escape(text);
    path_add(p, escaped);
    free(escaped);
}

static enum MHD_Result path_arg(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct path *p = arg;
    (void)kind;
    if (strcmp(key, "node") == 0)
        return MHD_YES;
    path_add(p, "&");
    path_add_escaped(p, key);
    path_add(p, "=");
    path_add_escaped(p, value ? value : "");
    return MHD_YES;
}

/* Parts of a path are escaped one by one: the slashes between them stay. */
static void path_parts(struct path *p, const char *url)
{
    char part[ADMIN_NAME_MAX * 2];
    while (*url) {
        size_t n = strcspn(url, "/");
        snprintf(part, sizeof part, "%.*s", (int)(n < sizeof part ? n : sizeof part - 1), url);
        path_add_escaped(p, part);
        url += n;
        if (*url == '/') {
            path_add(p, "/");
            url++;
        }
    }
}

/* ---- asking another node */

static enum MHD_Result reply_answer(struct admin_request *r, struct cluster_answer *an)
{
    char *type = an->type;
    enum MHD_Result res = admin_reply_text(r, an->status, type, an->body, an->n); /* takes the body over */
    free(type);
    return res;
}

static enum MHD_Result ask_failed(struct admin_request *r, int res, const char *why)
{
    return admin_reply_error(r, res == -SATCHEL_ENOENT ? MHD_HTTP_NOT_FOUND : MHD_HTTP_SERVICE_UNAVAILABLE, why,
                             "see `satchelctl node list`, or ask that node itself");
}

static void request_path(const struct admin_request *r, struct path *p)
{
    *p = (struct path){0};
    path_parts(p, r->url);
    path_add(p, "?local=1");
    MHD_get_connection_values(r->c, MHD_GET_ARGUMENT_KIND, path_arg, p);
}

static enum MHD_Result ask(struct admin_request *r, const char *node)
{
    struct cluster_answer an = {0};
    struct path p;
    char why[CLUSTER_WHY_MAX];
    request_path(r, &p);
    if (p.bad)
        return admin_reply_error(r, MHD_HTTP_URI_TOO_LONG, "the request is too long", "shorten it");
    int res = cluster_ask(r->a->deps.cluster, node, r->method, p.text, r->body, &an, why);
    return res < 0 ? ask_failed(r, res, why) : reply_answer(r, &an);
}

/* ---- whom */

/* The node that owns the domain's shard; false: this one, or nobody. */
static bool owner_of(struct admin *a, const char *domain, char node_r[NODE_NAME_MAX])
{
    const struct cmap *map = cluster_map(a->deps.cluster);
    uint32_t shard = map ? cluster_shard_of(a->deps.cluster, map, slice_str(domain)) : UINT32_MAX;
    const struct map_node *n = shard == UINT32_MAX ? NULL : cmap_storage(map, &map->shards[shard].owner);
    bool other = n && n->live && strcmp(n->name, cluster_node_name(a->deps.cluster)) != 0;
    if (other)
        memcpy(node_r, n->name, NODE_NAME_MAX);
    cmap_unref(map);
    return other;
}

/* Each other live node is asked until one knows the message. */
static bool ask_all(struct admin_request *r, enum MHD_Result *answered_r)
{
    const struct cmap *map = cluster_map(r->a->deps.cluster);
    struct cluster_answer an = {0};
    struct path p;
    char why[CLUSTER_WHY_MAX];
    bool found = false;
    request_path(r, &p);
    for (uint32_t i = 0; map && !found && i < map->nodes_n; i++) {
        const struct map_node *n = &map->nodes[i];
        if (!n->live || strcmp(n->name, cluster_node_name(r->a->deps.cluster)) == 0)
            continue;
        an = (struct cluster_answer){0};
        if (cluster_ask(r->a->deps.cluster, n->name, r->method, p.text, r->body, &an, why) < 0)
            continue;
        found = an.status != MHD_HTTP_NOT_FOUND && an.status != MHD_HTTP_MISDIRECTED_REQUEST;
        if (!found) {
            free(an.type);
            free(an.body);
        }
    }
    cmap_unref(map);
    if (found)
        *answered_r = reply_answer(r, &an);
    return found;
}

/* A message that lies here, owned or not, names its domain; others are searched for. */
static bool message_elsewhere(struct admin_request *r, enum MHD_Result *answered_r)
{
    struct msgid id;
    char domain[256], node[NODE_NAME_MAX];
    if (msgid_parse(slice_str(r->name), &id) < 0)
        return false;
    if (spool_find(r->a->deps.spool, &id, domain) < 0)
        return ask_all(r, answered_r);
    if (!owner_of(r->a, domain, node))
        return false;
    *answered_r = ask(r, node);
    return true;
}

bool admin_elsewhere(struct admin_request *r, enum admin_about about, enum MHD_Result *answered_r)
{
    struct cluster *cluster = r->a->deps.cluster;
    const char *node = admin_arg(r, "node"), *domain = about == ABOUT_DOMAIN ? r->name : admin_arg(r, "domain");
    char owner[NODE_NAME_MAX];
    if (!cluster || !r->trusted || admin_arg(r, "local"))
        return false;
    if (node && strcmp(node, cluster_node_name(cluster)) != 0) {
        *answered_r = ask(r, node);
        return true;
    }
    if (node || about == ABOUT_NODE)
        return false;
    if (about == ABOUT_MESSAGE)
        return message_elsewhere(r, answered_r);
    if (!domain || !owner_of(r->a, domain, owner))
        return false;
    *answered_r = ask(r, owner);
    return true;
}

/* ---- being asked */

int admin_serve(void *admin, const char *method, const char *path, const char *body, struct cluster_answer *answer_r)
{
    struct admin *a = admin;
    struct client *client;
    struct client_answer got = {0};
    char why[CLIENT_WHY_MAX];
    int res = client_open(&client, a->socket_path);
    if (res < 0)
        return res;
    res = client_raw(client, method, path, body, &got, why);
    client_close(&client);
    if (res == 0)
        *answer_r = (struct cluster_answer){.status = got.status, .type = got.type, .body = got.body, .n = got.n};
    return res;
}
