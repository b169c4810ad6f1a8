/* progress.c - a bar with an estimate. */
#include "ctl/progress.h"

#include "ctl/human.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 30, LINE_EVERY_S = 5 };

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void progress_start(struct progress *p)
{
    *p = (struct progress){.started_s = now_s(), .terminal = isatty(STDOUT_FILENO)};
}

double progress_eta_s(const struct progress *p)
{
    uint64_t done = p->whole - p->left;
    double took = now_s() - p->started_s;
    return done == 0 || took < 1 ? -1 : took / (double)done * (double)p->left;
}

static unsigned percent(const struct progress *p)
{
    return p->whole == 0 ? 0 : (unsigned)((p->whole - p->left) * 100 / p->whole);
}

static const char *eta_text(const struct progress *p, char out_r[64])
{
    char age[HUMAN_MAX];
    double eta = progress_eta_s(p);
    if (eta < 0)
        return "";
    snprintf(out_r, 64, ", about %s", human_age(eta, age));
    return out_r;
}

void progress_show(struct progress *p, uint64_t left, const char *what)
{
    char bar[BAR + 1], eta[64];
    p->whole = left > p->whole ? left : p->whole;
    p->left = left;
    double now = now_s();
    if (!p->terminal) {
        if (!p->any || now - p->shown_s >= LINE_EVERY_S) {
            printf("%u %%: %s left%s\n", percent(p), what, eta_text(p, eta));
            fflush(stdout);
            p->shown_s = now;
        }
        p->any = true;
        return;
    }
    for (unsigned i = 0; i < BAR; i++)
        bar[i] = i < percent(p) * BAR / 100 ? '#' : ' ';
    bar[BAR] = 0;
    printf("\r\033[K[%s] %3u %%  %s left%s", bar, percent(p), what, eta_text(p, eta));
    fflush(stdout);
    p->any = true;
}

void progress_end(struct progress *p)
{
    if (p->terminal && p->any)
        printf("\r\033[K");
    fflush(stdout);
}
