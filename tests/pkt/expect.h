/* expect.h - `expect ...`: what the owner sees, what was counted, and silence. */
#pragma once
#include "tests/pkt/words.h"

void expect_line(struct words *s, struct peer *c);
/* Nothing was sent that no line asked for. */
void expect_clean(struct world *w);
