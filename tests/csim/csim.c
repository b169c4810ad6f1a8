/* csim.c - the simulator of a cluster: seeded histories of several nodes, their disks, the network between them and
 * coordination, in one thread under virtual time.
 *
 *   csim --seeds 1..3000               runs these histories on model storages; stops at the first that fails
 *   csim --seeds 1..200 --house        on the product's log, index and queue over simulated disks
 *   csim --seed 17 --trace             replays one
 *   --house-seeds 1..200               after the others, these on real spools
 *   --go-on                            runs all, whatever fails
 *
 * Diagnostics: "csim: seed N (kind) failed: <what>; replay: ..." and exit code 1.  Last line: "N passed, N failed". */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/csim/world.h"

struct options {
    uint64_t first, last, house_first, house_last;
    bool verbose, go_on, house;
};

static struct options options = {.first = 1, .last = 0, .house_first = 1, .house_last = 0};
static const char *program = "csim";

static void report(const char *what)
{
    printf("csim: seed %llu (%s) failed: %s; replay: %s --seed %llu%s --trace\n", (unsigned long long)history.seed,
           history.kind ? history.kind : "?", what, program, (unsigned long long)history.seed,
           options.house ? " --house" : "");
    fflush(stdout);
}

/* A defect that asserts must still name its seed. */
static void died(int sig)
{
    report(sig == SIGABRT ? "assertion" : sig == SIGALRM ? "no end in 60 s" : "crash of the program itself");
    _exit(1);
}

static void run_one(uint64_t seed, struct world_tally *tally)
{
    history = (struct history){.seed = seed, .verbose = options.verbose};
    alarm(60);
    world_history(seed, options.house, tally);
    alarm(0);
    if (history.failed)
        report(history.why);
}

static int usage(void)
{
    fprintf(stderr,
            "usage: csim --seeds A..B | --seed N  [--model | --house] [--house-seeds A..B] [--go-on] [--trace]\n");
    return 2;
}

static bool parse(int argc, char **argv)
{
    struct options *o = &options;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(a, "--trace") == 0)
            o->verbose = true;
        else if (strcmp(a, "--go-on") == 0)
            o->go_on = true;
        else if (strcmp(a, "--house") == 0)
            o->house = true;
        else if (strcmp(a, "--model") == 0)
            o->house = false;
        else if (strcmp(a, "--seeds") == 0 && sscanf(v, "%lu..%lu", &o->first, &o->last) == 2)
            i++;
        else if (strcmp(a, "--house-seeds") == 0 && sscanf(v, "%lu..%lu", &o->house_first, &o->house_last) == 2)
            i++;
        else if (strcmp(a, "--seed") == 0 && sscanf(v, "%lu", &o->first) == 1 && (o->last = o->first, true))
            i++;
        else
            return false;
    }
    return o->first <= o->last || o->house_first <= o->house_last;
}

struct count {
    uint64_t passed, failed;
};

static void run_seeds(uint64_t first, uint64_t last, struct world_tally *tally, struct count *c)
{
    for (uint64_t seed = first; seed <= last && (c->failed == 0 || options.go_on); seed++) {
        run_one(seed, tally);
        c->failed += history.failed;
        c->passed += !history.failed;
    }
}

int main(int argc, char **argv)
{
    struct world_tally tally = {0};
    struct count count = {0};
    program = argv[0];
    if (!parse(argc, argv))
        return usage();
    signal(SIGABRT, died);
    signal(SIGALRM, died);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, died);
#endif
    run_seeds(options.first, options.last, &tally, &count);
    options.house |= options.house_first <= options.house_last;
    run_seeds(options.house_first, options.house_last, &tally, &count);
    printf("# %lu letters, %lu acknowledged, %lu lost with their disks, %lu delivered again, %lu turns\n",
           tally.letters, tally.acked, tally.lost, tally.duplicates, tally.turns);
    printf("%lu passed, %lu failed\n", count.passed, count.failed);
    return count.failed ? 1 : 0;
}
