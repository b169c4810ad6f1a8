/* lives.c - lives, deaths and damage of one history.
 *
 *   boot (perhaps dying in recovery) -> steps -> dead | fenced | closed | cut off  -> boot ...
 *   -> perhaps bits are flipped -> boot -> drain -> close -> boot -> nothing is left, nothing is lost */
#include "tests/sim/lives.h"

#include <assert.h>
#include <stdlib.h>

#include "spool/base/err.h"
#include "tests/sim/trace.h"
#include "tests/sim/work.h"

#define SEGMENT_BYTES (256u * 1024)

static uint64_t upto(struct rng *rng, uint64_t n)
{
    return 1 + rng_below(rng, n);
}

static bool chance(struct rng *rng, uint32_t percent)
{
    return rng_below(rng, 100) < percent;
}

/* ---- plans */

static struct simdisk_plan plan_none(void)
{
    return (struct simdisk_plan){0};
}

static struct simdisk_plan plan_life(struct rng *rng)
{
    struct simdisk_plan p = {.how = chance(rng, 70) ? SIMDISK_POWER : SIMDISK_KILL};
    if (chance(rng, 75))
        p.die_at = upto(rng, upto(rng, 400));
    if (chance(rng, 10))
        p.write_eio_at = upto(rng, 60);
    if (chance(rng, 10))
        p.sync_eio_at = upto(rng, 60);
    return p;
}

/* Recovery has few effects: most of these numbers fall into it. */
static struct simdisk_plan plan_recovery(struct rng *rng)
{
    struct simdisk_plan p = {.how = chance(rng, 50) ? SIMDISK_POWER : SIMDISK_KILL};
    p.die_at = upto(rng, 16);
    return p;
}

static void configure(struct work *w)
{
    struct rng *rng = w->rng;
    struct seglog_config *c = &w->h.log_config;
    c->segment_bytes = SEGMENT_BYTES;
    c->spare_segments = (uint32_t)rng_below(rng, 3);
    c->reserve_segments = (uint32_t)upto(rng, 2);
    c->group_bytes = (uint32_t)(32u * 1024 << rng_below(rng, 3));
    c->inflight_groups = (uint32_t)upto(rng, 4);
    c->max_bytes = chance(rng, 15) ? (6 + rng_below(rng, 6)) * SEGMENT_BYTES : 0;
    w->h.queue_config.flush_bytes = 16384 << rng_below(rng, 8);
    w->h.queue_config.compact_live_pct = (uint32_t)(20 + rng_below(rng, 70));
    w->h.queue_config.move_inflight = (uint32_t)upto(rng, 16);
    w->h.lag_percent = chance(rng, 50) ? 0 : (uint32_t)rng_below(rng, 80);
}

/* ---- a life */

/* A start needs room for its reserve. Where the disk has none, the operator makes some, as the error asks. */
static bool make_room(struct work *w)
{
    trace("---- the operator makes room");
    w->capacity += 4 * SEGMENT_BYTES;
    simdisk_resize(w->sd, w->capacity);
    if (w->h.log_config.max_bytes)
        w->h.log_config.max_bytes += 4 * SEGMENT_BYTES;
    return true;
}

/* Recovers, however often it is cut short. */
static bool boot(struct work *w, struct simdisk_plan first, bool *cut_r)
{
    struct simdisk_plan plan = first;
    for (int tries = 0; tries < 8 && !history.failed; tries++) {
        simdisk_arm(w->sd, &plan);
        trace("---- boot, dies at %llu", (unsigned long long)plan.die_at);
        int res = house_boot(&w->h);
        if (res == 0)
            return !history.failed;
        bool excused = simdisk_dead(w->sd) || plan.write_eio_at || plan.sync_eio_at;
        if (res == -SATCHEL_EFULL)
            excused = make_room(w);
        if (!excused)
            history_fail("the spool does not open: %s", satchel_strerror(res));
        *cut_r = *cut_r || simdisk_dead(w->sd);
        house_drop(&w->h);
        plan = chance(w->rng, 30) && tries < 3 ? plan_recovery(w->rng) : plan_none();
    }
    return false;
}

static bool boot_whole(struct work *w)
{
    bool cut = false;
    return boot(w, plan_none(), &cut);
}

static bool life_over(struct work *w)
{
    return history.failed || simdisk_dead(w->sd) || house_fenced(&w->h);
}

static void end_life(struct work *w)
{
    bool fenced = !simdisk_dead(w->sd) && house_fenced(&w->h);
    if (!simdisk_dead(w->sd) && !fenced && chance(w->rng, 40)) {
        trace("---- closes");
        work_finish(w);
        if (!simdisk_dead(w->sd) && !house_fenced(&w->h)) {
            house_close(&w->h, chance(w->rng, 70));
            return;
        }
    }
    trace("---- %s", simdisk_dead(w->sd) ? "died" : fenced ? "fenced" : "cut off");
    simdisk_crash(w->sd, chance(w->rng, 60) ? SIMDISK_POWER : SIMDISK_KILL);
    house_drop(&w->h);
}

/* Returns whether the life ran to its end. */
static bool live(struct work *w, struct simdisk_plan plan, uint64_t steps)
{
    bool cut = false;
    if (!boot(w, plan, &cut))
        return true;
    work_begin(w);
    for (uint64_t i = 0; i < steps && !life_over(w); i++)
        work_step(w);
    cut = cut || simdisk_dead(w->sd);
    if (!history.failed)
        end_life(w);
    return !cut;
}

/* ---- damage */

static bool readable(struct work *w, struct segread *r, const struct queue_entry *e, const uint64_t *pos,
                     const uint32_t *size)
{
    struct record rec;
    (void)w;
    bool good = segread_record(r, e->pos, e->size, &rec) == 0;
    for (uint32_t i = 0; i < e->chunks; i++)
        good = segread_record(r, pos[i], size[i], &rec) == 0 && good;
    return good;
}

struct place {
    struct queue_entry entry;
    uint64_t pos[8];
    uint32_t size[8];
};

/* Where every live message lies, before the house closes. */
static uint32_t places_take(struct work *w, struct place *places)
{
    uint32_t n = 0;
    char domain[256];
    for (uint32_t i = 0; i < w->ledger->msgs_n; i++) {
        struct place *p = &places[n];
        if (!w->ledger->msgs[i].applied || queue_find(w->h.q, &w->ledger->msgs[i].id, &p->entry, domain) != 0)
            continue;
        for (uint32_t k = 0; k < p->entry.chunks && k < 8; k++)
            if (queue_chunk(w->h.q, &p->entry.id, k, &p->pos[k], &p->size[k]) != 0)
                history_fail("message %u misses chunk %u", i, k);
        n++;
    }
    return n;
}

static uint32_t mark_damaged(struct work *w, const struct place *places, uint32_t n)
{
    struct segread *r = NULL;
    uint32_t damaged = 0;
    if (segread_open(&r, simdisk_disk(w->sd)) != 0)
        history_fail("no reader");
    for (uint32_t i = 0; i < n; i++) {
        struct sim_msg *m = ledger_find(w->ledger, &places[i].entry.id);
        m->damaged = !readable(w, r, &places[i].entry, places[i].pos, places[i].size);
        damaged += m->damaged;
    }
    segread_close(&r);
    return damaged;
}

/* Invariant 5: damage below the durable mark is reported and kept aside; nothing is cut off, and everything else
 * lives. The checks of the boot see to the last part. */
static void check_damage(struct work *w, const struct simdisk_spot *spots, uint32_t flips, uint32_t damaged,
                         bool scanned)
{
    for (uint32_t i = 0; i < flips && damaged > 0; i++)
        if (simdisk_count(w->sd, spots[i].name) == 0)
            history_fail("a damaged segment was removed: %s", spots[i].name);
    if (damaged > 0 && scanned && (w->h.damaged_n == 0 || simdisk_count(w->sd, "quarantine-") == 0))
        history_fail("%u messages are damaged; reported %u times, %u quarantine files", damaged, w->h.damaged_n,
                     simdisk_count(w->sd, "quarantine-"));
    if (flips == 1 && damaged > 0 && !simdisk_spot_unchanged(w->sd, &spots[0]))
        history_fail("a damaged range was written over");
}

static void flip_bits(struct work *w)
{
    struct place *places = calloc(SIM_MSGS_MAX, sizeof *places);
    struct simdisk_spot spots[3];
    uint32_t flips = 0, want = (uint32_t)upto(w->rng, 3);
    assert(places);
    if (!boot_whole(w))
        goto out;
    work_begin(w);
    uint32_t n = places_take(w, places);
    house_close(&w->h, true);
    while (flips < want && simdisk_flip(w->sd, w->rng, "slot-", &spots[flips])) {
        trace("---- flipped a bit of %s at %llu", spots[flips].name, (unsigned long long)spots[flips].off);
        flips++;
    }
    w->ledger->tainted = flips > 0;
    uint32_t damaged = mark_damaged(w, places, n);
    bool scanned = chance(w->rng, 60);
    make_room(w); /* for the quarantine */
    trace("---- %u messages damaged, index %s", damaged, scanned ? "lost" : "kept");
    if (scanned)
        house_lose_index(&w->h);
    if (boot_whole(w)) {
        check_damage(w, spots, flips, damaged, scanned);
        house_close(&w->h, true);
    }
out:
    free(places);
}

/* ---- the end */

/* A full disk drains with its reserve.  Restarts on a full disk may have used that up: each ends a segment early.  Then
 * the log refuses mail and says so, and it takes the operator to make room. */
static void need_reserve(struct work *w)
{
    struct seglog_info info;
    seglog_info(w->h.log, &info);
    if (info.spare_segments >= w->h.log_config.reserve_segments)
        return;
    house_close(&w->h, true);
    make_room(w);
    if (boot_whole(w))
        work_begin(w);
}

static void last_life(struct work *w)
{
    if (chance(w->rng, 50))
        simdisk_resize(w->sd, w->capacity);
    if (!boot_whole(w))
        return;
    work_begin(w);
    need_reserve(w);
    work_drain(w);
    if (history.failed)
        return;
    house_close(&w->h, true);
    if (boot_whole(w)) {
        ledger_check_empty(w->ledger, w->h.q);
        house_close(&w->h, true);
    }
}

static void seeded_lives(struct work *w, uint64_t seed)
{
    uint64_t lives = upto(w->rng, 5);
    for (uint64_t i = 0; i < lives && !history.failed; i++) {
        if (chance(w->rng, 10))
            house_lose_index(&w->h);
        live(w, chance(w->rng, 25) && i > 0 ? plan_recovery(w->rng) : plan_life(w->rng), 20 + rng_below(w->rng, 400));
    }
    if (seed % 6 == 0 && !history.failed)
        flip_bits(w);
}

bool lives_run(uint64_t cut, uint64_t seed)
{
    struct ledger *ledger = malloc(sizeof *ledger);
    struct work *w = calloc(1, sizeof *w);
    struct rng rng;
    bool completed = true;
    assert(ledger && w);
    rng_seed(&rng, cut ? 20261123 : seed);
    ledger_init(ledger);
    *w = (struct work){.ledger = ledger, .rng = &rng};
    w->capacity = chance(&rng, 30) ? (8 + rng_below(&rng, 10)) * SEGMENT_BYTES : 64 * (uint64_t)SEGMENT_BYTES;
    simdisk_open(&w->sd, seed + 1000003, w->capacity);
    history.clock = simdisk_clock(w->sd);
    house_init(&w->h, ledger, w->sd, &rng);
    configure(w);
    if (cut)
        completed = live(w, (struct simdisk_plan){.die_at = cut, .how = seed % 3 ? SIMDISK_POWER : SIMDISK_KILL}, 700);
    else
        seeded_lives(w, seed);
    if (!history.failed)
        last_life(w);
    if (history.failed)
        house_abandon(&w->h);
    house_destroy(&w->h);
    history.clock = NULL;
    simdisk_close(&w->sd);
    free(ledger);
    free(w);
    return completed;
}
