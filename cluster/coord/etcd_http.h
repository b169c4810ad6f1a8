/* etcd_http.h - POSTs to etcd over libcurl's multi interface, all behind one epoll descriptor.
 *
 * Sans opinions: no retries, no meaning of answers.  A request's body is handed out once: curl, which by itself would
 * repeat a POST when a kept connection turns out to be dead, cannot repeat one whose body it has taken, since what
 * etcd did with it is unknown.  Connections are kept and used again; HTTP/1.1.
 *
 * Thread: one owner.  done runs from etcd_http_poll only, exactly once, unless the request was cancelled; data runs
 * inside curl: it must not call back into this module. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/slice.h"

struct etcd_http;
struct etcd_http_req;

#define ETCD_HTTP_ANSWER_MAX_BYTES (64u << 20)

struct etcd_http_config {
    const char *ca, *cert, *key; /* files; NULL: the system's CAs, no client certificate; borrowed for ever */
    const struct clock *clock;
};

enum etcd_http_end {
    ETCD_HTTP_ANSWERED,    /* status and body are there, whole */
    ETCD_HTTP_UNREACHABLE, /* no connection, no TLS, connection lost, time is up */
    ETCD_HTTP_NONSENSE,    /* what answers does not speak HTTP */
    ETCD_HTTP_TOO_BIG,     /* body over ETCD_HTTP_ANSWER_MAX_BYTES */
};

struct etcd_http_answer {
    enum etcd_http_end end;
    long status;
    struct slice body; /* borrowed until done returns; empty for streams */
    bool sent;         /* the body had begun to leave: etcd may have done what it asks */
    const char *why;   /* not answered: for people, with the remedy; borrowed until done returns */
};

typedef void etcd_http_done(void *arg, const struct etcd_http_answer *answer);
typedef void etcd_http_data(void *arg, struct slice part);

struct etcd_http_ask {
    const char *endpoint; /* "https://10.0.0.1:2379" */
    const char *path;     /* "/v3/kv/range" */
    const char *token;    /* of authentication; NULL: none */
    struct slice body;    /* borrowed until done, or cancelled */
    uint32_t connect_ms;  /* name, TCP and TLS */
    uint32_t timeout_ms;  /* all of it; 0: a stream without end */
    etcd_http_data *data; /* NULL: the answer's body is collected */
    etcd_http_done *done;
    void *arg;
};

/* 0, or -errno. */
int etcd_http_open(struct etcd_http **h_r, const struct etcd_http_config *cfg);
/* Cancels what is under way. */
void etcd_http_close(struct etcd_http **h);
/* Readable when poll has something to do. */
int etcd_http_fd(const struct etcd_http *h);
struct etcd_http_req *etcd_http_post(struct etcd_http *h, const struct etcd_http_ask *ask);
/* done does not run any more. */
void etcd_http_cancel(struct etcd_http *h, struct etcd_http_req **r);
void etcd_http_poll(struct etcd_http *h);
/* Boot clock by which poll wants to run; UINT64_MAX: no timer. */
uint64_t etcd_http_next_us(const struct etcd_http *h);
