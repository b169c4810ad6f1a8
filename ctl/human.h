/* human.h - numbers for people: "1.2 GiB", "3 d 4 h".  Each writes at most HUMAN_MAX bytes and returns out_r. */
#pragma once
#include <stdint.h>

#define HUMAN_MAX 32

const char *human_bytes(uint64_t bytes, char out_r[HUMAN_MAX]);
/* Two units at most; "0 s" below a second. */
const char *human_age(double seconds, char out_r[HUMAN_MAX]);
/* "1 message", "20 messages". */
const char *human_count(uint64_t n, const char *noun, char out_r[HUMAN_MAX]);
