/* wire_app.c - the session of a scenario as a transport sees it. */
#include "tests/smtp/wire_app.h"

#include <assert.h>

static struct fake *next;

void wire_app_serve(struct fake *f)
{
    next = f;
}

static void *app_accept(void *app, struct conn *c, const struct sockaddr_storage *peer,
                        const struct sockaddr_storage *local)
{
    struct fake *f = next;
    (void)app;
    assert(f && peer->ss_family == local->ss_family);
    f->at = c;
    fake_accepted_conn(f);
    return f;
}

static size_t app_receive(void *session, struct slice in)
{
    return fake_receive(session, in);
}

static void app_timer(void *session)
{
    (void)session; /* the scenarios' time is not the transport's */
}

static bool app_ended(void *session)
{
    return fake_waits(session);
}

static void app_closed(void *session, enum conn_end how)
{
    struct fake *f = session;
    (void)how;
    f->at = NULL;
    fake_closed_conn(f);
}

struct transport_app wire_app(void)
{
    return (struct transport_app){
        .accept = app_accept, .receive = app_receive, .timer = app_timer, .ended = app_ended, .closed = app_closed};
}

void wire_app_say(struct fake *f, struct slice bytes)
{
    conn_send(f->at, bytes);
}

void wire_app_resume(struct fake *f)
{
    conn_resume(f->at);
}

void wire_app_hang_up(struct fake *f)
{
    conn_close(f->at);
}

void wire_app_abort(struct fake *f)
{
    if (f->open && f->at)
        conn_abort(f->at);
}
