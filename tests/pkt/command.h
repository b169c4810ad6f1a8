/* command.h - lines of a script, run one after the other. */
#pragma once
#include "tests/pkt/words.h"

/* The whole script; ends at the first failure. w->line names the line. */
void command_run(struct world *w);
