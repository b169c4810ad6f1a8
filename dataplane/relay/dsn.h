/* dsn.h - delivery status notifications: multipart/report (RFC 6522) with a text for people, message/delivery-status
 * (RFC 3464) and the header of the original message (text/rfc822-headers), Auto-Submitted (RFC 3834).
 *
 * One notification tells of all recipients that failed at the same time.  It goes to the sender, from the null
 * reverse-path, and never to a null reverse-path: there is no notification about a notification.
 *
 * Thread: pure. */
#pragma once
#include "spool/outlet.h"

#define DSN_HEADER_MAX 16384 /* bytes of the original's header that are quoted */

struct dsn_failure {
    struct slice rcpt;
    const struct smtp_status *status;
};

struct dsn_request {
    const char *hostname;        /* reporting MTA */
    const char *remote;          /* name or address of the primary that refused; "": none did (expired) */
    struct msgid id;             /* of the original */
    struct slice sender;         /* of the original: who is told */
    uint64_t arrival_us, now_us; /* wall clock */
    struct slice original;       /* the original's first bytes; its header is taken from them */
    const struct dsn_failure *failures;
    size_t failures_n;
    bool expired; /* not refused, but kept as long as mail is kept */
};

/* May this sender be told?  Not the null reverse-path, not an address without a domain. domain_r: lower case,
 * NUL-terminated, 256 bytes. */
bool dsn_wanted(struct slice sender, char domain_r[256]);

/* Makes the message: *content_r is malloc'd, *n_r its length; eight_bit_r: the quoted header is not all ASCII. 0 or
 * -SATCHEL_ENOMEM. */
int dsn_build(const struct dsn_request *q, char **content_r, size_t *n_r, bool *eight_bit_r);
