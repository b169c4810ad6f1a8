/* storage_rig.h - the storage door on a spool with its threads and a real disk. */
#pragma once
#include "spool/base/err.h"
#include "spool/base/wire.h"
#include "spool/copier.h"
#include "spool/spool.h"
#include "spool/storage.h"
#include "tests/unit/meta_rig.h"
#include "tests/unit/scratch.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[SCRATCH_MAX];
static const char *const DOMAIN = "a.test";
static const struct storage_id B = {"bbbbbbbbbbbbbbb"}, C = {"ccccccccccccccc"};
static uint8_t OWED[32];

/* ---- a spool with its third door */

struct rig {
    struct spool *s;
    struct storage *st;
    struct outlet *o;
    uint64_t tomb_min_us;
    uint32_t segment_bytes;
    struct storage_state taps[64];
    size_t taps_n;
};

static struct rig rig;

static void on_tap(void *arg, const struct storage_state *st)
{
    struct rig *r = arg;
    assert_true(r->taps_n < 64);
    r->taps[r->taps_n++] = *st;
}

static void rig_open(void)
{
    struct spool_config cfg;
    char why[512] = "";
    spool_config_init(&cfg, dir);
    cfg.log.segment_bytes = rig.segment_bytes;
    cfg.log.spare_segments = 0;
    cfg.log.lazy_us = 100; /* nobody here sends more */
    cfg.log.reserve_segments = 1;
    cfg.chunk_bytes = 16 << 10;
    cfg.queue.tomb_min_us = rig.tomb_min_us;
    cfg.queue.settle_us = 0;
    if (spool_open(&rig.s, &cfg, why, sizeof why) < 0)
        fail_msg("%s", why);
    assert_int_equal(spool_storage(rig.s, &rig.st), 0);
    assert_int_equal(spool_outlet(rig.s, &rig.o), 0);
    rig.st->ops->tap(rig.st, on_tap, &rig);
}

static void rig_close(void)
{
    rig.o->ops->close(&rig.o);
    rig.st->ops->close(&rig.st);
    spool_close(&rig.s);
}

static void rig_reopen(bool lose_index)
{
    rig_close();
    char index[SCRATCH_MAX + 8];
    snprintf(index, sizeof index, "%s/index", dir);
    if (lose_index)
        assert_int_equal(scratch_remove(index), 0);
    rig_open();
}

static int setup(void **state)
{
    (void)state;
    scratch_make_on_disk(dir, "storage");
    memcpy(OWED, B.b, 16);
    memcpy(OWED + 16, C.b, 16);
    rig = (struct rig){.tomb_min_us = 600000000, .segment_bytes = 256 << 10};
    rig_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close();
    return scratch_remove(dir);
}

static void turn(void)
{
    rig.st->ops->poll(rig.st);
    if (rig.st->ops->sleep(rig.st)) {
        struct pollfd p = {rig.st->fd, POLLIN, 0};
        poll(&p, 1, 5);
    }
    rig.st->ops->poll(rig.st);
}

/* ---- requests that are waited for */

struct answer {
    int n, res;
};

static void put_done(struct storage_put *p, int res)
{
    struct answer *a = p->arg;
    *a = (struct answer){a->n + 1, res};
}

static int answered(struct answer *a)
{
    for (int i = 0; i < 2000 && a->n == 0; i++)
        turn();
    assert_int_equal(a->n, 1);
    return a->res;
}

static struct msgid id_of(uint64_t n)
{
    return (struct msgid){.incarnation = "elsewhere", .counter = n};
}

static struct record msg_record(uint64_t n, uint32_t rcpts, uint32_t chunks, struct slice body, uint8_t meta_r[1024])
{
    struct wire_wr w = wire_wr(meta_r, 1024);
    meta_put(&w, RT_DOMAIN, slice_str(DOMAIN));
    meta_put(&w, RT_SENDER, SLICE_LIT("sender@example.net"));
    for (uint32_t i = 0; i < rcpts; i++)
        meta_put(&w, RT_RCPT, SLICE_LIT("rcpt@a.test"));
    rig_put_chunks(&w, chunks, (uint64_t)chunks * 10);
    return (struct record){.type = REC_MSG,
                           .flags = chunks ? REC_F_CHUNKED : 0,
                           .id = id_of(n),
                           .arrival_us = 1000 + n,
                           .meta = slice_of(meta_r, wire_len(&w)),
                           .body = body,
                           .body_sum = record_body_sum(body)};
}

static int put_record(const struct record *rec, uint32_t flags)
{
    struct answer a = {0};
    struct storage_put p = {.rec = *rec, .flags = flags, .done = put_done, .arg = &a};
    rig.st->ops->put(rig.st, &p);
    assert_int_equal(a.n, 0); /* never from within */
    return answered(&a);
}

/* What the index says, once it has caught up with the log: bounded. */
static bool live(uint64_t n, struct queue_entry *e_r)
{
    char domain[256];
    struct msgid id = id_of(n);
    return rig.st->ops->find(rig.st, &id, e_r, domain) == 0;
}

static bool wait_live(uint64_t n, bool want)
{
    struct queue_entry e;
    for (int i = 0; i < 2000 && live(n, &e) != want; i++)
        turn();
    return live(n, &e) == want;
}

static bool tomb(uint64_t n, struct storage_state *st_r)
{
    struct msgid id = id_of(n);
    return rig.st->ops->tomb(rig.st, &id, st_r) == 0;
}

static struct storage_stat stat_now(void)
{
    struct storage_stat st;
    rig.st->ops->stat(rig.st, &st);
    return st;
}

static void wait_tombs(uint64_t tombs, uint64_t owed)
{
    struct storage_stat st = stat_now();
    for (int i = 0; i < 2000 && (st.tombs != tombs || st.tombs_owed != owed); i++) {
        turn();
        st = stat_now();
    }
    assert_int_equal(st.tombs, tombs);
    assert_int_equal(st.tombs_owed, owed);
}
