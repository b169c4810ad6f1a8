/* wake.c - a binary heap of timers. */
#include "dataplane/relay/wake.h"

#include <stdlib.h>

static void put(struct wakes *ws, size_t i, struct wake *w)
{
    ws->heap[i] = w;
    w->place = i + 1;
}

static void sift_up(struct wakes *ws, size_t i)
{
    struct wake *w = ws->heap[i];
    for (; i > 0 && ws->heap[(i - 1) / 2]->at_us > w->at_us; i = (i - 1) / 2)
        put(ws, i, ws->heap[(i - 1) / 2]);
    put(ws, i, w);
}

static void sift_down(struct wakes *ws, size_t i)
{
    struct wake *w = ws->heap[i];
    for (size_t k; (k = 2 * i + 1) < ws->n; i = k) {
        if (k + 1 < ws->n && ws->heap[k + 1]->at_us < ws->heap[k]->at_us)
            k++;
        if (ws->heap[k]->at_us >= w->at_us)
            break;
        put(ws, i, ws->heap[k]);
    }
    put(ws, i, w);
}

bool wake_set(struct wakes *ws, struct wake *w, uint64_t at_us)
{
    w->at_us = at_us;
    if (!w->place) {
        if (ws->n == ws->cap) {
            size_t cap = ws->cap ? ws->cap * 2 : 64;
            struct wake **heap = realloc(ws->heap, cap * sizeof(struct wake *));
            if (!heap)
                return false;
            ws->heap = heap;
            ws->cap = cap;
        }
        put(ws, ws->n++, w);
    }
    sift_up(ws, w->place - 1);
    sift_down(ws, w->place - 1);
    return true;
}

void wake_cancel(struct wakes *ws, struct wake *w)
{
    if (!w->place)
        return;
    size_t i = w->place - 1;
    w->place = 0;
    struct wake *last = ws->heap[--ws->n];
    if (last == w)
        return;
    put(ws, i, last);
    sift_up(ws, i);
    sift_down(ws, last->place - 1);
}

struct wake *wake_due(struct wakes *ws, uint64_t now_us)
{
    if (ws->n == 0 || ws->heap[0]->at_us > now_us)
        return NULL;
    struct wake *w = ws->heap[0];
    wake_cancel(ws, w);
    return w;
}

uint64_t wake_next_us(const struct wakes *ws)
{
    return ws->n ? ws->heap[0]->at_us : UINT64_MAX;
}

void wakes_free(struct wakes *ws)
{
    free(ws->heap);
    *ws = (struct wakes){0};
}
