#include "spool/base/err.h"

#include <string.h>

const char *satchel_strerror(int err)
{
    if (err < 0)
        err = -err;
    switch (err) {
#define X(name, num, text)                                                                                             \
    case name:                                                                                                         \
        return text;
        SATCHEL_ERRORS(X)
#undef X
    default:
        return err == 0 ? "success" : strerrordesc_np(err) ? strerrordesc_np(err) : "unknown error";
    }
}
