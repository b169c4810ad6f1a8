/* err.h - error codes of the house.
 * Functions return 0 or a negative SATCHEL_E*.  The first block equals errno, so that a failed system call's -errno can
 * be returned as it is; the second block (2000 and up) has no errno.  A defect of our own asserts instead. */
#pragma once
#include <errno.h>

#define SATCHEL_EAGAIN  EAGAIN    /* not now: the callee says when to try again */
#define SATCHEL_EINVAL  EINVAL    /* the input is malformed */
#define SATCHEL_EIO     EIO       /* the disk failed */
#define SATCHEL_EFULL   ENOSPC    /* no room; the caller answers 452 4.3.1 */
#define SATCHEL_ENOMEM  ENOMEM    /* memory budget reached; the caller answers 452 4.3.1 */
#define SATCHEL_ENOENT  ENOENT    /* no such thing */
#define SATCHEL_EEXIST  EEXIST    /* is there already */
#define SATCHEL_EBUSY   EBUSY     /* locked or claimed by another */
#define SATCHEL_ETOOBIG EMSGSIZE  /* over a limit; the caller answers 552 5.3.4 */
#define SATCHEL_ESHUT   ESHUTDOWN /* shutting down; the caller answers 421 4.3.2 */

/* name, number, what a person reads */
#define SATCHEL_ERRORS(X)                                                                                              \
    X(SATCHEL_EVERSION, 2000, "written by another version of Satchel")                                                 \
    X(SATCHEL_EDAMAGED, 2001, "data failed its checksum")                                                              \
    X(SATCHEL_EFENCED, 2002, "disk is fenced after a failed sync")                                                     \
    X(SATCHEL_ETORN, 2003, "torn tail")                                                                                \
    X(SATCHEL_ECONFIG, 2004, "configuration refused")                                                                  \
    X(SATCHEL_ECOPIES, 2005, "too few copies in time")

enum satchel_err {
#define X(name, num, text) name = num,
    SATCHEL_ERRORS(X)
#undef X
};

/* Text for a code of either sign; never NULL; static storage (thread-local for errno texts). */
const char *satchel_strerror(int err);
