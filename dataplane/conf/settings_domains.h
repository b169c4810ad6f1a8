/* settings_domains.h - the reader of a configuration file at work, shared by settings.c and settings_domains.c. */
#pragma once
#include "dataplane/conf/settings_table.h"

#include <yaml.h>

struct settings_reader {
    struct settings *st;
    const char *file; /* "": no file */
    char *err_r;
    size_t cap;
    yaml_parser_t parser;
    yaml_document_t doc;
    const yaml_node_t *seen[SETTINGS_COUNT]; /* where a key was set; NULL: not in the file */
    const yaml_node_t *domains;
};

/* Writes "FILE:LINE:COL: KEY: ..." and returns -SATCHEL_ECONFIG.  at NULL: the file as a whole. */
__attribute__((format(printf, 4, 5))) int settings_reader_fail(struct settings_reader *r, const yaml_node_t *at,
                                                               const char *key, const char *fmt, ...);
/* NULL for a mapping or a list. */
const char *settings_scalar(const yaml_node_t *n);
bool settings_scalar_is_null(const yaml_node_t *n);
/* The key of the pair is a scalar and none before it in the mapping is the same. */
int settings_no_duplicate(struct settings_reader *r, const yaml_node_t *map, const yaml_node_pair_t *pair);

/* `domains:`, a list of mappings, into st->domains. */
int settings_domains_read(struct settings_reader *r, const yaml_node_t *list);
