/* door_copy.c - the storage door on the spool: records, ends and tombstones, as copies on other storages see them.
 *
 *   cluster thread             committer            indexer (under the queue's lock)
 *   put ---- spool_append ---> log, sync
 *            <---- box ------- settled              a MSG with chunks: applied, all its chunks are here
 *   merge -- queue_merge ----> DONE, DEFER -------> merged ---- box ---> cluster thread
 *                                                   changed --- box ---> tap
 *
 * What the door answers at once it answers in the next poll.  Whether a message is known is looked up in what the index
 * has committed, without the lock: of a message that is on its way a second record is written, and the queue takes the
 * later one.  Most messages are new, which fresh.h knows. */
#include "spool/door_copy.h"
#include "spool/base/log.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>

enum {
    TAPS_MAX = 65536,       /* kept for a listener that does not poll */
    LOCKED_IDS = 256,       /* tombstones settled under one hold of the queue's lock */
    RING_BYTES = 64 * 1024, /* so much does not wait for the group that is being written */
    READ_TRIES = 3,         /* a record may be moved between the look into the index and the read */
    CLOSE_WAIT_MS = 100,
};

/* A change on its way to the listener. */
struct tap {
    struct storage_mail post;
    struct storage_state st;
    uint8_t bytes[]; /* domain, owed */
};

/* ---- answers */

static void list_add(struct mail_list *l, struct storage_mail *m, enum mail_kind kind, int res)
{
    m->kind = kind;
    m->res = res;
    m->mail.next = NULL;
    *l->tail = &m->mail;
    l->tail = &m->mail.next;
}

static struct mail *list_take(struct mail_list *l)
{
    struct mail *first = l->first;
    l->first = NULL;
    l->tail = &l->first;
    return first;
}

void door_stage(struct copy_door *d, struct storage_mail *m, enum mail_kind kind, int res)
{
    list_add(&d->staged, m, kind, res);
}

void storage_committed(struct copy_door *d)
{
    struct mail *m = list_take(&d->staged);
    bool any = m != NULL;
    for (struct mail *next; m; m = next) {
        next = m->next;
        mailbox_post(&d->box, m);
    }
    if (any)
        bell_ring(&d->box.bell);
}

void door_answer(struct copy_door *d, struct storage_mail *m, enum mail_kind kind, int res)
{
    list_add(&d->answers, m, kind, res);
}

static void tell_put(struct copy_door *d, struct storage_mail *m)
{
    struct storage_put *p = (struct storage_put *)((uint8_t *)m - offsetof(struct storage_put, post));
    d->under_way--;
    p->done(p, m->res);
}

static void tell_merge(struct copy_door *d, struct storage_mail *m)
{
    struct storage_merge *g = (struct storage_merge *)((uint8_t *)m - offsetof(struct storage_merge, post));
    d->under_way--;
    g->done(g, m->res);
}

static void tell_tap(struct copy_door *d, struct storage_mail *m)
{
    struct tap *t = (struct tap *)m;
    atomic_fetch_sub_explicit(&d->taps, 1, memory_order_relaxed);
    if (d->tap_each)
        d->tap_each(d->tap_arg, &t->st);
    free(t);
}

static void tell_all(struct copy_door *d, struct mail *m)
{
    static void (*const tell[])(struct copy_door *, struct storage_mail *) = {
        [MAIL_PUT] = tell_put, [MAIL_MERGE] = tell_merge, [MAIL_TAP] = tell_tap};
    for (struct mail *next; m; m = next) {
        struct storage_mail *post = (struct storage_mail *)m;
        next = m->next;
        tell[post->kind](d, post);
    }
}

/* ---- merge, forget */

/* On the indexer. */
static void merge_done(void *arg, int res)
{
    struct storage_merge *m = arg;
    struct copy_door *d = m->impl;
    door_stage(d, &m->post, MAIL_MERGE, res);
}

/* Of a message that is not known here nothing is held: it may be on its way through the log. */
static bool copy_merge(struct storage *st, struct storage_merge *m)
{
    struct copy_door *d = door_of(st);
    m->impl = d;
    d->under_way++;
    (void)fresh_take(d->fresh, &m->st.id); /* its end may stay */
    spool_lock(d->s);
    int res = queue_merge(d->s->queue, &m->st, merge_done, m);
    bool held = res > 0 || (res == 0 && queue_held(d->s->queue, &m->st.id));
    spool_unlock(d->s);
    d->posted = d->posted || res == 0;
    if (res != 0)
        door_answer(d, &m->post, MAIL_MERGE, res > 0 ? 0 : res);
    return held;
}

static size_t copy_forget(struct storage *st, const struct msgid *ids, size_t n)
{
    struct copy_door *d = door_of(st);
    size_t taken = 0;
    spool_lock(d->s);
    for (size_t i = 0; i < n; i++)
        taken += queue_forget(d->s->queue, &ids[i]) == 0;
    spool_unlock(d->s);
    d->posted = d->posted || taken;
    return taken;
}

/* ---- looking */

static int copy_find(struct storage *st, const struct msgid *id, struct queue_entry *e_r, char domain_r[256])
{
    return queue_find(door_of(st)->s->queue, id, e_r, domain_r);
}

static int copy_tomb(struct storage *st, const struct msgid *id, struct storage_state *st_r)
{
    struct copy_door *d = door_of(st);
    return queue_tomb(d->s->queue, id, st_r, d->tomb);
}

/* Bags with their names, so that each is told without the lock. */
struct bag_list {
    struct bag_line {
        struct bag_stat stat;
        uint8_t name_n, name[255];
    } * lines;
    size_t n, cap;
};

static void bag_note(void *arg, struct slice domain, const struct bag_stat *stat)
{
    struct bag_list *l = arg;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct bag_line *lines = realloc(l->lines, cap * sizeof *lines);
        if (!lines)
            return;
        l->lines = lines;
        l->cap = cap;
    }
    struct bag_line *line = &l->lines[l->n++];
    line->stat = *stat;
    line->name_n = (uint8_t)domain.n;
    memcpy(line->name, domain.p, line->name_n);
}

static void copy_bags(struct storage *st, void (*each)(void *arg, struct slice domain, const struct bag_stat *st),
                      void *arg)
{
    struct bag_list l = {0};
    spool_bags(door_of(st)->s, bag_note, &l);
    for (size_t i = 0; i < l.n; i++)
        each(arg, slice_of(l.lines[i].name, l.lines[i].name_n), &l.lines[i].stat);
    free(l.lines);
}

static void copy_bag(struct storage *st, struct slice domain, struct bag_stat *st_r)
{
    spool_bag_stat(door_of(st)->s, domain, st_r);
}

static int copy_list(struct storage *st, struct slice domain, struct slice after,
                     bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r,
                     size_t *cursor_n_r)
{
    return queue_list(door_of(st)->s->queue, domain, after, each, arg, cursor_r, cursor_n_r);
}

static int part_place(struct queue *q, const struct msgid *id, uint32_t part, uint64_t *pos_r, uint32_t *size_r)
{
    struct queue_entry e;
    char domain[256];
    int res = queue_find(q, id, &e, domain);
    if (res == 0 && part > 0)
        return part > e.chunks ? -SATCHEL_ENOENT : queue_chunk(q, id, part - 1, pos_r, size_r);
    *pos_r = e.pos;
    *size_r = e.size;
    return res;
}

/* What the index names and the log has not is damaged, once it is clear that it was not moved meanwhile. */
static int copy_read(struct storage *st, const struct msgid *id, uint32_t part, struct record *rec_r)
{
    struct copy_door *d = door_of(st);
    uint64_t pos = 0;
    uint32_t size = 0;
    int res = -SATCHEL_ENOENT;
    for (int i = 0; i < READ_TRIES && res == -SATCHEL_ENOENT; i++) {
        res = part_place(d->s->queue, id, part, &pos, &size);
        if (res < 0)
            return res;
        res = segread_record(d->reader, pos, size, rec_r);
    }
    if (res == 0 && !msgid_eq(&rec_r->id, id))
        res = -SATCHEL_EDAMAGED;
    return res == -SATCHEL_ENOENT ? -SATCHEL_EDAMAGED : res;
}

static void copy_stat(struct storage *st, struct storage_stat *st_r)
{
    struct spool *s = door_of(st)->s;
    struct seglog_info log;
    struct queue_totals q;
    seglog_info(s->log, &log);
    spool_lock(s);
    queue_totals(s->queue, &q);
    spool_unlock(s);
    *st_r = (struct storage_stat){
        .messages = q.messages,
        .bytes = q.bytes,
        .tombs = q.tombs,
        .tombs_owed = q.tombs_owed,
        .room_bytes = log.room_bytes,
        .fenced = log.fenced || atomic_load_explicit(&s->broken, memory_order_relaxed),
    };
    memcpy(st_r->self.b, log.storage_uuid, sizeof st_r->self.b);
}

/* ---- tombstones */

static void copy_owed(struct storage *st, const struct storage_id *to, const struct msgid *after,
                      bool (*each)(void *arg, const struct storage_state *st), void *arg)
{
    int res = queue_tombs_owed(door_of(st)->s->queue, to, after, each, arg);
    if (res < 0)
        log_warning("spool.owed_failed", "error=\"%s\"", satchel_strerror(res));
}

static void copy_confirm(struct storage *st, const struct storage_id *to, const struct msgid *ids, size_t n)
{
    struct spool *s = door_of(st)->s;
    for (size_t at = 0; at < n; at += LOCKED_IDS) {
        spool_lock(s);
        queue_tombs_confirm(s->queue, to, ids + at, n - at < LOCKED_IDS ? n - at : LOCKED_IDS);
        spool_unlock(s);
    }
}

static void copy_settled(struct storage *st, const struct msgid *ids, size_t n)
{
    copy_confirm(st, NULL, ids, n);
}

struct id_batch {
    struct msgid ids[LOCKED_IDS];
    size_t n;
};

static bool id_note(void *arg, const struct storage_state *st)
{
    struct id_batch *b = arg;
    b->ids[b->n++] = st->id;
    return b->n < LOCKED_IDS;
}

static void copy_retire(struct storage *st, const struct storage_id *gone)
{
    struct id_batch b;
    struct msgid last;
    bool more = false;
    do {
        b.n = 0;
        copy_owed(st, gone, more ? &last : NULL, id_note, &b);
        copy_confirm(st, gone, b.ids, b.n);
        more = b.n == LOCKED_IDS;
        last = b.ids[more ? LOCKED_IDS - 1 : 0];
    } while (more);
}

/* ---- the tap */

/* On the indexer, under the lock. */
void storage_changed(struct copy_door *d, const struct storage_state *st)
{
    struct tap *t = NULL;
    if (atomic_load_explicit(&d->taps, memory_order_relaxed) < TAPS_MAX)
        t = malloc(sizeof *t + st->domain.n + st->owed.n);
    if (!t) {
        if (!atomic_exchange(&d->taps_lost, true))
            log_warning("spool.tap_full", "changes=%d action=\"copies hear of them when they are compared\"", TAPS_MAX);
        return;
    }
    t->st = *st;
    t->st.domain.p = t->bytes;
    t->st.owed.p = t->bytes + st->domain.n;
    memcpy(t->bytes, st->domain.p, st->domain.n);
    if (st->owed.n)
        memcpy(t->bytes + st->domain.n, st->owed.p, st->owed.n);
    atomic_fetch_add_explicit(&d->taps, 1, memory_order_relaxed);
    door_stage(d, &t->post, MAIL_TAP, 0);
}

static void copy_tap(struct storage *st, void (*each)(void *arg, const struct storage_state *st), void *arg)
{
    struct copy_door *d = door_of(st);
    d->tap_each = each;
    d->tap_arg = arg;
}

static void copy_observe(struct storage *st, uint64_t arrival_us)
{
    spool_observe(door_of(st)->s, arrival_us);
}

static void copy_ready(struct storage *st, struct slice domain)
{
    outlet_bag_ready(door_of(st)->s, domain);
}

/* ---- turning */

static void ring_committer(struct copy_door *d)
{
    if (d->posted && d->posted_bytes >= RING_BYTES)
        bell_ring(&d->s->to_committer.bell);
    else if (d->posted)
        committer_ring_soon(d->s);
    d->posted = false;
    d->posted_bytes = 0;
}

static void copy_poll(struct storage *st)
{
    struct copy_door *d = door_of(st);
    if (d->armed)
        bell_disarm(&d->box.bell);
    d->armed = false;
    ring_committer(d);
    tell_all(d, list_take(&d->answers));
    tell_all(d, mailbox_take(&d->box));
    if (atomic_load_explicit(&d->taps, memory_order_relaxed) == 0)
        atomic_store_explicit(&d->taps_lost, false, memory_order_relaxed);
    ring_committer(d);
}

static bool copy_sleep(struct storage *st)
{
    struct copy_door *d = door_of(st);
    if (!d->armed)
        bell_arm(&d->box.bell);
    d->armed = true;
    return mailbox_empty(&d->box) && !d->answers.first && !d->posted;
}

/* What is under way comes to its end first. */
static void copy_close(struct storage **st)
{
    struct copy_door *d = door_of(*st);
    struct spool *s = d->s;
    for (copy_poll(*st); d->under_way; copy_poll(*st))
        if (copy_sleep(*st)) {
            struct pollfd p = {d->box.bell.fd, POLLIN, 0};
            poll(&p, 1, CLOSE_WAIT_MS);
        }
    spool_lock(s);
    s->copies = NULL;
    spool_unlock(s);
    storage_committed(d);
    d->tap_each = NULL;
    tell_all(d, mailbox_take(&d->box));
    committer_forget_bell(s, &d->bell);
    segread_close(&d->reader);
    fresh_free(&d->fresh);
    mailbox_destroy(&d->box);
    free(d);
    *st = NULL;
}

static const struct storage_ops copy_ops = {
    .put = door_put,
    .merge = copy_merge,
    .forget = copy_forget,
    .find = copy_find,
    .tomb = copy_tomb,
    .bags = copy_bags,
    .bag = copy_bag,
    .list = copy_list,
    .read = copy_read,
    .owed = copy_owed,
    .confirm = copy_confirm,
    .settled = copy_settled,
    .retire = copy_retire,
    .tap = copy_tap,
    .observe = copy_observe,
    .ready = copy_ready,
    .stat = copy_stat,
    .poll = copy_poll,
    .sleep = copy_sleep,
    .close = copy_close,
};

static bool any_from(void *spool, const struct msgid *from)
{
    return queue_any_from(((struct spool *)spool)->queue, from);
}

int spool_storage(struct spool *s, struct storage **st_r)
{
    struct copy_door *d = calloc(1, sizeof *d);
    if (!d)
        return -SATCHEL_ENOMEM;
    d->fresh = fresh_new(any_from, s);
    int rc = d->fresh ? segread_open(&d->reader, s->disk) : -SATCHEL_ENOMEM;
    if (rc == 0 && (rc = mailbox_init(&d->box)) < 0)
        segread_close(&d->reader);
    if (rc < 0) {
        fresh_free(&d->fresh);
        free(d);
        return rc;
    }
    d->s = s;
    d->st.ops = &copy_ops;
    d->st.fd = d->box.bell.fd;
    list_take(&d->answers);
    list_take(&d->staged);
    d->bell.bell = &d->box.bell;
    committer_add_bell(s, &d->bell);
    spool_lock(s);
    s->copies = d;
    spool_unlock(s);
    *st_r = &d->st;
    return 0;
}
