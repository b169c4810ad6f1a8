/* directory.c - the domains in coordination and the registry that follows them. */
#include "cluster/domains/directory.h"

#include "cluster/domains/bucket.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum { WHY_MAX = 256, TRIES = 8, RETRY_US = 500000 };

struct change {
    struct change *next;
    struct directory *d;
    enum directory_how how;
    struct domain dom;
    bool lists_only; /* its list of recipients is changed, nothing else */
    bool was_given;
    char was[RECIPIENTS_HASH_MAX];
    struct domain *import; /* domains of one bucket, to be added where they are missing */
    size_t import_n;
    directory_done *done;
    void *arg;
    unsigned tries;
    uint32_t bucket;
    uint8_t *value; /* what was put into it, by the txn under way */
    size_t value_n;
    char key[BUCKET_KEY_MAX];
};

struct directory {
    struct directory_config cfg;
    struct coord *coord;
    struct domains *registry;
    const struct clock *clock;
    void (*changed)(void *arg);
    void *arg;
    struct change *changes;
    uint64_t seen[BUCKETS]; /* hash of the value that the registry has; revisions come twice after a restore */
    int64_t seen_rev;       /* nothing at or below it is news */
    uint64_t list_at_us;
    bool listing, again;
    bool reread;      /* all of it: coordination was away, and may have come back older */
    bool foreign;     /* coordination was not ours when we last looked */
    size_t importing; /* buckets under way; nothing is read meanwhile */
    bool outdated;    /* the list under way was asked before a change of ours that the registry has */
};

/* ---- reading */

struct part {
    uint32_t bucket;
};

static bool in_part(void *arg, const struct domain *dom)
{
    return bucket_of(slice_str(dom->name)) == ((struct part *)arg)->bucket;
}

/* 0 is nobody's. */
static uint64_t value_hash(struct slice value)
{
    return XXH3_64bits(value.p, value.n) | 1;
}

static int bucket_apply(struct directory *d, uint32_t bucket, const struct coord_kv *kv)
{
    struct part part = {bucket};
    struct domain *doms = NULL;
    size_t n = 0;
    char why[WHY_MAX] = "";
    int res = bucket_decode(kv->value, d->cfg.keep_s, &doms, &n, why);
    if (res == 0)
        res = domains_replace_part(d->registry, in_part, &part, doms, n, why);
    free(doms);
    if (res < 0)
        log_error("cluster.domains", "bucket=%u refused=\"%s\" action=\"this node keeps what it had\"", bucket, why);
    else
        d->seen[bucket] = value_hash(kv->value);
    return res;
}

static void buckets_apply(struct directory *d, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    uint32_t bucket;
    bool all = true;
    for (size_t i = 0; i < n; i++)
        if (bucket_key_parse(kvs[i].key, &bucket) && value_hash(kvs[i].value) != d->seen[bucket])
            all = bucket_apply(d, bucket, &kvs[i]) == 0 && all;
    if (all)
        d->seen_rev = rev;
}

static void went_back(struct directory *d, int64_t rev)
{
    log_warning("cluster.domains",
                "revision=%lld before=%lld why=\"coordination was restored from an older state\" action=\"adds the "
                "domains that are missing there; other changes since then are undone\"",
                (long long)rev, (long long)d->seen_rev);
    d->seen_rev = 0;
    d->again = true;
    directory_import(d);
}

static void list_end(struct directory *d, uint64_t wait_us)
{
    uint64_t now = clock_boot_us(d->clock);
    d->listing = d->outdated = false;
    d->list_at_us = d->again ? now : now + wait_us;
    d->again = false;
}

static void on_list(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct directory *d = arg;
    d->again |= d->outdated;
    if (res == 0 && !d->outdated && rev < d->seen_rev)
        went_back(d, rev);
    else if (res == 0 && !d->outdated)
        buckets_apply(d, rev, kvs, n);
    d->reread = d->outdated ? d->reread : res != 0;
    list_end(d, res == 0 ? d->cfg.relist_us : RETRY_US);
}

static void list_buckets(struct directory *d)
{
    struct slice prefix = slice_str(BUCKET_KEY_PREFIX);
    int64_t since = d->reread ? 1 : d->seen_rev + 1;
    if (d->coord->ops->list_since(d->coord, prefix, since, on_list, d) < 0)
        list_end(d, RETRY_US);
}

static void on_meta(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct directory *d = arg;
    d->reread |= res != 0;
    if (res == 0)
        d->foreign = !d->cfg.ours(d->cfg.ours_arg, rev, kvs, n);
    if (res == 0 && !d->foreign)
        list_buckets(d);
    else
        list_end(d, RETRY_US);
}

void directory_refresh(struct directory *d)
{
    if (d->listing)
        d->again = true;
    else
        d->list_at_us = 0;
}

static void on_hint(void *arg)
{
    directory_refresh(arg);
}

void directory_tick(struct directory *d)
{
    if (d->listing || d->importing || clock_boot_us(d->clock) < d->list_at_us)
        return;
    d->listing = true;
    if (!d->cfg.ours)
        list_buckets(d);
    else if (d->coord->ops->list(d->coord, SLICE_LIT("meta"), on_meta, d) < 0)
        list_end(d, RETRY_US);
}

uint64_t directory_next_us(const struct directory *d)
{
    return d->listing || d->importing ? UINT64_MAX : d->list_at_us;
}

/* ---- changing */

/* It is in no list any more. */
static void change_free(struct change *c, int res, const char *why)
{
    c->done(c->arg, res, why);
    free(c->import);
    free(c->value);
    free(c);
}

static void change_end(struct change *c, int res, const char *why)
{
    struct directory *d = c->d;
    struct change **p = &d->changes;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    d->importing -= c->import != NULL;
    if (res == 0) {
        directory_refresh(d);
        d->changed(d->arg);
    }
    change_free(c, res, why);
}

static size_t place_of(const struct domain *doms, size_t n, const char *name)
{
    size_t i = 0;
    while (i < n && strcmp(doms[i].name, name) != 0)
        i++;
    return i;
}

static void import_apply(const struct change *c, struct domain *doms, size_t *n)
{
    for (size_t i = 0; i < c->import_n; i++)
        if (place_of(doms, *n, c->import[i].name) == *n)
            doms[(*n)++] = c->import[i];
}

static int lists_apply(const struct change *c, struct domain *dom, char *why_r)
{
    if (c->was_given && strcmp(c->was, dom->recipients) != 0) {
        snprintf(why_r, WHY_MAX, "the list of %.180s was changed meanwhile: try again", dom->name);
        return -SATCHEL_EBUSY;
    }
    memcpy(dom->recipients, c->dom.recipients, sizeof dom->recipients);
    dom->recipients_n = c->dom.recipients_n;
    return 0;
}

static void replace_apply(const struct change *c, struct domain *dom)
{
    struct domain old = *dom;
    *dom = c->dom;
    memcpy(dom->recipients, old.recipients, sizeof dom->recipients);
    dom->recipients_n = old.recipients_n;
}

/* doms has room for one more, or for all that are imported. */
static int change_apply(const struct change *c, struct domain *doms, size_t *n, char *why_r)
{
    if (c->import) {
        import_apply(c, doms, n);
        return 0;
    }
    size_t at = place_of(doms, *n, c->dom.name);
    bool there = at < *n;
    if (c->how == DIRECTORY_ADD && there) {
        snprintf(why_r, WHY_MAX, "%.200s is there already", c->dom.name);
        return -SATCHEL_EEXIST;
    }
    if (c->how != DIRECTORY_ADD && !there) {
        snprintf(why_r, WHY_MAX, "%.200s is not served here", c->dom.name);
        return -SATCHEL_ENOENT;
    }
    if (c->how == DIRECTORY_REMOVE) {
        memmove(&doms[at], &doms[at + 1], (*n - at - 1) * sizeof *doms);
        --*n;
        return 0;
    }
    if (c->lists_only)
        return lists_apply(c, &doms[at], why_r);
    if (there)
        replace_apply(c, &doms[at]);
    else
        doms[(*n)++] = c->dom;
    return 0;
}

static void change_start(struct change *c);

/* Who asked for it finds it served here at once: a 550 after one's own `domain add` would bounce mail for good. */
static void own_change_apply(const struct change *c, int64_t rev)
{
    struct coord_kv kv = {.key = slice_str(c->key), .value = slice_of(c->value, c->value_n), .mod_rev = rev};
    c->d->outdated = c->d->listing;
    bucket_apply(c->d, c->bucket, &kv);
}

static void on_txn(void *arg, int res, bool succeeded, int64_t rev)
{
    struct change *c = arg;
    if (res == 0 && succeeded) {
        own_change_apply(c, rev);
        change_end(c, 0, "");
        return;
    }
    free(c->value);
    c->value = NULL;
    if (res == 0 && ++c->tries < TRIES)
        change_start(c);
    else if (res == 0)
        change_end(c, -SATCHEL_EBUSY, "others change domains all the time: try again");
    else
        change_end(c, res, "coordination did not answer: look whether the change is there, then try again");
}

static int change_write(struct change *c, const struct coord_kv *kv, char *why_r)
{
    struct directory *d = c->d;
    struct domain *doms = NULL;
    size_t n = 0;
    int res = kv ? bucket_decode(kv->value, d->cfg.keep_s, &doms, &n, why_r) : 0;
    struct domain *more = res == 0 ? realloc(doms, (n + 1 + c->import_n) * sizeof *doms) : NULL;
    if (res == 0 && !more)
        res = -SATCHEL_ENOMEM;
    doms = more ? more : doms;
    res = res ? res : change_apply(c, doms, &n, why_r);
    res = res ? res : bucket_encode(doms, n, &c->value, &c->value_n);
    free(doms);
    if (res < 0)
        return res;
    struct coord_cmp cmp = {slice_str(c->key), kv ? kv->mod_rev : 0};
    struct coord_op op = {.kind = COORD_PUT, .key = slice_str(c->key), .value = slice_of(c->value, c->value_n)};
    return d->coord->ops->txn(d->coord, &cmp, 1, &op, 1, on_txn, c);
}

static void on_bucket(void *arg, int res, int64_t rev, const struct coord_kv *kvs, size_t n)
{
    struct change *c = arg;
    char why[WHY_MAX] = "";
    (void)rev;
    if (res < 0) {
        change_end(c, res, "coordination cannot be reached: nothing was changed; see `satchelctl cluster status`");
        return;
    }
    const struct coord_kv *kv = n && kvs[0].key.n == strlen(c->key) ? &kvs[0] : NULL;
    res = change_write(c, kv, why);
    if (res < 0)
        change_end(c, res, *why ? why : satchel_strerror(res));
}

static void change_start(struct change *c)
{
    struct coord *coord = c->d->coord;
    if (c->d->foreign) {
        change_end(c, -SATCHEL_EAGAIN, "coordination is empty or another cluster's: see `satchelctl cluster status`");
        return;
    }
    int res = coord->ops->list(coord, slice_str(c->key), on_bucket, c);
    if (res < 0)
        change_end(c, res, satchel_strerror(res));
}

static struct change *change_new(struct directory *d, enum directory_how how, const struct domain *dom,
                                 directory_done *done, void *arg)
{
    struct change *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct change){.next = d->changes, .d = d, .how = how, .dom = *dom, .done = done, .arg = arg};
    c->bucket = bucket_of(slice_str(dom->name));
    bucket_key(c->bucket, c->key);
    d->changes = c;
    return c;
}

int directory_change(struct directory *d, enum directory_how how, const struct domain *dom, directory_done *done,
                     void *arg)
{
    struct change *c = change_new(d, how, dom, done, arg);
    if (!c)
        return -SATCHEL_ENOMEM;
    change_start(c);
    return 0;
}

int directory_recipients(struct directory *d, struct slice domain, const char *was, const char *hash, uint64_t n,
                         directory_done *done, void *arg)
{
    struct domain dom;
    char why[WHY_MAX];
    int res = domain_init(&dom, domain, why);
    if (res < 0)
        return res;
    snprintf(dom.recipients, sizeof dom.recipients, "%s", hash);
    dom.recipients_n = n;
    struct change *c = change_new(d, DIRECTORY_REPLACE, &dom, done, arg);
    if (!c)
        return -SATCHEL_ENOMEM;
    c->lists_only = true;
    c->was_given = was != NULL;
    snprintf(c->was, sizeof c->was, "%s", was ? was : "");
    change_start(c);
    return 0;
}

/* ---- bringing along what this node had */

static int by_bucket(const void *a, const void *b)
{
    uint32_t x = bucket_of(slice_str((*(const struct domain *const *)a)->name)),
             y = bucket_of(slice_str((*(const struct domain *const *)b)->name));
    return x < y ? -1 : x > y;
}

static void import_done(void *arg, int res, const char *why)
{
    (void)arg;
    if (res < 0)
        log_warning("cluster.domains", "import=failed reason=\"%s\" remedy=\"satchelctl domain add\"", why);
}

static void import_bucket(struct directory *d, const struct domain *const *doms, size_t n)
{
    struct change *c = calloc(1, sizeof *c);
    struct domain *copy = calloc(n, sizeof *copy);
    if (!c || !copy) {
        free(c);
        free(copy);
        return;
    }
    for (size_t i = 0; i < n; i++)
        copy[i] = *doms[i];
    *c = (struct change){.next = d->changes, .d = d, .import = copy, .import_n = n, .done = import_done};
    c->bucket = bucket_of(slice_str(copy[0].name));
    bucket_key(c->bucket, c->key);
    d->changes = c;
    d->importing++;
    change_start(c);
}

void directory_import(struct directory *d)
{
    const struct domains_snapshot *snap = domains_get(d->registry);
    size_t n = domains_count(snap), first = 0;
    const struct domain **doms = calloc(n + 1, sizeof(void *));
    for (size_t i = 0; doms && i < n; i++)
        doms[i] = domains_at(snap, i);
    if (doms)
        qsort(doms, n, sizeof(void *), by_bucket);
    for (size_t i = 1; doms && i <= n; i++) {
        if (i < n && by_bucket(&doms[first], &doms[i]) == 0)
            continue;
        import_bucket(d, doms + first, i - first);
        first = i;
    }
    if (n)
        log_info("cluster.domains", "import=%zu", n);
    free(doms);
    domains_put(snap);
}

/* ---- life */

int directory_open(struct directory **d_r, const struct directory_config *cfg, struct coord *coord,
                   struct domains *registry, const struct clock *clock, void (*changed)(void *arg), void *arg)
{
    struct directory *d = calloc(1, sizeof *d);
    if (!d)
        return -SATCHEL_ENOMEM;
    d->cfg = *cfg;
    d->coord = coord;
    d->registry = registry;
    d->clock = clock;
    d->changed = changed;
    d->arg = arg;
    int res = coord->ops->watch(coord, slice_str(BUCKET_KEY_PREFIX), on_hint, d);
    if (res < 0)
        directory_close(&d);
    *d_r = d;
    return res;
}

void directory_close(struct directory **d)
{
    if (!*d)
        return;
    for (struct change *c = (*d)->changes, *next; c; c = next) {
        next = c->next;
        change_free(c, -SATCHEL_ESHUT, "the node is stopping");
    }
    free(*d);
    *d = NULL;
}
