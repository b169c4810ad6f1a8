/* test_shared.c - shared storage on a plain directory: spools with their threads, one reads the log of another that is
 * dead, or that only seems so. */
#include "cluster/map/leader_step.h"
#include "spool/copier.h"
#include "tests/unit/shared_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { A, B, C };

static struct adopt *adopt;
static struct adopt_config cfg;
static char shared_dir[300];
static size_t readies;

static uint32_t shard_of(void *arg, const struct cmap *map, struct slice domain)
{
    (void)arg;
    return cmap_shard_of(map, slice_of(NULL, 0), domain);
}

static void on_ready(void *arg)
{
    (void)arg;
    readies++;
}

static int setup(void **state)
{
    (void)state;
    scratch_make(dir, "shared");
    snprintf(shared_dir, sizeof shared_dir, "%s/shared", dir);
    assert_int_equal(mkdir(shared_dir, 0700), 0);
    memset(nodes, 0, sizeof nodes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    adopt_close(&adopt);
    for (int i = 0; i < NODES; i++)
        snode_close(i);
    return scratch_remove(dir);
}

/* Node i adopts. */
static void adopt_start(int i)
{
    struct adopt_env env = {.clock = clock_system(), .storage = nodes[i].st, .shard_of = shard_of, .ready = on_ready};
    adopt_config_init(&cfg);
    cfg.self = nodes[i].id;
    cfg.mount = mount_is;
    cfg.dir = shared_dir;
    cfg.look_us = 20000;
    cfg.other_us = 50000;
    cfg.hold_us = 60000000;
    assert_int_equal(adopt_open(&adopt, &cfg, &env), 0);
}

static void adopt_use(const struct cmap *map)
{
    adopt_map(adopt, map);
    cmap_unref(map);
}

static void adopt_turn(int i)
{
    nodes[i].st->ops->poll(nodes[i].st);
    adopt_tick(adopt);
    snode_turn(i);
}

static struct adopt_info info(void)
{
    struct adopt_info in;
    adopt_info(adopt, &in);
    return in;
}

static void until_may(int i)
{
    for (int k = 0; k < WAIT_TURNS && !adopt_may(adopt, 0); k++)
        adopt_turn(i);
    assert_true(adopt_may(adopt, 0));
}

static void until_taken(int i, uint64_t n)
{
    for (int k = 0; k < WAIT_TURNS && info().taken < n; k++)
        adopt_turn(i);
    assert_int_equal(info().taken, n);
}

static void until_live(int i, uint64_t n, bool want)
{
    struct queue_entry e;
    for (int k = 0; k < WAIT_TURNS && is_live(i, n, &e) != want; k++)
        adopt_turn(i);
    assert_int_equal(is_live(i, n, &e), want);
}

/* With it, ends leave tombstones. */
static size_t no_holders(struct copier *c, struct slice domain, uint8_t *uuids_r, size_t cap)
{
    (void)c, (void)domain, (void)uuids_r, (void)cap;
    return 0;
}

static const struct copier_ops no_copier_ops = {.holders = no_holders};
static struct copier no_copier = {&no_copier_ops};

/* ---- the mount */

static void a_mount_is_named_once(void **state)
{
    (void)state;
    struct storage_id first, second;
    char log[PATH_MAX], why[MOUNT_WHY_MAX] = "", data[300], path[600];
    snprintf(data, sizeof data, "%s/a", dir);
    assert_int_equal(mount_open(shared_dir, "a", data, &first, log, why), 0);
    snprintf(data, sizeof data, "%s/b", dir);
    assert_int_equal(mount_open(shared_dir, "b", data, &second, log, why), 0);
    assert_true(storage_id_eq(&first, &second));
    assert_false(storage_id_zero(&first));
    snprintf(path, sizeof path, "%s/b/log", shared_dir);
    assert_string_equal(log, path);
    assert_int_equal(mount_open(shared_dir, "CLUSTER", data, &second, log, why), -SATCHEL_EINVAL);
}

static void another_mount_is_refused(void **state)
{
    (void)state;
    struct storage_id id;
    char log[PATH_MAX], why[MOUNT_WHY_MAX] = "", data[300], other[300], path[600];
    snprintf(data, sizeof data, "%s/a", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(mount_open(shared_dir, "a", data, &id, log, why), 0);
    assert_int_equal(mount_open(other, "a", data, &id, log, why), -SATCHEL_EINVAL);
    assert_non_null(strstr(why, "another mount"));
    assert_non_null(strstr(why, other));
    snprintf(path, sizeof path, "%s/missing", dir);
    assert_int_equal(mount_open(path, "a", data, &id, log, why), -SATCHEL_ENOENT);
    assert_int_equal(access(path, F_OK), -1); /* nothing was made there */
    snprintf(path, sizeof path, "%s/CLUSTER", shared_dir);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(mount_open(shared_dir, "a", data, &id, log, why), -SATCHEL_EDAMAGED);
}

static void a_log_has_one_writer(void **state)
{
    (void)state;
    char why[MOUNT_WHY_MAX] = "";
    snode_open(A);
    struct snode twin = {.name = "a"};
    snprintf(twin.data, sizeof twin.data, "%s/twin", dir);
    assert_int_equal(snode_try(&twin, why), -SATCHEL_EBUSY);
    assert_non_null(strstr(why, nodes[A].log));
}

/* ---- adoption */

static void what_is_live_is_taken_in_order(void **state)
{
    (void)state;
    struct listing l;
    struct queue_entry e;
    struct record rec;
    snode_open(A);
    snode_open(B);
    const uint64_t order[] = {5, 2, 9, 1, 7, 3};
    for (size_t i = 0; i < 6; i++)
        put_msg(A, order[i], 0);
    end_msg(A, 2, "DD", 1);
    end_msg(A, 7, "LD", 2);
    put_msg(A, 8, 3); /* in chunks */
    snode_close(A);
    adopt_start(B);
    adopt_use(map_of(B, "b", "ab", ""));
    assert_false(adopt_may(adopt, 0));
    until_may(B);
    assert_int_equal(info().taken, 6); /* not earlier: new mail must not overtake */
    until_live(B, 9, true);
    list_live(B, &l);
    const uint64_t want[] = {1, 3, 5, 7, 8, 9};
    assert_int_equal(l.n, 6);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(l.ids[i], want[i]);
    assert_true(is_live(B, 7, &e));
    assert_int_equal(e.state.live, 1);
    assert_int_equal(state_end(&e.state, 1), ITEM_DELIVERED);
    assert_int_equal(e.arrival_us, 1007);
    assert_int_equal(nodes[B].st->ops->read(nodes[B].st, &e.id, 0, &rec), 0);
    assert_int_equal(rec.body.n, 3000);
    assert_int_equal(rec.body.p[0], 'a' + 7);
    assert_true(slice_eq(rec.copyset, slice_of(&nodes[A].id, 16)));
    assert_true(is_live(B, 8, &e));
    assert_int_equal(nodes[B].st->ops->read(nodes[B].st, &e.id, 3, &rec), 0);
    assert_true(readies > 0);
}

static void an_adopter_that_restarts_takes_nothing_twice(void **state)
{
    (void)state;
    struct listing l;
    snode_open(A);
    snode_open(B);
    for (uint64_t n = 1; n <= 20; n++)
        put_msg(A, n, 0);
    snode_close(A);
    for (int round = 0; round < 2; round++) {
        adopt_start(B);
        adopt_use(map_of(B, "b", "ab", ""));
        until_may(B);
        until_live(B, 20, true);
        if (round == 0)
            end_msg(B, 4, "DD", 1);
        adopt_close(&adopt);
        snode_close(B);
        snode_open(B);
    }
    list_live(B, &l);
    assert_int_equal(l.n, 19); /* the one that ended here stays ended */
    for (size_t i = 0; i < l.n; i++)
        assert_int_not_equal(l.ids[i], 4);
}

static void what_ended_here_is_owed_to_the_dead(void **state)
{
    (void)state;
    struct storage_state st;
    struct outlet *o;
    struct outlet_msg *m;
    snode_open(A);
    snode_open(B);
    put_msg(A, 1, 0);
    snode_close(A);
    spool_set_copier(nodes[B].s, &no_copier);
    adopt_start(B);
    adopt_use(map_of(B, "b", "ab", ""));
    until_may(B);
    until_live(B, 1, true);
    assert_int_equal(spool_outlet(nodes[B].s, &o), 0);
    assert_int_equal(o->ops->claim(o, slice_str(DOMAIN), CLAIM_DUE, 0, &m, 1), 1);
    struct item_result ends[2] = {{.item = 0, .end = ITEM_DELIVERED}, {.item = 1, .end = ITEM_DELIVERED}};
    assert_int_equal(o->ops->finish(o, m, ends, 2, 0, false, NULL), 0);
    for (int k = 0; k < WAIT_TURNS && !has_tomb(B, 1, &st); k++)
        adopt_turn(B);
    o->ops->close(&o);
    assert_true(has_tomb(B, 1, &st));
    assert_true(slice_eq(st.owed, slice_of(&nodes[A].id, 16)));
}

static void a_zombie_can_only_add_mail(void **state)
{
    (void)state;
    struct storage_state st;
    snode_open(A);
    snode_open(B);
    put_msg(A, 1, 0);
    put_msg(A, 2, 0);
    adopt_start(B);
    adopt_use(map_of(B, "b", "ab", ""));
    until_may(B);
    until_live(B, 2, true);
    put_msg(A, 3, 0); /* it still runs, and accepts */
    put_msg(A, 4, 2);
    until_live(B, 3, true);
    until_live(B, 4, true);
    end_msg(A, 1, "DD", 5); /* the answer to a final dot that it had sent in time */
    until_live(B, 1, false);
    assert_true(has_tomb(B, 1, &st));
    adopt_use(map_of(B, "ab", "ab", "")); /* it is back: it is asked from now on */
    put_msg(A, 5, 0);
    for (int k = 0; k < 50; k++)
        adopt_turn(B);
    struct queue_entry e;
    assert_false(is_live(B, 5, &e));
    assert_int_equal(info().logs, 0);
}

/* Its process is killed in the middle of its work, again and again as it were: nothing was closed or flushed. */
static void a_killed_process_loses_nothing(void **state)
{
    (void)state;
    struct listing l;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        snode_open(A);
        for (uint64_t n = 1; n <= 300; n++)
            put_msg(A, n, 0);
        for (uint64_t n = 1; n <= 100; n++)
            end_msg(A, n, "DD", 1);
        kill(getpid(), SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    snode_open(B);
    char hex[64] = "", path[PATH_MAX];
    snprintf(path, sizeof path, "%s/a/log/FORMAT", shared_dir);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "satchel-log %*d storage %63s", hex), 1);
    fclose(f);
    assert_int_equal(storage_id_parse(slice_str(hex), &nodes[A].id), 0);
    adopt_start(B);
    adopt_use(map_of(B, "b", "ab", ""));
    until_may(B);
    until_taken(B, 200);
    until_live(B, 300, true);
    list_live(B, &l);
    assert_int_equal(l.n, 200);
    for (size_t i = 0; i < l.n; i++)
        assert_int_equal(l.ids[i], 101 + i);
}

/* ---- what is wrong with a log */

/* Flips a bit in the body of message n, wherever it lies. */
static void flip(uint64_t n)
{
    sh("python3 -c \"import glob\nfor p in glob.glob('%s/*.seg'):\n"
       " d=bytearray(open(p,'rb').read()); i=d.find(b'%c'*2000)\n"
       " if i>=0: d[i+1000]^=1; open(p,'r+b').write(d)\"",
       nodes[A].log, 'a' + (int)(n % 26));
}

static uint64_t tree_sum(void)
{
    char cmd[2 * PATH_MAX], line[64] = "";
    snprintf(cmd, sizeof cmd, "cd '%s' && find . -type f | sort | xargs cat | cksum", nodes[A].log);
    FILE *f = popen(cmd, "re");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    pclose(f);
    return strtoull(line, NULL, 10);
}

static void damage_is_left_and_the_rest_taken(void **state)
{
    (void)state;
    struct queue_entry e;
    snode_open(A);
    snode_open(B);
    for (uint64_t n = 1; n <= 20; n++)
        put_msg(A, n, 0);
    snode_close(A);
    flip(13);
    uint64_t before = tree_sum();
    adopt_start(B);
    adopt_use(map_of(B, "b", "ab", ""));
    until_may(B);
    until_taken(B, 19);
    until_live(B, 20, true);
    assert_false(is_live(B, 13, &e));
    assert_int_equal(info().unreadable, 1);
    assert_int_equal(info().left, 0);
    assert_int_equal(tree_sum(), before); /* nobody wrote there */
}

static void a_torn_tail_is_no_damage(void **state)
{
    (void)state;
    snode_open(A);
    snode_open(B);
    for (uint64_t n = 1; n <= 5; n++)
        put_msg(A, n, 0);
    /* as it lies on the disk while it runs, with half a group behind it */
    sh("cp -r '%s' '%s.copy' && python3 -c \"import glob\nfor p in glob.glob('%s.copy/*.seg'):\n"
       " d=bytearray(open(p,'rb').read()); i=d.rfind(b'STCG')\n"
       " if i>=0: d[i+8192:i+9000]=b'\\x55'*808; open(p,'r+b').write(d)\"",
       nodes[A].log, nodes[A].log, nodes[A].log);
    snode_close(A);
    sh("rm -r '%s' && mv '%s.copy' '%s'", nodes[A].log, nodes[A].log, nodes[A].log);
    adopt_start(B);
    adopt_use(map_of(B, "b", "ab", ""));
    until_may(B);
    until_taken(B, 5);
    assert_int_equal(info().unreadable, 0);
}

static void a_log_that_cannot_be_read_is_given_up(void **state)
{
    (void)state;
    snode_open(A);
    snode_open(B);
    snode_close(A);
    nodes[A].id.b[0] ^= 1; /* the map names another storage than the one whose log lies there */
    adopt_start(B);
    adopt_close(&adopt);
    cfg.give_up_us = 200000;
    struct adopt_env env = {.clock = clock_system(), .storage = nodes[B].st, .shard_of = shard_of};
    assert_int_equal(adopt_open(&adopt, &cfg, &env), 0);
    adopt_use(map_of(B, "b", "ab", ""));
    for (int k = 0; k < 5; k++)
        adopt_turn(B);
    assert_false(adopt_may(adopt, 0));
    until_may(B);
    assert_int_equal(info().known, 0);
}

/* ---- several dead */

static void what_one_dead_node_ended_is_not_taken_from_another(void **state)
{
    (void)state;
    struct storage_state st;
    struct queue_entry e;
    snode_open(A);
    snode_open(B);
    snode_open(C);
    for (uint64_t n = 1; n <= 10; n++) {
        put_msg(A, n, 0);
        put_msg(C, n, 0); /* had adopted them */
    }
    end_msg(C, 3, "DD", 1);
    snode_close(A);
    snode_close(C);
    adopt_start(B);
    adopt_use(map_of(B, "b", "bc", "a"));
    until_may(B);
    until_live(B, 10, true);
    for (int k = 0; k < WAIT_TURNS && !has_tomb(B, 3, &st); k++)
        adopt_turn(B);
    assert_false(is_live(B, 3, &e));
    assert_true(has_tomb(B, 3, &st));
    assert_true(slice_eq(st.owed, slice_of(&nodes[A].id, 16)));
}

static void other_mounts_and_other_shards_are_let_alone(void **state)
{
    (void)state;
    snode_open(A);
    snode_open(B);
    put_msg(A, 1, 0);
    snode_close(A);
    adopt_start(B);
    adopt_use(map_of(A, "b", "a", "")); /* nobody took it over yet */
    assert_true(adopt_may(adopt, 0));
    for (int k = 0; k < 30; k++)
        adopt_turn(B);
    assert_int_equal(info().logs, 0);
    mount_is.b[3] ^= 1; /* as the map has it */
    adopt_use(map_of(B, "b", "ab", ""));
    assert_true(adopt_may(adopt, 0));
    assert_int_equal(info().logs, 0);
}

/* ---- the leader's part */

static enum leader_step step_of(const struct cmap *map, struct map_shard *after_r)
{
    struct assign_want want = {.members_n = 1, .members = {nodes[A].id}}; /* an owner is not to be had: A is dead */
    struct step_input in = {map, &map->shards[0], &want, 0};
    return leader_step(&in, after_r);
}

static void a_reader_of_their_logs_takes_over_from_the_dead(void **state)
{
    (void)state;
    struct map_shard after;
    for (int i = 0; i < NODES; i++)
        nodes[i].id = rig_storage((uint32_t)i + 1);
    mount_is = rig_storage(99);
    const struct cmap *map = map_of(A, "b", "a", "");
    assert_int_equal(step_of(map, &after), STEP_ADOPT);
    assert_true(storage_id_eq(&after.owner, &nodes[B].id));
    assert_true(cmap_is_member(&after, &nodes[A].id)); /* whose log is to be read */
    assert_int_equal(after.epoch, 2);
    cmap_unref(map);
    map = map_of(A, "", "a", ""); /* nobody lives */
    assert_int_equal(step_of(map, &after), STEP_NONE);
    cmap_unref(map);
    map = map_of(A, "bc", "ac", ""); /* a member that lives comes first */
    assert_int_equal(step_of(map, &after), STEP_TAKE_OVER);
    assert_true(storage_id_eq(&after.owner, &nodes[C].id));
    cmap_unref(map);
    mount_is = (struct storage_id){{0}}; /* disks of their own */
    map = map_of(A, "b", "a", "");
    assert_int_equal(step_of(map, &after), STEP_NONE);
    cmap_unref(map);
    memset(nodes, 0, sizeof nodes);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_killed_process_loses_nothing), /* first: it forks before there are threads */
        T(a_mount_is_named_once),
        T(another_mount_is_refused),
        T(a_log_has_one_writer),
        T(what_is_live_is_taken_in_order),
        T(an_adopter_that_restarts_takes_nothing_twice),
        T(what_ended_here_is_owed_to_the_dead),
        T(a_zombie_can_only_add_mail),
        T(damage_is_left_and_the_rest_taken),
        T(a_torn_tail_is_no_damage),
        T(a_log_that_cannot_be_read_is_given_up),
        T(what_one_dead_node_ended_is_not_taken_from_another),
        T(other_mounts_and_other_shards_are_let_alone),
        T(a_reader_of_their_logs_takes_over_from_the_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
