/* wire_direct.c - no wire at all: what the client sends is the session's input, what is not taken is kept and offered
 * again, as a transport does. */
#include "tests/smtp/fake.h"

#include <assert.h>
#include <stdlib.h>

static struct text waiting; /* sent and not taken */

static int direct_open(char *why_r)
{
    (void)why_r;
    return 0;
}

static void direct_close(void)
{
    free(waiting.p);
    waiting = (struct text){0};
}

static void direct_connect(struct fake *f)
{
    fake_accepted_conn(f);
}

static void direct_send(struct fake *f, const uint8_t *p, size_t n)
{
    (void)f;
    text_add(&waiting, p, n);
}

static void direct_cut(struct fake *f)
{
    fake_closed_conn(f);
}

static void direct_say(struct fake *f, struct slice bytes)
{
    fake_heard(f, bytes);
}

static void direct_resume(struct fake *f)
{
    (void)f; /* the next turn offers again */
}

static void direct_hang_up(struct fake *f)
{
    f->heard_end = true;
}

static void direct_turn(struct fake *f)
{
    if (!f->open || f->paused || f->closed || waiting.n == 0)
        return;
    size_t n = fake_receive(f, slice_of(waiting.p, waiting.n));
    assert(n <= waiting.n);
    memmove(waiting.p, waiting.p + n, waiting.n - n);
    waiting.n -= n;
}

static void direct_end(struct fake *f)
{
    fake_closed_conn(f);
    waiting.n = 0;
}

const struct wire wire_direct = {.name = "direct",
                                 .open = direct_open,
                                 .close = direct_close,
                                 .connect = direct_connect,
                                 .send = direct_send,
                                 .cut = direct_cut,
                                 .say = direct_say,
                                 .resume = direct_resume,
                                 .hang_up = direct_hang_up,
                                 .turn = direct_turn,
                                 .end = direct_end};
