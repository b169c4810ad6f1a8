/* test_lists.c - lists of recipients between nodes: fetched by who lacks them, pushed before a domain names them. */
#include "cluster/domains/lists.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { NODES = 3, BIG = 700 * 1000 };

static uint64_t now_us;

static uint64_t fake_now(void *ctx)
{
    (void)ctx;
    return now_us;
}

static const struct clock fake_clock = {fake_now, fake_now, NULL};

/* ---- a node: what it has in memory, its links as queues of frames */

struct letter {
    struct letter *next;
    unsigned from;
    struct fbuf *f;
};

static struct node {
    struct peers peers;
    struct storage_id id;
    struct lists *lists;
    struct letter *in, **tail;
    bool down, slow; /* slow: its disk does not end what it was asked for */
    unsigned puts_in, wants_in, reads;
    struct {
        char hash[RECIPIENTS_HASH_MAX];
        uint8_t *p;
        size_t n;
    } has[4];
    size_t has_n;
} nodes[NODES];

static unsigned node_of(const struct storage_id *id)
{
    return id->b[0] - 1u;
}

static int on_send(struct peers *p, const struct storage_id *to, struct fbuf *f)
{
    struct node *n = (struct node *)p, *other = &nodes[node_of(to)];
    if (n->down || other->down)
        return -SATCHEL_ENOENT;
    struct letter *l = calloc(1, sizeof *l);
    *l = (struct letter){.from = (unsigned)(n - nodes), .f = fbuf_ref(f)};
    *other->tail = l;
    other->tail = &l->next;
    return 0;
}

static bool on_info(struct peers *p, const struct storage_id *id, struct peer_info *info_r)
{
    *info_r = (struct peer_info){.up = !((struct node *)p)->down && !nodes[node_of(id)].down};
    return true;
}

static const struct peers_ops fake_ops = {.send = on_send, .info = on_info};

static bool on_has(void *arg, const char *hash)
{
    struct node *n = arg;
    for (size_t i = 0; i < n->has_n; i++)
        if (strcmp(n->has[i].hash, hash) == 0)
            return true;
    return false;
}

static void give(struct node *n, const char *hash, const void *p, size_t size)
{
    snprintf(n->has[n->has_n].hash, RECIPIENTS_HASH_MAX, "%s", hash);
    n->has[n->has_n].p = memcpy(malloc(size), p, size);
    n->has[n->has_n++].n = size;
}

/* What was asked of the disk; it ends in turn(). */
static struct asked {
    struct node *n;
    char hash[RECIPIENTS_HASH_MAX];
    uint8_t *p;
    size_t size;
} asked[16];
static size_t asked_n;

static void on_read(void *arg, const char *hash)
{
    struct node *n = arg;
    n->reads++;
    asked[asked_n] = (struct asked){.n = n};
    snprintf(asked[asked_n++].hash, RECIPIENTS_HASH_MAX, "%s", hash);
}

static void on_keep(void *arg, const char *hash, uint8_t *packed, size_t size)
{
    asked[asked_n] = (struct asked){.n = arg, .p = packed, .size = size};
    snprintf(asked[asked_n++].hash, RECIPIENTS_HASH_MAX, "%s", hash);
}

/* A list that begins with "bad" is refused, as one with a wrong hash is. */
static void disk_end(struct asked *a)
{
    if (a->p) {
        bool bad = memcmp(a->p, "bad", 3) == 0;
        if (!bad)
            give(a->n, a->hash, a->p, a->size);
        free(a->p);
        lists_kept(a->n->lists, a->hash, bad ? -SATCHEL_EDAMAGED : 0);
        return;
    }
    for (size_t i = 0; i < a->n->has_n; i++)
        if (strcmp(a->n->has[i].hash, a->hash) == 0) {
            uint8_t *p = memcpy(malloc(a->n->has[i].n), a->n->has[i].p, a->n->has[i].n);
            lists_read(a->n->lists, a->hash, 0, p, a->n->has[i].n);
            return;
        }
    lists_read(a->n->lists, a->hash, -SATCHEL_ENOENT, NULL, 0);
}

static void disks_turn(void)
{
    struct asked now[16], *keep = asked;
    size_t n = asked_n;
    memcpy(now, asked, sizeof now);
    asked_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (now[i].n->slow)
            keep[asked_n++] = now[i];
        else
            disk_end(&now[i]);
    }
}

static void letters_take(struct node *n)
{
    struct letter *l = n->in;
    n->in = NULL;
    n->tail = &n->in;
    for (struct letter *next; l; l = next) {
        struct frame_head {
            uint32_t n;
            uint16_t type, version;
        } head;
        next = l->next;
        memcpy(&head, l->f->data, sizeof head);
        n->puts_in += head.type == FRAME_BLOB_PUT;
        n->wants_in += head.type == FRAME_BLOB_WANT;
        if (!n->down)
            lists_frame(n->lists, &nodes[l->from].id, head.type, slice_of(l->f->data + FRAME_HEAD_BYTES, head.n));
        fbuf_unref(l->f);
        free(l);
    }
}

static void turn(uint64_t us)
{
    now_us += us;
    for (unsigned i = 0; i < NODES; i++) {
        struct storage_id others[NODES];
        size_t n = 0;
        for (unsigned j = 0; j < NODES; j++)
            if (j != i)
                others[n++] = nodes[j].id;
        letters_take(&nodes[i]);
        if (!nodes[i].down)
            lists_tick(nodes[i].lists, others, n);
    }
    disks_turn();
}

static void turns(unsigned n)
{
    while (n--)
        turn(2000);
}

static int setup(void **state)
{
    (void)state;
    now_us = 1000000;
    asked_n = 0;
    memset(nodes, 0, sizeof nodes);
    for (unsigned i = 0; i < NODES; i++) {
        nodes[i].peers = (struct peers){.ops = &fake_ops};
        nodes[i].id.b[0] = (uint8_t)(i + 1);
        nodes[i].tail = &nodes[i].in;
        struct lists_env env = {.clock = &fake_clock,
                                .peers = &nodes[i].peers,
                                .has = on_has,
                                .read = on_read,
                                .keep = on_keep,
                                .arg = &nodes[i]};
        assert_int_equal(lists_open(&nodes[i].lists, &env), 0);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NODES; i++) {
        nodes[i].down = true;
        letters_take(&nodes[i]);
        lists_close(&nodes[i].lists);
        for (size_t j = 0; j < nodes[i].has_n; j++)
            free(nodes[i].has[j].p);
    }
    for (size_t i = 0; i < asked_n; i++)
        free(asked[i].p);
    return 0;
}

static const char one[] = "0123456789abcdef0123456789abcdef", two[] = "fedcba9876543210fedcba9876543210";

static void want(struct node *n, const char *hash)
{
    char(*hashes)[RECIPIENTS_HASH_MAX] = calloc(1, sizeof *hashes);
    memcpy(hashes[0], hash, RECIPIENTS_HASH_MAX);
    lists_want(n->lists, hashes, 1);
}

static uint8_t *big(void)
{
    uint8_t *p = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        p[i] = (uint8_t)(i * 31 >> 3);
    return p;
}

/* ---- tests */

static void who_lacks_a_list_asks_until_one_has_it(void **state)
{
    uint8_t *list = big();
    (void)state;
    give(&nodes[2], one, list, BIG);
    want(&nodes[0], one);
    turns(20);
    assert_true(on_has(&nodes[0], one));
    assert_int_equal(nodes[0].has[0].n, BIG);
    assert_memory_equal(nodes[0].has[0].p, list, BIG);
    assert_int_equal(nodes[1].wants_in, 1); /* it said no */
    assert_int_equal(nodes[2].wants_in, 1);
    assert_int_equal(nodes[0].puts_in, 3); /* 256 KiB each */
    turns(20);
    assert_int_equal(nodes[0].puts_in, 3);
    assert_int_equal(lists_next_us(nodes[2].lists), UINT64_MAX);
    free(list);
}

static void nobody_has_it_yet(void **state)
{
    (void)state;
    want(&nodes[0], one);
    turns(10);
    assert_int_equal(nodes[1].wants_in, 1);
    assert_int_equal(nodes[2].wants_in, 1);
    give(&nodes[1], one, "late", 4);
    turns(10);
    assert_false(on_has(&nodes[0], one));
    turn(6000000);
    turns(10);
    assert_true(on_has(&nodes[0], one));
}

static void the_next_one_is_asked(void **state)
{
    (void)state;
    give(&nodes[1], one, "list", 4);
    give(&nodes[2], one, "list", 4);
    nodes[1].slow = true; /* takes the question, and says nothing */
    want(&nodes[0], one);
    turns(10);
    assert_false(on_has(&nodes[0], one));
    turn(11000000);
    turns(10);
    assert_true(on_has(&nodes[0], one));
}

static void a_wrong_list_is_not_kept(void **state)
{
    (void)state;
    give(&nodes[1], one, "bad list", 8);
    give(&nodes[2], one, "good list", 9);
    want(&nodes[0], one);
    turns(20);
    assert_true(on_has(&nodes[0], one));
    assert_memory_equal(nodes[0].has[0].p, "good", 4);
}

static void a_node_that_goes_away_in_the_middle(void **state)
{
    uint8_t *list = big();
    (void)state;
    give(&nodes[1], one, list, BIG);
    want(&nodes[0], one);
    while (nodes[0].puts_in == 0)
        turns(1);
    nodes[1].down = true;
    turns(5);
    give(&nodes[2], one, list, BIG);
    turn(11000000);
    turns(20);
    assert_true(on_has(&nodes[0], one));
    assert_memory_equal(nodes[0].has[0].p, list, BIG);
    free(list);
}

static int pushed;
static char pushed_why[128];

static void on_pushed(void *arg, int res, const char *why)
{
    (void)arg;
    pushed = res;
    snprintf(pushed_why, sizeof pushed_why, "%s", why);
}

static void push(size_t least)
{
    struct storage_id others[] = {nodes[1].id, nodes[2].id};
    pushed = 1;
    assert_int_equal(lists_push(nodes[0].lists, two, others, 2, least, on_pushed, NULL), 0);
    assert_int_equal(pushed, 1);
}

static void a_push_ends_when_enough_have_it_on_disk(void **state)
{
    (void)state;
    give(&nodes[0], two, "pushed", 6);
    nodes[1].slow = nodes[2].slow = true;
    push(1);
    turns(20);
    assert_int_equal(pushed, 1); /* received is not kept */
    assert_int_equal(nodes[0].reads, 1);
    nodes[2].slow = false;
    turns(5);
    assert_int_equal(pushed, 0);
    assert_false(on_has(&nodes[1], two));
    nodes[1].slow = false;
    turns(5);
    assert_true(on_has(&nodes[1], two)); /* the others get it too */
    push(2);
    turns(5);
    assert_int_equal(pushed, 0); /* they have it: nothing is kept again */
    assert_int_equal(nodes[1].has_n, 1);
}

static void a_push_that_reaches_too_few(void **state)
{
    (void)state;
    give(&nodes[0], two, "pushed", 6);
    nodes[1].down = true;
    push(2);
    turns(20);
    assert_int_equal(pushed, -SATCHEL_EAGAIN);
    assert_non_null(strstr(pushed_why, "satchelctl node list"));
    push(1);
    turns(20);
    assert_int_equal(pushed, 0);
    nodes[2].slow = true;
    nodes[2].has_n = 0;
    push(1);
    turns(20);
    assert_int_equal(pushed, 1);
    turn(61000000);
    turns(2);
    assert_int_equal(pushed, -SATCHEL_EAGAIN);
    free(nodes[2].has[0].p);
}

static void a_push_alone(void **state)
{
    (void)state;
    pushed = 1;
    assert_int_equal(lists_push(nodes[0].lists, two, NULL, 0, 2, on_pushed, NULL), 0);
    turns(1);
    assert_int_equal(pushed, 0);
}

static void a_push_that_is_cut_off_by_the_end(void **state)
{
    (void)state;
    give(&nodes[0], two, "pushed", 6);
    nodes[0].slow = true;
    push(1);
    lists_close(&nodes[0].lists);
    assert_int_equal(pushed, -SATCHEL_ESHUT);
}

/* Frames of a peer that means no good: nothing is kept, nothing is read beyond. */
static void frames_that_make_no_sense(void **state)
{
    uint8_t put[32 + 8 + 16];
    uint32_t numbers[2];
    (void)state;
    static const uint32_t cases[][2] = {{8, 0}, {0, 0}, {UINT32_MAX, 0}, {100, 50}, {16, UINT32_MAX}, {17, 1}};
    memcpy(put, one, 32);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        numbers[0] = cases[i][0];
        numbers[1] = cases[i][1];
        memcpy(put + 32, numbers, sizeof numbers);
        for (size_t n = 0; n <= sizeof put; n++)
            lists_frame(nodes[0].lists, &nodes[1].id, FRAME_BLOB_PUT, slice_of(put, n));
    }
    put[0] = '/';
    lists_frame(nodes[0].lists, &nodes[1].id, FRAME_BLOB_WANT, slice_of(put, 32));
    lists_frame(nodes[0].lists, &nodes[1].id, FRAME_BLOB_ACK, slice_of(put, 36));
    lists_frame(nodes[0].lists, &nodes[1].id, FRAME_PUT, slice_of(put, 36));
    for (size_t i = 0; i < asked_n; i++)
        assert_int_equal(asked[i].size <= 16, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(who_lacks_a_list_asks_until_one_has_it),
        TEST(nobody_has_it_yet),
        TEST(the_next_one_is_asked),
        TEST(a_wrong_list_is_not_kept),
        TEST(a_node_that_goes_away_in_the_middle),
        TEST(a_push_ends_when_enough_have_it_on_disk),
        TEST(a_push_that_reaches_too_few),
        TEST(a_push_alone),
        TEST(a_push_that_is_cut_off_by_the_end),
        TEST(frames_that_make_no_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
