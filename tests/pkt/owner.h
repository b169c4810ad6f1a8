/* owner.h - our side above TCP: takes connections, reads and checks what comes, writes what the script says. */
#pragma once
#include "tests/pkt/world.h"

/* All that tcp_event has to say. */
void owner_events(struct world *w);
/* Reads up to n bytes of c, each compared with what the peer sent at that place. Returns how many there were. */
uint32_t owner_read(struct world *w, struct peer *c, uint32_t n);
/* Writes the next n bytes of our stream. Returns how many were taken. */
uint32_t owner_write(struct world *w, struct peer *c, uint32_t n);
void owner_abort_all(struct world *w, void *arg);
/* "fin" -> TCP_EV_FIN; 0: no such event. */
uint16_t owner_event_named(const char *name);
/* Their names, for messages. */
void owner_events_text(uint16_t events, char *out, size_t room);
