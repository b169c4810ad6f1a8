#include "spool/base/status.h"

#include <stdarg.h>
#include <stdio.h>

void status_set(struct smtp_status *st, int code, int class, int subject, int detail, const char *fmt, ...)
{
    st->code = (uint16_t)code;
    st->class = (uint8_t) class;
    st->subject = (uint16_t)subject;
    st->detail = (uint16_t)detail;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(st->text, sizeof st->text, fmt, ap);
    va_end(ap);
    for (char *p = st->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

int status_format(const struct smtp_status *st, char *out_r, size_t cap)
{
    int n = snprintf(out_r, cap, "%03u %u.%u.%u %s", st->code, st->class, st->subject, st->detail, st->text);
    return n < (int)cap ? n : (int)cap - 1;
}
