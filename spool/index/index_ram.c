/* index_ram.c - the index in memory, for tests and the simulator: the same contract, and a crash on request.
 *
 * A persistent treap: nodes are counted and shared, a writer copies the nodes that someone else holds too and changes
 * the others in place.  So a snapshot is a root, and every commit since the last flush is kept as the root it left: a
 * crash goes back to one of them. */
#include "spool/base/err.h"
#include "spool/index/index.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct node {
    struct node *left, *right;
    uint64_t refs, priority;
    uint32_t key_n, value_n;
    uint8_t bytes[]; /* key, value */
};

struct version {
    struct node *root;
    uint64_t applied;
};

struct change {
    struct node *node; /* NULL: delete */
    uint32_t key_n;
    uint8_t *key;
};

struct ram {
    struct index base;
    pthread_mutex_t lock;
    struct version *versions; /* [0] is the durable one, the last one is now */
    size_t versions_n, versions_cap;
    struct change *batch;
    size_t batch_n, batch_cap;
};

struct index_iter {
    struct ram *ram;
    struct node *root;
    struct node **stack;
    size_t depth, cap;
    uint8_t *to;
    size_t to_n;
};

static struct ram *ram_of(struct index *ix)
{
    return (struct ram *)ix;
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

/* ---- nodes */

static struct slice node_key(const struct node *n)
{
    return slice_of(n->bytes, n->key_n);
}

static int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static uint64_t key_priority(struct slice key)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.n; i++)
        h = (h ^ key.p[i]) * 0x100000001b3u;
    return (h ^ h >> 29) * 0x9e3779b97f4a7c15u;
}

static struct node *node_new(struct slice key, struct slice value)
{
    struct node *n = must(malloc(sizeof *n + key.n + value.n));
    *n =
        (struct node){.refs = 1, .priority = key_priority(key), .key_n = (uint32_t)key.n, .value_n = (uint32_t)value.n};
    memcpy(n->bytes, key.p, key.n);
    if (value.n)
        memcpy(n->bytes + key.n, value.p, value.n);
    return n;
}

static struct node *node_ref(struct node *n)
{
    if (n)
        n->refs++;
    return n;
}

static void node_unref(struct node *n)
{
    if (!n || --n->refs)
        return;
    node_unref(n->left); /* NOLINT(clang-analyzer-unix.Malloc): it does not count references */
    node_unref(n->right);
    free(n);
}

/* A node that may be changed: itself if nobody else holds it.  Takes the caller's reference. */
static struct node *node_own(struct node *n)
{
    if (n->refs == 1)
        return n;
    size_t bytes = sizeof *n + n->key_n + n->value_n;
    struct node *c = must(malloc(bytes));
    memcpy(c, n, bytes);
    c->refs = 1;
    node_ref(c->left);
    node_ref(c->right);
    n->refs--;
    return c;
}

/* ---- treap; each function takes the reference of the trees it is given and returns one */

static void treap_split(struct node *t, struct slice key, struct node **less_r, struct node **more_r)
{
    if (!t) {
        *less_r = *more_r = NULL;
        return;
    }
    t = node_own(t);
    if (slice_cmp(node_key(t), key) < 0) {
        treap_split(t->right, key, &t->right, more_r);
        *less_r = t;
    } else {
        treap_split(t->left, key, less_r, &t->left);
        *more_r = t;
    }
}

static struct node *treap_merge(struct node *a, struct node *b)
{
    if (!a || !b)
        return a ? a : b;
    if (a->priority > b->priority) {
        a = node_own(a);
        a->right = treap_merge(a->right, b);
        return a;
    }
    b = node_own(b);
    b->left = treap_merge(a, b->left);
    return b;
}

static bool treap_has(const struct node *t, struct slice key)
{
    while (t) {
        int c = slice_cmp(key, node_key(t));
        if (c == 0)
            return true;
        t = c < 0 ? t->left : t->right;
    }
    return false;
}

static struct node *treap_del(struct node *t, struct slice key)
{
    int c = slice_cmp(key, node_key(t));
    t = node_own(t);
    if (c < 0) {
        t->left = treap_del(t->left, key);
    } else if (c > 0) {
        t->right = treap_del(t->right, key);
    } else {
        struct node *rest = treap_merge(node_ref(t->left), node_ref(t->right));
        node_unref(t);
        return rest; /* NOLINT(clang-analyzer-unix.Malloc): as above */
    }
    return t;
}

static struct node *treap_put(struct node *t, struct node *n)
{
    struct node *less, *more;
    if (treap_has(t, node_key(n)))
        t = treap_del(t, node_key(n));
    treap_split(t, node_key(n), &less, &more);
    return treap_merge(treap_merge(less, n), more);
}

/* ---- the writer */

static struct version *ram_now(struct ram *m)
{
    return &m->versions[m->versions_n - 1];
}

static struct change *ram_change(struct ram *m)
{
    if (m->batch_n == m->batch_cap) {
        m->batch_cap = m->batch_cap ? m->batch_cap * 2 : 64;
        m->batch = must(realloc(m->batch, m->batch_cap * sizeof *m->batch));
    }
    return &m->batch[m->batch_n++];
}

static void ram_put(struct index *ix, struct slice key, struct slice value)
{
    *ram_change(ram_of(ix)) = (struct change){.node = node_new(key, value)};
}

static void ram_del(struct index *ix, struct slice key)
{
    struct change *c = ram_change(ram_of(ix));
    *c = (struct change){.key_n = (uint32_t)key.n, .key = must(malloc(key.n ? key.n : 1))};
    memcpy(c->key, key.p, key.n);
}

static struct node *ram_apply(struct ram *m, struct node *root)
{
    for (size_t i = 0; i < m->batch_n; i++) {
        struct change *c = &m->batch[i];
        if (c->node) {
            root = treap_put(root, c->node);
            continue;
        }
        if (treap_has(root, slice_of(c->key, c->key_n)))
            root = treap_del(root, slice_of(c->key, c->key_n));
        free(c->key);
    }
    m->batch_n = 0;
    return root;
}

static int ram_commit(struct index *ix, uint64_t applied_pos)
{
    struct ram *m = ram_of(ix);
    pthread_mutex_lock(&m->lock);
    struct node *root = ram_apply(m, node_ref(ram_now(m)->root));
    if (m->versions_n == m->versions_cap) {
        m->versions_cap *= 2;
        m->versions = must(realloc(m->versions, m->versions_cap * sizeof *m->versions));
    }
    m->versions[m->versions_n++] = (struct version){root, applied_pos};
    pthread_mutex_unlock(&m->lock);
    return 0;
}

/* Makes versions[keep] the durable one, and the last one. */
static void ram_rewind(struct ram *m, size_t keep)
{
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->versions_n; i++)
        if (i != keep)
            node_unref(m->versions[i].root);
    m->versions[0] = m->versions[keep];
    m->versions_n = 1;
    pthread_mutex_unlock(&m->lock);
}

static int ram_flush(struct index *ix)
{
    ram_rewind(ram_of(ix), ram_of(ix)->versions_n - 1);
    return 0;
}

static uint64_t ram_applied(struct index *ix)
{
    return ram_now(ram_of(ix))->applied;
}

static uint64_t ram_durable(struct index *ix)
{
    return ram_of(ix)->versions[0].applied;
}

static void ram_batch_drop(struct ram *m)
{
    for (size_t i = 0; i < m->batch_n; i++) {
        node_unref(m->batch[i].node);
        free(m->batch[i].key);
    }
    m->batch_n = 0;
}

/* ---- readers */

static int64_t ram_get(struct index *ix, struct slice key, void *out_r, size_t cap)
{
    struct ram *m = ram_of(ix);
    int64_t res = -SATCHEL_ENOENT;
    pthread_mutex_lock(&m->lock);
    for (const struct node *t = ram_now(m)->root; t;) {
        int c = slice_cmp(key, node_key(t));
        if (c == 0) {
            res = t->value_n;
            if (t->value_n)
                memcpy(out_r, t->bytes + t->key_n, t->value_n < cap ? t->value_n : cap);
            break;
        }
        t = c < 0 ? t->left : t->right;
    }
    pthread_mutex_unlock(&m->lock);
    return res;
}

static void iter_push(struct index_iter *it, struct node *n)
{
    if (it->depth == it->cap) {
        it->cap = it->cap ? it->cap * 2 : 64;
        it->stack = must(realloc(it->stack, it->cap * sizeof(struct node *)));
    }
    it->stack[it->depth++] = n;
}

static struct index_iter *ram_iter(struct index *ix, struct slice from, struct slice to)
{
    struct ram *m = ram_of(ix);
    struct index_iter *it = must(calloc(1, sizeof *it));
    it->ram = m;
    it->to_n = to.n;
    it->to = must(malloc(to.n ? to.n : 1));
    if (to.n)
        memcpy(it->to, to.p, to.n);
    pthread_mutex_lock(&m->lock);
    it->root = node_ref(ram_now(m)->root);
    pthread_mutex_unlock(&m->lock);
    for (struct node *t = it->root; t;) {
        if (slice_cmp(node_key(t), from) < 0) {
            t = t->right;
            continue;
        }
        iter_push(it, t);
        t = t->left;
    }
    return it;
}

/* The nodes of a snapshot never change while it is held, so that no lock is needed. */
static bool ram_next(struct index_iter *it, struct slice *key_r, struct slice *value_r)
{
    if (it->depth == 0)
        return false;
    struct node *n = it->stack[--it->depth];
    for (struct node *t = n->right; t; t = t->left)
        iter_push(it, t);
    if (slice_cmp(node_key(n), slice_of(it->to, it->to_n)) >= 0) {
        it->depth = 0;
        return false;
    }
    *key_r = node_key(n);
    *value_r = slice_of(n->bytes + n->key_n, n->value_n);
    return true;
}

static void ram_iter_free(struct index_iter **it)
{
    if (!*it)
        return;
    pthread_mutex_lock(&(*it)->ram->lock);
    node_unref((*it)->root);
    pthread_mutex_unlock(&(*it)->ram->lock);
    free((*it)->stack);
    free((*it)->to);
    free(*it);
    *it = NULL;
}

static void ram_close(struct index **ix)
{
    if (!*ix)
        return;
    struct ram *m = ram_of(*ix);
    ram_batch_drop(m);
    for (size_t i = 0; i < m->versions_n; i++)
        node_unref(m->versions[i].root);
    pthread_mutex_destroy(&m->lock);
    free(m->versions);
    free(m->batch);
    free(m);
    *ix = NULL;
}

static const struct index_ops ram_ops = {
    .put = ram_put,
    .del = ram_del,
    .commit = ram_commit,
    .flush = ram_flush,
    .flush_start = ram_flush,
    .durable = ram_durable,
    .applied = ram_applied,
    .get = ram_get,
    .iter = ram_iter,
    .next = ram_next,
    .iter_free = ram_iter_free,
    .close = ram_close,
};

int index_ram_open(struct index **ix_r)
{
    struct ram *m = must(calloc(1, sizeof *m));
    m->base.ops = &ram_ops;
    pthread_mutex_init(&m->lock, NULL);
    m->versions_cap = 16;
    m->versions = must(calloc(m->versions_cap, sizeof *m->versions));
    m->versions_n = 1;
    *ix_r = &m->base;
    return 0;
}

void index_ram_crash(struct index *ix, uint64_t extra)
{
    struct ram *m = ram_of(ix);
    assert(extra < m->versions_n);
    ram_batch_drop(m);
    ram_rewind(m, extra);
}

uint64_t index_ram_unflushed(struct index *ix)
{
    return ram_of(ix)->versions_n - 1;
}
