/* settings_table.h - settings.def as data, and the reading of one value; for settings.c and settings_doc.c. */
#pragma once
#include "dataplane/conf/settings.h"
#include "dataplane/conf/units.h"

enum setting_kind {
    SETTING_KIND_BOOL,
    SETTING_KIND_INT,
    SETTING_KIND_SIZE,
    SETTING_KIND_DURATION,
    SETTING_KIND_STRING,
    SETTING_KIND_PATH,
    SETTING_KIND_LIST,
    SETTING_KIND_CHOICE,
};

struct setting_info {
    const char *key;
    size_t offset; /* of the field in struct settings */
    uint64_t least, most;
    const char *preset, *unit, *help;
    enum setting_kind kind;
    bool live; /* SIGHUP applies it */
};

enum setting_index {
#define X(kind, key, field, least, most, preset, unit, reload, help) SETTING_AT_##field,
#include "dataplane/conf/settings.def"
#undef X
    SETTINGS_COUNT
};

extern const struct setting_info setting_infos[SETTINGS_COUNT];

static inline void *setting_field(struct settings *st, const struct setting_info *i)
{
    return (char *)st + i->offset;
}

/* Index of the key, or -1. */
int setting_find(const char *key);
/* The known name that the writer most likely meant ("smtp", "smtp.workers", "domains"); never NULL. */
const char *setting_nearest(const char *key);

/* Sets the field from text as written in the file.  A LIST gets one more member; the others are replaced.
 * -SATCHEL_EINVAL: why_r (SETTINGS_WHY_MAX) says "X is not a size; expected ...". */
int setting_set(struct settings *st, const struct setting_info *i, const char *text, char *why_r);
/* What is expected, for messages and the documentation: "bytes with a unit such as 64MiB, between 1MiB and 1GiB". */
void setting_expects(const struct setting_info *i, char *out_r, size_t cap);
/* Empties a LIST before it is written anew. */
void setting_list_clear(struct setting_list *l);
bool setting_equal(const struct settings *a, const struct settings *b, const struct setting_info *i);
