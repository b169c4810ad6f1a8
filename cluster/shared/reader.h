/* reader.h - a thread that reads other nodes' logs, so that a slow file system does not keep the cluster's thread from
 * its keepalives.
 *
 * A job has the log that it names to itself, census included, from reader_ask until its done: then nobody else touches
 * it.  Jobs are done one after the other, in the order of asking.
 *   SCAN  foreign_scan
 *   READ  the parts, each copied into memory of its own
 * Thread: the asker's, except inside. */
#pragma once
#include "cluster/shared/foreign.h"
#include "spool/base/mailbox.h"

struct reader;

struct reader_part {
    uint64_t pos;
    uint32_t size;
    bool head; /* without the body */
    int res;   /* as segread_record */
    struct record rec;
    uint8_t *bytes; /* what rec points to */
};

struct reader_job {
    struct mail mail;
    struct foreign *log;
    bool scan, anew;
    struct reader_part *parts;
    uint32_t parts_n;
    int res; /* of a scan */
    /* Inside reader_poll. */
    void (*done)(struct reader_job *j);
    void *arg;
};

int reader_open(struct reader **r_r);
/* Waits for the job under way; the done of those that are left runs. */
void reader_close(struct reader **r);
void reader_ask(struct reader *r, struct reader_job *j);
void reader_poll(struct reader *r);
/* Readable when poll has something to do, once armed says that it had not. */
int reader_fd(const struct reader *r);
bool reader_sleep(struct reader *r);
/* Frees what the parts hold. */
void reader_parts_free(struct reader_part *parts, uint32_t n);
