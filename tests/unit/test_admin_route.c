/* test_admin_route.c - which node of a cluster answers a request, and what it is asked.  The cluster and HTTP are
 * faked: n0 is this node. */
#include "ctl/admin_route.c"
#include "tests/unit/map_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- the world */

static struct {
    const struct cmap *map;
    const char *args[8][2]; /* of the query */
    size_t args_n;
    const char *here; /* the domain of the message that lies here */
    /* what others were asked: "n1 GET /v1/...; n2 ..." */
    char asked[4096];
    unsigned knows; /* which node knows the message */
    int ask_res;
    unsigned status; /* the reply */
    char text[1024];
} world;

const struct cmap *cluster_map(struct cluster *c)
{
    (void)c;
    return world.map ? cmap_ref(world.map) : NULL;
}

const char *cluster_node_name(const struct cluster *c)
{
    (void)c;
    return "n0";
}

/* Domains are named as their shard: "2.example". */
uint32_t cluster_shard_of(struct cluster *c, const struct cmap *map, struct slice domain)
{
    (void)c, (void)map;
    return domain.p[0] - (uint32_t)'0';
}

int cluster_ask(struct cluster *c, const char *node, const char *method, const char *path, const char *body,
                struct cluster_answer *answer_r, char *why_r)
{
    size_t n = strlen(world.asked);
    (void)c;
    snprintf(world.asked + n, sizeof world.asked - n, "%s%s %s %s%s%s", n ? "; " : "", node, method, path,
             body ? " " : "", body ? body : "");
    snprintf(why_r, CLUSTER_WHY_MAX, "%s: no link", node);
    if (world.ask_res < 0)
        return world.ask_res;
    bool knows = node[1] - (unsigned)'0' == world.knows;
    *answer_r = (struct cluster_answer){
        .status = knows ? 200 : 404, .type = strdup("text/x"), .body = strdup(node), .n = strlen(node)};
    return 0;
}

int spool_find(struct spool *s, const struct msgid *id, char domain_r[256])
{
    (void)s, (void)id;
    if (!world.here)
        return -SATCHEL_ENOENT;
    snprintf(domain_r, 256, "%s", world.here);
    return 0;
}

const char *admin_arg(const struct admin_request *r, const char *name)
{
    (void)r;
    for (size_t i = 0; i < world.args_n; i++)
        if (strcmp(world.args[i][0], name) == 0)
            return world.args[i][1];
    return NULL;
}

int MHD_get_connection_values(struct MHD_Connection *c, enum MHD_ValueKind kind, MHD_KeyValueIterator each, void *arg)
{
    (void)c;
    for (size_t i = 0; i < world.args_n; i++)
        each(arg, kind, world.args[i][0], world.args[i][1]);
    return (int)world.args_n;
}

enum MHD_Result admin_reply_text(struct admin_request *r, unsigned status, const char *type, char *text, size_t n)
{
    (void)r;
    assert_string_equal(type, "text/x");
    world.status = status;
    snprintf(world.text, sizeof world.text, "%.*s", (int)n, text);
    free(text);
    return MHD_YES;
}

enum MHD_Result admin_reply_error(struct admin_request *r, unsigned status, const char *error, const char *remedy)
{
    (void)r;
    assert_non_null(remedy);
    world.status = status;
    snprintf(world.text, sizeof world.text, "%s", error);
    return MHD_YES;
}

/* Four nodes; n3 is dead.  Shard i is owned by n<i>. */
static int setup(void **state)
{
    struct map_node nodes[4];
    struct map_pool pool = {.name = POOL_SHARED, .copies = 2, .acks = 1, .shards = 5};
    struct map_shard shards[5] = {0};
    (void)state;
    memset(&world, 0, sizeof world);
    for (uint32_t i = 0; i < 4; i++)
        nodes[i] = rig_node(i, "", POOL_SHARED);
    nodes[3].live = false;
    for (uint32_t i = 0; i < 5; i++) {
        shards[i].number = i;
        if (i < 4) /* shard 4 is nobody's */
            shards[i].owner = rig_storage(i);
    }
    const struct cmap draft = {.rev = 1,
                               .version = 1,
                               .nodes = nodes,
                               .pools = &pool,
                               .shards = shards,
                               .nodes_n = 4,
                               .pools_n = 1,
                               .shards_n = 5};
    world.map = cmap_copy(&draft);
    world.knows = 2;
    return world.map ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cmap_unref(world.map);
    return 0;
}

/* ---- a request */

static bool elsewhere_from(bool trusted, enum admin_about about, const char *method, const char *url, const char *name,
                           char *body)
{
    struct admin a = {.deps.cluster = (struct cluster *)&world};
    struct admin_request r = {.a = &a, .method = method, .url = url, .trusted = trusted, .body = body};
    enum MHD_Result answered;
    snprintf(r.name, sizeof r.name, "%s", name);
    return admin_elsewhere(&r, about, &answered);
}

static bool elsewhere(enum admin_about about, const char *method, const char *url, const char *name)
{
    return elsewhere_from(true, about, method, url, name, NULL);
}

static void arg(const char *key, const char *value)
{
    world.args[world.args_n][0] = key;
    world.args[world.args_n++][1] = value;
}

/* A message ID as text, of whatever form they have. */
static const char *id_text(void)
{
    static char text[MSGID_TEXT_MAX];
    struct msgid id;
    memset(&id, 1, sizeof id);
    msgid_format(&id, text);
    return text;
}

/* ---- tests */

static void a_domain_is_asked_of_its_owner(void **state)
{
    (void)state;
    assert_true(elsewhere(ABOUT_DOMAIN, "GET", "/v1/domains/2.example", "2.example"));
    assert_string_equal(world.asked, "n2 GET /v1/domains/2.example?local=1");
    assert_int_equal(world.status, 200);
    assert_string_equal(world.text, "n2");
}

static void what_this_node_owns_is_answered_here(void **state)
{
    (void)state;
    assert_false(elsewhere(ABOUT_DOMAIN, "GET", "/v1/domains/0.example", "0.example"));
    assert_false(elsewhere(ABOUT_DOMAIN, "GET", "/v1/domains/4.example", "4.example")); /* nobody owns it */
    assert_false(elsewhere(ABOUT_DOMAIN, "GET", "/v1/domains/3.example", "3.example")); /* its owner is dead */
    assert_false(elsewhere(ABOUT_BAG, "GET", "/v1/queue", ""));
    assert_false(elsewhere(ABOUT_NODE, "GET", "/v1/status", ""));
    assert_string_equal(world.asked, "");
}

static void without_a_map_this_node_answers(void **state)
{
    (void)state;
    cmap_unref(world.map);
    world.map = NULL;
    assert_false(elsewhere(ABOUT_DOMAIN, "GET", "/v1/domains/2.example", "2.example"));
}

static void a_bag_is_asked_of_its_owner_with_the_whole_query(void **state)
{
    (void)state;
    arg("domain", "1.example");
    arg("after", "a b/c&d=e");
    arg("limit", "5");
    assert_true(elsewhere(ABOUT_BAG, "DELETE", "/v1/queue", ""));
    assert_string_equal(world.asked, "n1 DELETE /v1/queue?local=1&domain=1.example&after=a%20b%2Fc%26d%3De&limit=5");
}

static void a_node_that_is_named_answers(void **state)
{
    char body[] = "{\"x\": 1}";
    (void)state;
    arg("node", "n2");
    assert_true(elsewhere_from(true, ABOUT_NODE, "PUT", "/v1/domains/a b%", "a b%", body));
    assert_string_equal(world.asked, "n2 PUT /v1/domains/a%20b%25?local=1 {\"x\": 1}"); /* and asks nobody else */
}

static void naming_this_node_stays_here(void **state)
{
    (void)state;
    arg("node", "n0");
    assert_false(elsewhere(ABOUT_DOMAIN, "GET", "/v1/domains/2.example", "2.example"));
    assert_string_equal(world.asked, "");
}

static void a_question_of_another_node_never_travels_on(void **state)
{
    (void)state;
    arg("local", "1");
    arg("node", "n2");
    assert_false(elsewhere(ABOUT_DOMAIN, "GET", "/v1/domains/2.example", "2.example"));
    assert_false(elsewhere(ABOUT_MESSAGE, "GET", "/v1/queue/x", id_text()));
    assert_string_equal(world.asked, "");
}

static void strangers_ask_this_node_alone(void **state)
{
    (void)state;
    arg("node", "n2");
    assert_false(elsewhere_from(false, ABOUT_NODE, "GET", "/v1/status", "", NULL));
    assert_false(elsewhere_from(false, ABOUT_DOMAIN, "GET", "/v1/domains/2.example", "2.example", NULL));
    assert_string_equal(world.asked, "");
}

static void a_message_that_lies_here_is_asked_of_its_owner(void **state)
{
    (void)state;
    world.here = "1.example";
    world.knows = 1;
    assert_true(elsewhere(ABOUT_MESSAGE, "GET", "/v1/queue/id", id_text()));
    assert_string_equal(world.asked, "n1 GET /v1/queue/id?local=1");
    world.here = "0.example";
    assert_false(elsewhere(ABOUT_MESSAGE, "GET", "/v1/queue/id", id_text()));
}

static void a_message_that_is_not_here_is_searched_for(void **state)
{
    (void)state;
    assert_true(elsewhere(ABOUT_MESSAGE, "GET", "/v1/queue/id", id_text()));
    assert_string_equal(world.asked, "n1 GET /v1/queue/id?local=1; n2 GET /v1/queue/id?local=1");
    assert_string_equal(world.text, "n2");
    world.knows = 9;
    world.asked[0] = 0;
    assert_false(elsewhere(ABOUT_MESSAGE, "GET", "/v1/queue/id", id_text())); /* this node says that it is nowhere */
    assert_string_equal(world.asked, "n1 GET /v1/queue/id?local=1; n2 GET /v1/queue/id?local=1");
    assert_false(elsewhere(ABOUT_MESSAGE, "GET", "/v1/queue/x", "no ID"));
}

static void a_node_that_does_not_answer(void **state)
{
    (void)state;
    arg("node", "n2");
    world.ask_res = -SATCHEL_EAGAIN;
    assert_true(elsewhere(ABOUT_NODE, "GET", "/v1/status", ""));
    assert_int_equal(world.status, 503);
    assert_string_equal(world.text, "n2: no link");
    world.ask_res = -SATCHEL_ENOENT;
    assert_true(elsewhere(ABOUT_NODE, "GET", "/v1/status", ""));
    assert_int_equal(world.status, 404);
}

static void a_request_that_is_too_long(void **state)
{
    static char value[6000];
    (void)state;
    memset(value, '%', sizeof value - 1); /* three times as long when it is escaped */
    arg("node", "n2");
    arg("after", value);
    assert_true(elsewhere(ABOUT_NODE, "GET", "/v1/queue", ""));
    assert_int_equal(world.status, 414);
    assert_string_equal(world.asked, "");
}

static void alone_everything_is_answered_here(void **state)
{
    struct admin a = {0};
    struct admin_request r = {.a = &a, .method = "GET", .url = "/v1/domains/2.example", .trusted = true};
    enum MHD_Result answered;
    (void)state;
    arg("node", "n2");
    assert_false(admin_elsewhere(&r, ABOUT_NODE, &answered));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_domain_is_asked_of_its_owner),
        T(what_this_node_owns_is_answered_here),
        T(without_a_map_this_node_answers),
        T(a_bag_is_asked_of_its_owner_with_the_whole_query),
        T(a_node_that_is_named_answers),
        T(naming_this_node_stays_here),
        T(a_question_of_another_node_never_travels_on),
        T(strangers_ask_this_node_alone),
        T(a_message_that_lies_here_is_asked_of_its_owner),
        T(a_message_that_is_not_here_is_searched_for),
        T(a_node_that_does_not_answer),
        T(a_request_that_is_too_long),
        T(alone_everything_is_answered_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
