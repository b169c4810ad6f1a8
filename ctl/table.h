/* table.h - a table on standard output, as wide as the terminal allows; by libsmartcols.
 * What cannot be printed safely (control characters) is shown as \xNN. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct table;

struct table_column {
    const char *head;
    bool right; /* numbers */
};

/* columns: borrowed until table_print. */
struct table *table_new(const struct table_column *columns, size_t n);
/* cells[n] are copied. */
void table_row(struct table *t, const char *const *cells);
/* Prints and frees. */
void table_print(struct table **t);
