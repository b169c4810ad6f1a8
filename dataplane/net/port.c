/* port.c - what all ports have in common: a queue as a stack sees it. */
#include "dataplane/net/port.h"

static bool pool_alloc(void *ctx, struct frame *f_r)
{
    struct port_queue *q = ctx;
    return q->port->ops->alloc(q, f_r);
}

static void pool_send(void *ctx, struct frame *f)
{
    struct port_queue *q = ctx;
    q->port->ops->send(q, f);
}

static void pool_drop(void *ctx, struct frame *f)
{
    struct port_queue *q = ctx;
    q->port->ops->drop(q, f);
}

struct frame_pool port_frames(struct port_queue *q)
{
    return (struct frame_pool){pool_alloc, pool_send, pool_drop, q};
}
