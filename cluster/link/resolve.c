/* resolve.c - see resolve.h.  The thread holds a reference of its own and outlives a question that nobody wants
 * answered any more. */
#include "cluster/link/resolve.h"

#include "spool/base/err.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct resolve {
    atomic_uint refs;
    atomic_bool done;
    char host[SOCK_HOST_MAX], port[SOCK_PORT_MAX];
    struct resolved out;
};

static void resolve_unref(struct resolve *r)
{
    if (atomic_fetch_sub(&r->refs, 1) == 1)
        free(r);
}

static int resolve_ask(struct resolve *r, int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags}, *found;
    int rc = getaddrinfo(r->host, r->port, &hints, &found);
    if (rc != 0)
        return rc;
    for (struct addrinfo *ai = found; ai && r->out.n < SOCK_ADDRS_MAX; ai = ai->ai_next) {
        struct sock_addr *a = &r->out.addrs[r->out.n++];
        memcpy(&a->ss, ai->ai_addr, ai->ai_addrlen);
        a->n = ai->ai_addrlen;
    }
    freeaddrinfo(found);
    return 0;
}

static void *resolve_run(void *arg)
{
    struct resolve *r = arg;
    int rc = resolve_ask(r, 0);
    if (rc != 0)
        why_say(r->out.why, "%s: %s: check the node's address and this machine's resolver", r->host, gai_strerror(rc));
    atomic_store(&r->done, true);
    resolve_unref(r);
    return NULL;
}

/* Signals are the main thread's. */
static int resolve_spawn(struct resolve *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &attr, resolve_run, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

static void resolve_fail(struct resolve *r, const char *what)
{
    why_say(r->out.why, "%s", what);
    atomic_store(&r->done, true);
}

struct resolve *resolve_start(const char *address)
{
    struct resolve *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    atomic_init(&r->refs, 1);
    if (sock_split(address, r->host, r->port) < 0) {
        resolve_fail(r, "not an address: a node's address is HOST:PORT");
    } else if (resolve_ask(r, AI_NUMERICHOST) == 0) {
        atomic_store(&r->done, true);
    } else {
        atomic_fetch_add(&r->refs, 1);
        if (resolve_spawn(r) != 0) {
            atomic_fetch_sub(&r->refs, 1);
            resolve_fail(r, "no thread to look its address up: raise the limit of tasks");
        }
    }
    return r;
}

bool resolve_done(struct resolve *r, struct resolved *out_r)
{
    if (!atomic_load(&r->done))
        return false;
    *out_r = r->out;
    return true;
}

void resolve_drop(struct resolve **r)
{
    if (*r)
        resolve_unref(*r);
    *r = NULL;
}
