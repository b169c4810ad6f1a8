/* address.h - the paths of MAIL and RCPT, RFC 5321 section 4.1.2.
 *
 * Strict where a loose reading could turn us into a relay: one path has one domain, the last one, and it alone is
 * judged.  user%other@served is a local part of served; user@served@other is no path at all.  Source routes are read
 * and forgotten (RFC 5321 appendix C).  Domains are A-labels; '_' is let through, since such hosts send mail. Thread:
 * pure functions. */
#pragma once
#include "spool/base/slice.h"

#define SMTP_ADDRESS_MAX 254 /* a path is at most 256 octets with its brackets, RFC 5321 section 4.5.3.1.3 */
#define SMTP_DOMAIN_MAX  253
#define SMTP_LABEL_MAX   63

/* All slices borrow from the input. */
struct smtp_path {
    struct slice address; /* local@domain, without brackets and source route; empty: null */
    struct slice local;   /* as written, quotes kept */
    struct slice domain;  /* as written; empty: null, or <postmaster> */
    bool null;            /* <> */
    bool literal;         /* the domain is [an address] */
};

enum smtp_path_error { PATH_OK, PATH_SYNTAX, PATH_NOT_ASCII };

/* Parses "<...>" at the start of `in`; rest_r is what follows the ">". */
enum smtp_path_error smtp_path_parse(struct slice in, struct smtp_path *path_r, struct slice *rest_r);
