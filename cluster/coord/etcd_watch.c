/* etcd_watch.c - watches: one stream each, opened again for ever.  A hint only: every event, end and new beginning
 * says "list again", since etcd 3.4 loses and doubles events, and what happened in between is unknown anyway. */
#include "cluster/coord/etcd_int.h"
#include "spool/base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define LINE_KEPT_BYTES (16u << 10) /* a longer line can only be events */
#define SAID_GAP_US     1000000

static void watch_enter(struct etcd_watch *w, enum etcd_watch_state state)
{
    static const char *const names[] = {"waiting", "asked", "open"};
    log_debug("coord.watch", "from=%s to=%s endpoint=%s", names[w->state], names[state], w->e->endpoints[w->endpoint]);
    w->state = state;
}

void etcd_watch_new(struct etcd *e, struct slice prefix, coord_changed *changed, void *arg)
{
    struct etcd_watch *w = calloc(1, sizeof *w);
    struct slice from, to;
    if (!w)
        abort();
    etcd_range_of(e, prefix, &from, &to);
    w->e = e;
    w->changed = changed;
    w->arg = arg;
    w->body = etcd_json_watch(from, to);
    w->line = malloc(LINE_KEPT_BYTES);
    if (!w->line)
        abort();
    LIST_INSERT_HEAD(&e->watches, w, link);
    free((void *)from.p);
    free((void *)to.p);
}

static void watch_line(struct etcd_watch *w)
{
    struct etcd_watch_line l = {0};
    if (w->line_n && !w->line_long)
        etcd_json_watch_line(slice_of(w->line, w->line_n), &l);
    w->due |= w->line_n > 0;
    w->line_n = 0;
    w->line_long = false;
    if (l.created && w->state == WATCH_ASKED) {
        watch_enter(w, WATCH_OPEN);
        w->fails = 0;
    }
    if (!l.over)
        return;
    w->over = true;
    w->outcome = l.outcome;
    memcpy(w->why, l.why, sizeof w->why);
}

/* etcd_http_data: inside curl; what it finds is acted on in etcd_watches_run. */
static void watch_data(void *arg, struct slice part)
{
    struct etcd_watch *w = arg;
    for (size_t i = 0; i < part.n; i++) {
        if (part.p[i] == '\n')
            watch_line(w);
        else if (w->line_n < LINE_KEPT_BYTES)
            w->line[w->line_n++] = (char)part.p[i];
        else
            w->line_long = true;
    }
}

/* Watches fail together: one of them says it. */
static void watch_refused(struct etcd *e, const struct etcd_watch *w)
{
    char why[ETCD_WHY_MAX * 2];
    uint64_t now = clock_boot_us(e->clock);
    if (e->watch_said_us && now - e->watch_said_us < SAID_GAP_US)
        return;
    e->watch_said_us = now;
    log_warning("coord.watch_refused", "endpoint=%s why=%s", e->endpoints[w->endpoint],
                log_quote(slice_str(w->why), why, sizeof why));
}

/* Waits, and longer each time it did not get as far as being open. */
static void watch_lapse(struct etcd_watch *w)
{
    struct etcd *e = w->e;
    if (w->outcome == ETCD_TOKEN && e->user)
        etcd_auth_lost(e, w->token_gen);
    if (w->fails == 0 && w->state != WATCH_OPEN)
        watch_refused(e, w);
    w->due |= w->state == WATCH_OPEN;
    w->retry_us = clock_boot_us(e->clock) + etcd_backoff_us(e, w->fails++);
    watch_enter(w, WATCH_WAITING);
}

/* etcd_http_done */
static void watch_done(void *arg, const struct etcd_http_answer *a)
{
    struct etcd_watch *w = arg;
    w->req = NULL;
    watch_line(w); /* an error comes without a line's end */
    if (a->end == ETCD_HTTP_ANSWERED && a->status == 401)
        w->outcome = ETCD_TOKEN;
    if (a->end != ETCD_HTTP_ANSWERED) {
        snprintf(w->why, sizeof w->why, "%s", a->why);
        if (w->state == WATCH_ASKED)
            etcd_endpoint_failed(w->e, w->turn, w->why);
    }
    watch_lapse(w);
}

static void watch_start(struct etcd_watch *w)
{
    struct etcd *e = w->e;
    w->endpoint = e->current;
    w->turn = e->turn;
    w->token_gen = e->token_gen;
    w->over = w->line_long = false;
    w->line_n = 0;
    w->outcome = ETCD_OK;
    w->why[0] = 0;
    watch_enter(w, WATCH_ASKED);
    w->req = etcd_http_post(e->http, &(struct etcd_http_ask){.endpoint = e->endpoints[w->endpoint],
                                                             .path = ETCD_WATCH_PATH,
                                                             .token = e->token,
                                                             .body = slice_str(w->body),
                                                             .connect_ms = e->timeout_ms / ETCD_CONNECT_SHARE,
                                                             .data = watch_data,
                                                             .done = watch_done,
                                                             .arg = w});
}

static uint64_t watch_retry_us(const struct etcd_watch *w)
{
    return w->retry_us > w->e->retry_us ? w->retry_us : w->e->retry_us;
}

/* A watch moves with the calls: a member that failed them may watch without a word for ever. */
static bool watch_moved(const struct etcd_watch *w)
{
    return w->req && w->endpoint != w->e->current;
}

static void watch_run(struct etcd_watch *w, uint64_t now)
{
    struct etcd *e = w->e;
    if (w->req && w->over) {
        etcd_http_cancel(e->http, &w->req);
        watch_lapse(w);
    } else if (watch_moved(w)) {
        etcd_http_cancel(e->http, &w->req);
        w->retry_us = now;
        w->due |= w->state == WATCH_OPEN;
        watch_enter(w, WATCH_WAITING);
    }
    if (w->state == WATCH_WAITING && etcd_auth_ready(e) && now >= watch_retry_us(w))
        watch_start(w);
}

void etcd_watches_run(struct etcd *e)
{
    uint64_t now = clock_boot_us(e->clock);
    struct etcd_watch *w;
    LIST_FOREACH(w, &e->watches, link)
    watch_run(w, now);
    LIST_FOREACH(w, &e->watches, link)
    {
        if (!w->due)
            continue;
        w->due = false;
        w->changed(w->arg);
    }
}

uint64_t etcd_watches_next_us(const struct etcd *e)
{
    const struct etcd_watch *w;
    uint64_t next = UINT64_MAX;
    LIST_FOREACH(w, &e->watches, link)
    {
        uint64_t at = w->state == WATCH_WAITING && etcd_auth_ready(e) ? watch_retry_us(w) : UINT64_MAX;
        if (w->due || watch_moved(w) || (w->req && w->over))
            at = 0;
        next = at < next ? at : next;
    }
    return next;
}

bool etcd_watches_waiting(const struct etcd *e)
{
    const struct etcd_watch *w;
    LIST_FOREACH(w, &e->watches, link)
    if (w->state == WATCH_WAITING)
        return true;
    return false;
}

void etcd_watches_free(struct etcd *e)
{
    while (!LIST_EMPTY(&e->watches)) {
        struct etcd_watch *w = LIST_FIRST(&e->watches);
        LIST_REMOVE(w, link);
        etcd_http_cancel(e->http, &w->req);
        free(w->body);
        free(w->line);
        free(w);
    }
}
