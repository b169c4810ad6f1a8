/* say.h - lines that start with '>': a frame that a peer sends, in words. */
#pragma once
#include "tests/pkt/build.h"
#include "tests/pkt/words.h"

void say_line(struct words *s, struct peer *c);
/* A segment of c without words: flags, next numbers, timestamps if agreed; say_send updates what the peer knows. */
struct spec say_segment(struct world *w, struct peer *c, uint16_t flags);
void say_send(struct world *w, struct peer *c, const struct spec *t);
