/* claim.c - holds, and handing out messages in order.
 *
 * bag.h tells the plan: a walk over the bag with a cursor, merged with the heap of what comes out before the cursor.
 * Whether a message may be handed out is always read from its entry, never from the heap, which may be out of date. */
#include "spool/base/err.h"
#include "spool/queue/queue_impl.h"
#include <assert.h>
#include <stdlib.h>

enum {
    WALK_STEPS_MAX = 8192, /* entries looked at in one call: a bag of deferred mail is not walked in one go */
    PULL_MAX = 4096,       /* deferred messages that are taken up in one call */
};

/* ---- holds */

static bool hold_eq(const void *item, const void *key)
{
    return msgid_eq(&((const struct hold *)item)->at.id, key);
}

static uint64_t hold_hash(const struct msgid *id)
{
    return table_hash(slice_of(id, sizeof *id));
}

struct hold *hold_find(const struct queue *q, const struct msgid *id)
{
    return q->holds.n ? table_find(&q->holds, hold_hash(id), hold_eq, id) : NULL;
}

bool queue_held(const struct queue *q, const struct msgid *id)
{
    return hold_find(q, id) != NULL;
}

static bool hold_is_fresh(const struct hold *h)
{
    return !h->gone && !h->held && h->due_us == 0;
}

static void hold_value(struct hold *h, struct slice value)
{
    h->value_n = value.n <= HOLD_VALUE_MAX ? (uint8_t)value.n : 0;
    if (h->value_n)
        memcpy(h->value, value.p, value.n);
}

void hold_keep(struct queue *q, const struct msgid *id, struct slice value)
{
    struct hold *h = hold_find(q, id);
    if (h)
        hold_value(h, value);
}

struct hold *hold_begin(struct queue *q, struct bag *b, const struct place *at, const struct entry *e,
                        enum hold_kind kind)
{
    uint8_t value[ENTRY_VALUE_MAX];
    struct hold *h = malloc(sizeof *h);
    if (!h)
        return NULL;
    *h = (struct hold){.hash = hold_hash(&at->id),
                       .at = *at,
                       .bag = b,
                       .kind = kind,
                       .due_us = e->state.due_us,
                       .held = e->state.held,
                       .seq = e->state.seq};
    hold_value(h, slice_of(value, entry_encode(e, value)));
    table_add(&q->holds, h->hash, h);
    b->claimed++;
    b->claimed_fresh += hold_is_fresh(h);
    return h;
}

void hold_follow(struct queue *q, const struct msgid *id, const struct msg_state *s)
{
    struct hold *h = hold_find(q, id);
    if (!h)
        return;
    h->bag->claimed_fresh -= hold_is_fresh(h);
    h->gone = s == NULL;
    if (h->gone)
        atomic_store(&h->over, true); /* an end that was on its way before the message came, or an ABORT */
    if (s) {
        h->due_us = s->due_us;
        h->held = s->held;
        h->seq = s->seq;
    }
    h->bag->claimed_fresh += hold_is_fresh(h);
}

static int wait_cmp(uint64_t a_due_us, const struct place *a, uint64_t b_due_us, const struct place *b)
{
    if (a_due_us != b_due_us)
        return a_due_us < b_due_us ? -1 : 1;
    return place_cmp(a, b);
}

void bag_place(struct bag *b, const struct place *at, uint64_t due_us, bool held)
{
    if (held)
        return;
    bool passed = due_us ? wait_cmp(due_us, at, b->pulled_due_us, &b->pulled) <= 0 : place_cmp(at, &b->cursor) <= 0;
    if (passed)
        heap_push(&b->back, at, 0);
    else if (due_us && due_us < b->next_due_us)
        b->next_due_us = due_us;
}

void hold_end(struct queue *q, struct hold *h, bool back)
{
    struct bag *b = h->bag;
    table_del(&q->holds, h->hash, h);
    b->claimed--;
    b->claimed_fresh -= hold_is_fresh(h);
    if (!h->gone && back)
        heap_push(&b->back, &h->at, 1 + (uint64_t)h->seq);
    else if (!h->gone)
        bag_place(b, &h->at, h->due_us, h->held);
    bool due = !h->gone && !back && !h->held && h->due_us <= clock_wall_us(q->clock);
    if (due || b->stopped)
        queue_ready(q, b);
    b->stopped = false;
    if (b->messages == 0)
        bag_touch(&q->bags, b); /* so that the next commit forgets it */
    struct late_end *late = h->late;
    free(h);
    if (late)
        late_end_start(q, late);
}

void hold_free(void *item)
{
    struct hold *h = item;
    free(h->late);
    free(h);
}

/* ---- the walk */

struct walk {
    struct queue *q;
    struct bag *bag;
    struct index_iter *it;
    uint64_t now_us;
    uint32_t steps;
    bool end;  /* nothing beyond the cursor, or the budget is used up */
    bool more; /* the budget is used up */
    bool have; /* `at` and `entry` are the next beyond the cursor */
    struct place at;
    struct entry entry;
};

static bool walk_open(struct walk *w)
{
    struct bag *b = w->bag;
    if (bag_fresh(b) == 0 && b->cursor.arrival_us > b->flush_us)
        return false;
    struct key from = key_after(key_queue(bag_name(b), &b->cursor)), to = key_bag_to(KEY_QUEUE, bag_name(b));
    w->it = store_iter(&w->q->store, &from, &to);
    return w->it != NULL;
}

static bool walk_peek(struct walk *w)
{
    if (w->have || w->end)
        return w->have;
    w->more = ++w->steps > WALK_STEPS_MAX;
    if (w->more || (!w->it && !walk_open(w))) {
        w->end = true;
        return false;
    }
    struct slice key, value, domain;
    if (!w->q->ix->ops->next(w->it, &key, &value)) {
        w->end = true;
        w->bag->flush_us = 0;
        return false;
    }
    w->have = key_queue_parse(key, &domain, &w->at) && entry_decode(value, &w->entry) == 0;
    w->end = !w->have;
    return w->have;
}

static bool entry_due(const struct walk *w, const struct entry *e, bool force)
{
    return !e->state.held && (force || e->state.due_us <= w->now_us);
}

enum step { STEP_SKIP, STEP_TAKE, STEP_STOP };

/* A message that is being moved will be back in a moment: waiting keeps the order. */
static enum step walk_judge(struct walk *w, const struct place *at, bool due)
{
    const struct hold *h = hold_find(w->q, &at->id);
    if (!due)
        return STEP_SKIP;
    if (!h)
        return STEP_TAKE;
    if (h->kind != HOLD_MOVE)
        return STEP_SKIP;
    w->bag->stopped = true;
    return STEP_STOP;
}

static enum step walk_heap(struct walk *w, struct place *at_r, struct entry *e_r)
{
    struct back top = *heap_top(&w->bag->back);
    *at_r = top.at;
    bool there = queue_entry_load(w->q, bag_name(w->bag), &top.at, e_r) == 0;
    enum step step = walk_judge(w, at_r, there && entry_due(w, e_r, top.force == 1 + (uint64_t)e_r->state.seq));
    if (step != STEP_STOP)
        heap_pop(&w->bag->back);
    return step;
}

static enum step walk_fresh(struct walk *w, struct place *at_r, struct entry *e_r)
{
    *at_r = w->at;
    *e_r = w->entry;
    enum step step = walk_judge(w, at_r, entry_due(w, e_r, w->at.arrival_us <= w->bag->flush_us));
    if (step == STEP_STOP)
        return step;
    w->bag->cursor = w->at;
    w->have = false;
    return step;
}

/* The next message to hand out, which is then neither in the heap nor beyond the cursor. */
static bool walk_next(struct walk *w, struct place *at_r, struct entry *e_r)
{
    enum step step = STEP_SKIP;
    while (step == STEP_SKIP) {
        bool fresh = walk_peek(w);
        if (!fresh && w->bag->back.n == 0)
            return false;
        bool heap = w->bag->back.n && (!fresh || place_cmp(&heap_top(&w->bag->back)->at, &w->at) <= 0);
        step = heap ? walk_heap(w, at_r, e_r) : walk_fresh(w, at_r, e_r);
    }
    return step == STEP_TAKE;
}

/* Deferred messages whose time has come go to the heap, in the order of their due time. */
static void bag_pull(struct queue *q, struct bag *b, uint64_t now_us)
{
    if (b->deferred == 0 || b->next_due_us > now_us)
        return;
    struct key from = key_after(key_wait(bag_name(b), b->pulled_due_us, &b->pulled));
    struct key to = key_bag_to(KEY_WAIT, bag_name(b));
    struct index_iter *it = store_iter(&q->store, &from, &to);
    if (!it)
        return;
    b->next_due_us = UINT64_MAX;
    struct slice key, value;
    struct place at;
    uint64_t due_us;
    for (int n = 0; q->ix->ops->next(it, &key, &value) && key_wait_parse(key, &due_us, &at); n++) {
        if (due_us > now_us || n == PULL_MAX) {
            b->next_due_us = due_us;
            break;
        }
        heap_push(&b->back, &at, 0);
        b->pulled_due_us = due_us;
        b->pulled = at;
    }
    q->ix->ops->iter_free(&it);
}

static struct walk walk_start(struct queue *q, struct bag *b)
{
    struct walk w = {.q = q, .bag = b, .now_us = clock_wall_us(q->clock)};
    bag_pull(q, b, w.now_us);
    return w;
}

/* ---- claiming */

static void claim_fill(struct claim *c_r, const struct hold *h, const struct place *at, const struct entry *e)
{
    *c_r = (struct claim){.id = at->id,
                          .arrival_us = at->arrival_us,
                          .pos = e->pos,
                          .size = e->size,
                          .chunks = e->chunks,
                          .body_bytes = e->body_bytes,
                          .state = e->state,
                          .over = &h->over};
}

static size_t claim_due(struct queue *q, struct bag *b, struct claim *claims_r, size_t cap)
{
    struct walk w = walk_start(q, b);
    struct place at;
    struct entry e;
    size_t n = 0;
    while (n < cap && walk_next(&w, &at, &e)) {
        const struct hold *h = hold_begin(q, b, &at, &e, HOLD_DUE);
        if (!h) {
            heap_push(&b->back, &at, 1 + (uint64_t)e.state.seq);
            break;
        }
        claim_fill(&claims_r[n++], h, &at, &e);
    }
    q->ix->ops->iter_free(&w.it);
    if (n < cap && w.more)
        queue_ready(q, b);
    return n;
}

static size_t claim_older(struct queue *q, struct bag *b, uint64_t before_us, struct claim *claims_r, size_t cap)
{
    struct place from_at = {.arrival_us = b->low_us}, to_at = {.arrival_us = before_us}, at;
    if (b->low_us >= before_us)
        return 0;
    struct key from = key_queue(bag_name(b), &from_at), to = key_queue(bag_name(b), &to_at);
    struct index_iter *it = store_iter(&q->store, &from, &to);
    struct slice key, value, domain;
    struct entry e;
    size_t n = 0;
    while (it && n < cap && q->ix->ops->next(it, &key, &value)) {
        if (!key_queue_parse(key, &domain, &at) || hold_find(q, &at.id) || entry_decode(value, &e))
            continue;
        const struct hold *h = hold_begin(q, b, &at, &e, HOLD_PICK);
        if (!h)
            break;
        claim_fill(&claims_r[n++], h, &at, &e);
    }
    q->ix->ops->iter_free(&it);
    return n;
}

size_t queue_claim(struct queue *q, struct slice domain, enum claim_mode mode, uint64_t before_us,
                   struct claim *claims_r, size_t cap)
{
    struct bag *b = bags_find(&q->bags, domain);
    if (!b || b->messages == 0 || q->store.err)
        return 0;
    return mode == CLAIM_DUE ? claim_due(q, b, claims_r, cap) : claim_older(q, b, before_us, claims_r, cap);
}

int queue_claim_id(struct queue *q, const struct msgid *id, struct claim *claim_r, char domain_r[256])
{
    struct place at;
    struct entry e;
    int res = queue_id_load(q, id, domain_r, &at);
    if (res == 0)
        res = queue_entry_load(q, slice_str(domain_r), &at, &e);
    if (res)
        return res;
    if (hold_find(q, id))
        return -SATCHEL_EBUSY;
    const struct hold *h = hold_begin(q, bags_need(&q->bags, slice_str(domain_r)), &at, &e, HOLD_PICK);
    if (!h)
        return -SATCHEL_ENOMEM;
    claim_fill(claim_r, h, &at, &e);
    return 0;
}

void queue_unclaim(struct queue *q, const struct msgid *id)
{
    struct hold *h = hold_find(q, id);
    if (h && h->kind != HOLD_MOVE)
        hold_end(q, h, h->kind == HOLD_DUE);
}

/* ---- deferred mail */

uint64_t queue_flush_domain(struct queue *q, struct slice domain)
{
    struct bag *b = bags_find(&q->bags, domain);
    if (!b || b->deferred == 0)
        return 0;
    b->flush_us = b->newest_us;
    bag_rewind(b);
    queue_ready(q, b);
    return b->deferred;
}

/* Looks for a message as a claim would, and puts it back in front. */
uint64_t queue_next_due(struct queue *q, struct slice domain)
{
    struct bag *b = bags_find(&q->bags, domain);
    if (!b || b->messages == 0 || q->store.err)
        return UINT64_MAX;
    struct walk w = walk_start(q, b);
    struct place at;
    struct entry e;
    bool some = walk_next(&w, &at, &e);
    if (some)
        heap_push(&b->back, &at, e.state.due_us > w.now_us ? 1 + (uint64_t)e.state.seq : 0);
    q->ix->ops->iter_free(&w.it);
    return some || w.more ? 0 : b->next_due_us;
}
