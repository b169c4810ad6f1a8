/* domains.c - the registry: snapshots in memory over domains.json.
 *
 * A snapshot is a sorted array of pointers to reference-counted domains, with a hash table beside it for RCPT.  A
 * change makes a new array that shares all domains but the changed one, writes the file, and then puts the new snapshot
 * in the old one's place: readers never wait for the disk. */
#include "dataplane/conf/domains.h"
#include "dataplane/conf/domains_file.h"
#include "spool/base/clock.h"
#include "spool/base/err.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define WHY_MAX   256
#define REF_BYTES sizeof(void *) /* of a member of doms */

/* dom is first: an entry is found from the domain it holds. */
struct entry {
    struct domain dom;
    atomic_uint refs;
};

struct domains_snapshot {
    atomic_uint refs;
    size_t n;
    const struct domain **doms; /* sorted by name; each &entry->dom */
    uint32_t *slots;            /* open addressing: index + 1 into doms; 0: free */
    size_t mask;
};

struct domains {
    char *dir;
    pthread_mutex_t change;  /* one change at a time, file included */
    pthread_mutex_t current; /* guards `now` for as long as it takes to count a reference */
    struct domains_snapshot *now;
    atomic_uint_fast64_t version;
    struct recipients *recipients;
};

/* ---- entries */

static struct entry *entry_of(const struct domain *dom)
{
    return (struct entry *)dom;
}

static const struct domain *entry_new(const struct domain *dom)
{
    struct entry *e = malloc(sizeof *e);
    if (!e)
        abort();
    e->dom = *dom;
    atomic_init(&e->refs, 1);
    return &e->dom;
}

static void entry_put(const struct domain *dom)
{
    struct entry *e = entry_of(dom);
    if (atomic_fetch_sub(&e->refs, 1) == 1)
        free(e);
}

/* ---- snapshots */

static struct domains_snapshot *snapshot_new(size_t cap)
{
    struct domains_snapshot *s = calloc(1, sizeof *s);
    if (!s || !(s->doms = calloc(cap + 1, REF_BYTES)))
        abort();
    atomic_init(&s->refs, 1);
    return s;
}

/* FNV-1a; names are short, and an operator chose them. */
static uint64_t name_hash(const char *name, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 32;
}

/* Half empty at least, so that a search for a name that is not there ends soon. */
static void snapshot_index(struct domains_snapshot *s)
{
    size_t cap = 8;
    while (cap < s->n * 2)
        cap *= 2;
    s->mask = cap - 1;
    s->slots = calloc(cap, sizeof *s->slots);
    if (!s->slots)
        abort();
    for (size_t i = 0; i < s->n; i++) {
        size_t at = name_hash(s->doms[i]->name, strlen(s->doms[i]->name)) & s->mask;
        while (s->slots[at] != 0)
            at = (at + 1) & s->mask;
        s->slots[at] = (uint32_t)i + 1;
    }
}

void domains_put(const struct domains_snapshot *snap)
{
    struct domains_snapshot *s = (struct domains_snapshot *)snap;
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (size_t i = 0; i < s->n; i++)
        entry_put(s->doms[i]);
    free(s->doms);
    free(s->slots);
    free(s);
}

const struct domains_snapshot *domains_get(struct domains *d)
{
    pthread_mutex_lock(&d->current);
    struct domains_snapshot *s = d->now;
    atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&d->current);
    return s;
}

const struct domain *domains_find(const struct domains_snapshot *s, struct slice name)
{
    char lower[DOMAIN_NAME_MAX];
    if (name.n >= sizeof lower)
        return NULL;
    for (size_t i = 0; i < name.n; i++)
        lower[i] = (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] | 0x20 : name.p[i]);
    lower[name.n] = 0;
    for (size_t at = name_hash(lower, name.n) & s->mask; s->slots[at] != 0; at = (at + 1) & s->mask) {
        const struct domain *dom = s->doms[s->slots[at] - 1];
        if (memcmp(dom->name, lower, name.n + 1) == 0)
            return dom;
    }
    return NULL;
}

size_t domains_count(const struct domains_snapshot *s)
{
    return s->n;
}

const struct domain *domains_at(const struct domains_snapshot *s, size_t i)
{
    assert(i < s->n);
    return s->doms[i];
}

uint64_t domains_version(struct domains *d)
{
    return atomic_load(&d->version);
}

struct recipients *domains_recipients(struct domains *d)
{
    return d->recipients;
}

/* ---- opening */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct domain *const *)a)->name, (*(const struct domain *const *)b)->name);
}

struct loading {
    struct domains_snapshot *s;
    size_t cap;
};

static int loading_add(void *arg, const struct domain *dom)
{
    struct loading *l = arg;
    if (l->s->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->s->doms = realloc(l->s->doms, l->cap * REF_BYTES);
        if (!l->s->doms)
            abort();
    }
    l->s->doms[l->s->n++] = entry_new(dom);
    return 0;
}

static int loading_finish(struct domains_snapshot *s, const char *dir, char *why_r)
{
    qsort(s->doms, s->n, REF_BYTES, by_name);
    for (size_t i = 1; i < s->n; i++) {
        if (by_name(&s->doms[i - 1], &s->doms[i]) == 0) {
            snprintf(why_r, WHY_MAX, "%.100s/domains.json: %.120s is there twice", dir, s->doms[i]->name);
            return -SATCHEL_EDAMAGED;
        }
    }
    snapshot_index(s);
    return 0;
}

int domains_open(struct domains **d_r, const char *dir, char *why_r)
{
    struct loading l = {snapshot_new(16), 16};
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        int err = errno;
        snprintf(why_r, WHY_MAX, "%.180s: cannot make the directory: %s", dir, satchel_strerror(err));
        domains_put(l.s);
        return -err;
    }
    int res = domains_file_read(dir, loading_add, &l, why_r);
    if (res == 0)
        res = loading_finish(l.s, dir, why_r);
    if (res < 0) {
        domains_put(l.s);
        return res;
    }
    struct domains *d = calloc(1, sizeof *d);
    if (!d || !(d->dir = strdup(dir)))
        abort();
    pthread_mutex_init(&d->change, NULL);
    pthread_mutex_init(&d->current, NULL);
    atomic_init(&d->version, 1);
    d->now = l.s;
    res = recipients_open(&d->recipients, dir);
    if (res < 0) {
        snprintf(why_r, WHY_MAX, "%.180s/lists: cannot read: %s", dir, satchel_strerror(res));
        domains_close(&d);
        return res;
    }
    domains_sweep(d);
    *d_r = d;
    return 0;
}

void domains_close(struct domains **d)
{
    if (!*d)
        return;
    domains_put((*d)->now);
    recipients_close(&(*d)->recipients);
    pthread_mutex_destroy(&(*d)->change);
    pthread_mutex_destroy(&(*d)->current);
    free((*d)->dir);
    free(*d);
    *d = NULL;
}

/* ---- lists of recipients that are in use; `change` is held, or nobody else is there yet */

struct used {
    const char **v; /* sorted */
    size_t n;
};

static int by_hash(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_used(void *arg, const char *hash)
{
    const struct used *u = arg;
    return u->n && bsearch(&hash, u->v, u->n, sizeof *u->v, by_hash);
}

static void lists_sweep(struct domains *d)
{
    const struct recipients_snapshot *lists = recipients_get(d->recipients);
    size_t lists_n = recipients_count(lists);
    recipients_put(lists);
    struct used u = {.v = lists_n ? calloc(d->now->n + 1, sizeof *u.v) : NULL};
    if (!u.v)
        return;
    for (size_t i = 0; i < d->now->n; i++)
        if (*d->now->doms[i]->recipients)
            u.v[u.n++] = d->now->doms[i]->recipients;
    qsort(u.v, u.n, sizeof *u.v, by_hash);
    recipients_sweep(d->recipients, is_used, &u, clock_wall_us(clock_system()) / 1000000);
    free(u.v);
}

void domains_sweep(struct domains *d)
{
    pthread_mutex_lock(&d->change);
    lists_sweep(d);
    pthread_mutex_unlock(&d->change);
}

/* ---- changing; `change` is held, so `now` stays as it is */

static struct domains_snapshot *snapshot_copy(const struct domains_snapshot *from, size_t more)
{
    struct domains_snapshot *s = snapshot_new(from->n + more);
    for (size_t i = 0; i < from->n; i++) {
        atomic_fetch_add(&entry_of(from->doms[i])->refs, 1);
        s->doms[i] = from->doms[i];
    }
    s->n = from->n;
    return s;
}

static size_t snapshot_place(const struct domains_snapshot *s, const struct domain *dom)
{
    size_t i = 0;
    while (s->doms[i] != dom)
        i++;
    return i;
}

/* Takes `next` over: durable, then visible; or forgotten. */
static int snapshot_publish(struct domains *d, struct domains_snapshot *next, char *why_r)
{
    int res = domains_file_write(d->dir, next->doms, next->n, why_r);
    if (res < 0) {
        domains_put(next);
        return res;
    }
    snapshot_index(next);
    pthread_mutex_lock(&d->current);
    struct domains_snapshot *old = d->now;
    d->now = next;
    pthread_mutex_unlock(&d->current);
    atomic_fetch_add(&d->version, 1);
    domains_put(old);
    lists_sweep(d);
    return 0;
}

static void not_served(struct slice name, char *why_r)
{
    snprintf(why_r, WHY_MAX, "%.*s is not served here", name.n > 200 ? 200 : (int)name.n, (const char *)name.p);
}

static int set_locked(struct domains *d, const struct domain *dom, bool replace, char *why_r)
{
    const struct domain *old = domains_find(d->now, slice_str(dom->name));
    if (replace != (old != NULL)) {
        snprintf(why_r, WHY_MAX, replace ? "%.200s is not served here" : "%.200s is there already", dom->name);
        return replace ? -SATCHEL_ENOENT : -SATCHEL_EEXIST;
    }
    struct domains_snapshot *next = snapshot_copy(d->now, 1);
    if (old) {
        size_t at = snapshot_place(next, old);
        entry_put(next->doms[at]);
        next->doms[at] = entry_new(dom);
    } else {
        next->doms[next->n++] = entry_new(dom);
        qsort(next->doms, next->n, REF_BYTES, by_name);
    }
    return snapshot_publish(d, next, why_r);
}

int domains_set(struct domains *d, const struct domain *dom, bool replace, char *why_r)
{
    int res = domain_check(dom, why_r);
    if (res < 0)
        return res;
    pthread_mutex_lock(&d->change);
    res = set_locked(d, dom, replace, why_r);
    pthread_mutex_unlock(&d->change);
    return res;
}

int domains_set_recipients(struct domains *d, struct slice name, const char *hash, uint64_t n, char *why_r)
{
    int res = -SATCHEL_ENOENT;
    pthread_mutex_lock(&d->change);
    const struct domain *old = domains_find(d->now, name);
    if (old) {
        struct domain dom = *old;
        snprintf(dom.recipients, sizeof dom.recipients, "%s", hash);
        dom.recipients_n = n;
        res = set_locked(d, &dom, true, why_r);
    } else {
        not_served(name, why_r);
    }
    pthread_mutex_unlock(&d->change);
    return res;
}

static int remove_locked(struct domains *d, struct slice name, char *why_r)
{
    const struct domain *old = domains_find(d->now, name);
    if (!old) {
        not_served(name, why_r);
        return -SATCHEL_ENOENT;
    }
    struct domains_snapshot *next = snapshot_copy(d->now, 0);
    size_t at = snapshot_place(next, old);
    entry_put(next->doms[at]);
    memmove(&next->doms[at], &next->doms[at + 1], (next->n - at - 1) * REF_BYTES);
    next->n--;
    return snapshot_publish(d, next, why_r);
}

int domains_remove(struct domains *d, struct slice name, char *why_r)
{
    pthread_mutex_lock(&d->change);
    int res = remove_locked(d, name, why_r);
    pthread_mutex_unlock(&d->change);
    return res;
}

static int add_missing_locked(struct domains *d, const struct domain *doms, size_t n, char *why_r)
{
    struct domains_snapshot *next = snapshot_copy(d->now, n);
    size_t before = next->n;
    for (size_t i = 0; i < n; i++) {
        if (!domains_find(d->now, slice_str(doms[i].name)))
            next->doms[next->n++] = entry_new(&doms[i]);
    }
    int added = (int)(next->n - before);
    if (added == 0) {
        domains_put(next);
        return 0;
    }
    qsort(next->doms, next->n, REF_BYTES, by_name);
    int res = snapshot_publish(d, next, why_r);
    return res < 0 ? res : added;
}

int domains_add_missing(struct domains *d, const struct domain *doms, size_t n, char *why_r)
{
    for (size_t i = 0; i < n; i++) {
        int res = domain_check(&doms[i], why_r);
        if (res < 0)
            return res;
    }
    pthread_mutex_lock(&d->change);
    int res = add_missing_locked(d, doms, n, why_r);
    pthread_mutex_unlock(&d->change);
    return res;
}

/* domain structs are compared as bytes: domain_init and the readers zero what they do not fill. */
static bool part_same(const struct domains_snapshot *now, const struct domain *doms, size_t n, size_t in_part)
{
    if (in_part != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct domain *old = domains_find(now, slice_str(doms[i].name));
        if (!old || !slice_eq(slice_of(old, sizeof *old), slice_of(&doms[i], sizeof *doms)))
            return false;
    }
    return true;
}

static int replace_part_locked(struct domains *d, bool (*in)(void *arg, const struct domain *dom), void *arg,
                               const struct domain *doms, size_t n, char *why_r)
{
    const struct domains_snapshot *now = d->now;
    struct domains_snapshot *next = snapshot_new(now->n + n);
    for (size_t i = 0; i < now->n; i++) {
        if (in(arg, now->doms[i]))
            continue;
        atomic_fetch_add(&entry_of(now->doms[i])->refs, 1);
        next->doms[next->n++] = now->doms[i];
    }
    if (part_same(now, doms, n, now->n - next->n)) {
        domains_put(next);
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        next->doms[next->n++] = entry_new(&doms[i]);
    qsort(next->doms, next->n, REF_BYTES, by_name);
    return snapshot_publish(d, next, why_r);
}

int domains_replace_part(struct domains *d, bool (*in)(void *arg, const struct domain *dom), void *arg,
                         const struct domain *doms, size_t n, char *why_r)
{
    for (size_t i = 0; i < n; i++) {
        int res = domain_check(&doms[i], why_r);
        if (res < 0)
            return res;
    }
    pthread_mutex_lock(&d->change);
    int res = replace_part_locked(d, in, arg, doms, n, why_r);
    pthread_mutex_unlock(&d->change);
    return res;
}
