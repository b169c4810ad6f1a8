/* lines.h - a ledger: a file of short lines, appended in order and handed to the kernel a batch at a time.
 *
 * gen writes   S TOKEN    before the final dot of that message is sent
 *              A TOKEN    when its 250 has arrived
 *              F TOKEN    when another answer has arrived: refused
 * sink writes  R TOKEN    before it answers 250
 * The number of a line in its file is a logical clock: A before S in one file means "acknowledged before the other was
 * sent".  Threads may share one ledger: each call is one short critical section. */
#pragma once

struct lines;

/* path NULL: a ledger that drops everything.  Ends the program when the file cannot be written. */
struct lines *lines_open(const char *path);
void lines_add(struct lines *l, char kind, const char *token);
/* Hands everything so far to the kernel: call it before the loop sleeps and before an answer leaves. */
void lines_flush(struct lines *l);
void lines_close(struct lines **l);
