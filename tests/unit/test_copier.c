/* test_copier.c - a spool before a copier: the tap, and the doors of the intake behind it. */
#include "tests/unit/storage_rig.h"

/* ---- the tap, with a copier that only knows who holds what */

static size_t two_holders(struct copier *c, struct slice domain, uint8_t *uuids_r, size_t cap)
{
    (void)c, (void)domain;
    struct storage_id self;
    spool_storage_id(rig.s, &self);
    assert_true(cap >= 32);
    memcpy(uuids_r, self.b, 16);
    memcpy(uuids_r + 16, B.b, 16);
    return 32;
}

static void finish(const struct msgid *id, enum item_end first, enum item_end second, const struct outlet_dsn *dsn)
{
    struct outlet_msg *m;
    struct item_result r[2] = {{.item = 0, .end = first}, {.item = 1, .end = second}};
    for (int i = 0; i < 2; i++)
        status_set(&r[i].status, 250, 2, 0, 0, "said so");
    assert_int_equal(rig.o->ops->claim_id(rig.o, id, &m), 0);
    assert_int_equal(rig.o->ops->finish(rig.o, m, r, 2, 5000, false, dsn), 0);
}

static void the_tap_tells_each_change_once(void **state)
{
    (void)state;
    const struct copier_ops ops = {.holders = two_holders};
    struct copier copier = {&ops};
    uint8_t meta[1024];
    struct msgid id = id_of(1);
    struct storage_state st;
    const struct slice to = SLICE_LIT("sender@example.net");
    const struct outlet_dsn dsn = {.env = {.domain = SLICE_LIT("b.test"), .rcpts = &to, .rcpts_n = 1},
                                   .content = SLICE_LIT("it did not work\r\n")};
    spool_set_copier(rig.s, &copier);
    struct record rec = msg_record(1, 2, 0, SLICE_LIT("x"), meta);
    rec.copyset = slice_of(OWED, sizeof OWED); /* B, C */
    assert_int_equal(put_record(&rec, 0), 0);
    assert_true(wait_live(1, true));
    finish(&id, ITEM_LIVE, ITEM_DELIVERED, NULL);
    for (int i = 0; i < 2000 && rig.taps_n < 1; i++)
        turn();
    assert_int_equal(rig.taps_n, 1);
    assert_int_equal(rig.taps[0].state.live, 1);
    assert_int_equal(rig.taps[0].state.due_us, 5000);
    assert_int_equal(rig.taps[0].dsn.counter, 0);
    finish(&id, ITEM_BOUNCED, ITEM_DELIVERED, &dsn);
    for (int i = 0; i < 2000 && rig.taps_n < 2; i++)
        turn();
    assert_int_equal(rig.taps_n, 2);
    assert_int_equal(rig.taps[1].state.live, 0);
    assert_int_equal(rig.taps[1].owed.n, 32);
    assert_true(rig.taps[1].dsn.counter != 0);
    assert_int_equal(rig.taps[1].arrival_us, 1001);
    assert_true(tomb(1, &st));
    assert_true(slice_eq(st.owed, slice_of(OWED, sizeof OWED)));
    struct queue_entry e;
    char domain[256];
    assert_int_equal(rig.st->ops->find(rig.st, &rig.taps[1].dsn, &e, domain), 0);
    assert_string_equal(domain, "b.test");
    rig_reopen(true);
    wait_tombs(1, 1);
    assert_int_equal(rig.taps_n, 2); /* a replay is no news */
}

/* ---- the intake behind a copier */

struct desk {
    struct copier copier;
    struct mailbox box;
    struct copy_request *held[16];
    size_t held_n, rings;
    int admit;
};

static int desk_admit(struct copier *c, uint64_t size_hint)
{
    (void)size_hint;
    return ((struct desk *)c)->admit;
}

static void desk_post(struct copier *c, struct copy_request *r)
{
    struct desk *d = (struct desk *)c;
    assert_true(d->held_n < 16);
    assert_true(slice_eq(r->domain, SLICE_LIT("a.test")) || slice_eq(r->domain, SLICE_LIT("b.test")));
    assert_int_equal(r->rec.copyset.n, 0);
    d->held[d->held_n++] = r;
}

static void desk_ring(struct copier *c)
{
    ((struct desk *)c)->rings++;
}

static const struct copier_ops desk_ops = {desk_admit, desk_post, desk_ring, two_holders};

/* Hands requests [0, n) to this storage with put, as the cluster would, or settles them with an error. */
static void desk_settle(struct desk *d, int res)
{
    for (size_t i = 0; i < d->held_n; i++) {
        struct copy_request *r = d->held[i];
        int rc = res;
        if (res == 0) {
            struct answer a = {0};
            struct storage_put p = {.rec = r->rec,
                                    .body_parts = r->body_parts,
                                    .body_parts_n = r->body_parts_n,
                                    .done = put_done,
                                    .arg = &a};
            rig.st->ops->put(rig.st, &p);
            rc = answered(&a);
        }
        r->settled(r, rc);
    }
    d->held_n = 0;
    spool_doors_ring(rig.s);
}

static void committed(void *arg, int res, const struct msgid *ids, size_t n)
{
    (void)ids, (void)n;
    struct answer *a = arg;
    *a = (struct answer){a->n + 1, res};
}

static void room(void *arg)
{
    ++*(int *)arg;
}

static struct intake_txn *begin(struct intake *in, size_t domains)
{
    static const struct slice rcpt = SLICE_LIT("x@a.test");
    const struct envelope envs[2] = {{.domain = SLICE_LIT("a.test"), .rcpts = &rcpt, .rcpts_n = 1},
                                     {.domain = SLICE_LIT("b.test"), .rcpts = &rcpt, .rcpts_n = 1}};
    struct intake_txn *t;
    assert_int_equal(in->ops->begin(in, envs, domains, NULL, NULL, &t), 0);
    return t;
}

/* Commits a message of one domain whose body came in two parts. */
static void commit_parts(struct intake *in, struct slice part, int *rooms, struct answer *a_r)
{
    struct intake_txn *t = begin(in, 1);
    *a_r = (struct answer){0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(in->ops->append(t, part, room, rooms), 0);
    assert_int_equal(in->ops->commit(t, committed, a_r), 0);
}

static void the_intake_hands_over_to_the_copier(void **state)
{
    (void)state;
    struct desk d = {.copier = {&desk_ops}};
    struct intake *in;
    struct answer a = {0};
    static uint8_t body[40000];
    int rooms = 0;
    spool_set_copier(rig.s, &d.copier);
    assert_int_equal(spool_intake(rig.s, &in), 0);
    struct intake_txn *t = begin(in, 2);
    assert_int_equal(in->ops->append(t, slice_of(body, 10), room, &rooms), 0);
    assert_int_equal(in->ops->commit(t, committed, &a), 0);
    in->ops->poll(in);
    assert_int_equal(d.held_n, 2);
    assert_int_equal(d.rings, 1);
    assert_true(d.held[0]->rec.arrival_us && d.held[1]->rec.arrival_us > d.held[0]->rec.arrival_us);
    assert_true(in->ops->sleep(in));
    desk_settle(&d, 0);
    struct pollfd p = {in->fd, POLLIN, 0};
    assert_int_equal(poll(&p, 1, 0), 1); /* the door was woken */
    in->ops->poll(in);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.res, 0);

    /* a long body: chunks first, then the message */
    commit_parts(in, slice_of(body, 10000), &rooms, &a);
    assert_int_equal(d.held_n, 3);
    assert_int_equal(d.held[0]->rec.type, REC_CHUNK);
    assert_int_equal(d.held[2]->rec.type, REC_MSG);
    desk_settle(&d, 0);
    in->ops->poll(in);
    assert_int_equal(a.res, 0);

    /* too late: the error has a name of its own, and what was stored is to be forgotten */
    commit_parts(in, slice_of(body, 10000), &rooms, &a);
    desk_settle(&d, -SATCHEL_EAGAIN);
    in->ops->poll(in);
    assert_int_equal(a.res, -SATCHEL_ECOPIES);
    assert_int_equal(d.held_n, 1);
    assert_int_equal(d.held[0]->rec.type, REC_ABORT);
    assert_int_equal(d.held[0]->rec.arrival_us, 0);
    desk_settle(&d, 0);

    /* a chunk that is too late fails the body, and does not make it wait */
    t = begin(in, 1);
    assert_int_equal(in->ops->append(t, slice_of(body, 16000), room, &rooms), 0);
    assert_int_equal(in->ops->append(t, slice_of(body, 16000), room, &rooms), 0);
    assert_int_equal(in->ops->append(t, slice_of(body, 16000), room, &rooms), 0);
    assert_int_equal(in->ops->append(t, slice_of(body, 16000), room, &rooms), -SATCHEL_EAGAIN);
    desk_settle(&d, -SATCHEL_EAGAIN);
    in->ops->poll(in);
    assert_int_equal(rooms, 1);
    assert_int_equal(in->ops->append(t, slice_of(body, 10), room, &rooms), -SATCHEL_ECOPIES);
    in->ops->abort(t);
    in->ops->poll(in);
    desk_settle(&d, 0);

    d.admit = -SATCHEL_EAGAIN;
    assert_int_equal(in->ops->admit(in, 0), -SATCHEL_EAGAIN);
    in->ops->close(&in);
    assert_int_equal(stat_now().messages, 3);
}

static void observed_arrivals_are_behind(void **state)
{
    (void)state;
    struct desk d = {.copier = {&desk_ops}};
    struct intake *in;
    struct answer a = {0};
    uint64_t far = clock_wall_us(clock_system()) + 3600000000ull;
    spool_set_copier(rig.s, &d.copier);
    assert_int_equal(spool_intake(rig.s, &in), 0);
    rig.st->ops->observe(rig.st, far);
    rig.st->ops->observe(rig.st, 5);
    struct intake_txn *t = begin(in, 1);
    assert_int_equal(in->ops->commit(t, committed, &a), 0);
    assert_int_equal(d.held[0]->rec.arrival_us, far + 1);
    desk_settle(&d, -SATCHEL_EFULL);
    in->ops->poll(in);
    assert_int_equal(a.res, -SATCHEL_EFULL);
    in->ops->close(&in);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_tap_tells_each_change_once),
        T(the_intake_hands_over_to_the_copier),
        T(observed_arrivals_are_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
