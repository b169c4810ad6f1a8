/* recipients.c - the lists of this node: fingerprints in memory over files.
 *
 * A snapshot is an array of reference-counted lists, sorted by their hash.  A change makes a new array that shares all
 * lists but the changed one: readers never wait for the disk, nor for the sorting of a million fingerprints. */
#include "dataplane/conf/recipients.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/rng.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct recipient_list {
    atomic_uint refs;
    atomic_bool unused; /* since the file's time */
    char hash[RECIPIENTS_HASH_MAX];
    uint64_t seed;
    size_t n;
    uint64_t prints[]; /* sorted */
};

struct recipients_snapshot {
    atomic_uint refs;
    size_t n;
    struct recipient_list *lists[]; /* sorted by hash */
};

struct missing {
    struct missing *next;
    uint64_t since_us;
    char hash[RECIPIENTS_HASH_MAX];
};

struct recipients {
    char *dir;
    pthread_mutex_t change;  /* one change at a time, files included */
    pthread_mutex_t current; /* guards `now` and `missing` for as long as it takes to look */
    struct recipients_snapshot *now;
    struct missing *missing;
    atomic_uint_fast64_t version;
};

/* ---- lists */

static int by_print(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static struct recipient_list *list_new(const char *hash, const struct recipients_text *t)
{
    struct recipient_list *l = calloc(1, sizeof *l + t->count * sizeof *l->prints);
    struct slice rest = slice_of(t->p, t->n), line;
    if (!l)
        return NULL;
    atomic_init(&l->refs, 1);
    memcpy(l->hash, hash, RECIPIENTS_HASH_MAX);
    rng_bytes(&l->seed, sizeof l->seed);
    while (l->n < t->count && recipients_line(&rest, &line))
        l->prints[l->n++] = XXH3_64bits_withSeed(line.p, line.n, l->seed);
    qsort(l->prints, l->n, sizeof *l->prints, by_print);
    return l;
}

static void list_unref(struct recipient_list *l)
{
    if (l && atomic_fetch_sub(&l->refs, 1) == 1)
        free(l);
}

static bool list_holds(const struct recipient_list *l, const char *p, size_t n)
{
    uint64_t print = XXH3_64bits_withSeed(p, n, l->seed);
    return bsearch(&print, l->prints, l->n, sizeof *l->prints, by_print) != NULL;
}

bool recipient_list_has(const struct recipient_list *l, struct slice local)
{
    char one[RECIPIENT_MAX + 1];
    size_t n = recipient_canonical(local, one);
    if (n == 0)
        return false;
    if (slice_eq(slice_of(one, n), SLICE_LIT("postmaster")) || list_holds(l, one, n))
        return true;
    if (*one == '"')
        return false;
    const char *plus = memchr(one, '+', n);
    size_t base = plus ? (size_t)(plus - one) : n;
    one[base] = '+';
    return list_holds(l, one, base + 1);
}

size_t recipient_list_count(const struct recipient_list *l)
{
    return l->n;
}

/* ---- snapshots */

static struct recipients_snapshot *snapshot_new(size_t n)
{
    struct recipients_snapshot *s = calloc(1, sizeof *s + n * sizeof *s->lists);
    if (!s)
        abort();
    atomic_init(&s->refs, 1);
    return s;
}

void recipients_put(const struct recipients_snapshot *snap)
{
    struct recipients_snapshot *s = (struct recipients_snapshot *)snap;
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (size_t i = 0; i < s->n; i++)
        list_unref(s->lists[i]);
    free(s);
}

const struct recipients_snapshot *recipients_get(struct recipients *r)
{
    pthread_mutex_lock(&r->current);
    struct recipients_snapshot *s = r->now;
    atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&r->current);
    return s;
}

uint64_t recipients_version(struct recipients *r)
{
    return atomic_load(&r->version);
}

/* The first place whose hash is not below. */
static size_t place_of(const struct recipients_snapshot *s, const char *hash)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(s->lists[mid]->hash, hash) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct recipient_list *recipients_find(const struct recipients_snapshot *s, const char *hash)
{
    size_t at = place_of(s, hash);
    return at < s->n && strcmp(s->lists[at]->hash, hash) == 0 ? s->lists[at] : NULL;
}

size_t recipients_count(const struct recipients_snapshot *s)
{
    return s->n;
}

bool recipients_have(struct recipients *r, const char *hash)
{
    const struct recipients_snapshot *s = recipients_get(r);
    bool have = recipients_find(s, hash) != NULL;
    recipients_put(s);
    return have;
}

/* ---- changing; `change` is held, so `now` stays as it is */

static void missing_forget(struct recipients *r, bool (*gone)(void *arg, const char *hash), void *arg)
{
    for (struct missing **p = &r->missing, *m; (m = *p);) {
        if (gone(arg, m->hash)) {
            *p = m->next;
            free(m);
        } else {
            p = &m->next;
        }
    }
}

static bool is_here(void *snap, const char *hash)
{
    return recipients_find(snap, hash) != NULL;
}

static void publish(struct recipients *r, struct recipients_snapshot *next)
{
    pthread_mutex_lock(&r->current);
    struct recipients_snapshot *old = r->now;
    r->now = next;
    missing_forget(r, is_here, next);
    pthread_mutex_unlock(&r->current);
    atomic_fetch_add(&r->version, 1);
    recipients_put(old);
}

static void take(struct recipients_snapshot *to, struct recipient_list *l)
{
    atomic_fetch_add(&l->refs, 1);
    to->lists[to->n++] = l;
}

static void list_publish(struct recipients *r, struct recipient_list *l)
{
    struct recipients_snapshot *now = r->now, *next = snapshot_new(now->n + 1);
    size_t at = place_of(now, l->hash);
    for (size_t i = 0; i < at; i++)
        take(next, now->lists[i]);
    next->lists[next->n++] = l;
    for (size_t i = at; i < now->n; i++)
        take(next, now->lists[i]);
    publish(r, next);
}

/* It is here already, and in use again. */
static bool list_renew(struct recipients *r, const char *hash)
{
    const struct recipient_list *l = recipients_find(r->now, hash);
    if (l)
        recipients_file_touch(r->dir, hash);
    return l != NULL;
}

static int keep_locked(struct recipients *r, const char *hash, struct slice packed, const struct recipients_text *t,
                       char *why_r)
{
    if (list_renew(r, hash))
        return 0;
    struct recipient_list *l = list_new(hash, t);
    int res = l ? recipients_file_write(r->dir, hash, packed, why_r) : -SATCHEL_ENOMEM;
    if (res == 0)
        list_publish(r, l);
    else
        list_unref(l);
    return res;
}

static int keep(struct recipients *r, const char *hash, struct slice packed, const struct recipients_text *t,
                char *why_r)
{
    pthread_mutex_lock(&r->change);
    int res = keep_locked(r, hash, packed, t, why_r);
    pthread_mutex_unlock(&r->change);
    return res;
}

int recipients_keep(struct recipients *r, const struct recipients_text *t, char hash_r[RECIPIENTS_HASH_MAX],
                    char *why_r)
{
    struct slice text = slice_of(t->p, t->n);
    uint8_t *packed;
    size_t n;
    *why_r = 0;
    recipients_hash(text, hash_r);
    int res = recipients_pack(text, &packed, &n);
    if (res < 0)
        return res;
    res = keep(r, hash_r, slice_of(packed, n), t, why_r);
    free(packed);
    return res;
}

int recipients_keep_packed(struct recipients *r, const char *hash, struct slice packed, char *why_r)
{
    struct recipients_text t;
    *why_r = 0;
    int res = recipients_unpack(packed, hash, &t, why_r);
    if (res < 0)
        return res;
    res = keep(r, hash, packed, &t, why_r);
    recipients_text_free(&t);
    return res;
}

/* ---- reading */

int recipients_read_packed(struct recipients *r, const char *hash, uint8_t **packed_r, size_t *n_r, char *why_r)
{
    *why_r = 0;
    *packed_r = NULL;
    return recipients_hash_ok(hash) ? recipients_file_read(r->dir, hash, packed_r, n_r, why_r) : -SATCHEL_ENOENT;
}

int recipients_read(struct recipients *r, const char *hash, struct recipients_text *t_r, char *why_r)
{
    uint8_t *packed;
    size_t n = 0;
    *t_r = (struct recipients_text){0};
    int res = recipients_read_packed(r, hash, &packed, &n, why_r);
    if (res == 0)
        res = recipients_unpack(slice_of(packed, n), hash, t_r, why_r);
    free(packed);
    return res;
}

uint64_t recipients_missing_us(struct recipients *r, const char *hash, uint64_t now_us)
{
    pthread_mutex_lock(&r->current);
    struct missing *m = r->missing;
    while (m && strcmp(m->hash, hash) != 0)
        m = m->next;
    bool known = m != NULL;
    if (!known && (m = calloc(1, sizeof *m))) {
        *m = (struct missing){.next = r->missing, .since_us = now_us};
        snprintf(m->hash, sizeof m->hash, "%s", hash);
        r->missing = m;
    }
    uint64_t since = m && m->since_us < now_us ? m->since_us : now_us;
    pthread_mutex_unlock(&r->current);
    if (!known)
        log_warning("recipients.missing", "list=%s action=\"recipients get 451 until it comes, 60 s at most\"", hash);
    return now_us - since;
}

/* ---- what no domain names */

struct sweep {
    bool (*used)(void *arg, const char *hash);
    void *arg;
};

static bool is_unused(void *arg, const char *hash)
{
    const struct sweep *s = arg;
    return !s->used(s->arg, hash);
}

/* The file's time tells since when; it is set when the list is first found unused. */
static bool outlived(struct recipients *r, struct recipient_list *l, const struct sweep *s, uint64_t now_s)
{
    if (s->used(s->arg, l->hash)) {
        atomic_store(&l->unused, false);
        return false;
    }
    if (!atomic_exchange(&l->unused, true))
        recipients_file_touch(r->dir, l->hash);
    return recipients_file_touched_s(r->dir, l->hash) + RECIPIENTS_UNUSED_S < now_s;
}

void recipients_sweep(struct recipients *r, bool (*used)(void *arg, const char *hash), void *arg, uint64_t now_s)
{
    struct sweep sweep = {used, arg};
    pthread_mutex_lock(&r->change);
    struct recipients_snapshot *now = r->now, *next = snapshot_new(now->n);
    for (size_t i = 0; i < now->n; i++) {
        if (!outlived(r, now->lists[i], &sweep, now_s)) {
            take(next, now->lists[i]);
            continue;
        }
        recipients_file_remove(r->dir, now->lists[i]->hash);
        log_info("recipients.removed", "list=%s reason=\"no domain names it\"", now->lists[i]->hash);
    }
    pthread_mutex_lock(&r->current);
    missing_forget(r, is_unused, &sweep);
    pthread_mutex_unlock(&r->current);
    if (next->n < now->n)
        publish(r, next);
    else
        recipients_put(next);
    pthread_mutex_unlock(&r->change);
}

/* ---- life */

struct opening {
    struct recipients *r;
    size_t cap;
};

/* Nobody reads yet: the snapshot grows in place. */
static void open_one(void *arg, const char *hash)
{
    struct opening *o = arg;
    struct recipients_text t;
    char why[RECIPIENTS_WHY_MAX] = "";
    struct recipient_list *l = NULL;
    int res = recipients_read(o->r, hash, &t, why);
    if (res == 0 && !(l = list_new(hash, &t)))
        res = -SATCHEL_ENOMEM;
    recipients_text_free(&t);
    if (res < 0) {
        log_error("recipients.refused",
                  "file=%s/lists/%s reason=\"%s\" remedy=\"set the list again: satchelctl "
                  "domain recipients NAME --set FILE\"",
                  o->r->dir, hash, *why ? why : satchel_strerror(res));
        return;
    }
    struct recipients_snapshot *s = o->r->now;
    if (s->n == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 16;
        s = realloc(s, sizeof *s + o->cap * sizeof *s->lists);
        if (!s)
            abort();
        o->r->now = s;
    }
    s->lists[s->n++] = l;
}

static int by_hash(const void *a, const void *b)
{
    return strcmp((*(struct recipient_list *const *)a)->hash, (*(struct recipient_list *const *)b)->hash);
}

int recipients_open(struct recipients **r_r, const char *dir)
{
    struct recipients *r = calloc(1, sizeof *r);
    if (!r || !(r->dir = strdup(dir)))
        abort();
    pthread_mutex_init(&r->change, NULL);
    pthread_mutex_init(&r->current, NULL);
    atomic_init(&r->version, 1);
    r->now = snapshot_new(0);
    struct opening o = {r, 0};
    int res = recipients_files(dir, open_one, &o);
    if (r->now->n)
        qsort(r->now->lists, r->now->n, sizeof *r->now->lists, by_hash);
    if (res < 0)
        recipients_close(&r);
    *r_r = r;
    return res;
}

static bool is_anything(void *arg, const char *hash)
{
    (void)arg, (void)hash;
    return true;
}

void recipients_close(struct recipients **r_p)
{
    struct recipients *r = *r_p;
    if (!r)
        return;
    recipients_put(r->now);
    missing_forget(r, is_anything, NULL);
    pthread_mutex_destroy(&r->change);
    pthread_mutex_destroy(&r->current);
    free(r->dir);
    free(r);
    *r_p = NULL;
}
