/* twin.h - invariant 4: the recovered index equals the one that a full scan of the log makes.
 *
 * The twin is a second queue over an empty RAM index, filled by seglog_scan.  Both digests must be the same text, and
 * every DONE that the scan finds counts as durable from now on. */
#pragma once

struct house;

/* With nothing under way in the house. */
void twin_check(struct house *h);
