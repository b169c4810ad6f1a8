/* Mailboxes: nothing is lost, each sender's order is kept, the reader is woken. */
#include "spool/base/mailbox.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include <cmocka.h>

enum { SENDERS = 4, EACH = 20000 };

struct letter {
    struct mail mail;
    int sender, number;
};

struct sender {
    struct mailbox *mb;
    struct letter *letters;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < EACH; i++) {
        mailbox_post(s->mb, &s->letters[i].mail);
        bell_ring(&s->mb->bell);
    }
    return NULL;
}

static int read_some(struct mailbox *mb, int *next)
{
    int n = 0;
    for (struct mail *m = mailbox_take(mb); m; m = m->next, n++) {
        struct letter *l = (struct letter *)m;
        assert_int_equal(l->number, next[l->sender]);
        next[l->sender]++;
    }
    return n;
}

static void mailbox_keeps_order_and_wakes(void **state)
{
    (void)state;
    struct mailbox mb;
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    int next[SENDERS] = {0}, got = 0;
    assert_int_equal(mailbox_init(&mb), 0);
    for (int s = 0; s < SENDERS; s++) {
        senders[s] = (struct sender){&mb, calloc(EACH, sizeof(struct letter))};
        for (int i = 0; i < EACH; i++)
            senders[s].letters[i] = (struct letter){.sender = s, .number = i};
        pthread_create(&threads[s], NULL, send_all, &senders[s]);
    }
    while (got < SENDERS * EACH) {
        got += read_some(&mb, next);
        bell_arm(&mb.bell);
        if (mailbox_empty(&mb) && got < SENDERS * EACH) {
            struct pollfd p = {mb.bell.fd, POLLIN, 0};
            assert_int_equal(poll(&p, 1, 10000), 1); /* a lost wake-up would run into the bound */
        }
        bell_disarm(&mb.bell);
    }
    for (int s = 0; s < SENDERS; s++) {
        pthread_join(threads[s], NULL);
        assert_int_equal(next[s], EACH);
        free(senders[s].letters);
    }
    mailbox_destroy(&mb);
}

static bool readable(const struct bell *b)
{
    struct pollfd p = {b->fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
}

/* The ringer was interrupted between its two steps: the sleeper is up already when the write comes. */
static void bell_takes_a_late_write_away(void **state)
{
    (void)state;
    struct bell b;
    assert_int_equal(bell_init(&b), 0);
    bell_arm(&b);
    assert_true(atomic_exchange(&b.armed, false)); /* first step */
    bell_disarm(&b);
    assert_int_equal(eventfd_write(b.fd, 1), 0); /* second step */
    bell_arm(&b);
    bell_disarm(&b);
    assert_false(readable(&b));
    bell_arm(&b);
    bell_ring(&b);
    assert_true(readable(&b));
    bell_disarm(&b);
    assert_false(readable(&b));
    bell_ring(&b); /* nobody sleeps: nothing is written */
    assert_false(readable(&b));
    bell_destroy(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mailbox_keeps_order_and_wakes),
        cmocka_unit_test(bell_takes_a_late_write_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
