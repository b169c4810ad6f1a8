#include "spool/base/clock.h"

#include <stdio.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static uint64_t system_boot(void *ctx)
{
    (void)ctx;
    return read_clock(CLOCK_BOOTTIME);
}

static uint64_t system_wall(void *ctx)
{
    (void)ctx;
    return read_clock(CLOCK_REALTIME);
}

const struct clock *clock_system(void)
{
    static const struct clock c = {system_boot, system_wall, NULL};
    return &c;
}

int clock_rfc5322(uint64_t wall_us, char out_r[CLOCK_RFC5322_MAX])
{
    static const char day[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char mon[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)(wall_us / 1000000u);
    struct tm tm;
    gmtime_r(&t, &tm);
    return snprintf(out_r, CLOCK_RFC5322_MAX, "%s, %d %s %04d %02d:%02d:%02d +0000", day[tm.tm_wday], tm.tm_mday,
                    mon[tm.tm_mon], (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

int clock_rfc3339(uint64_t wall_us, char out_r[CLOCK_RFC3339_MAX])
{
    time_t t = (time_t)(wall_us / 1000000u);
    struct tm tm;
    gmtime_r(&t, &tm);
    return snprintf(out_r, CLOCK_RFC3339_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (tm.tm_year + 1900) % 10000,
                    tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(wall_us / 1000u % 1000u));
}
