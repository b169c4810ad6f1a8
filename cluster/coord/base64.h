/* base64.h - RFC 4648 section 4, with padding, no line breaks: how etcd's JSON carries bytes. */
#pragma once
#include "spool/base/slice.h"

/* Without the NUL. */
static inline size_t base64_encoded_n(size_t n)
{
    return (n + 2) / 3 * 4;
}

/* Writes base64_encoded_n(in.n) characters and a NUL. */
void base64_encode(struct slice in, char *out_r);
/* out_r has room for in.n / 4 * 3 bytes; *n_r: how many were written.  False: not base64 (a length that is no multiple
 * of four, a character outside the alphabet, padding in the middle, or bits set behind the last byte). */
bool base64_decode(struct slice in, uint8_t *out_r, size_t *n_r);
