/* rates.c - counters sampled every few seconds, so that a question about "now" has an answer at once. */
#include "ctl/rates.h"
#include "spool/base/err.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 13, SAMPLE_S = 5 };

struct sample {
    uint64_t at_us;
    uint64_t v[RATES_MAX];
};

struct rates {
    const struct clock *clock;
    enum metric counters[RATES_MAX];
    size_t n;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool stop;
    struct sample ring[SAMPLES]; /* at holds the newest, the one behind it the oldest */
    size_t at, filled;
};

static void sample_take(const struct rates *r, struct sample *s)
{
    s->at_us = clock_boot_us(r->clock);
    for (size_t i = 0; i < r->n; i++)
        s->v[i] = metric_read(r->counters[i]);
}

static void *rates_main(void *arg)
{
    struct rates *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        r->at = (r->at + 1) % SAMPLES;
        sample_take(r, &r->ring[r->at]);
        if (r->filled < SAMPLES)
            r->filled++;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += SAMPLE_S;
        while (!r->stop && pthread_cond_timedwait(&r->wake, &r->lock, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int rates_open(struct rates **r_r, const enum metric *counters, size_t n, const struct clock *clock)
{
    assert(n <= RATES_MAX);
    struct rates *r = calloc(1, sizeof *r);
    if (!r)
        return -SATCHEL_ENOMEM;
    r->clock = clock;
    r->n = n;
    memcpy(r->counters, counters, n * sizeof *counters);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&r->lock, NULL);
    int err = pthread_create(&r->thread, NULL, rates_main, r);
    if (err != 0) {
        free(r);
        return -err;
    }
    pthread_setname_np(r->thread, "rates");
    *r_r = r;
    return 0;
}

void rates_close(struct rates **r_r)
{
    struct rates *r = *r_r;
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    free(r);
    *r_r = NULL;
}

double rates_read(struct rates *r, double *per_s_r)
{
    struct sample now = {0};
    sample_take(r, &now);
    pthread_mutex_lock(&r->lock);
    struct sample then = r->filled ? r->ring[(r->at + 1 + SAMPLES - r->filled) % SAMPLES] : now;
    pthread_mutex_unlock(&r->lock);
    double s = (double)(now.at_us - then.at_us) / 1e6;
    for (size_t i = 0; i < r->n; i++)
        per_s_r[i] = s > 0 ? (double)(now.v[i] - then.v[i]) / s : 0;
    return s;
}
