/* cmd_table.h - what the commands read from answers, and the table of domains that several of them print. */
#pragma once
#include <jansson.h>
#include <stdint.h>

/* "" and 0 where the key is missing or null. */
const char *json_text(const json_t *j, const char *key);
uint64_t json_count(const json_t *j, const char *key);
double json_number(const json_t *j, const char *key);

void domains_table_print(const json_t *list);
