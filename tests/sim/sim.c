/* sim.c - the simulator of the spool: seeded histories of mail, crashes, faults and restarts.
 *
 *   sim --seeds 1..3000        runs these histories; prints the first that fails (--go-on: all) and how to replay it
 *   sim --seed 17 -v           replays one, with its trace
 *   sim --cuts 3               a fixed workload, cut at effect 1, 2, 3, ... until it completes; 3 ways of losing
 * sectors each sim --cut 40 --seed 2 -v   replays one of those
 *
 * Diagnostics: "sim: seed N failed: <what>; replay: ..." and exit code 1. The last line is "N passed, N failed". */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/lives.h"
#include "tests/sim/simdisk.h"
#include "tests/sim/trace.h"

struct options {
    uint64_t first, last, cut;
    uint32_t cuts; /* ways of losing sectors at each cut; 0: seeds */
    bool verbose, go_on;
};

static const char *program = "sim";

static void report(const char *what)
{
    if (history.cut)
        printf("sim: cut %llu seed %llu failed: %s; replay: %s --cut %llu --seed %llu -v\n",
               (unsigned long long)history.cut, (unsigned long long)history.seed, what, program,
               (unsigned long long)history.cut, (unsigned long long)history.seed);
    else
        printf("sim: seed %llu failed: %s; replay: %s --seed %llu -v\n", (unsigned long long)history.seed, what,
               program, (unsigned long long)history.seed);
    fflush(stdout);
}

/* A defect that asserts must still name its seed. */
static void died(int sig)
{
    report(sig == SIGABRT ? "assertion" : sig == SIGALRM ? "no end in 60 s" : "crash of the program itself");
    _exit(1);
}

static bool run_one(uint64_t cut, uint64_t seed, bool verbose)
{
    history = (struct history){.seed = seed, .cut = cut, .verbose = verbose};
    alarm(60);
    bool completed = lives_run(cut, seed);
    alarm(0);
    history.clock = NULL;
    if (history.failed)
        report(history.why);
    return completed;
}

enum { MANY = 200 }; /* runs in which each path is taken */

struct tally {
    uint64_t passed, failed;
};

static bool tally_one(struct tally *t, uint64_t cut, uint64_t seed, bool verbose)
{
    bool completed = run_one(cut, seed, verbose);
    t->failed += history.failed;
    t->passed += !history.failed;
    return completed;
}

static void run_seeds(const struct options *o, struct tally *t)
{
    for (uint64_t seed = o->first; seed <= o->last && (t->failed == 0 || o->go_on); seed++)
        tally_one(t, o->cut, seed, o->verbose);
}

static void run_cuts(const struct options *o, struct tally *t)
{
    bool completed = false;
    for (uint64_t cut = 1; !completed && (t->failed == 0 || o->go_on); cut++) {
        completed = true;
        for (uint64_t seed = 1; seed <= o->cuts; seed++)
            completed = tally_one(t, cut, seed, o->verbose) && completed;
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: sim [--seeds A..B | --seed N] [--cuts K | --cut N] [--go-on] [-v]\n");
    return 2;
}

static bool parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "-v") == 0)
            o->verbose = true;
        else if (strcmp(a, "--go-on") == 0)
            o->go_on = true;
        else if (!v)
            return false;
        else if (strcmp(a, "--seeds") == 0 && sscanf(v, "%lu..%lu", &o->first, &o->last) == 2)
            i++;
        else if (strcmp(a, "--seed") == 0 && sscanf(v, "%lu", &o->first) == 1 && (o->last = o->first, true))
            i++;
        else if (strcmp(a, "--cuts") == 0 && sscanf(v, "%u", &o->cuts) == 1)
            i++;
        else if (strcmp(a, "--cut") == 0 && sscanf(v, "%lu", &o->cut) == 1)
            i++;
        else
            return false;
    }
    return o->first <= o->last || o->cuts;
}

int main(int argc, char **argv)
{
    struct options o = {.first = 1, .last = 0};
    struct tally t = {0};
    program = argv[0];
    if (!parse(&o, argc, argv))
        return usage();
    signal(SIGABRT, died);
    signal(SIGALRM, died);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, died);
#endif
    run_seeds(&o, &t);
    if (o.cuts)
        run_cuts(&o, &t);
    printf("# %lu writes in several pieces\n", simdisk_pieced);
    if (t.passed >= MANY && simdisk_pieced == 0) {
        printf("sim: no body was borrowed\n");
        t.failed++;
    }
    printf("%lu passed, %lu failed\n", t.passed, t.failed);
    return t.failed ? 1 : 0;
}
