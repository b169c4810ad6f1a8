/* lines.c - the ledger file of lines.h. */
#include "bench/lib/lines.h"
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct lines {
    pthread_mutex_t lock;
    int fd;
    size_t n;
    char buf[65536];
};

struct lines *lines_open(const char *path)
{
    if (!path)
        return NULL;
    struct lines *l = calloc(1, sizeof *l);
    if (!l)
        err(1, "ledger");
    pthread_mutex_init(&l->lock, NULL);
    l->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (l->fd < 0)
        err(1, "%s", path);
    return l;
}

static void write_out(struct lines *l)
{
    for (size_t off = 0; off < l->n;) {
        ssize_t w = write(l->fd, l->buf + off, l->n - off);
        if (w < 0)
            err(1, "ledger");
        off += (size_t)w;
    }
    l->n = 0;
}

void lines_add(struct lines *l, char kind, const char *token)
{
    if (!l)
        return;
    size_t n = strlen(token);
    pthread_mutex_lock(&l->lock);
    if (l->n + n + 3 > sizeof l->buf)
        write_out(l);
    l->buf[l->n++] = kind;
    l->buf[l->n++] = ' ';
    memcpy(l->buf + l->n, token, n);
    l->n += n;
    l->buf[l->n++] = '\n';
    pthread_mutex_unlock(&l->lock);
}

void lines_flush(struct lines *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    write_out(l);
    pthread_mutex_unlock(&l->lock);
}

void lines_close(struct lines **l)
{
    if (!*l)
        return;
    lines_flush(*l);
    close((*l)->fd);
    pthread_mutex_destroy(&(*l)->lock);
    free(*l);
    *l = NULL;
}
