/* test_admin_cluster.c - what the admin API says of the cluster: who leads it.  The cluster and HTTP are faked: n0 is
 * this node. */
#include "ctl/admin_cluster.c"
#include "spool/base/err.h"
#include "tests/unit/map_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- the world */

static struct {
    const struct cmap *map;
    struct cluster_status said;
    int said_res;
    unsigned status; /* the reply */
    json_t *reply;
} world;

const struct cmap *cluster_map(struct cluster *c)
{
    (void)c;
    return cmap_ref(world.map);
}

const char *cluster_node_name(const struct cluster *c)
{
    (void)c;
    return "n0";
}

int cluster_status(struct cluster *c, struct cluster_status *st_r)
{
    (void)c;
    *st_r = world.said;
    return world.said_res;
}

size_t cluster_peers(struct cluster *c, struct cluster_peer_status *st_r, size_t cap)
{
    (void)c, (void)st_r, (void)cap;
    return 0;
}

/* Others are not reached. */
int cluster_ask(struct cluster *c, const char *node, const char *method, const char *path, const char *body,
                struct cluster_answer *answer_r, char *why_r)
{
    (void)c, (void)node, (void)method, (void)path, (void)body, (void)answer_r, (void)why_r;
    return -SATCHEL_ENOENT;
}

void spool_info(struct spool *s, struct spool_info *info_r)
{
    (void)s;
    *info_r = (struct spool_info){0};
}

const char *admin_arg(const struct admin_request *r, const char *name)
{
    (void)r, (void)name;
    return NULL;
}

enum MHD_Result admin_reply_json(struct admin_request *r, unsigned status, json_t *j)
{
    (void)r;
    json_decref(world.reply);
    world.status = status;
    world.reply = j;
    return MHD_YES;
}

enum MHD_Result admin_reply_error(struct admin_request *r, unsigned status, const char *error, const char *remedy)
{
    return admin_reply_json(r, status, json_pack("{ss ss}", "error", error, "remedy", remedy));
}

/* ---- nobody asks for these here */

bool admin_arg_number(struct admin_request *r, const char *name, uint64_t preset, uint64_t most, uint64_t *v_r,
                      enum MHD_Result *answered_r)
{
    (void)r, (void)name, (void)preset, (void)most, (void)v_r, (void)answered_r;
    abort();
}

uint32_t cluster_shard_of(struct cluster *c, const struct cmap *map, struct slice domain)
{
    (void)c, (void)map, (void)domain;
    abort();
}

int cluster_shards(struct cluster *c, uint32_t first, uint32_t n, struct cluster_shard_status *st_r)
{
    (void)c, (void)first, (void)n, (void)st_r;
    abort();
}

int cluster_node_set(struct cluster *c, const char *node, enum node_state state, char *why_r)
{
    (void)c, (void)node, (void)state, (void)why_r;
    abort();
}

int cluster_node_remove(struct cluster *c, const char *node, bool lost, char *why_r)
{
    (void)c, (void)node, (void)lost, (void)why_r;
    abort();
}

int cluster_shard_move(struct cluster *c, uint32_t shard, const char *to, char *why_r)
{
    (void)c, (void)shard, (void)to, (void)why_r;
    abort();
}

int cluster_pool_set(struct cluster *c, const char *pool, uint32_t copies, uint32_t acks, uint32_t shards,
                     const char *fallback, char *why_r)
{
    (void)c, (void)pool, (void)copies, (void)acks, (void)shards, (void)fallback, (void)why_r;
    abort();
}

int cluster_repair_delay(struct cluster *c, uint32_t seconds, char *why_r)
{
    (void)c, (void)seconds, (void)why_r;
    abort();
}

/* Three nodes; n1 leads, as the map has it. */
static int setup(void **state)
{
    struct map_node nodes[3];
    struct map_pool pool = {.name = POOL_SHARED, .copies = 2, .acks = 1, .shards = 1};
    struct map_shard shard = {.owner = rig_storage(0)};
    (void)state;
    memset(&world, 0, sizeof world);
    for (uint32_t i = 0; i < 3; i++)
        nodes[i] = rig_node(i, "", POOL_SHARED);
    struct cmap draft = {.rev = 1,
                         .version = 1,
                         .nodes = nodes,
                         .pools = &pool,
                         .shards = &shard,
                         .nodes_n = 3,
                         .pools_n = 1,
                         .shards_n = 1};
    snprintf(draft.leader, sizeof draft.leader, "n1");
    world.map = cmap_copy(&draft);
    world.said.node.coord.reachable = true;
    return world.map ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(world.reply);
    cmap_unref(world.map);
    return 0;
}

/* ---- who leads */

static struct admin node = {.deps.cluster = (struct cluster *)&world};

static json_t *ask(admin_handler *handle, const char *name)
{
    struct admin_request r = {.a = &node};
    snprintf(r.name, sizeof r.name, "%s", name);
    assert_int_equal(handle(&r), MHD_YES);
    assert_int_equal(world.status, 200);
    return world.reply;
}

/* "": nobody.  The list and each node alone say the same. */
static const char *leader_marked(void)
{
    static char marked[NODE_NAME_MAX];
    json_t *list = json_incref(json_object_get(ask(admin_nodes_get, ""), "nodes")), *n;
    size_t i;
    marked[0] = 0;
    assert_int_equal(json_array_size(list), 3);
    json_array_foreach(list, i, n)
    {
        const char *name = json_string_value(json_object_get(n, "name"));
        bool leads = json_is_true(json_object_get(n, "leader"));
        assert_int_equal(json_is_true(json_object_get(ask(admin_node_get, name), "leader")), leads);
        if (leads)
            snprintf(marked + strlen(marked), sizeof marked - strlen(marked), "%s", name);
    }
    json_decref(list);
    return marked;
}

static void the_leader_is_marked(void **state)
{
    (void)state;
    assert_string_equal(json_string_value(json_object_get(ask(admin_cluster_get, ""), "leader")), "n1");
    assert_string_equal(leader_marked(), "n1");
}

static void nobody_leads_while_coordination_is_away(void **state)
{
    (void)state;
    world.said.node.coord.reachable = false;
    assert_true(json_is_null(json_object_get(ask(admin_cluster_get, ""), "leader")));
    assert_string_equal(leader_marked(), "");
}

static void nobody_leads_while_coordination_is_refused(void **state)
{
    (void)state;
    strcpy(world.said.node.map_refused, "it is empty");
    assert_true(json_is_null(json_object_get(ask(admin_cluster_get, ""), "leader")));
    assert_string_equal(leader_marked(), "");
}

static void nobody_leads_while_the_cluster_does_not_answer(void **state)
{
    (void)state;
    world.said_res = -SATCHEL_EAGAIN;
    assert_string_equal(leader_marked(), "");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_leader_is_marked),
        T(nobody_leads_while_coordination_is_away),
        T(nobody_leads_while_coordination_is_refused),
        T(nobody_leads_while_the_cluster_does_not_answer),
    };
    return cmocka_run_group_tests_name("admin_cluster", tests, NULL, NULL);
}
