/* trace.c - failures and traces of the simulator.  It also stands in for spool/base/log.c: what the spool logs becomes
 * part of the trace, under virtual time, and costs nothing otherwise. */
#include "tests/sim/trace.h"

#include <stdarg.h>
#include <stdio.h>

#include "spool/base/clock.h"
#include "spool/base/log.h"

struct history history;
enum log_level log_level_now = LOG_LEVEL_DEBUG;

void history_fail(const char *fmt, ...)
{
    va_list ap;
    if (history.failed)
        return;
    history.failed = true;
    va_start(ap, fmt);
    vsnprintf(history.why, sizeof history.why, fmt, ap);
    va_end(ap);
    trace("FAILED %s", history.why);
}

static void stamp(void)
{
    printf("%12llu  %s%s", history.clock ? (unsigned long long)clock_boot_us(history.clock) : 0,
           history.who ? history.who : "", history.who && history.who[0] ? "  " : "");
}

void history_trace(const char *fmt, ...)
{
    va_list ap;
    stamp();
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

/* ---- in the place of log.c */

int log_level_parse(const char *name)
{
    (void)name;
    return LOG_LEVEL_DEBUG;
}

void log_init(void)
{
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    va_list ap;
    if (!history.verbose)
        return;
    stamp();
    printf("log %d %s ", (int)level, event);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

const char *log_quote(struct slice s, char *out_r, size_t cap)
{
    snprintf(out_r, cap, "\"%.*s\"", SLICE_FMT(s));
    return out_r;
}
