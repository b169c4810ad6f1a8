#include "spool/base/log.h"

#include "spool/base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum log_level log_level_now = LOG_LEVEL_INFO;
static bool journal;
static const char *const level_names[] = {"error", "warning", "info", "debug"};

int log_level_parse(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(name, level_names[i]) == 0)
            return i;
    return -1;
}

void log_init(void)
{
    journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    static const int syslog_priority[] = {3, 4, 6, 7};
    char line[2048], ts[CLOCK_RFC3339_MAX];
    clock_rfc3339(clock_wall_us(clock_system()), ts);
    int n = journal ? snprintf(line, sizeof line, "<%d>", syslog_priority[level]) : 0;
    n += snprintf(line + n, sizeof line - (size_t)n, "ts=%s level=%s event=%s ", ts, level_names[level], event);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
    va_end(ap);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    line[len++] = '\n';
    ssize_t rc = write(STDERR_FILENO, line, len);
    (void)rc; /* nowhere left to report to */
}

const char *log_quote(struct slice s, char *out_r, size_t cap)
{
    size_t o = 0;
    out_r[o++] = '"';
    for (size_t i = 0; i < s.n && o + 6 < cap; i++) {
        uint8_t c = s.p[i];
        if (c == '"' || c == '\\')
            o += (size_t)snprintf(out_r + o, cap - o, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            o += (size_t)snprintf(out_r + o, cap - o, "\\x%02x", c);
        else
            out_r[o++] = (char)c;
    }
    out_r[o++] = '"';
    out_r[o] = 0;
    return out_r;
}
