/* foreign.h - the log of another node, read where it lies, never written.
 *
 * Its writer may be dead, or a zombie that goes on appending, compacting and recycling: what is read is verified, and a
 * record that is not where it was (-SATCHEL_ENOENT) is found by a scan from the beginning.  Its index is never opened.
 * Torn tails and damage are judged as recovery judges them (spool/segment/recover.h): good records count, nothing is
 * repaired.
 * Blocking I/O.  Thread: one at a time. */
#pragma once
#include "cluster/shared/census.h"
#include "spool/format/storageid.h"

struct foreign;

struct foreign_stat {
    uint64_t records, read_bytes, damaged_ranges, took_us; /* of the last scan that read something */
    uint64_t scans;
};

/* storage: whose log it is to be. */
int foreign_open(struct foreign **f_r, const char *log_dir, const struct storage_id *storage);
void foreign_close(struct foreign **f);
/* Brings the census up to date.  1: something may be new; 0: nothing was written since the last scan.  anew: all is
 * read again, into an empty census.  -SATCHEL_ENOENT: there is no log.  -SATCHEL_EVERSION, -SATCHEL_EDAMAGED: no log
 * that we can read.  -SATCHEL_EBUSY: another storage's log lies there.  Or what the file system said. */
int foreign_scan(struct foreign *f, bool anew);
/* Never NULL. */
struct census *foreign_census(struct foreign *f);
/* As segread_record.  Borrows until the next call. */
int foreign_read(struct foreign *f, uint64_t pos, uint32_t size, struct record *rec_r);
/* As segread_head. */
int foreign_head(struct foreign *f, uint64_t pos, uint32_t size, struct record *rec_r);
void foreign_stat(const struct foreign *f, struct foreign_stat *st_r);
