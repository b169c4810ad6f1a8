/* fbuf.h - a frame in memory: bytes with a count of holders, so that one record goes to several peers, and stays for a
 * stand-in, without being copied.
 *
 *   wire: u32 length of the payload | u16 type | u16 version of the type | payload     (little-endian)
 *
 * Thread: references may be taken and given back by any thread; bytes are not changed after the first send. */
#pragma once
#include "spool/base/slice.h"
#include "spool/base/wire.h"

#include <stdatomic.h>

#define FRAME_HEAD_BYTES  8
#define FRAME_PAYLOAD_MAX (2u << 20) /* a record of 1 MiB body and 1 MiB meta would be refused: chunks are smaller */

struct fbuf {
    atomic_uint refs;
    uint32_t n, cap; /* bytes, head included */
    uint8_t data[];
};

/* Room for a payload of this size; one reference.  NULL: no memory. */
struct fbuf *fbuf_new(uint16_t type, uint16_t version, size_t payload_cap);
/* A writer behind the head; fbuf_end sets the length from it.  -SATCHEL_ETOOBIG: w->bad. */
struct wire_wr fbuf_writer(struct fbuf *f);
int fbuf_end(struct fbuf *f, const struct wire_wr *w);
struct fbuf *fbuf_ref(struct fbuf *f);
void fbuf_unref(struct fbuf *f); /* NULL is fine */
