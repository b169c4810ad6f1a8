/* test_storage.c - the storage door: puts, ends and tombstones by ID, in any order; damage. */
#include "tests/unit/storage_rig.h"

static void merge_done(struct storage_merge *m, int res)
{
    struct answer *a = m->arg;
    *a = (struct answer){a->n + 1, res};
}

static struct record chunk_record(uint64_t n, uint32_t index, uint8_t meta_r[1024])
{
    uint8_t v[4];
    struct wire_wr w = wire_wr(meta_r, 1024), c = wire_wr(v, sizeof v);
    wire_put_u32(&c, index);
    meta_put(&w, RT_CHUNK_INDEX, slice_of(v, sizeof v));
    struct slice body = SLICE_LIT("0123456789");
    return (struct record){.type = REC_CHUNK,
                           .id = id_of(n),
                           .meta = slice_of(meta_r, wire_len(&w)),
                           .body = body,
                           .body_sum = record_body_sum(body)};
}

static int put_n(uint64_t n, uint32_t rcpts, uint32_t flags)
{
    uint8_t meta[1024];
    struct record rec = msg_record(n, rcpts, 0, SLICE_LIT("the body"), meta);
    return put_record(&rec, flags);
}

/* ends: one letter an item: L live, D delivered, B bounced. */
static struct msg_state state_of(const char *ends, uint32_t seq)
{
    struct msg_state s = {.items = (uint32_t)strlen(ends), .live = (uint32_t)strlen(ends), .seq = seq};
    for (uint32_t i = 0; i < s.items; i++)
        state_finish(&s, i, ends[i] == 'D' ? ITEM_DELIVERED : ends[i] == 'B' ? ITEM_BOUNCED : ITEM_LIVE);
    return s;
}

static int merge_once(uint64_t n, const char *ends, uint32_t seq, struct slice owed)
{
    struct answer a = {0};
    struct storage_merge m = {.st = {.id = id_of(n),
                                     .arrival_us = 1000 + n,
                                     .domain = slice_str(DOMAIN),
                                     .owed = owed,
                                     .state = state_of(ends, seq)},
                              .done = merge_done,
                              .arg = &a};
    rig.st->ops->merge(rig.st, &m);
    return answered(&a);
}

/* As the cluster does: one that is held is tried again. */
static int merge_n(uint64_t n, const char *ends, uint32_t seq)
{
    int res = -SATCHEL_EBUSY;
    for (int i = 0; i < 2000 && res == -SATCHEL_EBUSY; i++)
        res = merge_once(n, ends, seq, slice_of(OWED, sizeof OWED));
    return res;
}

static bool count_one(void *arg, const struct storage_state *st)
{
    assert_int_equal(st->state.live, 0);
    ++*(size_t *)arg;
    return true;
}

static size_t owed_to(const struct storage_id *to)
{
    size_t n = 0;
    rig.st->ops->owed(rig.st, to, NULL, count_one, &n);
    return n;
}

/* ---- put */

static bool digest_add(void *arg, const struct queue_entry *e)
{
    *(uint64_t *)arg += queue_entry_digest(&e->id, &e->state);
    return true;
}

static void check_digest(void)
{
    uint64_t sum = 0;
    struct bag_stat st;
    rig.st->ops->bag(rig.st, slice_str(DOMAIN), &st); /* settles what is applied */
    rig.st->ops->list(rig.st, slice_str(DOMAIN), (struct slice){0}, digest_add, &sum, NULL, NULL);
    assert_int_equal(st.digest, sum);
}

static void a_put_is_stored_once(void **state)
{
    (void)state;
    struct record rec;
    struct queue_entry e;
    struct bag_stat bag;
    assert_int_equal(put_n(1, 2, 0), 0);
    assert_true(wait_live(1, true));
    for (int i = 0; i < 3; i++)
        assert_int_equal(put_n(1, 2, PUT_LAZY), 0);
    assert_true(live(1, &e));
    assert_int_equal(e.state.items, 2);
    assert_int_equal(e.arrival_us, 1001);
    rig.st->ops->bag(rig.st, slice_str(DOMAIN), &bag);
    assert_int_equal(bag.messages, 1);
    assert_int_equal(bag.digest, queue_entry_digest(&e.id, &e.state));
    assert_int_equal(rig.st->ops->read(rig.st, &e.id, 0, &rec), 0);
    assert_true(slice_eq(rec.body, SLICE_LIT("the body")));
    assert_int_equal(rig.st->ops->read(rig.st, &e.id, 1, &rec), -SATCHEL_ENOENT);
    struct msgid other = id_of(2);
    assert_int_equal(rig.st->ops->read(rig.st, &other, 0, &rec), -SATCHEL_ENOENT);
    struct outlet_msg *m;
    assert_int_equal(rig.o->ops->claim(rig.o, slice_str(DOMAIN), CLAIM_DUE, 0, &m, 1), 1);
    assert_int_equal(m->rcpts_n, 2);
    rig.o->ops->release(rig.o, m);
}

/* Duplicates that are under way at once are one message, wherever its record then lies. */
static void duplicates_in_flight(void **state)
{
    (void)state;
    uint8_t meta[1024];
    struct answer a[20] = {0};
    struct storage_put p[20];
    for (int i = 0; i < 20; i++) {
        p[i] = (struct storage_put){
            .rec = msg_record(1 + (uint64_t)i % 2, 1, 0, SLICE_LIT("x"), meta), .done = put_done, .arg = &a[i]};
        rig.st->ops->put(rig.st, &p[i]);
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(answered(&a[i]), 0);
    assert_true(wait_live(1, true) && wait_live(2, true));
    assert_int_equal(stat_now().messages, 2);
    check_digest();
    assert_int_equal(merge_n(1, "D", 1), 0);
    assert_int_equal(merge_n(2, "D", 1), 0);
    rig_reopen(true);
    assert_int_equal(stat_now().messages, 0);
    wait_tombs(2, 2);
}

static void a_message_with_chunks_is_whole_or_refused(void **state)
{
    (void)state;
    uint8_t meta[1024];
    struct record rec, m = msg_record(1, 1, 3, (struct slice){0}, meta);
    uint8_t cm[1024];
    for (uint32_t i = 0; i < 2; i++) {
        rec = chunk_record(1, i, cm);
        assert_int_equal(put_record(&rec, 0), 0);
    }
    assert_int_equal(put_record(&m, 0), -SATCHEL_ENOENT); /* a part is missing: nothing of it counts as a copy */
    assert_true(wait_live(1, false));
    assert_int_equal(put_record(&m, 0), -SATCHEL_ENOENT);
    assert_true(wait_live(1, false));
    check_digest();
    for (uint32_t i = 0; i < 3; i++) {
        rec = chunk_record(1, i, cm);
        assert_int_equal(put_record(&rec, 0), 0);
    }
    assert_int_equal(put_record(&m, 0), 0);
    assert_true(wait_live(1, true));
    assert_int_equal(put_record(&m, 0), 0);
    struct msgid id = id_of(1);
    for (uint32_t part = 1; part <= 3; part++) {
        assert_int_equal(rig.st->ops->read(rig.st, &id, part, &rec), 0);
        assert_true(slice_eq(rec.body, SLICE_LIT("0123456789")));
    }
    assert_int_equal(rig.st->ops->read(rig.st, &id, 4, &rec), -SATCHEL_ENOENT);
}

/* An ABORT takes away chunks whose message never comes. */
static void an_abort_forgets_chunks(void **state)
{
    (void)state;
    uint8_t meta[1024];
    struct record rec = chunk_record(1, 0, meta);
    assert_int_equal(put_record(&rec, 0), 0);
    rec = (struct record){.type = REC_ABORT, .id = id_of(1), .body_sum = record_body_sum((struct slice){0})};
    assert_int_equal(put_record(&rec, 0), 0);
    rec = msg_record(1, 1, 1, (struct slice){0}, meta);
    assert_int_equal(put_record(&rec, 0), -SATCHEL_ENOENT);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    uint8_t meta[1024];
    struct record rec = msg_record(1, 1, 0, SLICE_LIT("x"), meta);
    rec.copyset = slice_of(OWED, 7);
    assert_int_equal(put_record(&rec, 0), -SATCHEL_EINVAL);
    rec.copyset.n = 0;
    rec.id.counter = 0;
    assert_int_equal(put_record(&rec, 0), -SATCHEL_EINVAL);
}

/* ---- ends */

static void ends_are_a_union(void **state)
{
    (void)state;
    struct queue_entry e;
    struct storage_state st;
    assert_int_equal(put_n(1, 3, 0), 0);
    assert_true(wait_live(1, true));
    assert_int_equal(merge_n(1, "DLL", 4), 0);
    assert_int_equal(merge_n(1, "LBL", 2), 0); /* older, and yet news */
    assert_int_equal(merge_n(1, "DLL", 4), 0);
    for (int i = 0; i < 2000 && live(1, &e) && e.state.live != 1; i++)
        turn();
    assert_true(live(1, &e));
    assert_int_equal(e.state.live, 1);
    assert_int_equal(state_end(&e.state, 0), ITEM_DELIVERED);
    assert_int_equal(state_end(&e.state, 1), ITEM_BOUNCED);
    check_digest();
    assert_int_equal(merge_n(1, "LL", 9), -SATCHEL_EINVAL);
    assert_int_equal(merge_n(1, "LLD", 1), 0);
    assert_true(wait_live(1, false));
    assert_true(tomb(1, &st));
    assert_int_equal(st.state.live, 0);
    assert_int_equal(state_end(&st.state, 1), ITEM_BOUNCED);
    assert_int_equal(st.arrival_us, 1001);
    assert_true(slice_eq(st.domain, slice_str(DOMAIN)));
    assert_true(slice_eq(st.owed, slice_of(OWED, sizeof OWED)));
    assert_int_equal(merge_n(1, "DDD", 20), 0); /* final is final */
    assert_true(tomb(1, &st));
    assert_int_equal(state_end(&st.state, 1), ITEM_BOUNCED);
    assert_int_equal(rig.taps_n, 0);
}

static void an_end_may_come_before_its_message(void **state)
{
    (void)state;
    struct storage_state st;
    assert_int_equal(merge_n(7, "L", 3), -SATCHEL_ENOENT);
    assert_int_equal(merge_n(7, "D", 3), 0);
    assert_true(tomb(7, &st) || (turn(), tomb(7, &st)));
    assert_int_equal(put_n(7, 1, 0), -SATCHEL_EEXIST);
    assert_int_equal(put_n(7, 1, PUT_REPAIR), -SATCHEL_EEXIST);
    for (int i = 0; i < 2; i++) {
        rig_reopen(i == 1);
        assert_int_equal(put_n(7, 1, 0), -SATCHEL_EEXIST);
        wait_tombs(1, 1);
        assert_int_equal(owed_to(&B), 1);
        assert_int_equal(owed_to(&C), 1);
        assert_int_equal(owed_to(NULL), 1);
    }
}

/* Requests that are sent at once, in an order; what comes of them does not depend on it. */
enum request { PUT, PUT_AGAIN, END_A, END_B, END_ALL, FORGET, REQUESTS };

struct sent {
    struct answer a;
    struct storage_put p;
    struct storage_merge m;
    uint8_t meta[1024];
};

static void send(struct sent *s, enum request what, uint64_t n)
{
    static const char *const ends[] = {[END_A] = "DL", [END_B] = "LB", [END_ALL] = "DB"};
    struct msgid id = id_of(n);
    s->a = (struct answer){0};
    if (what == FORGET) {
        rig.st->ops->forget(rig.st, &id, 1);
        s->a.n = 1;
    } else if (what <= PUT_AGAIN) {
        s->p = (struct storage_put){
            .rec = msg_record(n, 2, 0, SLICE_LIT("the body"), s->meta), .done = put_done, .arg = &s->a};
        rig.st->ops->put(rig.st, &s->p);
    } else {
        s->m = (struct storage_merge){.st = {.id = id,
                                             .arrival_us = 1000 + n,
                                             .domain = slice_str(DOMAIN),
                                             .owed = slice_of(OWED, sizeof OWED),
                                             .state = state_of(ends[what], what)},
                                      .done = merge_done,
                                      .arg = &s->a};
        rig.st->ops->merge(rig.st, &s->m);
    }
}

static void any_order(uint64_t n, const enum request *order, bool wait_each)
{
    static struct sent sent[REQUESTS];
    for (int i = 0; i < REQUESTS; i++) {
        send(&sent[i], order[i], n);
        if (wait_each)
            answered(&sent[i].a);
    }
    for (int i = 0; i < REQUESTS; i++)
        answered(&sent[i].a);
    assert_int_equal(merge_n(n, "DB", 9), 0); /* in the end all have said it to the end */
}

static bool next_order(enum request *order)
{
    int i = REQUESTS - 2, k = REQUESTS - 1;
    while (i >= 0 && order[i] > order[i + 1])
        i--;
    if (i < 0)
        return false;
    while (order[k] < order[i])
        k--;
    enum request t = order[i];
    order[i] = order[k];
    order[k] = t;
    for (int a = i + 1, b = REQUESTS - 1; a < b; a++, b--) {
        t = order[a];
        order[a] = order[b];
        order[b] = t;
    }
    return true;
}

static void every_order_ends_alike(void **state)
{
    (void)state;
    enum request order[REQUESTS] = {PUT, PUT_AGAIN, END_A, END_B, END_ALL, FORGET};
    uint64_t n = 0;
    bool more = true;
    while (more) { /* every fifth of the 720 orders: each waits for the disk some times */
        n++;
        any_order(n, order, n % 3 == 0);
        for (int skip = 0; skip < 5 && more; skip++)
            more = next_order(order);
    }
    assert_int_equal(n, 144);
    for (int i = 0; i < 3; i++) {
        wait_tombs(n, n);
        assert_int_equal(stat_now().messages, 0);
        assert_int_equal(owed_to(&C), n);
        for (uint64_t k = 1; k <= n; k += 7)
            assert_int_equal(put_n(k, 2, 0), -SATCHEL_EEXIST);
        rig_reopen(i == 1);
    }
}

/* ---- who is owed */

static void confirmations_settle_a_tombstone(void **state)
{
    (void)state;
    struct msgid ids[10];
    for (uint64_t i = 0; i < 10; i++) {
        ids[i] = id_of(i + 1);
        assert_int_equal(merge_n(i + 1, "D", 1), 0);
    }
    wait_tombs(10, 10);
    rig.st->ops->confirm(rig.st, &B, ids, 5);
    rig.st->ops->confirm(rig.st, &B, ids, 5); /* twice is once */
    assert_int_equal(owed_to(&B), 5);
    assert_int_equal(owed_to(&C), 10);
    rig.st->ops->confirm(rig.st, &C, ids, 3);
    wait_tombs(10, 7);
    rig.st->ops->settled(rig.st, ids + 5, 2);
    wait_tombs(10, 5);
    rig_reopen(false); /* a clean end loses nothing of it */
    wait_tombs(10, 5);
    rig.st->ops->retire(rig.st, &C);
    wait_tombs(10, 3);
    assert_int_equal(owed_to(&C), 0);
    rig.st->ops->retire(rig.st, &B);
    wait_tombs(10, 0);
    rig_reopen(true); /* with the index all is forgotten but the tombstones: they are asked about again */
    wait_tombs(10, 10);
}

static void tombstones_expire_in_the_end(void **state)
{
    (void)state;
    struct msgid ids[3] = {id_of(1), id_of(2), id_of(3)};
    rig.tomb_min_us = 1;
    rig_reopen(false);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(put_n(i, 1, 0), 0);
        assert_true(wait_live(i, true));
        assert_int_equal(merge_n(i, "D", 1), 0);
    }
    wait_tombs(3, 3);
    rig.st->ops->settled(rig.st, ids, 2);
    wait_tombs(1, 1);
    assert_int_equal(owed_to(&B), 1);
    assert_int_equal(put_n(3, 1, 0), -SATCHEL_EEXIST);
}

/* The relay holds it: it is not to deliver it, and what came is taken in when it gives it back. */
static void an_end_withdraws_the_claim(void **state)
{
    (void)state;
    struct outlet_msg *m;
    struct slice domain;
    struct storage_state st;
    assert_int_equal(put_n(1, 2, 0), 0);
    assert_true(wait_live(1, true));
    while (rig.o->ops->ready(rig.o, &domain))
        ;
    assert_int_equal(rig.o->ops->claim(rig.o, slice_str(DOMAIN), CLAIM_DUE, 0, &m, 1), 1);
    assert_true(rig.o->ops->may(rig.o, m));
    assert_int_equal(merge_once(1, "DB", 3, slice_of(OWED, sizeof OWED)), -SATCHEL_EBUSY);
    assert_false(rig.o->ops->may(rig.o, m));
    assert_true(rig.o->ops->ready(rig.o, &domain));
    assert_true(slice_eq(domain, slice_str(DOMAIN)));
    assert_true(wait_live(1, true));
    rig.o->ops->release(rig.o, m);
    assert_true(wait_live(1, false));
    for (int i = 0; i < 2000 && !tomb(1, &st); i++)
        turn();
    assert_int_equal(state_end(&st.state, 1), ITEM_BOUNCED);
    assert_true(slice_eq(st.owed, slice_of(OWED, sizeof OWED)));
    assert_int_equal(merge_n(1, "DB", 3), 0);
    check_digest();
}

/* ---- forget */

static void a_forgotten_copy_may_come_back(void **state)
{
    (void)state;
    struct msgid ids[3] = {id_of(1), id_of(2), id_of(3)};
    struct outlet_msg *m;
    for (uint64_t i = 1; i <= 2; i++) {
        assert_int_equal(put_n(i, 1, 0), 0);
        assert_true(wait_live(i, true));
    }
    assert_int_equal(rig.o->ops->claim_id(rig.o, &ids[1], &m), 0);
    assert_int_equal(rig.st->ops->forget(rig.st, ids, 3), 1); /* held and unknown ones stay as they are */
    assert_true(wait_live(1, false));
    assert_int_equal(rig.st->ops->forget(rig.st, ids, 1), 0);
    rig.o->ops->release(rig.o, m);
    assert_int_equal(put_n(1, 1, 0), 0);
    assert_true(wait_live(1, true));
    for (int i = 0; i < 2; i++) {
        rig_reopen(i == 1);
        assert_int_equal(stat_now().messages, 2);
        assert_int_equal(stat_now().tombs, 0);
    }
}

/* ---- damage */

static void flip(uint64_t pos, uint32_t at)
{
    char path[300];
    uint8_t b;
    for (int slot = 0; slot < 8; slot++) {
        snprintf(path, sizeof path, "%s/log/slot-%06d.seg", dir, slot);
        int fd = open(path, O_RDWR);
        uint64_t seg = 0;
        if (fd >= 0 && pread(fd, &seg, 8, 40) == 8 && seg == logpos_seg(pos)) {
            off_t off = (off_t)logpos_off(pos) + at;
            assert_int_equal(pread(fd, &b, 1, off), 1);
            b ^= 1;
            assert_int_equal(pwrite(fd, &b, 1, off), 1);
        }
        if (fd >= 0)
            close(fd);
    }
}

static void a_repair_takes_the_place_of_damage(void **state)
{
    (void)state;
    struct queue_entry e;
    struct record rec;
    assert_int_equal(put_n(1, 2, 0), 0);
    assert_int_equal(put_n(2, 1, 0), 0);
    assert_true(wait_live(1, true) && wait_live(2, true));
    assert_int_equal(merge_n(1, "DL", 3), 0);
    assert_true(live(1, &e));
    uint64_t pos = e.pos;
    flip(pos, e.size - 8 - 1); /* in the body, near its end */
    rig_reopen(false);
    assert_int_equal(rig.st->ops->read(rig.st, &e.id, 0, &rec), -SATCHEL_EDAMAGED);
    assert_int_equal(put_n(1, 2, 0), 0); /* is here: changes nothing */
    assert_int_equal(rig.st->ops->read(rig.st, &e.id, 0, &rec), -SATCHEL_EDAMAGED);
    assert_int_equal(put_n(1, 2, PUT_REPAIR), 0);
    for (int i = 0; i < 2000 && live(1, &e) && e.pos == pos; i++)
        turn();
    assert_int_equal(rig.st->ops->read(rig.st, &e.id, 0, &rec), 0);
    assert_true(slice_eq(rec.body, SLICE_LIT("the body")));
    assert_true(live(1, &e));
    assert_int_equal(state_end(&e.state, 0), ITEM_DELIVERED); /* what was known of it stays */
    assert_int_equal(stat_now().messages, 2);
    check_digest();
}

/* Nobody has another copy: an operator ends it. */
static void a_damaged_one_can_be_deleted(void **state)
{
    (void)state;
    struct queue_entry e;
    struct outlet_msg *m;
    struct slice data;
    const struct item_result results[] = {{.item = 0, .end = ITEM_DELETED}, {.item = 1, .end = ITEM_DELETED}};
    assert_int_equal(put_n(1, 2, 0), 0);
    assert_true(wait_live(1, true) && live(1, &e));
    flip(e.pos, REC_HEADER_BYTES + 9); /* in the meta */
    rig_reopen(false);
    assert_int_equal(rig.o->ops->claim(rig.o, SLICE_LIT("a.test"), CLAIM_DUE, 0, &m, 1), 0);
    for (int i = 0; i < 2000 && rig.o->ops->claim_id(rig.o, &e.id, &m) < 0; i++)
        turn();
    assert_true(m->unreadable);
    assert_true(slice_eq(m->domain, SLICE_LIT("a.test")));
    assert_int_equal(m->rcpts_n, 2);
    assert_true(rig.o->ops->read(rig.o, m, 0, 1000, &data) < 0);
    assert_int_equal(rig.o->ops->finish(rig.o, m, results, 2, 0, false, NULL), 0);
    assert_true(wait_live(1, false));
    check_digest();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_put_is_stored_once),
        T(duplicates_in_flight),
        T(a_message_with_chunks_is_whole_or_refused),
        T(an_abort_forgets_chunks),
        T(what_does_not_fit_is_refused),
        T(ends_are_a_union),
        T(an_end_may_come_before_its_message),
        T(every_order_ends_alike),
        T(confirmations_settle_a_tombstone),
        T(tombstones_expire_in_the_end),
        T(an_end_withdraws_the_claim),
        T(a_forgotten_copy_may_come_back),
        T(a_repair_takes_the_place_of_damage),
        T(a_damaged_one_can_be_deleted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
