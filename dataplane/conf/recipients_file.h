/* recipients_file.h - a list of recipients on disk and on the wire: its canonical text under zstd, in a file
 * DIR/lists/HASH that is named by the XXH3-128 of the text.  So a list never changes: another list is another file, and
 * what a file or a peer gives is checked against its name.  Errors: negative SATCHEL_E*, with words for the operator in
 * why_r (RECIPIENTS_WHY_MAX). */
#pragma once
#include "dataplane/conf/recipients_text.h"

#define RECIPIENTS_HASH_MAX   33          /* 32 hex digits */
#define RECIPIENTS_PACKED_MAX (64u << 20) /* bytes */

void recipients_hash(struct slice text, char hash_r[RECIPIENTS_HASH_MAX]);
/* 32 hex digits in lower case? */
bool recipients_hash_ok(const char *hash);

/* malloc'ed. */
int recipients_pack(struct slice text, uint8_t **packed_r, size_t *n_r);
/* -SATCHEL_EDAMAGED: it is not the list of that name. */
int recipients_unpack(struct slice packed, const char *hash, struct recipients_text *t_r, char *why_r);

/* Durable when 0 is returned. */
int recipients_file_write(const char *dir, const char *hash, struct slice packed, char *why_r);
/* malloc'ed.  -SATCHEL_ENOENT: there is none. */
int recipients_file_read(const char *dir, const char *hash, uint8_t **packed_r, size_t *n_r, char *why_r);
void recipients_file_remove(const char *dir, const char *hash);
/* Notes that it is in use now: the time of the file. */
void recipients_file_touch(const char *dir, const char *hash);
/* Seconds since 1970 of the last touch; 0: not known. */
uint64_t recipients_file_touched_s(const char *dir, const char *hash);
/* Each file that is named as a list. */
int recipients_files(const char *dir, void (*each)(void *arg, const char *hash), void *arg);
