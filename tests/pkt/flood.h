/* flood.h - many segments of strangers, and what they were answered. */
#pragma once
#include "tests/pkt/words.h"

/* flood N FLAGS|echo [hosts|ports|networks] [from ADDR] [every SECONDS] [dport PORT] [badsum]: one turn each. */
void flood_line(struct words *s);
/* replied N|A..B FLAGS|icmp: of the last flood; each kind must be asked for. */
void replied_line(struct words *s);
/* isns spread: initial sequence numbers of the SYN-ACKs of the last flood cannot be told from another. */
void isns_line(struct words *s);
