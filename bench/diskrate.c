/* satchel-diskrate - how fast this disk takes sequential writes that are made durable: the bound for any spool on it.
 *
 *   satchel-diskrate DIR [MEBIBYTES [BLOCK_BYTES]]       256 MiB in blocks of 1 MiB
 *
 * Writes a file once so that its blocks are allocated, then writes it again with O_DIRECT and O_DSYNC, one block at a
 * time, each durable before the next.  Prints one JSON object; removes the file. */
#include "bench/lib/hist.h"
#include "bench/lib/sock.h"
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_DIRECT | O_DSYNC | O_CLOEXEC, 0600);
    if (fd < 0) /* a file system without O_DIRECT */
        fd = open(path, O_WRONLY | O_CREAT | O_DSYNC | O_CLOEXEC, 0600);
    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

static void write_all(int fd, const char *block, size_t block_bytes, size_t total, struct hist *h)
{
    for (size_t off = 0; off + block_bytes <= total; off += block_bytes) {
        uint64_t begin = sock_now_us();
        if (pwrite(fd, block, block_bytes, (off_t)off) != (ssize_t)block_bytes)
            err(1, "write");
        if (h)
            hist_add(h, sock_now_us() - begin);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 4)
        errx(2, "usage: satchel-diskrate DIR [MEBIBYTES [BLOCK_BYTES]]");
    size_t total = (argc > 2 ? strtoull(argv[2], NULL, 10) : 256) << 20;
    size_t block_bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : 1 << 20;
    if (block_bytes < 4096 || block_bytes % 4096 || block_bytes > total)
        errx(2, "BLOCK_BYTES: expected a multiple of 4096, not above the total");
    char path[4096];
    snprintf(path, sizeof path, "%s/diskrate.tmp", argv[1]);
    char *block = NULL;
    if (posix_memalign((void **)&block, 4096, block_bytes))
        errx(1, "out of memory");
    memset(block, 'x', block_bytes);
    int fd = open_file(path);
    unlink(path);
    struct hist *h = calloc(1, sizeof *h);
    if (!h)
        errx(1, "out of memory");
    write_all(fd, block, block_bytes, total, NULL);
    uint64_t begin = sock_now_us();
    write_all(fd, block, block_bytes, total, h);
    double s = (double)(sock_now_us() - begin) / 1e6;
    printf("{\"bytes\": %zu, \"block_bytes\": %zu, \"seconds\": %.3f, \"bytes_per_s\": %.0f, \"p50_us\": %lu, "
           "\"p99_us\": %lu}\n",
           total, block_bytes, s, (double)(h->n * block_bytes) / s, hist_quantile(h, .5), hist_quantile(h, .99));
    close(fd);
    free(h);
    free(block);
    return 0;
}
