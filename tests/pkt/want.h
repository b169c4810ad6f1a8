/* want.h - lines that start with '<': a frame that the stack must send, and when. */
#pragma once
#include "tests/pkt/words.h"

/* Waits for the next frame of that kind (of c, when it is TCP) and compares. */
void want_line(struct words *s, struct peer *c);
