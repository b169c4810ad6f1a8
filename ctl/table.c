/* table.c - tables for people.  The only file that knows libsmartcols. */
#include "ctl/table.h"

#include <libsmartcols/libsmartcols.h>
#include <stdlib.h>

struct table {
    struct libscols_table *tb;
    size_t n;
};

struct table *table_new(const struct table_column *columns, size_t n)
{
    struct table *t = calloc(1, sizeof *t);
    if (!t || !(t->tb = scols_new_table()))
        abort();
    t->n = n;
    for (size_t i = 0; i < n; i++) {
        /* The last one gives way where the terminal is narrow: it holds what is said at length. */
        int flags = (columns[i].right ? SCOLS_FL_RIGHT : 0) | (i + 1 == n ? SCOLS_FL_TRUNC : 0);
        if (!scols_table_new_column(t->tb, columns[i].head, 0, flags))
            abort();
    }
    return t;
}

void table_row(struct table *t, const char *const *cells)
{
    struct libscols_line *line = scols_table_new_line(t->tb, NULL);
    if (!line)
        abort();
    for (size_t i = 0; i < t->n; i++) {
        if (scols_line_set_data(line, i, cells[i]) != 0)
            abort();
    }
}

void table_print(struct table **t)
{
    scols_print_table((*t)->tb);
    scols_unref_table((*t)->tb);
    free(*t);
    *t = NULL;
}
