/* session.h - one comparison under way: shared by session.c (questions, shards, bags) and walk.c (one bag, message by
 * message). */
#pragma once
#include "cluster/copies/copies_impl.h"

enum { OWN_MAX = 1024, MINE_MAX = 2048, JOBS_MAX = 4 };

struct own {
    struct msgid id;
    uint64_t arrival_us, digest;
};

struct window {
    struct own last; /* digest: of the window */
    uint32_t count;
    uint16_t cursor_n; /* behind it */
    uint8_t cursor[QUEUE_CURSOR_MAX];
};

struct session { /* NOLINT(clang-analyzer-optin.performance.Padding): by topic */
    enum obj_kind kind;
    enum session_state { S_SUMS, S_BAGS, S_WINDOWS, S_WALK, S_IDS, S_JOIN, S_DRAIN } state;
    uint64_t token;
    struct dlist link;
    struct cpeer *peer;
    uint32_t shard, jobs;
    int res;
    uint64_t asked_us, until;
    bool until_set;
    session_done *done;
    uint64_t arg;
    /* bags of the page that differ */
    struct slice *diffs; /* each malloc'ed */
    uint32_t diffs_n, diff_at;
    bool bags_more;
    uint8_t after[WIRE_NAME_MAX];
    uint8_t after_n;
    /* the bag that is walked */
    struct window windows[WIRE_WINDOWS_MAX];
    uint32_t windows_n, window_at;
    bool windows_more;
    uint8_t cursor[QUEUE_CURSOR_MAX]; /* theirs: where the window begins */
    uint16_t cursor_n;
    struct own own[OWN_MAX]; /* ours, read ahead */
    uint32_t own_n, own_at;
    bool own_end;
    uint8_t own_cursor[QUEUE_CURSOR_MAX];
    size_t own_cursor_n;
    struct own mine[MINE_MAX]; /* of the window */
    uint32_t mine_n, mine_at;
    bool mine_whole;
    uint64_t mine_digest;
    struct own theirs[WIRE_ENTRIES_MAX];
    uint32_t theirs_n, theirs_at;
    /* to be sent */
    struct msgid want[WIRE_ENTRIES_MAX];
    struct offer_entry offer[WIRE_ENTRIES_MAX];
    uint32_t want_n, offer_n;
};

/* ---- session.c */
void diffs_free(struct session *s);
/* Ends it; it is gone then. */
void session_over(struct copies *c, struct session *s, int res);
/* The next question; false: it could not be sent and the session is over. */
bool ask_bags(struct copies *c, struct session *s);
bool ask_windows(struct copies *c, struct session *s);
bool ask_ids(struct copies *c, struct session *s);

/* ---- walk.c */
/* The bag at diff_at, from its head. */
void bag_begin(struct session *s);
/* The bag is over: the next one, the next page, or the end.  false: wait. */
bool bag_next(struct copies *c, struct session *s);
/* One slice of what can be done without an answer. */
void session_run(struct copies *c, struct session *s);
