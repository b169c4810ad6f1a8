/* settings.h - the configuration: one YAML file through one table (settings.def).
 *
 * Every value is checked where it is read; whoever holds a struct settings needs no checks of its own.
 * An error is one line that starts with FILE:LINE:COL and says what was found, what was expected and where.
 * Thread: values, no shared state; a loaded struct is read-only and may be read from any thread.
 * Errors: 0 or a negative SATCHEL_E* with words for the operator. */
#pragma once
#include "dataplane/conf/domains.h"

#include <stdio.h>

#define SETTINGS_WHY_MAX 512

/* v is NULL-terminated, also when empty. */
struct setting_list {
    char **v;
    size_t n;
};

/* Paths and strings are never NULL; "" where nothing is set.  A CHOICE holds the index of its word, which is the value
 * of the C enum: log_level is enum log_level, dataplane_engine enum net_engine, spool_engine enum disk_engine. */
struct settings { /* NOLINT(clang-analyzer-optin.performance.Padding): in the order of the table */
#define SETTING_BOOL                                                 bool
#define SETTING_INT                                                  uint32_t
#define SETTING_SIZE                                                 uint64_t
#define SETTING_DURATION                                             uint64_t
#define SETTING_STRING                                               char *
#define SETTING_PATH                                                 char *
#define SETTING_LIST                                                 struct setting_list
#define SETTING_CHOICE                                               int
#define X(kind, key, field, least, most, preset, unit, reload, help) SETTING_##kind field;
#include "dataplane/conf/settings.def"
#undef X
    /* `domains:`: added to the registry at start where it does not have them yet (domains_set, replace false). */
    struct domain *domains;
    size_t domains_n;
};

/* file NULL: the presets alone.  Empty hostname and admin_socket are filled in (the machine's name;
 * data_dir/admin.sock) and *st_r needs settings_free; on an error it is all zeros and err_r has one line,
 * NUL-terminated, at most cap. -SATCHEL_ECONFIG: refused; -SATCHEL_ENOENT, -SATCHEL_EIO, ...: the file cannot be read.
 */
int settings_load(struct settings *st_r, const char *file, char *err_r, size_t cap);
void settings_free(struct settings *st);

/* Keys that differ and that SIGHUP cannot apply, "listen, spool.segment", into names_r; returns how many.  A reload
 * keeps the running values of those and takes the others. */
size_t settings_changed_needs_restart(const struct settings *running, const struct settings *loaded, char *names_r,
                                      size_t cap);

/* docs/configuration.md, whole. */
void settings_doc(FILE *out);
