/* copies_rig.h - several nodes' copies: real cores, faked storages and network. */
#pragma once
#include "tests/unit/fake_cluster.h"

static struct copies_config cfg;

static int setup(void **state)
{
    (void)state;
    cfg = copies_config_default;
    cfg.scrub_bytes_s = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fstop();
    return 0;
}

static uint32_t holders_of(uint64_t n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < net.n; i++)
        count += net.nodes[i].msgs[n].what != 0;
    return count;
}

/* ---- requests, and their answers */

struct freq {
    struct copy_request cr;
    uint8_t meta[512];
    bool done;
    int res;
    uint32_t holders; /* when it was settled */
};

static void freq_settled(struct copy_request *cr, int res)
{
    struct freq *q = (struct freq *)cr;
    assert_false(q->done);
    q->done = true;
    q->res = res;
    q->holders = holders_of(cr->rec.id.counter);
}

static void freq_body(struct freq *q, struct slice body)
{
    q->cr.rec.body = body;
    q->cr.rec.body_sum = record_body_sum(body);
    q->cr.settled = freq_settled;
}

static void freq_send(struct freq *q, uint32_t node, uint64_t n, uint32_t d, uint32_t chunks)
{
    memset(q, 0, sizeof *q);
    size_t meta = fmeta(q->meta, sizeof q->meta, d, 1, chunks);
    q->cr.domain = fdomain(d);
    q->cr.rec = (struct record){.type = REC_MSG, .id = fid(n), .arrival_us = farrival(n)};
    q->cr.rec.flags = chunks ? REC_F_CHUNKED : 0;
    q->cr.rec.meta = slice_of(q->meta, meta);
    freq_body(q, chunks ? (struct slice){0} : SLICE_LIT("a body"));
    copies_request(net.nodes[node].copies, &q->cr);
    assert_false(q->done); /* never from within */
}

static int answered = 1;

static void on_done(void *arg, uint32_t shard, int res)
{
    (void)arg;
    (void)shard;
    answered = res;
}
