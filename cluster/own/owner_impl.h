/* owner_impl.h - what the files of the owner share.
 *
 * A shard's `turn` is drawn anew at each change of its state: answers to what was asked before find another turn and
 * are dropped.  Shards with something to do are in `work`; a tick steps those only. */
#pragma once
#include "cluster/own/owner.h"

#define OWNER_BATCH_MAX 50 /* shards changed by one txn */
#define OWNER_HANDED    1024

/* The txn that a shard needs next. */
enum own_want { WANT_NOTHING, WANT_CONFIRM, WANT_HAND, WANT_UNFORMER };

struct own_shard {
    enum owner_state state;
    uint32_t turn;
    bool in_work, dirty;    /* dirty: to be reported */
    bool asked, solo;       /* a txn with it is under way; it goes alone, since one with others failed */
    bool merged, confirmed; /* MERGING: both, then OWNED */
    bool handed;            /* MERGING: by its former owner */
    bool warming, warm;     /* OWNED: `to` is being told what it is owed; it knows */
    bool looked;            /* QUIET: its busy bags are among `busy` of the owner */
    bool settled, flushed;  /* QUIET: the last ends are applied; HANDING: and known to `to` */
    bool emptied;           /* we hold nothing of it, as a former member */
    bool announce;          /* its bags are to be made ready */
    uint32_t busy;          /* QUIET: bags with claims in the queue, by the last look */
    uint64_t epoch;         /* that we own it under */
    uint64_t since_us;      /* in this state */
    uint64_t idle_us;       /* QUIET: the relay's last claim was gone; 0: not yet */
    uint64_t hand_us[4];    /* of a hand-over: when it was QUIET, idle, HANDING, flushed */
    uint64_t retry_us;      /* no hand-over, no txn before */
    int64_t stale_rev;      /* a txn failed at this mod_rev: nothing is asked until the map has another */
    int64_t doubt_rev;      /* a hand-over that compared this mod_rev may still come into effect: its answer was lost */
    struct storage_id to;   /* warming, QUIET, HANDING */
};

struct own_ticket {
    struct own_ticket *prev, *next;
    struct owner *o;
    uint32_t turn;
};

struct own_batch {
    struct own_batch *prev, *next;
    struct owner *o;
    enum own_want want;
    uint32_t n;
    struct {
        uint32_t shard, turn;
        int64_t mod_rev;
    } items[OWNER_BATCH_MAX];
};

/* A hand-over to us that the map does not show yet. */
struct own_handed {
    char pool[POOL_NAME_MAX];
    uint32_t number;
    uint64_t epoch, until_us;
};

struct own_names {
    uint8_t *bytes; /* u8 length, name; ... */
    size_t n, cap, at;
};

struct owner { /* NOLINT(clang-analyzer-optin.performance.Padding): by topic */
    struct owner_config cfg;
    struct owner_env env;
    const struct cmap *map;
    struct own_shard *shards;
    uint32_t shards_n, turns;
    uint32_t *work, work_n, work_cap;
    uint64_t next_us; /* boot clock of the next thing to do; 0: at once */
    bool leased;

    struct own_ticket *tickets;
    struct own_batch *batches;
    uint32_t batches_n;

    struct own_handed handed[OWNER_HANDED];
    uint32_t handed_at;
    uint64_t walk_us;      /* no walk over all bags before */
    struct own_names busy; /* bags with claims, of shards that are QUIET */

    bool announcing; /* some shard has `announce` */
    uint64_t announce_us;
    struct own_names names;

    uint64_t report_us, report_all_us;
    struct storage_id leader;

    uint64_t drain_us, drain_since_us; /* next look; nothing was here since; 0: something was */
    bool drain_asked;                  /* the list or txn is under way */
    int64_t drain_rev;

    bool leaving;
    uint64_t leave_until_us, leave_idle_us; /* the latter: nothing is held since */
    void (*left)(void *arg);
    void *left_arg;

    uint64_t adopted, handed_over, adopt_us_last, hand_us_last;
};

/* ---- owner.c */
uint64_t owner_now(const struct owner *o);
void owner_wake(struct owner *o, uint64_t at_us);
void owner_enter(struct owner *o, uint32_t shard, enum owner_state state);
/* Into `work`, and looked at soon. */
void owner_work(struct owner *o, uint32_t shard);
/* From QUIET or HANDING: goes on delivering; no hand-over for a while. */
void owner_back(struct owner *o, uint32_t shard, const char *why);
/* NULL: the answer comes too late (it freed the ticket). */
struct own_shard *owner_ticket_end(struct own_ticket *t, uint32_t shard, struct owner **o_r);
struct own_ticket *owner_ticket(struct owner *o, const struct own_shard *s);
static inline const struct map_shard *owner_mapped(const struct owner *o, uint32_t shard)
{
    return &o->map->shards[shard];
}
/* Only as long as the shard's key is as it was then. */
static inline bool owner_in_doubt(const struct owner *o, uint32_t shard)
{
    int64_t rev = o->shards[shard].doubt_rev;
    return rev && rev == owner_mapped(o, shard)->mod_rev;
}

/* ---- handover.c */
/* Whom the shard should go to now; false: nobody, or nobody is ready. */
bool handover_heir(const struct owner *o, uint32_t shard, struct storage_id *to_r);
/* Could somebody become the heir, if we waited? */
bool handover_possible(const struct owner *o, uint32_t shard);
void handover_step(struct owner *o, uint32_t shard, uint64_t now);
/* Towards `to`: what it is owed first, then QUIET. */
void handover_begin(struct owner *o, uint32_t shard, const struct storage_id *to);
/* The CAS that gives it away is in. */
void handover_done(struct owner *o, uint32_t shard, int64_t rev);
void handover_frame(struct owner *o, const struct storage_id *from, struct slice payload);
/* Did its former owner say that this shard is ours at this epoch? */
bool handover_was_told(struct owner *o, const struct map_shard *s);

/* ---- settle.c */
/* QUIET shards whose claims are gone: are their ends applied? */
void settle_tick(struct owner *o, uint64_t now);

/* ---- shardcas.c */
void shardcas_tick(struct owner *o, uint64_t now);
void shardcas_close(struct owner *o);
enum own_want shardcas_want(const struct owner *o, uint32_t shard);

/* ---- announce.c */
void names_add(struct own_names *l, struct slice domain);
void announce_tick(struct owner *o, uint64_t now);

/* ---- report.c */
void report_dirty(struct owner *o, uint32_t shard);
void report_map(struct owner *o);
void report_tick(struct owner *o, uint64_t now);
void report_frame(struct owner *o, struct slice payload);

/* ---- drain.c */
void drain_tick(struct owner *o, uint64_t now);
