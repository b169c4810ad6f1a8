/* fresh.h - says of most new messages, without a look into the index, that nothing of them is here.
 *
 * The IDs of one incarnation go up, so what comes first-hand from a front-end is near the newest that came before.  For
 * each incarnation a window of counters is kept: of those that did not come yet, the index knows nothing.  What lies
 * below the window, or belongs to an incarnation that has no place here at the moment, is the index's to answer.
 *
 * Whatever may come to be known (records put, ends merged) goes through fresh_take.  IDs that come to be known another
 * way, and records on their way to the index when their incarnation gets its place, may pass for fresh once: as with a
 * look into the index, which does not know either what is not committed yet.
 *
 * Thread: one. */
#pragma once
#include "spool/format/msgid.h"

struct fresh;

/* Has the index anything of from's incarnation at or above its counter? */
typedef bool fresh_any(void *arg, const struct msgid *from);

/* NULL: no memory. */
struct fresh *fresh_new(fresh_any *any, void *arg);
/* True: nothing of this message is here, surely.  In either case it counts as known from now on. */
bool fresh_take(struct fresh *f, const struct msgid *id);
void fresh_free(struct fresh **f);
