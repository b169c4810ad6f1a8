/* why.c - see why.h. */
#include "cluster/link/why.h"

#include <stdarg.h>
#include <stdio.h>

void why_say(char *why_r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why_r, WHY_MAX, fmt, ap);
    va_end(ap);
}
