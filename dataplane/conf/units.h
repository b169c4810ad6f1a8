/* units.h - sizes and times as people write them: "64MiB", "30d".
 * Thread: pure functions.  Errors: -SATCHEL_EINVAL for what is not one, also where it overflows. */
#pragma once
#include "spool/base/slice.h"

#define KIB    UINT64_C(1024)
#define MIB    (1024 * KIB)
#define GIB    (1024 * MIB)
#define TIB    (1024 * GIB)
#define SECOND UINT64_C(1000000) /* microseconds */
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

#define UNITS_TEXT_MAX 32

/* Bytes: digits, then B, KiB, MiB, GiB, TiB or nothing; any case. */
int size_parse(struct slice text, uint64_t *bytes_r);
/* Microseconds: digits, then ms, s, m, h, d or w; without a unit only 0 is a time. */
int duration_parse(struct slice text, uint64_t *us_r);
/* In the largest unit that gives a whole number: "64MiB", "90s", "30d", "0".  What is written is what parses back.
 * Returns out_r for use as an argument. */
const char *size_format(uint64_t bytes, char out_r[UNITS_TEXT_MAX]);
const char *duration_format(uint64_t us, char out_r[UNITS_TEXT_MAX]);
