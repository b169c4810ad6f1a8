/* dsn.c - makes delivery status notifications. */
#include "dataplane/relay/dsn.h"

#include "spool/base/err.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

bool dsn_wanted(struct slice sender, char domain_r[256])
{
    const uint8_t *at = sender.n ? memrchr(sender.p, '@', sender.n) : NULL;
    size_t n = at ? (size_t)(sender.p + sender.n - at) - 1 : 0;
    if (n == 0 || n > 255)
        return false;
    for (size_t i = 0; i < n; i++)
        domain_r[i] = (char)tolower(at[1 + i]);
    domain_r[n] = 0;
    return true;
}

/* Where the header of a message ends: behind the empty line, or at the last whole line within the limit. */
static struct slice header_of(struct slice m)
{
    if (m.n > DSN_HEADER_MAX)
        m.n = DSN_HEADER_MAX;
    if (m.n == 0)
        return SLICE_LIT("");
    const uint8_t *end = memmem(m.p, m.n, "\r\n\r\n", 4);
    if (end)
        return slice_of(m.p, (size_t)(end - m.p) + 2);
    const uint8_t *nl = memrchr(m.p, '\n', m.n);
    return slice_of(m.p, nl ? (size_t)(nl - m.p) + 1 : 0);
}

static bool has_8bit(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] & 0x80)
            return true;
    return false;
}

static void put_head(FILE *f, const struct dsn_request *q, const char *date, const char *boundary)
{
    fprintf(f,
            "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n"
            "To: <%.*s>\r\n"
            "Subject: %s\r\n"
            "Date: %s\r\n"
            "Message-ID: <%s@%s>\r\n"
            "Auto-Submitted: auto-replied\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; report-type=delivery-status;\r\n"
            "\tboundary=\"%s\"\r\n"
            "\r\n"
            "This is a report in parts (RFC 3464), for a mail program.\r\n",
            q->hostname, SLICE_FMT(q->sender), q->expired ? "Mail could not be delivered in time" : "Mail was refused",
            date, boundary, q->hostname, boundary);
}

static void put_people_part(FILE *f, const struct dsn_request *q, const char *boundary)
{
    char line[SMTP_STATUS_TEXT_MAX + 32];
    fprintf(f,
            "\r\n--%s\r\n"
            "Content-Type: text/plain; charset=us-ascii\r\n"
            "\r\n"
            "This is the mail system at %s.\r\n"
            "\r\n"
            "%s\r\n",
            boundary, q->hostname,
            q->expired ? "Your message could not be delivered in time to:" : "Your message was refused for:");
    for (size_t i = 0; i < q->failures_n; i++) {
        status_format(q->failures[i].status, line, sizeof line);
        fprintf(f, "\r\n  <%.*s>\r\n    %s\r\n", SLICE_FMT(q->failures[i].rcpt), line);
    }
    fprintf(f, "\r\nIt is not kept any longer, and not tried again.\r\n");
}

/* RFC 3464 2.3: one group of fields a recipient. */
static void put_recipient(FILE *f, const struct dsn_request *q, const struct dsn_failure *x, const char *date)
{
    const struct smtp_status *st = x->status;
    fprintf(f,
            "\r\nFinal-Recipient: rfc822; %.*s\r\n"
            "Action: failed\r\n"
            "Status: %u.%u.%u\r\n",
            SLICE_FMT(x->rcpt), q->expired ? 5u : st->class, st->subject, st->detail);
    if (q->remote[0])
        fprintf(f, "Remote-MTA: dns; %s\r\n", q->remote);
    if (st->code)
        fprintf(f, "Diagnostic-Code: smtp; %03u %u.%u.%u %s\r\n", st->code, st->class, st->subject, st->detail,
                st->text);
    else
        fprintf(f, "Diagnostic-Code: X-Satchel; %s\r\n", st->text);
    fprintf(f, "Last-Attempt-Date: %s\r\n", date);
}

static void put_status_part(FILE *f, const struct dsn_request *q, const char *date, const char *boundary)
{
    char arrival[CLOCK_RFC5322_MAX];
    clock_rfc5322(q->arrival_us, arrival);
    fprintf(f,
            "\r\n--%s\r\n"
            "Content-Type: message/delivery-status\r\n"
            "\r\n"
            "Reporting-MTA: dns; %s\r\n"
            "Arrival-Date: %s\r\n",
            boundary, q->hostname, arrival);
    for (size_t i = 0; i < q->failures_n; i++)
        put_recipient(f, q, &q->failures[i], date);
}

int dsn_build(const struct dsn_request *q, char **content_r, size_t *n_r, bool *eight_bit_r)
{
    char id[MSGID_TEXT_MAX], boundary[MSGID_TEXT_MAX + 32], date[CLOCK_RFC5322_MAX];
    struct slice header = header_of(q->original);
    FILE *f = open_memstream(content_r, n_r);
    if (!f)
        return -SATCHEL_ENOMEM;
    msgid_format(&q->id, id);
    snprintf(boundary, sizeof boundary, "dsn.%llx.%s", (unsigned long long)q->now_us, id);
    clock_rfc5322(q->now_us, date);
    *eight_bit_r = has_8bit(header);
    put_head(f, q, date, boundary);
    put_people_part(f, q, boundary);
    put_status_part(f, q, date, boundary);
    fprintf(f, "\r\n--%s\r\nContent-Type: text/rfc822-headers\r\n%s\r\n", boundary,
            *eight_bit_r ? "Content-Transfer-Encoding: 8bit\r\n" : "");
    fwrite(header.p, 1, header.n, f);
    fprintf(f, "\r\n--%s--\r\n", boundary);
    if (fclose(f) == 0)
        return 0;
    free(*content_r);
    *content_r = NULL;
    return -SATCHEL_ENOMEM;
}
