/* tcpsim.c - seeded histories of two TCP stacks and the network between them, in one thread under virtual time.
 *
 *   tcpsim --seeds 1..3000      runs these histories; stops at the first that fails
 *   tcpsim --seed 17 --trace    replays one, with every segment
 *   --go-on                     runs all, whatever fails
 *
 * Diagnostics: "tcpsim: seed N failed: <what>; replay: ..." and exit code 1.  Last line: "N passed, N failed". */
#include "tests/tcpsim/tcpsim.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define END_US     (4 * 3600 * 1000000ull) /* everything has ended by then */
#define QUIET_US   (300 * 1000000ull)      /* what TIME-WAIT, handshakes and caches may last afterwards */
#define FRAMES_MAX 2000000u

struct world world;
static const char *program = "tcpsim";

void world_fail(const char *fmt, ...)
{
    if (world.failed)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(world.why, sizeof world.why, fmt, ap);
    va_end(ap);
    world.failed = true;
}

void world_trace(const char *fmt, ...)
{
    if (!world.trace)
        return;
    va_list ap;
    va_start(ap, fmt);
    printf("%12.6f ", (double)(world.now_us - world.begin_us) / 1e6);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

bool world_chance(uint32_t millionths)
{
    return millionths > 0 && rng_below(&world.rng, 1000000) < millionths;
}

static void run_until(bool (*over)(void), uint64_t until_us)
{
    uint64_t same = 0;
    while (!world.failed && !(over && over())) {
        uint64_t a = host_next_us(&hosts[0]), b = host_next_us(&hosts[1]);
        uint64_t at = a < b ? a : b;
        if (at == UINT64_MAX || at > until_us) {
            if (over)
                world_fail(at == UINT64_MAX ? "nothing will ever happen again, and connections are open"
                                            : "no end in four hours");
            else
                world.now_us = until_us;
            return;
        }
        same = at <= world.now_us ? same + 1 : 0;
        if (same > 100000 || world.frames > FRAMES_MAX) {
            world_fail(same > 100000 ? "time stands still" : "a talk without end: %u frames", FRAMES_MAX);
            return;
        }
        world.now_us = at > world.now_us ? at : world.now_us;
        host_turn(&hosts[a <= b ? 0 : 1]);
    }
}

static void check_empty(const struct host *h)
{
    static const enum stat_id zero[] = {STAT_CONNS, STAT_SYNS, STAT_TIME_WAITS, STAT_PAGES_USED, STAT_TXBLOCKS_USED};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        if (stat_get(&h->stats, zero[i]) != 0)
            world_fail("host %d: %s is %llu at the end", h->id, stat_rows[zero[i]].name,
                       (unsigned long long)stat_get(&h->stats, zero[i]));
    if (h->frames_out != 0)
        world_fail("host %d: %u frames were taken and never given away", h->id, h->frames_out);
}

static void run_one(uint64_t seed, bool trace)
{
    world = (struct world){.trace = trace};
    plan_make(&world.plan, seed);
    rng_seed(&world.rng, seed ^ 0x7463707369D5EEDull);
    world.now_us = world.begin_us = world.plan.epoch_us;
    net_open();
    watch_open();
    talks_open();
    for (int i = 0; i < HOSTS; i++)
        host_open(i);
    run_until(talks_over, world.begin_us + END_US);
    if (!world.failed)
        run_until(NULL, world.now_us + QUIET_US);
    for (int i = 0; i < HOSTS && !world.failed; i++)
        check_empty(&hosts[i]);
    if (!world.failed)
        talks_check();
    for (int i = 0; i < HOSTS; i++) {
        world.retransmitted += stat_get(&hosts[i].stats, STAT_RETRANS);
        host_close(&hosts[i]);
    }
    net_close();
}

static void report(const char *what)
{
    printf("tcpsim: seed %llu (%s) failed: %s; replay: %s --seed %llu --trace\n", (unsigned long long)world.plan.seed,
           world.plan.clean ? "mild" : "wild", what, program, (unsigned long long)world.plan.seed);
    fflush(stdout);
}

/* A defect that asserts must still name its seed. */
static void died(int sig)
{
    report(sig == SIGABRT ? "assertion" : sig == SIGALRM ? "no end in 60 s" : "crash of the program itself");
    _exit(1);
}

struct options {
    uint64_t first, last;
    bool trace, go_on;
};

static bool parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--trace") == 0)
            o->trace = true;
        else if (strcmp(argv[i], "--go-on") == 0)
            o->go_on = true;
        else if (strcmp(argv[i], "--seeds") == 0 && sscanf(v, "%lu..%lu", &o->first, &o->last) == 2)
            i++;
        else if (strcmp(argv[i], "--seed") == 0 && sscanf(v, "%lu", &o->first) == 1 && (o->last = o->first, true))
            i++;
        else
            return false;
    }
    return o->first <= o->last;
}

int main(int argc, char **argv)
{
    struct options o = {.first = 1, .last = 0};
    uint64_t passed = 0, failed = 0, bytes = 0, frames = 0, again = 0, reneged = 0;
    program = argv[0];
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: tcpsim --seeds A..B | --seed N  [--go-on] [--trace]\n");
        return 2;
    }
    signal(SIGABRT, died);
    signal(SIGALRM, died);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, died);
#endif
    for (uint64_t seed = o.first; seed <= o.last && (failed == 0 || o.go_on); seed++) {
        alarm(60);
        run_one(seed, o.trace);
        alarm(0);
        if (world.failed)
            report(world.why);
        failed += world.failed;
        passed += !world.failed;
        bytes += world.bytes, frames += world.frames, again += world.retransmitted;
        reneged += world.reneged;
    }
    printf("# %llu bytes heard, %llu frames, %llu retransmitted, %llu reports reneged on\n", (unsigned long long)bytes,
           (unsigned long long)frames, (unsigned long long)again, (unsigned long long)reneged);
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed ? 1 : 0;
}
