/* recipients.h - lists of authorised recipients: for the question at RCPT, and as files of this node.
 *
 * A domain names its list by a hash (struct domain.recipients); the list itself lies in DIR/lists/HASH.  In memory a
 * list is a sorted array of 64-bit fingerprints under a seed that is drawn anew at each start: 8 bytes a recipient.  An
 * address that is not on a list of a million passes once in 10^13 tries, and nobody can look for one that does.
 *
 * Readers take a snapshot, as of domains: immutable, reference-counted, valid until released.  A list is durable before
 * it is visible.  The registry of domains owns the lists (domains_recipients), and says which are in use: what no
 * domain names for an hour is removed.
 *
 * Thread: any.  Errors: negative SATCHEL_E*, with words for the operator in why_r (RECIPIENTS_WHY_MAX). */
#pragma once
#include "dataplane/conf/recipients_file.h"

#define RECIPIENTS_GRACE_US (UINT64_C(60) * 1000000) /* how long a list may be missing before all is taken */
#define RECIPIENTS_UNUSED_S 3600                     /* how long a file stays that no domain names */

struct recipients;          /* the lists of this node */
struct recipients_snapshot; /* one state of them */
struct recipient_list;

/* A file that is damaged is logged by its name and left out: peers may have the list. */
int recipients_open(struct recipients **r_r, const char *dir);
void recipients_close(struct recipients **r);

/* ---- asking */
const struct recipients_snapshot *recipients_get(struct recipients *r);
void recipients_put(const struct recipients_snapshot *s);
/* Grows with each list that comes or goes. */
uint64_t recipients_version(struct recipients *r);
/* NULL: this node does not have it (yet).  Borrows from the snapshot. */
const struct recipient_list *recipients_find(const struct recipients_snapshot *s, const char *hash);
size_t recipients_count(const struct recipients_snapshot *s);
/* local: as the client wrote it.  An entry "user+" takes user and user+anything; postmaster is on every list (RFC 5321
 * section 4.5.1). */
bool recipient_list_has(const struct recipient_list *l, struct slice local);
size_t recipient_list_count(const struct recipient_list *l);
/* Is this list here? */
bool recipients_have(struct recipients *r, const char *hash);
/* Notes that a list is missed; for how long already (boot clock). */
uint64_t recipients_missing_us(struct recipients *r, const char *hash, uint64_t now_us);

/* ---- keeping */
/* A canonical text; what is there already is fine. */
int recipients_keep(struct recipients *r, const struct recipients_text *t, char hash_r[RECIPIENTS_HASH_MAX],
                    char *why_r);
/* As a peer sent it; -SATCHEL_EDAMAGED: it is not the list of that name. */
int recipients_keep_packed(struct recipients *r, const char *hash, struct slice packed, char *why_r);
/* For a peer; malloc'ed.  -SATCHEL_ENOENT. */
int recipients_read_packed(struct recipients *r, const char *hash, uint8_t **packed_r, size_t *n_r, char *why_r);
int recipients_read(struct recipients *r, const char *hash, struct recipients_text *t_r, char *why_r);

/* Removes what `used` does not know and what was not in use for RECIPIENTS_UNUSED_S. */
void recipients_sweep(struct recipients *r, bool (*used)(void *arg, const char *hash), void *arg, uint64_t now_s);
