/* lists.c - lists of recipients between nodes. */
#include "cluster/domains/lists.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    HASH_BYTES = RECIPIENTS_HASH_MAX - 1,
    PIECE_BYTES = 256 * 1024,
    QUEUED_MOST = 1 << 20, /* of a link: what waits before mail */
    PACE_US = 2000,
    SEND_US = 60 * 1000000,  /* a list that is not on the other's disk by then */
    ASK_US = 10 * 1000000,   /* without a piece: the next node is asked */
    AGAIN_US = 5 * 1000000,  /* nobody had it: all are asked again */
    STALE_US = 20 * 1000000, /* a list that comes no further */
    SENDINGS_MAX = 256,
    RECEIVINGS_MAX = 8,
    FETCHES = 4,
};

/* A packed list on its way to several nodes. */
struct blob {
    unsigned refs;
    size_t n;
    uint8_t *p;
};

struct sending {
    struct sending *next;
    struct push *push; /* NULL: it was asked for */
    struct storage_id to;
    struct blob *blob; /* NULL: it is being read */
    size_t sent;
    uint64_t until_us;
    char hash[RECIPIENTS_HASH_MAX];
};

struct push {
    struct push *next;
    size_t least, kept, out;
    lists_done *done;
    void *arg;
    bool over;
    char hash[RECIPIENTS_HASH_MAX];
};

struct receiving {
    struct receiving *next;
    struct storage_id from;
    size_t whole, got;
    uint8_t *p; /* NULL: given to keep */
    uint64_t at_us;
    char hash[RECIPIENTS_HASH_MAX];
};

struct fetch {
    bool active, ask; /* ask: the next node is to be asked */
    size_t node;      /* the next one */
    struct storage_id from;
    uint64_t until_us;
    char hash[RECIPIENTS_HASH_MAX];
};

struct lists {
    struct lists_env env;
    struct sending *sendings;
    size_t sendings_n;
    struct push *pushes;
    struct receiving *receivings;
    size_t receivings_n;
    struct fetch fetches[FETCHES];
    char (*wanted)[RECIPIENTS_HASH_MAX];
    size_t wanted_n, next;
    uint64_t again_us;
};

static uint64_t now_of(const struct lists *l)
{
    return clock_boot_us(l->env.clock);
}

static void hash_copy(char to[RECIPIENTS_HASH_MAX], const char *hash)
{
    snprintf(to, RECIPIENTS_HASH_MAX, "%s", hash);
}

static bool is_up(const struct lists *l, const struct storage_id *id, struct peer_info *info_r)
{
    return l->env.peers->ops->info(l->env.peers, id, info_r) && info_r->up;
}

/* ---- frames out; what cannot be sent is asked for again by whoever misses it */

static void frame_send(struct lists *l, const struct storage_id *to, struct fbuf *f, const struct wire_wr *w)
{
    if (f && fbuf_end(f, w) == 0)
        l->env.peers->ops->send(l->env.peers, to, f);
    fbuf_unref(f);
}

static void send_ack(struct lists *l, const struct storage_id *to, const char *hash, int res)
{
    struct fbuf *f = fbuf_new(FRAME_BLOB_ACK, FRAME_BLOB_ACK_VERSION, HASH_BYTES + 4);
    struct wire_wr w = f ? fbuf_writer(f) : (struct wire_wr){0};
    wire_put(&w, hash, HASH_BYTES);
    wire_put_u32(&w, (uint32_t)res);
    frame_send(l, to, f, &w);
}

static void send_want(struct lists *l, const struct storage_id *to, const char *hash)
{
    struct fbuf *f = fbuf_new(FRAME_BLOB_WANT, FRAME_BLOB_WANT_VERSION, HASH_BYTES);
    struct wire_wr w = f ? fbuf_writer(f) : (struct wire_wr){0};
    wire_put(&w, hash, HASH_BYTES);
    frame_send(l, to, f, &w);
}

/* ---- pushes */

static void push_check(struct push *p)
{
    p->over = p->over || p->kept >= p->least || p->out == 0;
}

/* Calls back, and forgets those that are over; their sendings go on without them. */
static void pushes_end(struct lists *l)
{
    for (struct push **at = &l->pushes, *p; (p = *at);) {
        if (!p->over) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        for (struct sending *s = l->sendings; s; s = s->next)
            s->push = s->push == p ? NULL : s->push;
        bool enough = p->kept >= p->least;
        p->done(p->arg, enough ? 0 : -SATCHEL_EAGAIN,
                enough ? "" : "too few other nodes could take the list: see `satchelctl node list`");
        free(p);
        at = &l->pushes;
    }
}

/* ---- sending */

static void blob_unref(struct blob *b)
{
    if (!b || --b->refs)
        return;
    free(b->p);
    free(b);
}

static struct sending *sending_new(struct lists *l, const struct storage_id *to, const char *hash, struct push *push)
{
    struct sending *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct sending){.next = l->sendings, .push = push, .to = *to, .until_us = now_of(l) + SEND_US};
    hash_copy(s->hash, hash);
    l->sendings = s;
    l->sendings_n++;
    return s;
}

/* Takes it out of the list. */
static void sending_end(struct lists *l, struct sending **at, int res)
{
    struct sending *s = *at;
    *at = s->next;
    l->sendings_n--;
    if (s->push) {
        s->push->out--;
        s->push->kept += res == 0;
        push_check(s->push);
    }
    blob_unref(s->blob);
    free(s);
}

static bool being_read(const struct lists *l, const char *hash)
{
    for (const struct sending *s = l->sendings; s; s = s->next)
        if (!s->blob && strcmp(s->hash, hash) == 0)
            return true;
    return false;
}

void lists_read(struct lists *l, const char *hash, int res, uint8_t *packed, size_t n)
{
    struct blob *b = packed ? calloc(1, sizeof *b) : NULL;
    if (b)
        *b = (struct blob){.refs = 1, .n = n, .p = packed};
    else
        free(packed);
    for (struct sending **at = &l->sendings, *s; (s = *at);) {
        if (s->blob || strcmp(s->hash, hash) != 0) {
            at = &s->next;
        } else if (b) {
            s->blob = b;
            b->refs++;
            at = &s->next;
        } else {
            send_ack(l, &s->to, hash, res < 0 ? res : -SATCHEL_ENOMEM);
            sending_end(l, at, -SATCHEL_ENOENT);
        }
    }
    blob_unref(b);
    pushes_end(l);
}

static void piece_send(struct lists *l, struct sending *s)
{
    size_t left = s->blob->n - s->sent, n = left < PIECE_BYTES ? left : PIECE_BYTES;
    struct fbuf *f = fbuf_new(FRAME_BLOB_PUT, FRAME_BLOB_PUT_VERSION, HASH_BYTES + 8 + n);
    struct wire_wr w = f ? fbuf_writer(f) : (struct wire_wr){0};
    wire_put(&w, s->hash, HASH_BYTES);
    wire_put_u32(&w, (uint32_t)s->blob->n);
    wire_put_u32(&w, (uint32_t)s->sent);
    wire_put(&w, s->blob->p + s->sent, n);
    bool sent = f && fbuf_end(f, &w) == 0 && l->env.peers->ops->send(l->env.peers, &s->to, f) == 0;
    fbuf_unref(f);
    if (!sent)
        return;
    s->sent += n;
    s->until_us = now_of(l) + SEND_US;
}

static void sendings_tick(struct lists *l, uint64_t now)
{
    for (struct sending **at = &l->sendings, *s; (s = *at);) {
        struct peer_info info;
        if (!is_up(l, &s->to, &info) || now > s->until_us) {
            sending_end(l, at, -SATCHEL_EAGAIN);
            continue;
        }
        if (s->blob && s->sent < s->blob->n && info.queued < QUEUED_MOST)
            piece_send(l, s);
        at = &s->next;
    }
    pushes_end(l);
}

/* Somebody asks; again, where it lost what we sent. */
static void on_want(struct lists *l, const struct storage_id *from, const char *hash)
{
    struct sending *s = l->sendings;
    while (s && (s->push || !storage_id_eq(&s->to, from) || strcmp(s->hash, hash) != 0))
        s = s->next;
    if (s) {
        s->sent = 0;
        return;
    }
    bool known = l->env.has(l->env.arg, hash), reading = being_read(l, hash);
    if (!known || l->sendings_n >= SENDINGS_MAX || !sending_new(l, from, hash, NULL)) {
        send_ack(l, from, hash, known ? -SATCHEL_EAGAIN : -SATCHEL_ENOENT);
        return;
    }
    if (!reading)
        l->env.read(l->env.arg, hash);
}

int lists_push(struct lists *l, const char *hash, const struct storage_id *nodes, size_t n, size_t least,
               lists_done *done, void *arg)
{
    struct push *p = calloc(1, sizeof *p);
    if (!p)
        return -SATCHEL_ENOMEM;
    *p = (struct push){.next = l->pushes, .least = least < n ? least : n, .done = done, .arg = arg};
    hash_copy(p->hash, hash);
    l->pushes = p;
    bool reading = being_read(l, hash);
    for (size_t i = 0; i < n; i++) {
        struct peer_info info;
        if (is_up(l, &nodes[i], &info))
            p->out += sending_new(l, &nodes[i], hash, p) != NULL;
    }
    push_check(p);
    if (p->out && !reading)
        l->env.read(l->env.arg, hash);
    return 0;
}

/* ---- receiving */

static struct fetch *fetch_of(struct lists *l, const char *hash)
{
    for (size_t i = 0; i < FETCHES; i++)
        if (l->fetches[i].active && strcmp(l->fetches[i].hash, hash) == 0)
            return &l->fetches[i];
    return NULL;
}

static void receiving_end(struct lists *l, struct receiving **at)
{
    struct receiving *r = *at;
    *at = r->next;
    l->receivings_n--;
    free(r->p);
    free(r);
}

void lists_kept(struct lists *l, const char *hash, int res)
{
    struct fetch *f = fetch_of(l, hash);
    for (struct receiving **at = &l->receivings, *r; (r = *at);) {
        if (r->p || strcmp(r->hash, hash) != 0) {
            at = &r->next;
            continue;
        }
        send_ack(l, &r->from, hash, res);
        receiving_end(l, at);
    }
    if (f && res == 0)
        f->active = false;
    else if (f)
        f->ask = true;
}

static struct receiving **receiving_find(struct lists *l, const struct storage_id *from, const char *hash)
{
    struct receiving **at = &l->receivings;
    while (*at && (!storage_id_eq(&(*at)->from, from) || strcmp((*at)->hash, hash) != 0))
        at = &(*at)->next;
    return at;
}

/* 0: a new one; else what the sender is told. */
static int receiving_new(struct lists *l, const struct storage_id *from, const char *hash, size_t whole)
{
    if (whole == 0 || whole > RECIPIENTS_PACKED_MAX)
        return -SATCHEL_ETOOBIG;
    if (l->receivings_n >= RECEIVINGS_MAX)
        return -SATCHEL_EAGAIN;
    struct receiving *r = calloc(1, sizeof *r);
    uint8_t *p = r ? malloc(whole) : NULL;
    if (!p) {
        free(r);
        return -SATCHEL_ENOMEM;
    }
    *r = (struct receiving){.next = l->receivings, .from = *from, .whole = whole, .p = p};
    hash_copy(r->hash, hash);
    l->receivings = r;
    l->receivings_n++;
    return 0;
}

static void receiving_add(struct lists *l, struct receiving *r, struct slice bytes)
{
    struct fetch *f = fetch_of(l, r->hash);
    memcpy(r->p + r->got, bytes.p, bytes.n);
    r->got += bytes.n;
    r->at_us = now_of(l);
    if (f)
        f->until_us = r->at_us + ASK_US;
    if (r->got < r->whole)
        return;
    uint8_t *packed = r->p;
    r->p = NULL;
    l->env.keep(l->env.arg, r->hash, packed, r->whole);
}

/* The first piece of a list; false: it is not taken, the sender is told. */
static bool receiving_begin(struct lists *l, const struct storage_id *from, const char *hash, size_t whole)
{
    bool has = l->env.has(l->env.arg, hash);
    int res = has ? 0 : receiving_new(l, from, hash, whole);
    if (!has && res == 0)
        return true;
    send_ack(l, from, hash, res);
    return false;
}

static void on_put(struct lists *l, const struct storage_id *from, const char *hash, struct wire_rd *rd)
{
    uint32_t whole = wire_u32(rd), offset = wire_u32(rd);
    struct slice bytes = slice_of(rd->p, wire_left(rd));
    struct receiving **at = receiving_find(l, from, hash);
    if (rd->bad || (*at && !(*at)->p))
        return;
    if (*at && offset == 0) /* it begins anew */
        receiving_end(l, at);
    if (offset == 0 && !receiving_begin(l, from, hash, whole))
        return;
    at = receiving_find(l, from, hash);
    if (!*at)
        return;
    if (offset == (*at)->got && bytes.n > 0 && bytes.n <= (*at)->whole - offset) {
        receiving_add(l, *at, bytes);
        return;
    }
    receiving_end(l, at);
    send_ack(l, from, hash, -SATCHEL_EINVAL);
}

static void receivings_tick(struct lists *l, uint64_t now)
{
    for (struct receiving **at = &l->receivings, *r; (r = *at);) {
        struct peer_info info;
        if (r->p && (!is_up(l, &r->from, &info) || now > r->at_us + STALE_US))
            receiving_end(l, at);
        else
            at = &r->next;
    }
}

/* ---- asking */

void lists_want(struct lists *l, char (*hashes)[RECIPIENTS_HASH_MAX], size_t n)
{
    free(l->wanted);
    l->wanted = hashes;
    l->wanted_n = n;
    l->next = 0;
    l->again_us = 0;
}

/* The next node that is up; none is left: others get their turn. */
static void fetch_ask(struct lists *l, struct fetch *f, const struct storage_id *nodes, size_t n, uint64_t now)
{
    struct peer_info info;
    while (f->node < n && !is_up(l, &nodes[f->node], &info))
        f->node++;
    f->active = f->node < n;
    if (!f->active)
        return;
    f->ask = false;
    f->from = nodes[f->node++];
    f->until_us = now + ASK_US;
    send_want(l, &f->from, f->hash);
}

static const char *next_wanted(struct lists *l, uint64_t now)
{
    if (l->next == l->wanted_n && l->wanted_n && now >= l->again_us)
        l->next = 0;
    while (l->next < l->wanted_n) {
        const char *hash = l->wanted[l->next++];
        if (l->next == l->wanted_n)
            l->again_us = now + AGAIN_US;
        if (!fetch_of(l, hash) && !l->env.has(l->env.arg, hash))
            return hash;
    }
    return NULL;
}

static void fetches_tick(struct lists *l, const struct storage_id *nodes, size_t n, uint64_t now)
{
    for (size_t i = 0; i < FETCHES; i++) {
        struct fetch *f = &l->fetches[i];
        const char *hash = f->active ? NULL : next_wanted(l, now);
        if (hash) {
            *f = (struct fetch){.active = true, .ask = true};
            hash_copy(f->hash, hash);
        }
        if (f->active && l->env.has(l->env.arg, f->hash))
            f->active = false;
        if (f->active && (f->ask || now > f->until_us))
            fetch_ask(l, f, nodes, n, now);
    }
}

static void on_ack(struct lists *l, const struct storage_id *from, const char *hash, int res)
{
    struct fetch *f = fetch_of(l, hash);
    if (f && res < 0 && storage_id_eq(&f->from, from))
        f->ask = true;
    for (struct sending **at = &l->sendings, *s; (s = *at);) {
        if (storage_id_eq(&s->to, from) && strcmp(s->hash, hash) == 0)
            sending_end(l, at, res);
        else
            at = &s->next;
    }
    pushes_end(l);
}

/* ---- the whole */

void lists_frame(struct lists *l, const struct storage_id *from, uint16_t type, struct slice payload)
{
    struct wire_rd r = wire_rd(payload);
    struct slice name = wire_get(&r, HASH_BYTES);
    char hash[RECIPIENTS_HASH_MAX] = "";
    if (!r.bad)
        memcpy(hash, name.p, HASH_BYTES);
    hash[HASH_BYTES] = 0;
    if (!recipients_hash_ok(hash))
        return;
    if (type == FRAME_BLOB_PUT)
        on_put(l, from, hash, &r);
    else if (type == FRAME_BLOB_WANT)
        on_want(l, from, hash);
    else if (type == FRAME_BLOB_ACK && wire_left(&r) >= 4)
        on_ack(l, from, hash, (int)wire_u32(&r));
}

void lists_tick(struct lists *l, const struct storage_id *nodes, size_t n)
{
    uint64_t now = now_of(l);
    sendings_tick(l, now);
    receivings_tick(l, now);
    fetches_tick(l, nodes, n, now);
}

uint64_t lists_next_us(const struct lists *l)
{
    for (const struct sending *s = l->sendings; s; s = s->next)
        if (s->blob && s->sent < s->blob->n)
            return now_of(l) + PACE_US;
    return UINT64_MAX;
}

int lists_open(struct lists **l_r, const struct lists_env *env)
{
    struct lists *l = calloc(1, sizeof *l);
    if (!l)
        return -SATCHEL_ENOMEM;
    l->env = *env;
    *l_r = l;
    return 0;
}

void lists_close(struct lists **l_p)
{
    struct lists *l = *l_p;
    if (!l)
        return;
    while (l->sendings)
        sending_end(l, &l->sendings, -SATCHEL_ESHUT);
    for (struct push *p = l->pushes, *next; p; p = next) {
        next = p->next;
        p->done(p->arg, -SATCHEL_ESHUT, "the node is stopping");
        free(p);
    }
    while (l->receivings)
        receiving_end(l, &l->receivings);
    free(l->wanted);
    free(l);
    *l_p = NULL;
}
