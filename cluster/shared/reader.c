/* reader.c - the thread that reads other nodes' logs. */
#include "cluster/shared/reader.h"

#include "spool/base/err.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

struct reader {
    struct mailbox jobs, answers;
    pthread_t thread;
    atomic_bool stopping;
    bool running, armed;
};

/* ---- the thread */

static int part_copy(struct reader_part *p, const struct record *rec)
{
    size_t body = p->head ? 0 : rec->body.n;
    p->bytes = malloc(rec->copyset.n + rec->meta.n + body + 1);
    if (!p->bytes)
        return -SATCHEL_ENOMEM;
    uint8_t *at = p->bytes;
    p->rec = *rec;
    struct slice *from[] = {&p->rec.copyset, &p->rec.meta, &p->rec.body};
    for (int i = 0; i < (p->head ? 2 : 3); i++) {
        if (from[i]->n)
            memcpy(at, from[i]->p, from[i]->n);
        from[i]->p = at;
        at += from[i]->n;
    }
    return 0;
}

static void part_read(struct foreign *log, struct reader_part *p)
{
    struct record rec;
    p->res = (p->head ? foreign_head : foreign_read)(log, p->pos, p->size, &rec);
    if (p->res == 0)
        p->res = part_copy(p, &rec);
}

static void job_run(struct reader *r, struct reader_job *j)
{
    if (j->scan)
        j->res = foreign_scan(j->log, j->anew);
    for (uint32_t i = 0; i < j->parts_n; i++)
        part_read(j->log, &j->parts[i]);
    mailbox_post(&r->answers, &j->mail);
    bell_ring(&r->answers.bell);
}

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    while (!atomic_load(&r->stopping)) {
        struct mail *m = mailbox_take(&r->jobs);
        for (struct mail *next; m; m = next) {
            next = m->next;
            job_run(r, (struct reader_job *)m);
        }
        bell_arm(&r->jobs.bell);
        struct pollfd p = {r->jobs.bell.fd, POLLIN, 0};
        if (mailbox_empty(&r->jobs) && !atomic_load(&r->stopping))
            poll(&p, 1, 1000);
        bell_disarm(&r->jobs.bell);
    }
    return NULL;
}

/* ---- the asker */

int reader_open(struct reader **r_r)
{
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        return -SATCHEL_ENOMEM;
    r->jobs.bell.fd = r->answers.bell.fd = -1;
    int rc = mailbox_init(&r->jobs);
    rc = rc ? rc : mailbox_init(&r->answers);
    rc = rc ? rc : -pthread_create(&r->thread, NULL, reader_main, r);
    r->running = rc == 0;
    if (rc < 0) {
        reader_close(&r);
        return rc;
    }
    pthread_setname_np(r->thread, "shared");
    *r_r = r;
    return 0;
}

static void tell(struct mailbox *box)
{
    struct mail *m = mailbox_take(box);
    for (struct mail *next; m; m = next) {
        struct reader_job *j = (struct reader_job *)m;
        next = m->next;
        j->done(j);
    }
}

void reader_close(struct reader **rp)
{
    struct reader *r = *rp;
    if (!r)
        return;
    atomic_store(&r->stopping, true);
    if (r->running) {
        bell_ring(&r->jobs.bell);
        pthread_join(r->thread, NULL);
        tell(&r->answers);
        tell(&r->jobs);
    }
    mailbox_destroy(&r->jobs);
    mailbox_destroy(&r->answers);
    free(r);
    *rp = NULL;
}

void reader_ask(struct reader *r, struct reader_job *j)
{
    mailbox_post(&r->jobs, &j->mail);
    bell_ring(&r->jobs.bell);
}

void reader_poll(struct reader *r)
{
    if (r->armed)
        bell_disarm(&r->answers.bell);
    r->armed = false;
    tell(&r->answers);
}

bool reader_sleep(struct reader *r)
{
    if (!r->armed)
        bell_arm(&r->answers.bell);
    r->armed = true;
    return mailbox_empty(&r->answers);
}

int reader_fd(const struct reader *r)
{
    return r->answers.bell.fd;
}

void reader_parts_free(struct reader_part *parts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        free(parts[i].bytes);
    free(parts);
}
