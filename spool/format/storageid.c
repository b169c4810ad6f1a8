/* storageid.c - storage UUIDs as text. */
#include "spool/format/storageid.h"

#include "spool/base/err.h"

void storage_id_format(const struct storage_id *id, char out_r[STORAGE_ID_TEXT_MAX])
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->b; i++) {
        out_r[2 * i] = hex[id->b[i] >> 4];
        out_r[2 * i + 1] = hex[id->b[i] & 15];
    }
    out_r[2 * sizeof id->b] = 0;
}

static int nibble(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int storage_id_parse(struct slice text, struct storage_id *id_r)
{
    if (text.n != 2 * sizeof id_r->b)
        return -SATCHEL_EINVAL;
    for (size_t i = 0; i < sizeof id_r->b; i++) {
        int hi = nibble(text.p[2 * i]), lo = nibble(text.p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return -SATCHEL_EINVAL;
        id_r->b[i] = (uint8_t)(hi << 4 | lo);
    }
    return 0;
}
