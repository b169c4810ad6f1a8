/* check.h - what holds of every frame that the stack sends, in whatever script: formats, checksums, addresses, payload,
 * windows, options that were agreed. */
#pragma once
#include "tests/pkt/world.h"

/* Takes bytes. The frame joins w->sent unless the link answered it by itself (ARP and NDP for hosts). */
void check_sent(struct world *w, uint8_t *bytes, uint32_t n);
