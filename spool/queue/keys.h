/* keys.h - what the queue keeps in the index: keys and values.
 *
 *   key                                                value
 *   'q' domain NUL arrival(8) msgid(24)                entry: where the message lies and its state; see struct entry
 *   'm' msgid(24)                                      arrival(8) domain: finds the 'q' key by ID
 *   'c' msgid(24) chunk(4)                             position (u64), size (u32) of a CHUNK record
 *   'o' msgid(24)                                      empty: chunks whose message has not come yet
 *   'w' domain NUL due(8) arrival(8) msgid(24)         empty: a message that waits until `due` (wall clock)
 *   's' segment(8)                                     counters of a segment; see segs.h
 *   'd' domain                                         counters of a bag; see bags.h
 *   't' msgid(24)                                      a tombstone; see tomb.h
 *   'u' msgid(24)                                      empty: a tombstone that somebody is owed
 *   'T' final(8) msgid(24)                             empty: a tombstone that nobody is owed, by the time of its end
 *
 * Integers in keys and the arrival in 'm' are big-endian, so that bytes sort as numbers do; integers in values are
 * little-endian.  A domain never holds a NUL.  An entry's value:
 *
 *   u8 flags | u64 pos | u32 size | body bytes (u32; u64 with ENTRY_CHUNKS) | [u32 chunks] | [u64 defer_pos]
 *   | [u8 n, n * u64 old segments] | ENTRY_PLAIN: u32 items, else the state as state_encode makes it
 *
 * About 50 + 19 bytes for 'q' and 25 + 25 for 'm' in the usual case (one recipient, never put off). */
#pragma once
#include "spool/format/record.h"

enum {
    KEY_QUEUE = 'q',
    KEY_ID = 'm',
    KEY_CHUNK = 'c',
    KEY_OPEN = 'o',
    KEY_WAIT = 'w',
    KEY_SEG = 's',
    KEY_DOMAIN = 'd',
    KEY_TOMB = 't',
    KEY_OWED = 'u',
    KEY_TOMB_OLD = 'T',
};

#define KEY_MAX        320
#define KEY_DOMAIN_MAX 255

struct key {
    size_t n;
    uint8_t b[KEY_MAX];
};

static inline struct slice key_slice(const struct key *k)
{
    return slice_of(k->b, k->n);
}

/* A message's place in its bag. Order: arrival, then ID. */
struct place {
    uint64_t arrival_us;
    struct msgid id;
};

int place_cmp(const struct place *a, const struct place *b);

struct key key_queue(struct slice domain, const struct place *at);
struct key key_id(const struct msgid *id);
struct key key_chunk(const struct msgid *id, uint32_t chunk);
struct key key_open(const struct msgid *id);
struct key key_wait(struct slice domain, uint64_t due_us, const struct place *at);
struct key key_seg(uint64_t seg);
struct key key_domain(struct slice domain);
struct key key_tomb(const struct msgid *id);
struct key key_owed(const struct msgid *id);
struct key key_tomb_old(uint64_t final_us, const struct msgid *id);

/* The smallest key above k. */
struct key key_after(struct key k);
/* All of one kind: [key_kind(kind), key_kind(kind + 1)). */
struct key key_kind(uint8_t kind);
/* Bounds of the 'q' or 'w' keys of one domain. */
struct key key_bag_from(uint8_t kind, struct slice domain);
struct key key_bag_to(uint8_t kind, struct slice domain);

/* Parse; false: not such a key. domain_r borrows from key. */
bool key_queue_parse(struct slice key, struct slice *domain_r, struct place *at_r);
bool key_wait_parse(struct slice key, uint64_t *due_us_r, struct place *at_r);
bool key_seg_parse(struct slice key, uint64_t *seg_r);
/* Of 'm', 'c', 'o', 't' and 'u'. */
bool key_id_parse(struct slice key, struct msgid *id_r);
bool key_tomb_old_parse(struct slice key, uint64_t *final_us_r, struct msgid *id_r);

/* Most old copies of a message that are remembered; a message with as many is not moved again until one is gone. */
#define ENTRY_OLDS_MAX  16
#define ENTRY_VALUE_MAX 2048

struct entry {
    uint64_t pos;
    uint32_t size;
    uint32_t chunks;
    uint64_t body_bytes;
    uint64_t defer_pos; /* of the DEFER record that holds the state; 0: the MSG record's own (or the first) state */
    uint32_t olds_n;
    uint64_t olds[ENTRY_OLDS_MAX]; /* segments in which older copies of the MSG record may still lie */
    struct msg_state state;
};

enum { ENTRY_CHUNKS = 1, ENTRY_DEFERRED = 2, ENTRY_OLDS = 4, ENTRY_PLAIN = 8 };

/* Returns the length; out_r has ENTRY_VALUE_MAX bytes. */
size_t entry_encode(const struct entry *e, uint8_t *out_r);
/* 0 or -SATCHEL_EDAMAGED. */
int entry_decode(struct slice in, struct entry *e_r);
/* The state of a message of which nothing was tried yet. */
void state_fresh(struct msg_state *s_r, uint32_t items);
bool state_is_fresh(const struct msg_state *s);
/* false: no room. A segment that is there already is fine. */
bool entry_old_add(struct entry *e, uint64_t seg);
