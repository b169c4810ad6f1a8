/* store.h - the index as the queue writes it: reads that see what the open batch holds.
 * The index shows committed batches only. The store remembers which keys its open batch touches; a read of one of them
 * settles first, that is, commits all records applied so far.  Whoever applies a record therefore reads all he needs
 * before his first write, so that no commit ever holds half a record. */
#pragma once
#include "spool/index/index.h"
#include "spool/queue/keys.h"

enum { STORE_PENDING_MAX = 8192, STORE_PENDING_SLOTS = 32768 };

struct store {
    struct index *ix;
    int err; /* the first failure; sticky: the index is behind from then on */
    size_t pending_n;
    bool writing; /* a record is half applied: no settling now */
    /* Commits everything applied so far. */
    int (*settle)(void *arg);
    void *settle_arg;
    uint64_t pending[STORE_PENDING_SLOTS]; /* hashes of the keys in the open batch; 0: free */
    uint32_t used[STORE_PENDING_SLOTS];    /* which slots those are */
};

void store_put(struct store *s, const struct key *k, struct slice value);
void store_del(struct store *s, const struct key *k);
/* As index get, and sees the open batch. */
int64_t store_get(struct store *s, const struct key *k, void *out_r, size_t cap);
/* A snapshot that holds everything applied. NULL: failed (s->err), or out of memory. */
struct index_iter *store_iter(struct store *s, const struct key *from, const struct key *to);
/* So many keys are touched that it is time to settle. */
bool store_full(const struct store *s);
int store_commit(struct store *s, uint64_t pos);
int store_settle(struct store *s);
