/* csim.c - the simulator of a cluster: seeded histories of several nodes, their disks, the network between them and
 * coordination, in one thread under virtual time.
 *
 *   csim --seeds 1..3000               runs these histories on model storages; stops at the first that fails
 *   csim --seeds 1..200 --house        on the product's log, index and queue over simulated disks
 *   csim --seed 17 --trace             replays one
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
    uint64_t first, last;
    bool verbose, go_on, house;
};

static struct options options = {.first = 1, .last = 0};
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
    fprintf(stderr, "usage: csim --seeds A..B | --seed N  [--model | --house] [--go-on] [--trace]\n");
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
        else if (strcmp(a, "--seed") == 0 && sscanf(v, "%lu", &o->first) == 1 && (o->last = o->first, true))
            i++;
        else
            return false;
    }
    return o->first <= o->last;
}

int main(int argc, char **argv)
{
    struct world_tally tally = {0};
    uint64_t passed = 0, failed = 0;
    program = argv[0];
    if (!parse(argc, argv))
        return usage();
    signal(SIGABRT, died);
    signal(SIGALRM, died);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, died);
#endif
    for (uint64_t seed = options.first; seed <= options.last && (failed == 0 || options.go_on); seed++) {
        run_one(seed, &tally);
        failed += history.failed;
        passed += !history.failed;
    }
    printf("# %lu letters, %lu acknowledged, %lu lost with their disks, %lu delivered again, %lu turns\n",
           tally.letters, tally.acked, tally.lost, tally.duplicates, tally.turns);
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed ? 1 : 0;
}
