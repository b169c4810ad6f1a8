/* stats.c - the names of what a queue counts. */
#include "dataplane/tcp/stats.h"

const struct stat_row stat_rows[STAT_N] = {
#define STAT(id, name, help) {name, help},
#include "dataplane/tcp/stats.def"
#undef STAT
};
