/* human.c - numbers for people. */
#include "ctl/human.h"

#include <inttypes.h>
#include <stdio.h>

const char *human_bytes(uint64_t bytes, char out_r[HUMAN_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    int at = 0;
    while (v >= 1024 && at < 6) {
        v /= 1024;
        at++;
    }
    snprintf(out_r, HUMAN_MAX, at == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[at]);
    return out_r;
}

const char *human_age(double seconds, char out_r[HUMAN_MAX])
{
    uint64_t s = seconds > 0 ? (uint64_t)seconds : 0;
    unsigned long d = s / 86400, h = s / 3600 % 24, m = s / 60 % 60, rest = s % 60;
    if (d > 0)
        snprintf(out_r, HUMAN_MAX, "%lu d %lu h", d, h);
    else if (h > 0)
        snprintf(out_r, HUMAN_MAX, "%lu h %lu min", h, m);
    else if (m > 0)
        snprintf(out_r, HUMAN_MAX, "%lu min %lu s", m, rest);
    else
        snprintf(out_r, HUMAN_MAX, "%lu s", rest);
    return out_r;
}

const char *human_count(uint64_t n, const char *noun, char out_r[HUMAN_MAX])
{
    snprintf(out_r, HUMAN_MAX, "%" PRIu64 " %s%s", n, noun, n == 1 ? "" : "s");
    return out_r;
}
