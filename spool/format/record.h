/* record.h - records: the unit of the segment log, on disk and (with copies) on the wire.  Format: docs/segment.md.
 *
 * On disk, little-endian, 8-byte aligned:
 *
 *   header (96 bytes) | copyset (16 bytes a storage UUID) | meta (TLVs) | body | zero padding to 8
 *
 * The header checksum covers header, copyset and meta, and is seeded with the segment's number and the offset, so that
 * neither a record of the segment's earlier life nor one at another place passes for this one.  The body has a checksum
 * of its own, made by whoever had the bytes in cache, not seeded: it stays true when compaction moves the record.
 *
 * Unknown types are stored, moved and forwarded as they are (mixed versions); unknown meta tags are kept.
 * Thread: pure functions, any thread.  Errors: -SATCHEL_E*. */
#pragma once
#include "spool/format/msgid.h"

enum rec_type {
    REC_MSG = 1,   /* a message: envelope in meta, body behind it unless REC_F_CHUNKED */
    REC_CHUNK = 2, /* a part of a large body; meta: RT_CHUNK_INDEX */
    REC_DONE = 3,  /* items of a message are final; meta: RT_DOMAIN, RT_RESULT..., RT_KILLS */
    REC_DEFER = 4, /* items were put off, held or released; meta: RT_DOMAIN, RT_STATE, RT_RESULT... */
    REC_ABORT = 5, /* forget this message ID: its client got no 250 */
    REC_DSN = 6,   /* this message (id) is the DSN for that one; meta: RT_ORIGIN */
    REC_TOMBS = 7, /* tombstone intervals of an incarnation (copies) */
    REC_GROUP = 8, /* opens a group; see struct group_head */
    REC_FILL = 9,  /* zeros, so that the body behind it lies on sectors; the log's own, never reported */
};

enum {
    REC_F_CHUNKED = 1 << 0, /* MSG: the body lies in RT_CHUNKS CHUNK records of the same ID; body_len is 0 */
    REC_F_MOVED = 1 << 1,   /* written again by compaction; meta of a MSG then ends with its RT_STATE snapshot */
    REC_F_FINAL = 1 << 2,   /* DONE: no item of the message is left */
    REC_F_8BIT = 1 << 3,    /* MSG: BODY=8BITMIME was declared (RFC 6152) */
    REC_F_UTF8 = 1 << 4,    /* MSG: SMTPUTF8 was declared (RFC 6531) */
    REC_F_TOMB = 1 << 5,    /* DONE, with REC_F_FINAL and RT_STATE: leaves a tombstone; the copyset names the storages
                               that are owed the end of the message (may be none) */
};

#define REC_MAGIC        0x52435453u /* "STCR" */
#define REC_VERSION      1
#define REC_HEADER_BYTES 96
#define REC_ALIGN        8
#define REC_META_MAX     (1u << 20)
#define REC_BODY_MAX     (1u << 20)
#define REC_COPYSET_MAX  8

/* In memory; never written as it is. */
struct record {
    uint8_t type; /* enum rec_type, or an unknown one */
    uint16_t flags;
    struct msgid id;
    uint64_t arrival_us;  /* order in the bag: wall clock at the final dot, strictly increasing in an incarnation */
    struct slice copyset; /* n * 16 bytes */
    struct slice meta, body;
    uint64_t body_sum; /* record_body_sum() of the body */
};

/* Bytes the record takes, padding included. */
size_t record_size(const struct record *r);
/* Bytes of the header part only (header + copyset + meta), not padded. */
size_t record_head_size(const struct record *r);
/* Writes header, copyset and meta at out_r (record_head_size bytes); body and padding are the caller's to add. */
void record_encode_head(const struct record *r, uint64_t pos, uint8_t *out_r);
/* Parses and verifies the header part at `in` (as much as is there), borrowing from it.  size_r: the record's whole
 * size. -SATCHEL_ETORN: in.n is too short to tell (or the body is cut: the header is good, size_r set).
 * -SATCHEL_EDAMAGED: magic, version, lengths or checksum are wrong.
 * The body is borrowed but not verified: see record_body_ok. */
int record_decode(struct slice in, uint64_t pos, struct record *r_r, size_t *size_r);
/* As record_decode, but `in` needs to hold only the head: r_r->body.p is NULL, r_r->body.n its length. */
int record_decode_head(struct slice in, uint64_t pos, struct record *r_r, size_t *size_r);
bool record_body_ok(const struct record *r);

/* XXH3-64 of a body, in one piece or in many. */
uint64_t record_body_sum(struct slice body);

/* ---- meta: TLVs of u16 tag, u16 length (0xffff: a u32 length follows), value */
enum rec_tag {
    RT_DOMAIN = 1,      /* the domain, lower case, A-label */
    RT_SENDER = 2,      /* reverse-path without <>; empty for a DSN */
    RT_RCPT = 3,        /* one a recipient, in order: the item's index is its place (0, 1, ...) */
    RT_HELO = 4,        /* as the client said it */
    RT_CLIENT = 5,      /* text of the client's address */
    RT_TRACE = 6,       /* Received field(s), CRLF-terminated, to be sent before the body */
    RT_CHUNK_INDEX = 7, /* u32: place of this chunk, from 0 */
    RT_CHUNKS = 8,      /* u32 number of chunks, u64 bytes of the whole body */
    RT_STATE = 9,       /* struct item_state of the whole message: see state_encode */
    RT_RESULT = 10,     /* u32 item index, u8 enum item_end, then status: see result_put */
    RT_KILLS = 11,      /* u64 position of the record that this DONE kills: the DONE may go once that segment is gone */
    RT_ORIGIN = 12,     /* 24-byte message ID that the DSN is about */
    RT_UPTO = 14, /* u64 position where a moved DONE or ABORT was first: what it says concerns copies below that */
    RT_FILL = 15, /* zeros: what follows begins at a multiple of 8; see meta_fill */
    RT_DSN = 13,  /* u32 item index or 0xffffffff for the message, then text of ESMTP parameters (RFC 3461), opaque */
};

struct meta_tlv {
    uint16_t tag;
    struct slice value;
};

struct wire_rd;
struct wire_wr;
void meta_put(struct wire_wr *w, uint16_t tag, struct slice value);
/* So that the meta is a multiple of 8 bytes: at most META_FILL_MAX more.  A body of parts can be borrowed then
 * (seglog.h). */
#define META_FILL_MAX 11
void meta_fill(struct wire_wr *w);
/* false at the end; a malformed TLV sets r->bad and ends. */
bool meta_next(struct wire_rd *r, struct meta_tlv *tlv_r);
/* First value of the tag; p is NULL where there is none. */
struct slice meta_find(struct slice meta, uint16_t tag);
/* Number of RT_RCPT. */
uint32_t meta_rcpts(struct slice meta);

/* ---- how an item ends */
enum item_end {
    ITEM_LIVE = 0,
    ITEM_DELIVERED = 1,
    ITEM_BOUNCED = 2,
    ITEM_EXPIRED = 3,
    ITEM_DELETED = 4,
};

/* ---- the changing part of a message, as kept in the index and in RT_STATE.
 * seq orders updates: a DEFER whose seq is not above the index's is old news.  */
#define STATE_ITEMS_MAX 1024 /* recipients of one message of one domain */
struct msg_state {
    uint32_t seq;
    uint32_t attempts;                 /* deliveries tried */
    uint64_t due_us;                   /* wall clock; 0: at once */
    bool held;                         /* by an operator: not delivered until released */
    uint32_t items;                    /* how many recipients */
    uint32_t live;                     /* how many of them are not final */
    uint8_t ends[STATE_ITEMS_MAX / 2]; /* enum item_end, 4 bits an item, low nibble first */
};

enum item_end state_end(const struct msg_state *s, uint32_t item);
/* Sets the item's end if it is live, and counts live down; a final item stays as it is. */
void state_finish(struct msg_state *s, uint32_t item, enum item_end end);
size_t state_encode(const struct msg_state *s, uint8_t *out_r, size_t cap); /* bytes written; 0: cap too small */
/* -SATCHEL_EINVAL: cut short, too many items, or `live` is not the number of live items. */
int state_decode(struct slice in, struct msg_state *s_r);

struct smtp_status;
/* Writes one whole RT_RESULT TLV; result_parse takes its value. */
void result_put(struct wire_wr *w, uint32_t item, enum item_end end, const struct smtp_status *st);
int result_parse(struct slice value, uint32_t *item_r, enum item_end *end_r, struct smtp_status *st_r);

/* ---- positions: segment number in the high half, byte offset in it in the low half.  0 is no position. */
static inline uint64_t logpos(uint64_t seg, uint32_t off)
{
    return seg << 32 | off;
}
static inline uint64_t logpos_seg(uint64_t pos)
{
    return pos >> 32;
}
static inline uint32_t logpos_off(uint64_t pos)
{
    return (uint32_t)pos;
}
