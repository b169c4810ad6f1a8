/* recipients.c - lists of recipients in the cluster's thread: what this node lacks, and setting one.
 *
 * Reading and keeping a list wait for the disk and sort a million lines: a thread of its own does it, one list at a
 * time, and now and then removes what no domain names any more. */
#include "cluster/cluster_impl.h"
#include "cluster/domains/lists.h"

#include <time.h>

enum { LOOK_US = 500000, SWEEP_S = 300, SET_US = 75 * 1000000 };

/* Something to read, or to keep. */
struct job {
    struct job *next;
    bool keeps;
    char hash[RECIPIENTS_HASH_MAX];
    uint8_t *packed;
    size_t n;
    int res;
};

struct jobs {
    struct job *head, **tail;
};

struct blobs {
    struct cluster *c;
    struct lists *lists;
    uint64_t look_at_us, domains_seen, lists_seen;

    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct jobs waiting, done; /* under lock */
    bool stop;
    pthread_t thread;
    bool running;
};

/* ---- jobs */

static void jobs_init(struct jobs *l)
{
    *l = (struct jobs){.tail = &l->head};
}

static void jobs_push(struct jobs *l, struct job *j)
{
    j->next = NULL;
    *l->tail = j;
    l->tail = &j->next;
}

static struct job *jobs_pop(struct jobs *l)
{
    struct job *j = l->head;
    if (!j)
        return NULL;
    l->head = j->next;
    if (!l->head)
        l->tail = &l->head;
    return j;
}

static void jobs_free(struct jobs *l)
{
    for (struct job *j; (j = jobs_pop(l));) {
        free(j->packed);
        free(j);
    }
}

static void job_do(struct blobs *b, struct job *j)
{
    struct recipients *r = domains_recipients(b->c->domains);
    char why[RECIPIENTS_WHY_MAX];
    if (!j->keeps) {
        j->res = recipients_read_packed(r, j->hash, &j->packed, &j->n, why);
        return;
    }
    j->res = recipients_keep_packed(r, j->hash, slice_of(j->packed, j->n), why);
    free(j->packed);
    j->packed = NULL;
    if (j->res < 0)
        log_error("recipients.refused", "list=%s reason=\"%s\" action=\"another node is asked\"", j->hash,
                  *why ? why : satchel_strerror(j->res));
    else
        log_info("recipients.kept", "list=%s bytes=%zu", j->hash, j->n);
}

/* Woken for a job, or once in SWEEP_S. */
static void wait_for_job(struct blobs *b)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SWEEP_S;
    if (pthread_cond_timedwait(&b->cond, &b->lock, &until) != ETIMEDOUT)
        return;
    pthread_mutex_unlock(&b->lock);
    domains_sweep(b->c->domains);
    pthread_mutex_lock(&b->lock);
}

static void *blobs_main(void *arg)
{
    struct blobs *b = arg;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        struct job *j = jobs_pop(&b->waiting);
        if (!j) {
            wait_for_job(b);
            continue;
        }
        pthread_mutex_unlock(&b->lock);
        job_do(b, j);
        pthread_mutex_lock(&b->lock);
        jobs_push(&b->done, j);
        bell_ring(&b->c->requests.bell);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static void job_post(struct blobs *b, bool keeps, const char *hash, uint8_t *packed, size_t n)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        abort();
    *j = (struct job){.keeps = keeps, .packed = packed, .n = n};
    snprintf(j->hash, sizeof j->hash, "%s", hash);
    pthread_mutex_lock(&b->lock);
    jobs_push(&b->waiting, j);
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

static void jobs_end(struct blobs *b)
{
    for (;;) {
        pthread_mutex_lock(&b->lock);
        struct job *j = jobs_pop(&b->done);
        pthread_mutex_unlock(&b->lock);
        if (!j)
            return;
        if (j->keeps)
            lists_kept(b->lists, j->hash, j->res);
        else
            lists_read(b->lists, j->hash, j->res, j->packed, j->n);
        free(j);
    }
}

/* ---- what the lists ask for */

static bool on_has(void *arg, const char *hash)
{
    struct blobs *b = arg;
    return recipients_have(domains_recipients(b->c->domains), hash);
}

static void on_read(void *arg, const char *hash)
{
    job_post(arg, false, hash, NULL, 0);
}

static void on_keep(void *arg, const char *hash, uint8_t *packed, size_t n)
{
    job_post(arg, true, hash, packed, n);
}

/* ---- what this node lacks */

static int by_hash(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Those that are named by a domain and not here, each once; malloc'ed. */
static size_t lacking(const struct domains_snapshot *doms, const struct recipients_snapshot *lists,
                      char (**hashes_r)[RECIPIENTS_HASH_MAX])
{
    size_t n = 0, cap = 0, once = 0;
    *hashes_r = NULL;
    for (size_t i = 0; i < domains_count(doms); i++) {
        const char *hash = domains_at(doms, i)->recipients;
        if (!*hash || recipients_find(lists, hash))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            *hashes_r = realloc(*hashes_r, cap * sizeof **hashes_r);
            if (!*hashes_r)
                abort();
        }
        memcpy((*hashes_r)[n++], hash, RECIPIENTS_HASH_MAX);
    }
    if (n)
        qsort(*hashes_r, n, sizeof **hashes_r, by_hash);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp((*hashes_r)[i], (*hashes_r)[i - 1]) != 0)
            memmove((*hashes_r)[once++], (*hashes_r)[i], RECIPIENTS_HASH_MAX);
    return once;
}

/* The registry was changed, or a list came or went. */
static void look(struct blobs *b)
{
    struct cluster *c = b->c;
    struct recipients *r = domains_recipients(c->domains);
    uint64_t now = clock_boot_us(&c->turn), domains_now = domains_version(c->domains),
             lists_now = recipients_version(r);
    if (now < b->look_at_us || (domains_now == b->domains_seen && lists_now == b->lists_seen))
        return;
    b->look_at_us = now + LOOK_US;
    b->domains_seen = domains_now;
    b->lists_seen = lists_now;
    const struct domains_snapshot *doms = domains_get(c->domains);
    const struct recipients_snapshot *lists = recipients_get(r);
    char(*hashes)[RECIPIENTS_HASH_MAX];
    size_t n = lacking(doms, lists, &hashes);
    for (size_t i = 0; i < n; i++)
        recipients_missing_us(r, hashes[i], now);
    recipients_put(lists);
    domains_put(doms);
    lists_want(b->lists, hashes, n);
}

/* ---- the thread's part */

static size_t other_nodes(struct cluster *c, struct storage_id *ids_r, bool live)
{
    const struct cmap *map = node_map(c->node);
    size_t n = 0;
    for (uint32_t i = 0; map && i < map->nodes_n && n < NODES_MAX; i++)
        if (!storage_id_eq(&map->nodes[i].storage, &c->self) && (!live || map->nodes[i].live))
            ids_r[n++] = map->nodes[i].storage;
    return n;
}

void blobs_frame(struct cluster *c, const struct storage_id *from, uint16_t type, struct slice payload)
{
    lists_frame(c->blobs->lists, from, type, payload);
}

void blobs_tick(struct cluster *c)
{
    struct storage_id nodes[NODES_MAX];
    look(c->blobs);
    jobs_end(c->blobs);
    lists_tick(c->blobs->lists, nodes, other_nodes(c, nodes, false));
}

uint64_t blobs_next_us(const struct cluster *c)
{
    return lists_next_us(c->blobs->lists);
}

/* ---- setting a list */

struct set {
    struct call call;
    bool was_given;
    uint64_t n;
    char was[RECIPIENTS_HASH_MAX], hash[RECIPIENTS_HASH_MAX], domain[DOMAIN_NAME_MAX];
    struct cluster *c;
};

static void set_done(void *arg, int res, const char *why)
{
    call_end(arg, res, why);
}

static void set_name(struct set *s)
{
    int res = directory_recipients(s->c->directory, slice_str(s->domain), s->was_given ? s->was : NULL, s->hash, s->n,
                                   set_done, s);
    if (res < 0)
        call_end(&s->call, res, satchel_strerror(res));
}

static void set_pushed(void *arg, int res, const char *why)
{
    struct set *s = arg;
    if (res < 0)
        call_end(&s->call, res, why);
    else
        set_name(s);
}

/* A list lies on as many storages as a message of the domain before its 250, this one among them; on two at least. */
static size_t others_least(struct cluster *c, struct slice domain)
{
    const struct cmap *map = node_map(c->node);
    uint32_t shard = map ? cluster_shard_of(c, map, domain) : UINT32_MAX;
    uint32_t acks = shard == UINT32_MAX ? 2 : cmap_shard_pool(map, &map->shards[shard])->acks;
    return acks > 2 ? acks - 1 : 1;
}

static void set_run(struct cluster *c, struct call *call)
{
    struct set *s = (struct set *)call;
    struct storage_id nodes[NODES_MAX];
    s->c = c;
    if (!*s->hash) {
        set_name(s);
        return;
    }
    size_t n = other_nodes(c, nodes, true);
    int res = lists_push(c->blobs->lists, s->hash, nodes, n, others_least(c, slice_str(s->domain)), set_pushed, s);
    if (res < 0)
        call_end(call, res, satchel_strerror(res));
}

int cluster_recipients_set(struct cluster *c, struct slice domain, const char *was, const char *hash, uint64_t n,
                           char *why_r)
{
    struct set *s = domain.n < DOMAIN_NAME_MAX ? call_new(sizeof *s, set_run) : NULL;
    if (!s)
        return -SATCHEL_ENOMEM;
    s->was_given = was != NULL;
    s->n = n;
    snprintf(s->was, sizeof s->was, "%s", was ? was : "");
    snprintf(s->hash, sizeof s->hash, "%s", hash);
    snprintf(s->domain, sizeof s->domain, "%.*s", SLICE_FMT(domain));
    int res = call_wait(c, &s->call, SET_US);
    if (res < 0)
        snprintf(why_r, CLUSTER_WHY_MAX, "%s", s->call.why);
    call_unref(&s->call);
    return res;
}

/* ---- life */

int blobs_open(struct cluster *c)
{
    struct blobs *b = calloc(1, sizeof *b);
    if (!b)
        return -SATCHEL_ENOMEM;
    b->c = c;
    jobs_init(&b->waiting);
    jobs_init(&b->done);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->cond, NULL);
    c->blobs = b;
    struct lists_env env = {
        .clock = &c->turn, .peers = c->peers, .has = on_has, .read = on_read, .keep = on_keep, .arg = b};
    int rc = lists_open(&b->lists, &env);
    rc = rc ? rc : -pthread_create(&b->thread, NULL, blobs_main, b);
    b->running = rc == 0;
    if (rc == 0)
        pthread_setname_np(b->thread, "cluster-lists");
    return rc;
}

void blobs_close(struct cluster *c)
{
    struct blobs *b = c->blobs;
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->lock);
    if (b->running)
        pthread_join(b->thread, NULL);
    lists_close(&b->lists);
    jobs_free(&b->waiting);
    jobs_free(&b->done);
    pthread_cond_destroy(&b->cond);
    pthread_mutex_destroy(&b->lock);
    free(b);
    c->blobs = NULL;
}
