/* reply.c - the table of replies as text. */
#include "dataplane/smtp/reply.h"
#include "spool/base/err.h"

struct slice smtp_reply_line(enum smtp_reply r)
{
    static const struct slice lines[] = {[R_NONE] = {0},
#define X(id, line) [id] = {(const uint8_t *)line "\r\n", sizeof(line "\r\n") - 1},
                                         SMTP_REPLIES(X)
#undef X
    };
    return lines[r];
}

enum smtp_reply smtp_reply_of(int err)
{
    switch (-err) {
    case 0:
        return R_NONE;
    case SATCHEL_EFULL:
    case SATCHEL_ENOMEM:
        return R_FULL;
    case SATCHEL_ETOOBIG:
        return R_TOO_BIG;
    case SATCHEL_ESHUT:
        return R_SHUT;
    case SATCHEL_ECOPIES:
        return R_COPIES;
    default:
        return R_LOCAL;
    }
}
