/* user_call.c - what other threads want done with a stack, by the thread that owns it.
 *
 * A caller puts its call on a list and waits; the transport serves the list once a turn.  While no turns are made the
 * caller does it itself, under the lock that a beginning or ending run() takes too. */
#include "dataplane/net/user_impl.h"

struct user_call {
    void (*fn)(void *arg, struct stack *s);
    void *arg;
    struct user_call *next;
    bool done;
};

void user_calls_init(struct user *u)
{
    pthread_mutex_init(&u->call_lock, NULL);
    pthread_cond_init(&u->call_done, NULL);
}

void user_calls_destroy(struct user *u)
{
    pthread_mutex_destroy(&u->call_lock);
    pthread_cond_destroy(&u->call_done);
}

static void calls_serve_locked(struct user *u)
{
    struct user_call *c = atomic_load(&u->calls), *next;
    atomic_store(&u->calls, NULL);
    for (; c; c = next) {
        next = c->next;
        c->fn(c->arg, u->stack);
        c->done = true;
    }
    pthread_cond_broadcast(&u->call_done);
}

void user_calls_serve(struct user *u)
{
    if (!atomic_load_explicit(&u->calls, memory_order_relaxed))
        return;
    pthread_mutex_lock(&u->call_lock);
    calls_serve_locked(u);
    pthread_mutex_unlock(&u->call_lock);
}

void user_calls_running(struct user *u, bool running)
{
    pthread_mutex_lock(&u->call_lock);
    u->running = running;
    calls_serve_locked(u);
    pthread_mutex_unlock(&u->call_lock);
}

void transport_user_call(struct transport *t, void (*fn)(void *arg, struct stack *s), void *arg)
{
    struct user *u = (struct user *)t;
    struct user_call call = {.fn = fn, .arg = arg};
    pthread_mutex_lock(&u->call_lock);
    if (!u->running) {
        fn(arg, u->stack);
    } else {
        call.next = atomic_load(&u->calls);
        atomic_store(&u->calls, &call);
        t->ops->wake(t);
        while (!call.done)
            pthread_cond_wait(&u->call_done, &u->call_lock);
    }
    pthread_mutex_unlock(&u->call_lock);
}
