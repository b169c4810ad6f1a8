/* blocklist.h - a block list as people keep it in a file, made into what guard_block searches.
 *
 * One network a line (192.0.2.0/24, 2001:db8::/32) or one address; what follows # or ; is a comment; blank lines are
 * skipped.  The result is sorted, each network once, none within another, neighbours joined to the network that holds
 * just both.  Uses malloc and stdio: not for a queue's thread. */
#pragma once
#include "dataplane/tcp/addr.h"
#include "spool/base/slice.h"

#define BLOCKLIST_WHY_MAX 512

struct blocklist {
    struct ip_prefix *v; /* malloc'ed; NULL when empty */
    uint32_t n;
};

/* name: the file, for errors.  max: networks after joining.  0; -SATCHEL_EINVAL, -SATCHEL_EFULL: why_r
 * (BLOCKLIST_WHY_MAX) names file, line and what was expected, or how many there are; -SATCHEL_ENOMEM. */
int blocklist_parse(struct slice text, const char *name, uint32_t max, struct blocklist *b_r, char *why_r);
/* Likewise from a file; or -errno, which why_r names with the file. */
int blocklist_read(const char *path, uint32_t max, struct blocklist *b_r, char *why_r);
void blocklist_free(struct blocklist *b);
