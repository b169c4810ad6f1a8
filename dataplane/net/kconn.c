/* kconn.c - a connection of the kernel transport: what it may do in which state, input that waits, and its end. */
#include "dataplane/net/kernel.h"

#include "spool/base/log.h"

#include <stdlib.h>
#include <unistd.h>

static void kconn_enter(struct kconn *c, enum kconn_state s)
{
    static const char *const names[] = {"open", "closing", "linger", "dead", "gone"};
    log_debug("net.state", "fd=%d from=%s to=%s", c->fd, names[c->state], names[s]);
    assert(s > c->state);
    c->state = (uint8_t)s;
}

static bool kconn_offers(const struct kconn *c)
{
    return c->state == KCONN_OPEN && !c->paused && !c->choked;
}

bool kconn_reads(const struct kconn *c)
{
    if (c->eof)
        return false;
    return (kconn_offers(c) && !c->held) || c->state == KCONN_LINGER;
}

/* ---- input that waits */

static void hold_free(struct kernel *k, struct hold *h)
{
    if (!h->copied) {
        k->engine->give_back(k, h);
        return;
    }
    k->held_copied_bytes -= h->n;
    free(h);
}

static struct hold *hold_copy(struct kernel *k, struct hold *h)
{
    struct hold *copy = malloc(sizeof *copy + h->n);
    if (!copy)
        return NULL;
    *copy = (struct hold){.p = (uint8_t *)(copy + 1), .n = h->n, .copied = true};
    memcpy(copy + 1, h->p, h->n);
    k->held_copied_bytes += h->n;
    k->engine->give_back(k, h);
    return copy;
}

/* Over the budget a peer that does not read its replies is at fault and goes. Others wait for us: their buffers stay
 * on loan, and when those are used up nobody is read until some of them go on.  Engines that lend none (lent_max 0)
 * look at the budget before they read.
 * NULL: c was killed, h given back. */
static struct hold *kconn_keepable(struct kconn *c, struct hold *h)
{
    struct kernel *k = kconn_kernel(c);
    bool full = k->held_copied_bytes + h->n > KERNEL_HELD_BUDGET;
    if (k->lent < k->lent_max || (full && k->lent_max > 0 && !c->choked)) {
        k->lent++;
        return h;
    }
    struct hold *copy = full && c->choked ? NULL : hold_copy(k, h);
    if (!copy) {
        k->engine->give_back(k, h);
        kconn_kill(c, CONN_END_ERROR);
    }
    return copy;
}

static void kconn_hold(struct kconn *c, struct hold *h)
{
    h = kconn_keepable(c, h);
    if (!h)
        return;
    h->next = NULL;
    if (c->held)
        c->held_tail->next = h;
    else
        c->held = h;
    c->held_tail = h;
    if (++c->held_n >= KERNEL_HELD_LAZY)
        kconn_kernel(c)->engine->read_off(c);
}

/* The front; on loan no more: the caller frees it or puts it back. */
static struct hold *kconn_unhold(struct kconn *c)
{
    struct hold *h = c->held;
    c->held = h->next;
    c->held_n--;
    if (!h->copied)
        kconn_kernel(c)->lent--;
    return h;
}

static void kconn_put_back(struct kconn *c, struct hold *h)
{
    h->next = c->held;
    if (!c->held)
        c->held_tail = h;
    c->held = h;
    c->held_n++;
    if (!h->copied)
        kconn_kernel(c)->lent++;
}

static void kconn_drop_held(struct kconn *c)
{
    while (c->held)
        hold_free(kconn_kernel(c), kconn_unhold(c));
}

/* Offers h; true when nothing of it is left to keep (h is not freed).  Paused is set before the call so that a resume
 * from inside counts. */
static bool kconn_receive(struct kconn *c, struct hold *h)
{
    struct kernel *k = kconn_kernel(c);
    c->paused = true;
    size_t n = k->app.receive(c->c.session, slice_of(h->p, h->n));
    assert(n <= h->n);
    if (n == h->n) {
        c->paused = false;
        return true;
    }
    if (h->copied)
        k->held_copied_bytes -= n;
    h->p += n;
    h->n -= (uint32_t)n;
    return c->state != KCONN_OPEN;
}

/* Read away: bounded, so that a peer that talks on for ever is cut off. */
static void kconn_read_away(struct kconn *c, size_t n)
{
    if (c->state > KCONN_LINGER)
        return;
    c->away += (uint32_t)n;
    if (c->away <= KERNEL_LINGER_BYTES)
        return;
    if (c->state == KCONN_LINGER)
        kconn_kill(c, c->how);
    else
        kconn_kernel(c)->engine->read_off(c);
}

void kconn_input(struct kconn *c, struct hold *h)
{
    if (c->state != KCONN_OPEN) {
        kconn_read_away(c, h->n);
        hold_free(kconn_kernel(c), h);
    } else if (!c->held && kconn_offers(c) && kconn_receive(c, h)) {
        hold_free(kconn_kernel(c), h);
    } else {
        kconn_hold(c, h);
    }
}

/* ---- the end */

void kconn_kill(struct kconn *c, enum conn_end how)
{
    if (c->state >= KCONN_DEAD)
        return;
    c->how = (uint8_t)how;
    kconn_enter(c, KCONN_DEAD);
    kernel_work_add(c, WORK_DEAD);
}

/* What is queued goes out first. Held input is dropped by the work list: receive may be looking at it now. */
static void kconn_finish(struct kconn *c, enum conn_end how)
{
    if (c->state != KCONN_OPEN)
        return;
    c->how = (uint8_t)how;
    kconn_enter(c, KCONN_CLOSING);
    kernel_timer_set(kconn_kernel(c), c, KERNEL_FLUSH_US);
    kernel_work_add(c, WORK_FLUSH);
}

static void kconn_drained(struct kconn *c)
{
    if (c->eof) {
        kconn_kill(c, c->how);
        return;
    }
    if (shutdown(c->fd, SHUT_WR) != 0) {
        kconn_kill(c, c->how); /* the peer is gone already */
        return;
    }
    kconn_enter(c, KCONN_LINGER);
    c->away = 0;
    kernel_timer_set(kconn_kernel(c), c, KERNEL_LINGER_US);
    kconn_kernel(c)->engine->read_on(c);
}

/* All input is consumed and no more will come. An app that owes an answer resumes when it has given it. */
static void kconn_ended(struct kconn *c)
{
    struct kernel *k = kconn_kernel(c);
    c->paused = k->app.ended && k->app.ended(c->c.session);
    if (!c->paused)
        kconn_finish(c, CONN_END_PEER);
}

void kconn_eof(struct kconn *c)
{
    c->eof = true;
    if (c->state == KCONN_LINGER)
        kconn_kill(c, c->how);
    else if (c->state == KCONN_OPEN && !c->held)
        kconn_ended(c);
}

void kconn_expired(struct kconn *c)
{
    struct kernel *k = kconn_kernel(c);
    if (c->state == KCONN_OPEN)
        k->app.timer(c->c.session);
    else
        kconn_kill(c, c->how);
}

static void kconn_bury(struct kconn *c)
{
    struct kernel *k = kconn_kernel(c);
    kconn_enter(c, KCONN_GONE);
    wheel_stop(&c->timer);
    kconn_drop_held(c);
    if (c->prev)
        c->prev->next = c->next;
    else
        k->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    k->conns_n--;
    k->gone_n++;
    if (c->reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    if (c->c.session)
        k->app.closed(c->c.session, (enum conn_end)c->how);
    k->engine->detach(c);
}

void kconn_free(struct kconn *c)
{
    struct kernel *k = kconn_kernel(c);
    assert(c->state == KCONN_GONE && !c->held);
    sendq_clear(&c->tx, &k->sendpool);
    close(c->fd);
    k->gone_n--;
    free(c);
}

/* ---- the work list */

static void kconn_offer(struct kconn *c)
{
    struct kernel *k = kconn_kernel(c);
    while (c->held && kconn_offers(c)) {
        struct hold *h = kconn_unhold(c);
        if (kconn_receive(c, h)) {
            hold_free(k, h);
        } else {
            kconn_put_back(c, h);
            break; /* also when it resumed at once: others have their turn first */
        }
    }
    if (c->held || !kconn_offers(c))
        return;
    if (c->eof)
        kconn_ended(c);
    else
        k->engine->read_on(c);
}

void kconn_work(struct kconn *c, unsigned bits)
{
    struct kernel *k = kconn_kernel(c);
    if (bits & WORK_READ)
        k->engine->read_more(c);
    if (bits & WORK_OFFER)
        kconn_offer(c);
    if (c->state == KCONN_CLOSING)
        kconn_drop_held(c);
    if (c->state <= KCONN_CLOSING && c->tx.bytes > 0)
        k->engine->flush(c);
    else if (c->state == KCONN_CLOSING)
        kconn_drained(c);
    if (bits & WORK_DEAD)
        kconn_bury(c);
}

/* ---- sending, and the app's side */

static size_t kconn_sendq_max(const struct kconn *c)
{
    return kconn_kernel(c)->sendpool.bytes > KERNEL_SENDQ_BUDGET ? TRANSPORT_SENDQ_TIGHT : TRANSPORT_SENDQ_MAX;
}

void kconn_send(struct conn *conn, struct slice data)
{
    struct kconn *c = (struct kconn *)conn;
    if (c->state != KCONN_OPEN)
        return;
    if (!sendq_put(&c->tx, &kconn_kernel(c)->sendpool, data)) {
        kconn_kill(c, CONN_END_ERROR);
        return;
    }
    if (c->tx.bytes > kconn_sendq_max(c))
        c->choked = true;
    kernel_work_add(c, WORK_FLUSH);
}

void kconn_sent(struct kconn *c, size_t n)
{
    if (c->state >= KCONN_DEAD)
        return; /* kconn_free clears the queue */
    sendq_take(&c->tx, &kconn_kernel(c)->sendpool, n);
    if (c->state == KCONN_CLOSING)
        kernel_timer_set(kconn_kernel(c), c, KERNEL_FLUSH_US);
    if (c->choked && c->tx.bytes < kconn_sendq_max(c) / 2) {
        c->choked = false;
        kernel_work_add(c, WORK_OFFER);
    }
    if (c->tx.bytes > 0 || c->state == KCONN_CLOSING)
        kernel_work_add(c, WORK_FLUSH);
}

void kconn_resume(struct conn *conn)
{
    struct kconn *c = (struct kconn *)conn;
    if (c->state != KCONN_OPEN || !c->paused)
        return;
    c->paused = false;
    kernel_work_add(c, WORK_OFFER);
}

void kconn_close(struct conn *c)
{
    kconn_finish((struct kconn *)c, CONN_END_LOCAL);
}

void kconn_abort(struct conn *conn)
{
    struct kconn *c = (struct kconn *)conn;
    c->reset = c->state < KCONN_DEAD;
    kconn_kill(c, CONN_END_LOCAL);
}
