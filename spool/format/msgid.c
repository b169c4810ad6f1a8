/* msgid.c - the text and the sort key of a message ID. */
#include "spool/format/msgid.h"

#include "spool/base/err.h"

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford: without i, l, o, u */
enum { INCARNATION_CHARS = 26, DIGIT_BITS = 5 };

/* 26 digits hold 130 bits: the number is written big-endian with two zero bits before it. */
static void format_incarnation(const uint8_t in[16], char *out_r)
{
    uint32_t acc = 0;
    int bits = 2, o = 0;
    for (int i = 0; i < 16; i++) {
        acc = (acc << 8 | in[i]) & 0xffff;
        bits += 8;
        while (bits >= DIGIT_BITS) {
            bits -= DIGIT_BITS;
            out_r[o++] = digits[acc >> bits & 31];
        }
    }
}

static int format_counter(uint64_t v, char *out_r)
{
    char reversed[20];
    int n = 0;
    do
        reversed[n++] = (char)('0' + v % 10);
    while (v /= 10);
    for (int i = 0; i < n; i++)
        out_r[i] = reversed[n - 1 - i];
    return n;
}

/* Twice a message: no printf. */
int msgid_format(const struct msgid *id, char out_r[MSGID_TEXT_MAX])
{
    format_incarnation(id->incarnation, out_r);
    out_r[INCARNATION_CHARS] = '-';
    int n = INCARNATION_CHARS + 1;
    n += format_counter(id->counter, out_r + n);
    out_r[n] = 0;
    return n;
}

static int digit_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        c = (uint8_t)(c + ('a' - 'A'));
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static int parse_incarnation(const uint8_t *text, uint8_t out_r[16])
{
    uint32_t acc = 0;
    int bits = -2, o = 0; /* the two leading zero bits make no byte */
    for (int i = 0; i < INCARNATION_CHARS; i++) {
        int v = digit_value(text[i]);
        if (v < 0 || (i == 0 && v > 7))
            return -SATCHEL_EINVAL;
        acc = (acc << DIGIT_BITS | (uint32_t)v) & 0xffff;
        bits += DIGIT_BITS;
        if (bits >= 8) {
            bits -= 8;
            out_r[o++] = (uint8_t)(acc >> bits);
        }
    }
    return 0;
}

static int parse_counter(struct slice s, uint64_t *counter_r)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 20 || s.p[0] == '0')
        return -SATCHEL_EINVAL;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -SATCHEL_EINVAL;
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return -SATCHEL_EINVAL;
    }
    *counter_r = v;
    return 0;
}

int msgid_parse(struct slice text, struct msgid *id_r)
{
    if (text.n < INCARNATION_CHARS + 2 || text.p[INCARNATION_CHARS] != '-')
        return -SATCHEL_EINVAL;
    int rc = parse_incarnation(text.p, id_r->incarnation);
    if (rc)
        return rc;
    return parse_counter(slice_of(text.p + INCARNATION_CHARS + 1, text.n - INCARNATION_CHARS - 1), &id_r->counter);
}

void msgid_key(const struct msgid *id, uint8_t key_r[MSGID_KEY_BYTES])
{
    memcpy(key_r, id->incarnation, 16);
    for (int i = 0; i < 8; i++)
        key_r[16 + i] = (uint8_t)(id->counter >> (56 - 8 * i));
}
