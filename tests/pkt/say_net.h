/* say_net.h - what a '>' line may say below TCP: Ethernet, IP, and frames of ARP, NDP and ICMP, or raw bytes. */
#pragma once
#include "tests/pkt/build.h"
#include "tests/pkt/words.h"

/* A word about Ethernet, IP or checksums, with its arguments. False: not one of them. */
bool say_net_word(struct words *s, struct spec *t, const char *word);
/* The whole line, when it starts with arp, ndp, icmp or raw. False: another. */
bool say_net_line(struct words *s, struct peer *c, const char *word);
