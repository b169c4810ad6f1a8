/* call.c - a function that the cluster's thread runs while the caller waits. */
#include "cluster/cluster_impl.h"

#include <time.h>

void *call_new(size_t size, void (*run)(struct cluster *c, struct call *call))
{
    struct call *call = calloc(1, size);
    if (!call)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->cond, &attr);
    pthread_condattr_destroy(&attr);
    atomic_init(&call->refs, 1);
    call->run = run;
    return call;
}

void call_unref(struct call *call)
{
    if (atomic_fetch_sub(&call->refs, 1) != 1)
        return;
    if (call->destroy)
        call->destroy(call);
    pthread_cond_destroy(&call->cond);
    pthread_mutex_destroy(&call->lock);
    free(call);
}

int call_wait(struct cluster *c, struct call *call, uint64_t wait_us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + wait_us % 1000000 * 1000;
    until.tv_sec += (time_t)(wait_us / 1000000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    atomic_fetch_add(&call->refs, 1);
    mailbox_post(&c->calls, &call->mail);
    bell_ring(&c->requests.bell);
    pthread_mutex_lock(&call->lock);
    int rc = 0;
    while (!call->over && rc == 0)
        rc = pthread_cond_timedwait(&call->cond, &call->lock, &until);
    int res = call->over ? call->res : -SATCHEL_EAGAIN;
    if (!call->over)
        snprintf(call->why, sizeof call->why, "no answer in time: see `satchelctl cluster status`");
    pthread_mutex_unlock(&call->lock);
    return res;
}

void call_end(struct call *call, int res, const char *why)
{
    pthread_mutex_lock(&call->lock);
    call->over = true;
    call->res = res;
    if (why)
        snprintf(call->why, sizeof call->why, "%s", why);
    pthread_cond_signal(&call->cond);
    pthread_mutex_unlock(&call->lock);
    call_unref(call);
}

void calls_take(struct cluster *c)
{
    for (struct mail *m = mailbox_take(&c->calls), *next; m; m = next) {
        next = m->next;
        struct call *call = (struct call *)m;
        call->run(c, call);
    }
}
