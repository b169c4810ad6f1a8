/* domains_file.h - domains.json: reading it, and replacing it as a whole so that a crash leaves the old or the new one.
 * For domains.c. Errors: negative SATCHEL_E*, with words for the operator in why_r (256 bytes). */
#pragma once
#include "dataplane/conf/domains.h"

/* Calls each for every domain of the file.  A missing file has none. */
int domains_file_read(const char *dir, int (*each)(void *arg, const struct domain *dom), void *arg, char *why_r);
/* Durable when 0 is returned. */
int domains_file_write(const char *dir, const struct domain *const *doms, size_t n, char *why_r);
