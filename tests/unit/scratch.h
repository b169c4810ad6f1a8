/* scratch.h - a directory for the files of a unit test.
 *
 * It is in memory where there is memory for files: a test then neither waits for a disk nor fails because somebody else
 * has filled it.  Tests of what a real disk does ask for one. */
#pragma once
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SCRATCH_MAX 64 /* bytes of a path, with its end */

static inline const char *scratch_base(void)
{
    struct statvfs fs;
    bool roomy = statvfs("/dev/shm", &fs) == 0 && fs.f_bavail >= (256ul << 20) / fs.f_frsize;
    return roomy && access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
}

static inline void scratch_make_below(char path_r[static SCRATCH_MAX], const char *base, const char *name)
{
    snprintf(path_r, SCRATCH_MAX, "%s/satchel-%.16s-XXXXXX", base, name);
    if (!mkdtemp(path_r)) {
        perror(path_r);
        exit(1);
    }
}

/* Makes a directory of its own for the test called `name` (at most 16 bytes).  Ends the program where it cannot. */
static inline void scratch_make(char path_r[static SCRATCH_MAX], const char *name)
{
    scratch_make_below(path_r, scratch_base(), name);
}

/* The same on the disk that the tree is on. */
static inline void scratch_make_on_disk(char path_r[static SCRATCH_MAX], const char *name)
{
    mkdir("build", 0755);
    scratch_make_below(path_r, "build", name);
}

static inline int scratch_unlink(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* Removes it with all that is below.  0, or -1 and errno. */
static inline int scratch_remove(const char *path)
{
    return nftw(path, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}
