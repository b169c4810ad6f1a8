/* log.h - one line an event, key=value, on standard error (the journal reads it there).
 *
 *   log_info("smtp.accepted", "id=%s domain=%s size=%zu", id, domain, size);
 *   -> ts=2026-11-23T23:21:40.123Z level=info event=smtp.accepted id=... domain=... size=4096
 *
 * The event is module.verb.  Values that may hold spaces or come from outside go through log_quote().  The message ID
 * is in each line that speaks of a message.  Any thread; one write(2) a line, cut at 2 KiB. */
#pragma once
#include "spool/base/slice.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

extern enum log_level log_level_now; /* set at start and on reload */

/* "error", "warning", "info", "debug" -> level; -1 for anything else. */
int log_level_parse(const char *name);

/* Journal prefix "<3>" before each line when standard error is the journal (JOURNAL_STREAM is set). */
void log_init(void);

__attribute__((format(printf, 3, 4))) void log_line(enum log_level level, const char *event, const char *fmt, ...);

#define log_at(level, ...)                                                                                             \
    do {                                                                                                               \
        if ((level) <= log_level_now)                                                                                  \
            log_line((level), __VA_ARGS__);                                                                            \
    } while (0)
#define log_error(...)   log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* "s" in double quotes with \" \\ \xNN escapes, cut at cap; returns out_r for use as an argument. */
const char *log_quote(struct slice s, char *out_r, size_t cap);
