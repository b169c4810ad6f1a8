/* test_blocks.c - blocks for bodies: where they lie, what a pool keeps. */
#include "spool/blocks.h"
#include "spool/segment/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { SLAB = 32, ALL = BLOCK_SLABS_MAX * SLAB + 8 };

static void long_blocks_lie_on_sectors_and_apart(void **state)
{
    (void)state;
    struct block_pool p = {0};
    static struct spool_block *b[ALL];
    for (int i = 0; i < ALL; i++) {
        b[i] = block_get_long(&p);
        assert_true((uintptr_t)b[i]->data % DISK_ALIGN == 0 && b[i]->cap == BLOCK_LONG_BYTES && b[i]->used == 0);
        memset(b[i]->data, i, b[i]->cap);
        assert_true((b[i]->slab != NULL) == (i < BLOCK_SLABS_MAX * SLAB));
    }
    assert_int_equal(p.slabs_n, BLOCK_SLABS_MAX);
    for (int i = 0; i < ALL; i++) {
        assert_true(b[i]->data[0] == (uint8_t)i && b[i]->data[b[i]->cap - 1] == (uint8_t)i);
        block_put(&p, b[i]);
    }
    assert_int_equal(p.slabs_n, 1); /* the others were given back */
    assert_int_equal(p.empty_n, 1);
    block_pool_free(&p);
    assert_int_equal(p.slabs_n, 0);
}

/* One slow body in each slab would hold them all: a new block comes from the fullest. */
static void the_fullest_slab_gives_first(void **state)
{
    (void)state;
    struct block_pool p = {0};
    struct spool_block *b[2 * SLAB];
    for (int i = 0; i < 2 * SLAB; i++)
        b[i] = block_get_long(&p);
    for (int i = 0; i < SLAB; i++) /* the first slab keeps one, the second all but one */
        if (i != 5)
            block_put(&p, b[i]);
    block_put(&p, b[SLAB]);
    struct spool_block *again = block_get_long(&p);
    assert_ptr_equal(again->slab, b[SLAB + 1]->slab);
    struct spool_block *more = block_get_long(&p);
    assert_ptr_equal(more->slab, b[5]->slab);
    block_put(&p, more);
    block_put(&p, again);
    block_put(&p, b[5]);
    assert_int_equal(p.empty_n, 1);
    for (int i = SLAB + 1; i < 2 * SLAB; i++)
        block_put(&p, b[i]);
    assert_int_equal(p.slabs_n, 1);
    block_pool_free(&p);
}

/* Two pools share what is registered; what comes back is for either of them at once. */
static void registered_slabs_come_first_and_go_back_when_empty(void **state)
{
    (void)state;
    struct pinned m;
    assert_int_equal(pinned_map(&m, 3, 1000), 0);
    assert_true((uintptr_t)m.base % SLAB_BYTES == 0 && m.groups == m.base + 3 * (size_t)SLAB_BYTES);
    assert_int_equal(m.bytes, 4 * (size_t)SLAB_BYTES);
    memset(m.groups, 1, 1000);
    struct block_pool p[2] = {{.pinned = &m}, {.pinned = &m}};
    static struct spool_block *b[2][2 * SLAB];
    for (int i = 0; i < 2 * SLAB; i++)
        for (int k = 0; k < 2; k++)
            memset((b[k][i] = block_get_long(&p[k]))->data, 2 * i + k, BLOCK_LONG_BYTES);
    int inside = 0;
    for (int i = 0; i < 2 * SLAB; i++)
        for (int k = 0; k < 2; k++) {
            inside += b[k][i]->data >= m.base && b[k][i]->data < m.groups;
            assert_true(b[k][i]->data[0] == 2 * i + k && b[k][i]->data[BLOCK_LONG_BYTES - 1] == 2 * i + k);
        }
    assert_int_equal(inside, 3 * SLAB);
    assert_null(pinned_slab_get(&m));
    for (int i = 0; i < 2 * SLAB; i++)
        block_put(&p[0], b[0][i]);
    assert_int_equal(p[0].slabs_n, 0);
    struct spool_block *more = block_get_long(&p[1]);
    assert_true(more->data >= m.base && more->data < m.groups);
    block_put(&p[1], more);
    for (int i = 0; i < 2 * SLAB; i++)
        block_put(&p[1], b[1][i]);
    assert_int_equal(p[1].slabs_n, 1); /* of its own */
    for (int k = 0; k < 2; k++)
        block_pool_free(&p[k]);
    for (int i = 0; i < 3; i++)
        assert_non_null(pinned_slab_get(&m));
    assert_null(pinned_slab_get(&m));
    pinned_unmap(&m);
}

static void short_blocks_are_used_again(void **state)
{
    (void)state;
    struct block_pool p = {0};
    struct spool_block *a = block_get_short(&p), *b = block_get_short(&p);
    assert_int_equal(a->cap, BLOCK_SHORT_BYTES);
    b->used = 7;
    block_put(&p, a);
    block_put(&p, b);
    assert_ptr_equal(block_get_short(&p), b);
    assert_int_equal(b->used, 0);
    block_put(&p, b);
    block_pool_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_blocks_lie_on_sectors_and_apart),
        cmocka_unit_test(the_fullest_slab_gives_first),
        cmocka_unit_test(registered_slabs_come_first_and_go_back_when_empty),
        cmocka_unit_test(short_blocks_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
