/* hops.h - finds mail loops: counts the Received fields in a message's header as it streams by, and those among them
 * that say "by" our own name (RFC 5321 section 6.3).  Case-blind, knows folded fields, works at any split.
 * Thread: its owner's; no memory. */
#pragma once
#include "spool/base/slice.h"

enum hops_state { HOPS_NAME, HOPS_RECEIVED, HOPS_OTHER, HOPS_BODY };

struct smtp_hops {
    struct slice hostname; /* borrowed */
    enum hops_state state;
    uint32_t received, own; /* fields so far; of them, by us */
    uint32_t column;        /* in this line */
    uint32_t word;          /* length of the word under way */
    bool is_by, is_host;    /* the word so far equals the start of "by", of hostname */
    bool after_by;          /* the word before was "by" */
};

void smtp_hops_init(struct smtp_hops *h, struct slice hostname);
/* The next bytes of the message (dots taken out). */
void smtp_hops_feed(struct smtp_hops *h, struct slice in);
