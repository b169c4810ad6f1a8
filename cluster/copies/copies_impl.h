/* copies_impl.h - what the files of cluster/copies share; nobody else includes it.
 *
 *   copies.c    open, map, peers, dispatch, tick              ends.c     what became of messages: pushed, acked,
 * settled request.c   front-end: a record to its storages           flush.c    "everything is acknowledged by", for
 * hand-overs plan.c      which storages; messages of many records      sums.c     a picture of the bags here, shard by
 * shard holder.c    PUT and FORGET from peers; putting here       compare.c  rounds of digests, who is in sync, merging
 *   merge.c     STATE from peers                              session.c  one comparison, from shard to message
 *   feed.c      WANT answered                                 answer.c   the other side of a comparison: stateless
 *   job.c       what we wanted and offered                    shed.c     what is not ours; DSNs before their ends
 *   slots.c     tokens                                        scrub.c    reads what lies here
 *   walk.c      the part of a session within a bag
 *   gone.c      storages that left are owed nothing
 *
 * Who starts a comparison: a shard's owner with its members; copies_merge with former members too; whoever holds mail
 * of a shard and is no member, by offering it to all members. */
#pragma once
#include "cluster/copies/copies.h"
#include "cluster/copies/copies_wire.h"
#include "cluster/copies/slots.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"

#include <stdlib.h>

#define LEGS_MAX         16
#define BATCHES_MAX      4           /* STATE frames to one peer that are not acked */
#define BATCHES_HURRY    12          /* ... while a hand-over waits: less than MERGES_MAX there */
#define ENDS_MAX         16384       /* ends waiting for one peer; what is above it is found again (owed) */
#define HOLDER_BYTES_MAX (64u << 20) /* PUTs of one peer that are on their way to the disk here */
#define MERGES_MAX       16384       /* states of one peer being merged here */
#define FEEDS_MAX        64          /* WANTs of one peer being answered */
#define SESSIONS_MAX     8           /* comparisons with one peer */
#define SESSIONS_ALL_MAX 64
#define STEP_ENTRIES     2000                /* messages looked at in one go */
#define OBSERVE_AHEAD_US (3600ull * 1000000) /* a peer's clock that is further ahead does not pull ours along */
#define JOB_SILENCE_US   (30ull * 1000000)
#define AGAIN_US         (30ull * 1000000) /* ends that are owed are told again so often */
#define PLAN_IDLE_US     (3600ull * 1000000)

/* ---- lists: a ring through a head */
struct dlist {
    struct dlist *next, *prev;
};

static inline void dlist_init(struct dlist *l)
{
    l->next = l->prev = l;
}

static inline void dlist_add(struct dlist *head, struct dlist *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static inline void dlist_del(struct dlist *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    dlist_init(l);
}

static inline bool dlist_empty(const struct dlist *l)
{
    return l->next == l;
}

#define dlist_of(l, type, member) ((type *)((char *)(l)-offsetof(type, member)))
/* The body may take `it` out and free it, nothing else. */
#define dlist_each(it, tmp, head) for (it = (head)->next, tmp = it->next; it != (head); it = tmp, tmp = it->next)

/* What a token names begins with this. */
enum obj_kind { OBJ_REQUEST = 1, OBJ_FEED_PUT, OBJ_ROUND, OBJ_SESSION, OBJ_JOB, OBJ_MERGE, OBJ_SPREAD, OBJ_HOLD };

/* ---- peers: one for each registered node, and for each link */
struct endref;
struct state_batch {
    uint64_t id, last, sent_us; /* last: sequence of its last end */
    uint32_t n;
    bool taken;         /* what it says is over is not handed out there any more, though it may not be durable there */
    struct fbuf *frame; /* what was sent: says which shards an answer left out */
};

struct cpeer { /* NOLINT(clang-analyzer-optin.performance.Padding): by topic */
    struct storage_id id;
    const struct map_node *node; /* NULL: not registered */
    bool up;
    uint64_t bad_us; /* when a frame of its that made no sense was last logged */
    uint32_t epoch;  /* counts links: an answer belongs to the link of its question */
    /* ends.c */
    struct endref *ends_head, *ends_tail;
    uint32_t ends_n;
    uint64_t ends_since_us, ends_queued; /* the latter: sequence of the newest end */
    struct state_batch batches[BATCHES_HURRY];
    uint32_t batches_n;
    uint64_t hurry_until_us; /* a hand-over waits, or is near: ends do not wait for company */
    /* The walk over what is owed */
    bool again;       /* is to begin */
    bool walking;     /* is under way, behind walk_after (counter 0: at the start) */
    bool walk_needed; /* it is: something may be owed that is not on its way */
    bool telling;     /* is over, its last ends are not acked yet: shards it told of are known then */
    struct msgid walk_after;
    uint64_t walk_at_us;   /* the next one; while one is under way: what was asked for since it began */
    uint64_t walk_rest_us; /* not before, unless it is needed: the last one found so much */
    uint64_t walk_looked, walk_until, walks_begun, walks_done;
    uint64_t lacking, walk_lacking; /* counts ends that it did not ack; as it was when the walk began */
    struct msgid *settled;          /* WIRE_IDS_MAX of them, when there is one */
    uint32_t settled_n;
    uint64_t settled_since_us;
    /* holder.c, merge.c */
    uint64_t put_bytes;
    uint32_t merges;
    /* feed.c */
    struct dlist feeds;
    uint32_t feeds_n;
    uint64_t feed_bytes, fed_us;
    /* compare.c */
    uint64_t round; /* token; 0: none under way */
    uint32_t sessions, round_from;
};

/* ---- shards */
struct msync {
    struct storage_id id;
    bool synced;
    bool fresh;            /* is to know the ends that others are owed */
    bool telling;          /* is being told by the walk under way */
    bool asked;            /* compared since the link came up */
    bool vouches;          /* it is a member by its own map: it keeps what it has */
    bool busy;             /* a comparison is under way */
    uint64_t mine, theirs; /* digests that differed last time */
    uint64_t session_us;   /* when the last comparison began; 0: none yet */
    uint64_t missed;       /* counts what it did not ack */
    uint64_t missed_then;  /* when the last question was asked */
    uint32_t damaged;      /* comparisons in a row that failed for nothing but records that cannot be read */
};

struct cshard {
    const struct map_shard *map;
    uint32_t name_hash; /* of pool and number, for rendezvous */
    struct msync *sync; /* by member, while we are the owner; NULL otherwise */
    uint8_t members_n;  /* of sync */
    bool changed;       /* env.synced is to be called */
    /* shed.c */
    bool shedding;
    uint64_t shed_at_us;     /* not before */
    uint64_t links_until_us; /* until then members that live and are not linked are waited for */
    uint64_t forgot_us;      /* when mail of it was forgotten here; 0: never */
    uint64_t emptied_at_us;  /* env.emptied is not said before */
    uint64_t shed_digest;    /* of what all who were reachable have confirmed */
    bool owing;              /* the look under way found ends that somebody is owed */
    uint32_t proxies;        /* members that are being told these */
    bool proxied, proxy_bad; /* all of them know; one of them could not be told */
};

/* ---- one record being put here */
struct putop {
    struct storage_put put;
    struct dlist link;
    struct copies *c; /* NULL: copies were closed */
    struct fbuf *frame;
    struct cpeer *from; /* NULL: our own request */
    uint32_t epoch;
    uint64_t request, token;
    uint64_t bytes;
    bool forget; /* a FORGET came meanwhile */
};

/* ---- what we asked of a peer and is not a comparison's question (feed.c) */
enum job_kind {
    JOB_WANT,  /* we want messages: PUTs come, then SYNC_END */
    JOB_OFFER, /* we offered: WANTs and STATEs come, then SYNC_END */
};
struct job {
    enum obj_kind kind;
    enum job_kind what;
    uint64_t token;
    struct dlist link;
    struct cpeer *peer;
    uint32_t pending; /* puts and merges here that came with it */
    uint32_t got;     /* puts of them that are durable */
    bool ended, repair;
    int res;
    uint64_t heard_us;
    /* Runs once; the job is gone then. */
    void (*done)(struct copies *c, uint64_t arg, int res);
    uint64_t arg;
};

/* ---- a picture of the bags (sums.c) */
struct sum_bag {
    struct slice domain;
    uint32_t shard;
    uint64_t count, bytes, digest, oldest_us;
};
struct sums {
    struct sum_bag *bags; /* sorted by shard, and by domain where `sorted` */
    uint32_t n, cap;
    uint32_t *first; /* of each shard, and one past the end */
    bool *sorted;
    uint64_t *count, *bytes, *digest; /* of each shard */
    uint32_t shards_n;
    uint8_t *names;
    size_t names_n, names_cap;
    uint64_t at_us;
    bool valid, dirty;
};

struct scrub;
struct gone;

struct copies {
    struct copies_config cfg;
    struct copies_env env;
    const struct cmap *map;
    const struct map_node *self;
    struct cshard *shards;
    uint32_t shards_n;
    struct cpeer **peers;
    uint32_t peers_n, peers_cap;
    struct slots slots;
    uint64_t newest_us;
    struct mail *refused, *done; /* requests to be settled by the next tick */
    struct dlist reqs, plans[256], putops, merging, busy, jobs, sessions, merges, flushes, sheds, holds;
    uint32_t holds_n, sheds_n;
    uint64_t batch; /* number of the last STATE */
    struct sums sums;
    uint64_t req_look_us, compare_at_us, shed_at_us, owing_at_us, tick_at_us;
    struct msgid owing_after;
    bool owing_walk;
    uint32_t sessions_n;
    struct scrub *scrub;
    struct gone *gone;
    struct copies_info info;
    bool sync_changed; /* some shard's `changed` is set */
};

static inline uint64_t copies_now(const struct copies *c)
{
    return clock_boot_us(c->env.clock);
}

static inline bool copies_is_self(const struct copies *c, const struct storage_id *id)
{
    return storage_id_eq(&c->cfg.self, id);
}

/* ---- copies.c */
struct cpeer *peer_find(const struct copies *c, const struct storage_id *id); /* NULL: unknown */
bool peer_up(const struct copies *c, const struct storage_id *id);            /* self counts */
bool storage_registered(const struct copies *c, const struct storage_id *id);
/* Sends and gives the reference away; 0 or as peers.send (-SATCHEL_ENOMEM where f is NULL). */
int peer_send(struct copies *c, struct cpeer *p, struct fbuf *f);
/* The shard of a domain in our map; UINT32_MAX: none. */
uint32_t shard_of(const struct copies *c, struct slice domain);
/* By the names on the wire; UINT32_MAX. */
uint32_t shard_named(const struct copies *c, struct slice pool, uint32_t number);
void shard_put_name(const struct copies *c, struct wire_wr *w, uint32_t shard);
bool shard_ours(const struct copies *c, uint32_t shard); /* we are a member */
void copies_heard(struct copies *c, uint64_t arrival_us);
void copies_wake(struct copies *c, uint64_t at_us);
/* A frame that makes no sense: logged and counted, the link stays. */
void frame_bad(struct copies *c, struct cpeer *p, const char *what);

/* ---- plan.c: which storages */
struct leg {
    struct storage_id to;
    enum leg_state { LEG_WAIT, LEG_SENT, LEG_ACKED, LEG_LOST } state;
    bool replaced; /* a stand-in was asked */
    uint64_t since_us;
};
/* A message of many records: the first fixes its storages. */
struct plan {
    struct dlist link;
    struct msgid id;
    uint32_t shard, refs, need, n;
    bool started, over; /* a second record came; its MSG or ABORT came */
    struct storage_id to[LEGS_MAX];
    bool out[LEGS_MAX];
    uint32_t unacked[LEGS_MAX]; /* CHUNKs */
    uint64_t touched_us;
};
/* Members that are linked, then stand-ins up to the pool's copies; returns how many. */
uint32_t plan_choose(const struct copies *c, uint32_t shard, struct storage_id to_r[LEGS_MAX]);
/* The best stand-in that is not in `used`. */
bool plan_standin(const struct copies *c, uint32_t shard, const struct storage_id *used, size_t used_n,
                  struct storage_id *to_r);
struct plan *plan_find(struct copies *c, const struct msgid *id);
struct plan *plan_new(struct copies *c, const struct msgid *id, uint32_t shard);
int plan_index(const struct plan *p, const struct storage_id *to); /* -1: not in it */
void plan_unref(struct copies *c, struct plan *p);
void plans_tick(struct copies *c, uint64_t now);
void plans_close(struct copies *c);

/* ---- request.c */
void request_acked(struct copies *c, uint64_t request, const struct storage_id *from, const struct msgid *id, int res);
void request_down(struct copies *c, const struct storage_id *peer);
void request_room(struct copies *c);
void request_tick(struct copies *c, uint64_t now);
void requests_map(struct copies *c, const uint32_t *remap);
void request_close(struct copies *c);

/* ---- holder.c */
void holder_put(struct copies *c, struct cpeer *from, struct slice payload);
void holder_forget(struct copies *c, struct cpeer *from, struct slice payload);
/* Our own leg: the record lies in the frame. The answer comes by request_acked. -SATCHEL_ENOMEM. */
int holder_local(struct copies *c, struct fbuf *frame, const struct record *rec, uint64_t request);
/* What is here of these messages is to go: they were not acknowledged to the client. */
void forget_here(struct copies *c, const struct msgid *id);
void holder_close(struct copies *c);

/* ---- merge.c */
void merge_state(struct copies *c, struct cpeer *from, struct slice payload);
/* A state that came in a comparison. job: NULL, or counts it. */
void merge_one(struct copies *c, struct cpeer *from, const struct storage_state *st, struct job *job);
void merge_tick(struct copies *c, uint64_t now);
void merge_close(struct copies *c);

/* ---- ends.c */
void ends_tap(void *arg, const struct storage_state *st);
void ends_ack(struct copies *c, struct cpeer *from, struct slice payload);
void ends_taken_frame(struct copies *c, struct cpeer *from, struct slice payload);
void ends_settled(struct copies *c, struct cpeer *from, struct slice payload);
/* Tell `p` of the state; a queue that is full forgets it (it is owed, or found by comparison): false. */
bool ends_queue(struct copies *c, struct cpeer *p, const struct storage_state *st);
/* Everything owed to p is told again, from the start: so is what others are owed of shards that p is new to. */
void ends_again(struct copies *c, struct cpeer *p);
/* We were told an end that `to` is owed as well.  Whoever told us tells it; if it is owed still in SOON_US, we do. */
void ends_soon(struct copies *c, const struct storage_id *to);
void ends_down(struct copies *c, struct cpeer *p);
void ends_tick(struct copies *c, uint64_t now);
uint64_t ends_acked(const struct cpeer *p); /* everything up to this sequence is acked */
uint64_t ends_taken(const struct cpeer *p); /* ... or taken */
bool ends_quiet(const struct cpeer *p);     /* nothing is waiting or under way */
/* Says the state to all who are owed. */
void ends_push(struct copies *c, const struct storage_state *st);

/* ---- flush.c */
/* As copies_flush; walk: even if all that is owed was told before, and until it is durable there. */
void flush_start(struct copies *c, uint32_t shard, const struct storage_id *to, bool walk, uint64_t wait_us,
                 void (*done)(void *arg, uint32_t shard, int res), void *arg);
void flush_tick(struct copies *c, uint64_t now);
void flush_map(struct copies *c, const uint32_t *remap);
/* Those with this callback are dropped without a word. */
void flush_cancel(struct copies *c, void (*done)(void *arg, uint32_t shard, int res));
void flush_close(struct copies *c);

/* ---- sums.c */
/* A picture that is not older than a moment. */
const struct sums *sums_now(struct copies *c);
/* Bags of a shard, sorted by domain. */
const struct sum_bag *sums_bags(struct copies *c, uint32_t shard, uint32_t *n_r);
void sums_dirty(struct copies *c);
void sums_drop(struct copies *c);

/* ---- feed.c */
void feed_want(struct copies *c, struct cpeer *from, struct slice payload);
void feed_acked(struct copies *c, struct cpeer *from, void *obj, int res);
void feed_run(struct copies *c, struct cpeer *p);
void feed_down(struct copies *c, struct cpeer *p);

/* ---- job.c */
typedef void job_done(struct copies *c, uint64_t arg, int res);
/* NULL: no link or no memory; done does not run then.  repair: what comes takes the place of what is here, and nothing
 * coming is -SATCHEL_ENOENT.  n == 0: asks for nothing and is over when what the caller adds
 * to it is: call job_step then. */
struct job *job_want(struct copies *c, struct cpeer *p, const struct msgid *ids, size_t n, bool repair, job_done *done,
                     uint64_t arg);
struct offer_entry {
    struct msgid id;
    uint64_t arrival_us;
};
struct job *job_offer(struct copies *c, struct cpeer *p, enum ids_kind kind, struct slice domain,
                      const struct offer_entry *entries, size_t n, job_done *done, uint64_t arg);
struct job *job_of(struct copies *c, const struct cpeer *from, uint64_t token); /* NULL: over */
void job_step(struct copies *c, struct job *j);                                 /* something of it ended */
void job_end(struct copies *c, struct cpeer *from, struct slice payload);       /* SYNC_END */
void jobs_down(struct copies *c, struct cpeer *p);
void jobs_tick(struct copies *c, uint64_t now);
void jobs_close(struct copies *c);
void send_end(struct copies *c, struct cpeer *p, uint64_t token, int res);

/* ---- answer.c: questions of a comparison */
void answer_sums(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r);
void answer_bags(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r);
void answer_windows(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r);
void answer_ids(struct copies *c, struct cpeer *from, uint64_t token, struct wire_rd *r);
void answer_offer(struct copies *c, struct cpeer *from, uint64_t token, enum ids_kind kind, struct wire_rd *r);

/* ---- session.c */
typedef void session_done(struct copies *c, uint64_t arg, uint32_t shard, const struct storage_id *peer, int res);
/* false: too many, or no memory; done does not run then. precheck: compare the digests of the shard first. */
bool session_start(struct copies *c, struct cpeer *p, uint32_t shard, bool precheck, session_done *done, uint64_t arg);
void session_sums(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r);
void session_bags(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r);
void session_windows(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r);
void session_ids(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r);
void sessions_down(struct copies *c, struct cpeer *p);
void sessions_map(struct copies *c, const uint32_t *remap);
void sessions_tick(struct copies *c, uint64_t now);
void sessions_close(struct copies *c);

/* ---- compare.c */
void compare_round_reply(struct copies *c, struct cpeer *from, void *obj, struct wire_rd *r);
/* Something that `to` should have was not acked by it. shard may be UINT32_MAX. */
void compare_missed(struct copies *c, uint32_t shard, const struct storage_id *to);
/* Our word on the member `to` of a shard that we own; NULL: no such. */
struct msync *sync_of(struct copies *c, uint32_t shard, const struct storage_id *to);
/* A message that we did not have came from `by`, who was asked for it. */
void compare_brought(struct copies *c, const struct storage_id *by, struct slice domain);
void compare_up(struct copies *c, struct cpeer *p);
void compare_down(struct copies *c, struct cpeer *p);
/* Shards were made anew from `old` (NULL for shards that are new). */
void compare_shard(struct copies *c, uint32_t shard, const struct cshard *old);
void compare_map(struct copies *c, const uint32_t *remap);
void compare_tick(struct copies *c, uint64_t now);
void compare_close(struct copies *c);

/* ---- shed.c */
/* What others are owed of the shard, its members are to know, since we are to leave it. */
bool shed_proxies(const struct copies *c, uint32_t shard, const struct storage_id *to);
/* A link came up: what could not be confirmed before may be now. */
void shed_up(struct copies *c);
/* The end waits until its DSN is safe; false: it need not. */
bool shed_hold(struct copies *c, const struct storage_state *st);
bool shed_held(const struct copies *c, const struct msgid *id);
bool shed_holds_shard(const struct copies *c, uint32_t shard);
void shed_map(struct copies *c, const uint32_t *remap);
void shed_tick(struct copies *c, uint64_t now);
void shed_close(struct copies *c);

/* ---- gone.c */
void gone_tick(struct copies *c, uint64_t now);
void gone_close(struct copies *c);

/* ---- scrub.c */
void scrub_tick(struct copies *c, uint64_t now);
/* Asks somebody who has the message for its records. */
void scrub_repair(struct copies *c, const struct msgid *id, struct slice domain);
void scrub_close(struct copies *c);
