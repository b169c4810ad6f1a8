/* record.c - the record header: encoding, decoding, checksums.  Format: docs/segment.md.
 *
 * Diagnostics: -SATCHEL_ETORN (cut short), -SATCHEL_EDAMAGED (anything that a checksum or a bound refuses). */
#include "spool/format/record.h"

#include "spool/base/err.h"
#include "spool/base/xxh.h"

#include <assert.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian, and so is the code");

/* On disk.  The checksum stands first, so that it covers all that follows in one run. */
struct disk_head {
    uint64_t sum; /* XXH3-64, seeded with the position, of the rest of the header, the copyset and the meta */
    uint32_t magic;
    uint8_t version;
    uint8_t type; /* unknown: kept, moved and forwarded */
    uint16_t flags;
    uint8_t incarnation[16];
    uint64_t counter;
    uint64_t arrival_us;
    uint64_t body_sum; /* XXH3-64 of the body, not seeded */
    uint32_t meta_bytes, body_bytes;
    uint8_t copies;   /* storage UUIDs in the copyset */
    uint8_t zero[31]; /* written as zero, read past */
};
_Static_assert(sizeof(struct disk_head) == REC_HEADER_BYTES, "on-disk size");
_Static_assert(offsetof(struct disk_head, body_sum) == 48 && offsetof(struct disk_head, copies) == 64,
               "on-disk places");

enum { UUID_BYTES = 16, SUM_FROM = sizeof(uint64_t) };

static size_t align_up(size_t n)
{
    return (n + REC_ALIGN - 1) & ~(size_t)(REC_ALIGN - 1);
}

size_t record_head_size(const struct record *r)
{
    return REC_HEADER_BYTES + r->copyset.n + r->meta.n;
}

size_t record_size(const struct record *r)
{
    return align_up(record_head_size(r) + r->body.n);
}

uint64_t record_body_sum(struct slice body)
{
    return XXH3_64bits(body.p, body.n);
}

bool record_body_ok(const struct record *r)
{
    return r->body.n == 0 || (r->body.p && record_body_sum(r->body) == r->body_sum);
}

static uint64_t head_sum(const uint8_t *head, size_t n, uint64_t pos)
{
    return XXH3_64bits_withSeed(head + SUM_FROM, n - SUM_FROM, pos);
}

void record_encode_head(const struct record *r, uint64_t pos, uint8_t *out_r)
{
    assert(r->copyset.n % UUID_BYTES == 0 && r->copyset.n / UUID_BYTES <= REC_COPYSET_MAX);
    assert(r->meta.n <= REC_META_MAX && r->body.n <= REC_BODY_MAX);
    struct disk_head h = {.magic = REC_MAGIC,
                          .version = REC_VERSION,
                          .type = r->type,
                          .flags = r->flags,
                          .counter = r->id.counter,
                          .arrival_us = r->arrival_us,
                          .body_sum = r->body_sum,
                          .meta_bytes = (uint32_t)r->meta.n,
                          .body_bytes = (uint32_t)r->body.n,
                          .copies = (uint8_t)(r->copyset.n / UUID_BYTES)};
    memcpy(h.incarnation, r->id.incarnation, sizeof h.incarnation);
    memcpy(out_r, &h, sizeof h);
    if (r->copyset.n)
        memcpy(out_r + sizeof h, r->copyset.p, r->copyset.n);
    if (r->meta.n)
        memcpy(out_r + sizeof h + r->copyset.n, r->meta.p, r->meta.n);
    h.sum = head_sum(out_r, record_head_size(r), pos);
    memcpy(out_r, &h.sum, sizeof h.sum);
}

static bool head_plausible(const struct disk_head *h)
{
    return h->magic == REC_MAGIC && h->version == REC_VERSION && h->copies <= REC_COPYSET_MAX &&
           h->meta_bytes <= REC_META_MAX && h->body_bytes <= REC_BODY_MAX;
}

int record_decode_head(struct slice in, uint64_t pos, struct record *r_r, size_t *size_r)
{
    struct disk_head h;
    *size_r = 0;
    if (in.n < sizeof h)
        return -SATCHEL_ETORN;
    memcpy(&h, in.p, sizeof h);
    if (!head_plausible(&h))
        return -SATCHEL_EDAMAGED;
    size_t copyset = (size_t)h.copies * UUID_BYTES, head = sizeof h + copyset + h.meta_bytes;
    if (in.n < head)
        return -SATCHEL_ETORN;
    if (head_sum(in.p, head, pos) != h.sum)
        return -SATCHEL_EDAMAGED;
    *r_r = (struct record){.type = h.type,
                           .flags = h.flags,
                           .id.counter = h.counter,
                           .arrival_us = h.arrival_us,
                           .copyset = slice_of(in.p + sizeof h, copyset),
                           .meta = slice_of(in.p + sizeof h + copyset, h.meta_bytes),
                           .body = {NULL, h.body_bytes},
                           .body_sum = h.body_sum};
    memcpy(r_r->id.incarnation, h.incarnation, sizeof h.incarnation);
    *size_r = record_size(r_r);
    return 0;
}

int record_decode(struct slice in, uint64_t pos, struct record *r_r, size_t *size_r)
{
    int rc = record_decode_head(in, pos, r_r, size_r);
    if (rc)
        return rc;
    size_t head = record_head_size(r_r);
    if (in.n - head < r_r->body.n)
        return -SATCHEL_ETORN;
    r_r->body.p = in.p + head;
    return 0;
}
