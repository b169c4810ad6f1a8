/* clients.h - who hands mail in: each sends its letters one after the other, through its node while that is there, and
 * goes on to the next letter when it has the 250. */
#pragma once
#include "tests/csim/simnode.h"

struct clients;

void clients_open(struct clients **c_r, struct world *w);
void clients_close(struct clients **c);
void clients_start(struct clients *c);
/* No new letters; what waits for an answer goes on waiting. */
void clients_stop(struct clients *c);
bool clients_idle(const struct clients *c);
