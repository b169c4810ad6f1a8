/* units.c - sizes and times as people write them; see units.h. */
#include "dataplane/conf/units.h"
#include "spool/base/err.h"

#include <inttypes.h>
#include <stdio.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: formatting takes the first that divides, and the last divides whatever gets there. */
static const struct unit size_units[] = {{"TiB", TIB}, {"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"B", 1}, {NULL, 0}};
static const struct unit time_units[] = {{"w", 7 * DAY},        {"d", DAY}, {"h", HOUR}, {"m", MINUTE}, {"s", SECOND},
                                         {"ms", SECOND / 1000}, {NULL, 0}};

/* The number in front; the unit behind it is left in *rest_r. */
static int digits_parse(struct slice text, uint64_t *v_r, struct slice *rest_r)
{
    size_t i = 0;
    uint64_t v = 0;
    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++) {
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) || __builtin_add_overflow(v, text.p[i] - '0', &v))
            return -SATCHEL_EINVAL;
    }
    *v_r = v;
    *rest_r = slice_of(text.p + i, text.n - i);
    return i > 0 ? 0 : -SATCHEL_EINVAL;
}

static int scaled_parse(struct slice text, const struct unit *units, uint64_t *v_r)
{
    struct slice rest;
    uint64_t v;
    int res = digits_parse(text, &v, &rest);
    if (res < 0)
        return res;
    for (; units->name; units++) {
        if (slice_ieq(rest, slice_str(units->name)))
            return __builtin_mul_overflow(v, units->factor, v_r) ? -SATCHEL_EINVAL : 0;
    }
    return -SATCHEL_EINVAL;
}

int size_parse(struct slice text, uint64_t *bytes_r)
{
    struct slice rest;
    if (digits_parse(text, bytes_r, &rest) == 0 && rest.n == 0)
        return 0;
    return scaled_parse(text, size_units, bytes_r);
}

int duration_parse(struct slice text, uint64_t *us_r)
{
    struct slice rest;
    if (digits_parse(text, us_r, &rest) == 0 && rest.n == 0)
        return *us_r == 0 ? 0 : -SATCHEL_EINVAL;
    return scaled_parse(text, time_units, us_r);
}

static const char *scaled_format(uint64_t v, const struct unit *units, char *out_r)
{
    if (v == 0) {
        snprintf(out_r, UNITS_TEXT_MAX, "0");
        return out_r;
    }
    while (v % units->factor != 0)
        units++;
    snprintf(out_r, UNITS_TEXT_MAX, "%" PRIu64 "%s", v / units->factor, units->name);
    return out_r;
}

const char *size_format(uint64_t bytes, char out_r[UNITS_TEXT_MAX])
{
    return scaled_format(bytes, size_units, out_r);
}

/* Times have a resolution of 1 ms as text: what is finer was never written by a person. */
const char *duration_format(uint64_t us, char out_r[UNITS_TEXT_MAX])
{
    us -= us % (SECOND / 1000);
    return scaled_format(us, time_units + 1, out_r);
}
