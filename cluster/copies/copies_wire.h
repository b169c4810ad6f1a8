/* copies_wire.h - payloads of the frames that copies speak (numbers and versions: cluster/link/frames.def).
 *
 *   id       16 bytes incarnation | u64 counter
 *   name     u8 length | bytes                                        a domain or a pool
 *   shard    name of its pool | u32 number in the pool                indexes of two maps may differ, names do not
 *   state    id | u64 arrival | name domain | u8 n, n * 16 owed | u16 length | state as state_encode makes it
 *   entry    id | u64 arrival | u16 length | state
 *
 *   PUT        u64 request | u64 token | u32 flags | u16 copies | u16 zero | record, head sealed with position 0
 *   PUT_ACK    u64 request | i32 result | u64 newest arrival | id
 *   STATE      u64 batch | u64 token | u32 n | n * state
 *   STATE_ACK  u64 batch | u32 n | n * id                             those that are durable at the sender
 *   STATE_TAKEN  u64 batch                                            comes before its STATE_ACK, or never
 *   SETTLED, FORGET   u32 n | n * id
 *   WANT       u64 token | u32 n | n * id                             answer: PUTs (or STATEs) with the token, SYNC_END
 *   SUMS       u8 reply | u64 token | u32 n | n * (shard | u64 count | u64 digest)
 *              reply: n * (u64 count | u64 digest) | n * u8: 1: a member by the map of who answers, and keeps what it
 * has BAGS       u8 reply | u64 token | shard | name after | [reply: u8 more | u32 n | n * (name | u64 count | u64
 * digest)] WINDOWS    u8 reply | u64 token | name domain | cursor | [reply: u8 more | u16 n | n * window] cursor: u16
 * length | bytes that only its maker reads window: u64 arrival | id (its last entry) | u32 count | u64 digest | cursor
 * behind it IDS        u8 kind | u64 token | name domain | IDS_ASK: cursor, u32 count; IDS_LIST, IDS_OFFER...: u32 n |
 * n * entry SYNC_END   u64 token | i32 result
 *
 * A token names the asker's question and comes back with the answer; 0: nobody asked.  Readers ignore what follows the
 * fields they know.  Everything that comes in is bounded here: a count that cannot fit its payload is refused before
 * anything is allocated for it. */
#pragma once
#include "cluster/link/peers.h"
#include "spool/base/wire.h"
#include "spool/storage.h"

#define WIRE_NAME_MAX      255
#define WIRE_ID_BYTES      24
#define WIRE_STATES_MAX    1024         /* of one STATE */
#define WIRE_IDS_MAX       4096         /* of one SETTLED, FORGET, STATE_ACK or WANT */
#define WIRE_ENTRIES_MAX   1024         /* of one IDS, and of one window */
#define WIRE_WINDOWS_MAX   4            /* of one WINDOWS */
#define WIRE_BAGS_MAX      2000         /* of one BAGS */
#define WIRE_SUMS_MAX      4096         /* of one SUMS */
#define WIRE_BATCH_BYTES   (256 * 1024) /* a STATE is sent when it has so much */
#define WIRE_STATE_MAX     (29 + STATE_ITEMS_MAX / 2)
#define WIRE_STATE_REC_MAX (WIRE_ID_BYTES + 8 + 256 + 1 + 255 * 16 + 2 + WIRE_STATE_MAX)

enum ids_kind {
    IDS_ASK = 0,   /* list them to me */
    IDS_LIST = 1,  /* the answer */
    IDS_OFFER = 2, /* I have these: take what you lack, say what you know; SYNC_END when that is done */
    IDS_SHED = 3,  /* as OFFER, and I shall forget them: refused by who is no member of the shard */
};

struct wire_entry {
    struct msgid id;
    uint64_t arrival_us;
    struct slice state;
};

void wire_put_id(struct wire_wr *w, const struct msgid *id);
struct msgid wire_id(struct wire_rd *r);
void wire_put_name(struct wire_wr *w, struct slice name);
struct slice wire_name(struct wire_rd *r);
void wire_put_cursor(struct wire_wr *w, struct slice cursor);
/* At most QUEUE_CURSOR_MAX bytes, else bad. */
struct slice wire_cursor(struct wire_rd *r);
/* A count of things that take at least `least` bytes each; bad where it is above max or cannot fit what is left. */
uint32_t wire_count(struct wire_rd *r, uint32_t max, size_t least);

void wire_put_state(struct wire_wr *w, const struct storage_state *st);
/* Slices borrow from the input. The last field is decoded: bad where it makes no sense. */
void wire_state(struct wire_rd *r, struct storage_state *st_r);
void wire_put_entry(struct wire_wr *w, const struct msgid *id, uint64_t arrival_us, const struct msg_state *s);
void wire_entry(struct wire_rd *r, struct wire_entry *e_r);

/* A frame of IDs: FORGET, SETTLED (token < 0: none), WANT, STATE_ACK (a u64 before the count).  NULL: no memory. */
struct fbuf *wire_ids_frame(uint16_t type, uint16_t version, const uint64_t *token, const struct msgid *ids, size_t n);

struct wire_put {
    uint64_t request, token;
    uint32_t flags;
    uint16_t copies;
    struct record rec; /* body verified */
};
#define WIRE_PUT_HEAD 24
/* The whole PUT frame; body from parts where parts is not NULL.  rec_r borrows from the frame. NULL: no memory, or too
 * large. */
struct fbuf *wire_put_frame(const struct wire_put *p, const struct slice *parts, uint32_t parts_n,
                            struct record *rec_r);
/* 0, -SATCHEL_EINVAL, -SATCHEL_EDAMAGED (request and token are set). */
int wire_put_parse(struct slice payload, struct wire_put *p_r);
