/* ask.c - questions to the admin API of other nodes, over the links.
 *
 *   ASK     u64 request | u16 n, method | u32 n, path | u32 n, body
 *   ANSWER  u64 request | u8 last | u16 status | u16 n, content type | bytes      in pieces of at most PIECE bytes
 *
 * Questions of others are answered by a thread of its own, one at a time, since an answer may read a disk; at most
 * QUESTIONS_MAX wait.  What is asked here waits in `asked` until the last piece came, the node went away, or ASK_US. */
#include "cluster/cluster_impl.h"

enum {
    ASK_US = 30 * 1000000,
    PIECE = 512 * 1024,
    ANSWER_BYTES_MAX = 256 << 20,
    QUESTIONS_MAX = 64,
    PATH_MAX_BYTES = 8192,
    BODY_MAX_BYTES = 1 << 20,
};

struct ask {
    struct call call;
    struct ask *next;
    uint64_t id, until_us;
    struct storage_id to;
    char node[NODE_NAME_MAX];
    struct fbuf *frame;
    struct cluster_answer answer;
};

struct question {
    struct question *next;
    uint64_t id;
    struct storage_id from;
    char *method, *path, *body;
    struct cluster_answer answer;
    size_t sent;
};

struct questions {
    struct question *head, **tail;
    size_t n;
};

struct asks {
    struct cluster *c;
    uint64_t last_id;
    struct ask *asked;
    struct questions answers; /* being sent; the cluster's thread */

    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct questions waiting, answered; /* under lock */
    bool stop;
    pthread_t thread;
    bool running;
    int (*serve)(void *arg, const char *method, const char *path, const char *body, struct cluster_answer *answer_r);
    void *arg;
};

/* ---- lists */

static void questions_init(struct questions *l)
{
    *l = (struct questions){.tail = &l->head};
}

static void questions_push(struct questions *l, struct question *q)
{
    q->next = NULL;
    *l->tail = q;
    l->tail = &q->next;
    l->n++;
}

static struct question *questions_pop(struct questions *l)
{
    struct question *q = l->head;
    if (!q)
        return NULL;
    l->head = q->next;
    if (!l->head)
        l->tail = &l->head;
    l->n--;
    return q;
}

static void question_free(struct question *q)
{
    free(q->method);
    free(q->path);
    free(q->body);
    free(q->answer.type);
    free(q->answer.body);
    free(q);
}

static void questions_free(struct questions *l)
{
    for (struct question *q; (q = questions_pop(l));)
        question_free(q);
}

/* ---- asking */

static void ask_destroy(struct call *call)
{
    struct ask *a = (struct ask *)call;
    fbuf_unref(a->frame);
    free(a->answer.type);
    free(a->answer.body);
}

static void ask_end(struct asks *as, struct ask *a, int res, const char *why)
{
    struct ask **p = &as->asked;
    while (*p != a)
        p = &(*p)->next;
    *p = a->next;
    call_end(&a->call, res, why);
}

static void ask_run(struct cluster *c, struct call *call)
{
    struct ask *a = (struct ask *)call;
    const struct cmap *map = node_map(c->node);
    const struct map_node *m = map ? cmap_node(map, a->node) : NULL;
    if (!m) {
        call_end(call, -SATCHEL_ENOENT, "there is no such node: see `satchelctl node list`");
        return;
    }
    a->id = ++c->asks->last_id;
    a->to = m->storage;
    a->until_us = clock_boot_us(c->clock) + ASK_US;
    memcpy(a->frame->data + FRAME_HEAD_BYTES, &a->id, sizeof a->id);
    if (c->peers->ops->send(c->peers, &a->to, a->frame) < 0) {
        call_end(call, -SATCHEL_ENOENT, "there is no link to that node: is it running? see `satchelctl node list`");
        return;
    }
    a->next = c->asks->asked;
    c->asks->asked = a;
}

static struct fbuf *ask_frame(const char *method, const char *path, const char *body)
{
    size_t mn = strlen(method), pn = strlen(path), bn = body ? strlen(body) : 0;
    if (pn > PATH_MAX_BYTES || bn > BODY_MAX_BYTES)
        return NULL;
    struct fbuf *f = fbuf_new(FRAME_ASK, FRAME_ASK_VERSION, 8 + 2 + mn + 4 + pn + 4 + bn);
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, 0);
    wire_put_u16(&w, (uint16_t)mn);
    wire_put(&w, method, mn);
    wire_put_u32(&w, (uint32_t)pn);
    wire_put(&w, path, pn);
    wire_put_u32(&w, (uint32_t)bn);
    wire_put(&w, body ? body : "", bn);
    if (fbuf_end(f, &w) == 0)
        return f;
    fbuf_unref(f);
    return NULL;
}

int cluster_ask(struct cluster *c, const char *node, const char *method, const char *path, const char *body,
                struct cluster_answer *answer_r, char *why_r)
{
    struct ask *a = call_new(sizeof *a, ask_run);
    if (!a)
        return -SATCHEL_ENOMEM;
    a->call.destroy = ask_destroy;
    snprintf(a->node, sizeof a->node, "%s", node);
    a->frame = ask_frame(method, path, body);
    int res = a->frame ? call_wait(c, &a->call, ASK_US + 1000000) : -SATCHEL_ETOOBIG;
    if (res == 0) {
        *answer_r = a->answer;
        a->answer = (struct cluster_answer){0};
    } else {
        snprintf(why_r, CLUSTER_WHY_MAX, "%.63s: %s", node, a->frame ? a->call.why : "the request is too large");
    }
    call_unref(&a->call);
    return res;
}

static struct ask *ask_find(const struct asks *as, uint64_t id, const struct storage_id *from)
{
    struct ask *a = as->asked;
    while (a && (a->id != id || !storage_id_eq(&a->to, from)))
        a = a->next;
    return a;
}

static bool answer_add(struct cluster_answer *an, struct slice piece)
{
    if (an->n + piece.n > ANSWER_BYTES_MAX)
        return false;
    char *body = realloc(an->body, an->n + piece.n + 1);
    if (!body)
        return false;
    if (piece.n)
        memcpy(body + an->n, piece.p, piece.n);
    an->body = body;
    an->n += piece.n;
    body[an->n] = 0;
    return true;
}

static void on_answer(struct asks *as, const struct storage_id *from, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t id = wire_u64(&r);
    bool last = wire_u8(&r) != 0;
    uint16_t status = wire_u16(&r);
    struct slice type = wire_get(&r, wire_u16(&r));
    struct ask *a = r.bad ? NULL : ask_find(as, id, from);
    if (!a)
        return;
    if (!answer_add(&a->answer, slice_of(r.p, wire_left(&r)))) {
        ask_end(as, a, -SATCHEL_ETOOBIG, "the answer is too large");
        return;
    }
    if (!last)
        return;
    a->answer.status = status;
    a->answer.type = strndup((const char *)type.p, type.n);
    ask_end(as, a, a->answer.type ? 0 : -SATCHEL_ENOMEM, NULL);
}

/* ---- answering */

static void *asks_main(void *arg)
{
    struct asks *as = arg;
    pthread_mutex_lock(&as->lock);
    while (!as->stop) {
        struct question *q = questions_pop(&as->waiting);
        if (!q) {
            pthread_cond_wait(&as->cond, &as->lock);
            continue;
        }
        pthread_mutex_unlock(&as->lock);
        int res =
            as->serve ? as->serve(as->arg, q->method, q->path, *q->body ? q->body : NULL, &q->answer) : -SATCHEL_EAGAIN;
        if (res < 0)
            q->answer.status = 503;
        pthread_mutex_lock(&as->lock);
        questions_push(&as->answered, q);
        bell_ring(&as->c->requests.bell);
    }
    pthread_mutex_unlock(&as->lock);
    return NULL;
}

static struct question *question_parse(struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    uint64_t id = wire_u64(&r);
    struct slice method = wire_get(&r, wire_u16(&r)), path = wire_get(&r, wire_u32(&r)),
                 body = wire_get(&r, wire_u32(&r));
    struct question *q = r.bad || path.n > PATH_MAX_BYTES || body.n > BODY_MAX_BYTES ? NULL : calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->id = id;
    q->method = strndup((const char *)method.p, method.n);
    q->path = strndup((const char *)path.p, path.n);
    q->body = strndup((const char *)body.p, body.n);
    if (q->method && q->path && q->body)
        return q;
    question_free(q);
    return NULL;
}

static void on_ask(struct asks *as, const struct storage_id *from, struct slice payload)
{
    struct question *q = question_parse(payload);
    if (!q)
        return;
    q->from = *from;
    pthread_mutex_lock(&as->lock);
    bool room = as->waiting.n < QUESTIONS_MAX;
    if (room)
        questions_push(&as->waiting, q);
    pthread_cond_signal(&as->cond);
    pthread_mutex_unlock(&as->lock);
    if (!room) {
        q->answer.status = 503;
        questions_push(&as->answers, q);
    }
}

void asks_frame(struct cluster *c, const struct storage_id *from, uint16_t type, struct slice payload)
{
    if (type == FRAME_ASK)
        on_ask(c->asks, from, payload);
    else if (type == FRAME_ANSWER)
        on_answer(c->asks, from, payload);
}

static struct fbuf *answer_piece(const struct question *q, size_t n, bool last)
{
    const char *type = q->answer.type ? q->answer.type : "application/json";
    size_t tn = strlen(type);
    struct fbuf *f = fbuf_new(FRAME_ANSWER, FRAME_ANSWER_VERSION, 8 + 1 + 2 + 2 + tn + n);
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    wire_put_u64(&w, q->id);
    wire_put_u8(&w, last);
    wire_put_u16(&w, (uint16_t)q->answer.status);
    wire_put_u16(&w, (uint16_t)tn);
    wire_put(&w, type, tn);
    wire_put(&w, q->answer.body ? q->answer.body + q->sent : "", n);
    if (fbuf_end(f, &w) == 0)
        return f;
    fbuf_unref(f);
    return NULL;
}

/* true: all of it is on its way, or nobody is there to read it. */
static bool answer_send(struct asks *as, struct question *q)
{
    struct cluster *c = as->c;
    for (;;) {
        size_t left = q->answer.n - q->sent, n = left < PIECE ? left : PIECE;
        struct fbuf *f = answer_piece(q, n, n == left);
        int res = f ? c->peers->ops->send(c->peers, &q->from, f) : -SATCHEL_ENOENT;
        fbuf_unref(f);
        if (res == -SATCHEL_EAGAIN)
            return false;
        q->sent += n;
        if (res < 0 || n == left)
            return true;
    }
}

static void answers_take(struct asks *as)
{
    pthread_mutex_lock(&as->lock);
    for (struct question *q; (q = questions_pop(&as->answered));)
        questions_push(&as->answers, q);
    pthread_mutex_unlock(&as->lock);
}

void asks_tick(struct cluster *c)
{
    struct asks *as = c->asks;
    answers_take(as);
    for (size_t n = as->answers.n; n > 0; n--) {
        struct question *q = questions_pop(&as->answers);
        if (answer_send(as, q))
            question_free(q);
        else
            questions_push(&as->answers, q);
    }
    if (!as->asked)
        return;
    uint64_t now = clock_boot_us(c->clock);
    for (struct ask *a = as->asked, *next; a; a = next) {
        struct peer_info info;
        next = a->next;
        if (!c->peers->ops->info(c->peers, &a->to, &info) || !info.up)
            ask_end(as, a, -SATCHEL_ENOENT, "the link to that node ended");
        else if (now > a->until_us)
            ask_end(as, a, -SATCHEL_EAGAIN, "no answer in time");
    }
}

/* ---- life */

void cluster_serve(struct cluster *c,
                   int (*serve)(void *arg, const char *method, const char *path, const char *body,
                                struct cluster_answer *answer_r),
                   void *arg)
{
    pthread_mutex_lock(&c->asks->lock);
    c->asks->serve = serve;
    c->asks->arg = arg;
    pthread_mutex_unlock(&c->asks->lock);
}

int asks_open(struct cluster *c)
{
    struct asks *as = calloc(1, sizeof *as);
    if (!as)
        return -SATCHEL_ENOMEM;
    as->c = c;
    questions_init(&as->answers);
    questions_init(&as->waiting);
    questions_init(&as->answered);
    pthread_mutex_init(&as->lock, NULL);
    pthread_cond_init(&as->cond, NULL);
    c->asks = as;
    int rc = -pthread_create(&as->thread, NULL, asks_main, as);
    as->running = rc == 0;
    if (rc == 0)
        pthread_setname_np(as->thread, "cluster-ask");
    return rc;
}

void asks_close(struct cluster *c)
{
    struct asks *as = c->asks;
    if (!as)
        return;
    pthread_mutex_lock(&as->lock);
    as->stop = true;
    pthread_cond_signal(&as->cond);
    pthread_mutex_unlock(&as->lock);
    if (as->running)
        pthread_join(as->thread, NULL);
    while (as->asked)
        ask_end(as, as->asked, -SATCHEL_ESHUT, "this node is stopping");
    questions_free(&as->answers);
    questions_free(&as->waiting);
    questions_free(&as->answered);
    pthread_cond_destroy(&as->cond);
    pthread_mutex_destroy(&as->lock);
    free(as);
    c->asks = NULL;
}
