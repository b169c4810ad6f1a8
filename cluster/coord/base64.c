/* base64.c - bytes as text and back; see base64.h. */
#include "cluster/coord/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct slice in, char *out_r)
{
    for (size_t i = 0; i < in.n; i += 3) {
        size_t left = in.n - i;
        uint32_t v = (uint32_t)in.p[i] << 16;
        v |= left > 1 ? (uint32_t)in.p[i + 1] << 8 : 0;
        v |= left > 2 ? (uint32_t)in.p[i + 2] : 0;
        *out_r++ = alphabet[v >> 18];
        *out_r++ = alphabet[v >> 12 & 63];
        *out_r++ = left > 1 ? alphabet[v >> 6 & 63] : '=';
        *out_r++ = left > 2 ? alphabet[v & 63] : '=';
    }
    *out_r = 0;
}

/* 0..63; -1: not of the alphabet. */
static int sextet(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The last group says how many bytes it holds by its padding. */
static size_t group_bytes(const uint8_t *p, bool last)
{
    if (!last || p[3] != '=')
        return 3;
    return p[2] == '=' ? 1 : 2;
}

bool base64_decode(struct slice in, uint8_t *out_r, size_t *n_r)
{
    size_t out = 0;
    if (in.n % 4)
        return false;
    for (size_t i = 0; i < in.n; i += 4) {
        size_t bytes = group_bytes(in.p + i, i + 4 == in.n);
        uint32_t v = 0;
        for (size_t j = 0; j < 4; j++) {
            int s = j <= bytes ? sextet(in.p[i + j]) : 0;
            if (s < 0)
                return false;
            v = v << 6 | (uint32_t)s;
        }
        if (v & (bytes == 3 ? 0 : bytes == 2 ? 0xff : 0xffff))
            return false;
        for (size_t j = 0; j < bytes; j++)
            out_r[out++] = (uint8_t)(v >> (16 - 8 * j));
    }
    *n_r = out;
    return true;
}
