/* etcd_http.c - the only file of coordination that knows libcurl; see etcd_http.h. */
#include "cluster/coord/etcd_http.h"
#include "spool/base/err.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 32,
    CONNECTIONS_KEPT = 16,
    STREAM_IDLE_S = 10, /* a stream is silent for hours; the kernel asks the peer instead */
    STREAM_PROBE_S = 5,
};

struct etcd_http_req {
    TAILQ_ENTRY(etcd_http_req) link;
    CURL *easy;
    struct curl_slist *headers;
    char *url, *authorization;
    struct slice body; /* what is left to send */
    bool sent, too_big;
    char *answer;
    size_t answer_n, answer_cap;
    char error[CURL_ERROR_SIZE], why[CURL_ERROR_SIZE + 256];
    etcd_http_data *data;
    etcd_http_done *done;
    void *arg;
};

struct etcd_http {
    struct etcd_http_config cfg;
    CURLM *multi;
    int fd;
    uint64_t timer_us; /* curl's, on the boot clock */
    TAILQ_HEAD(, etcd_http_req) reqs;
};

/* CURLMOPT_SOCKETFUNCTION.  Whether a socket is registered is asked of epoll itself: curl may close one and open
 * another under the same number. */
static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
    struct etcd_http *h = arg;
    struct epoll_event ev = {.data.fd = fd};
    (void)easy;
    (void)unused;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(h->fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    ev.events |= what & CURL_POLL_IN ? EPOLLIN : 0;
    ev.events |= what & CURL_POLL_OUT ? EPOLLOUT : 0;
    if (epoll_ctl(h->fd, EPOLL_CTL_MOD, fd, &ev) != 0 && errno == ENOENT)
        return epoll_ctl(h->fd, EPOLL_CTL_ADD, fd, &ev);
    return 0;
}

/* CURLMOPT_TIMERFUNCTION */
static int timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
    struct etcd_http *h = arg;
    (void)multi;
    h->timer_us = timeout_ms < 0 ? UINT64_MAX : clock_boot_us(h->cfg.clock) + (uint64_t)timeout_ms * 1000;
    return 0;
}

int etcd_http_open(struct etcd_http **h_r, const struct etcd_http_config *cfg)
{
    struct etcd_http *h = calloc(1, sizeof *h);
    if (!h || curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        abort();
    h->cfg = *cfg;
    h->timer_us = UINT64_MAX;
    TAILQ_INIT(&h->reqs);
    h->fd = epoll_create1(EPOLL_CLOEXEC);
    h->multi = curl_multi_init();
    if (!h->multi)
        abort();
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
    *h_r = h;
    if (h->fd >= 0)
        return 0;
    int res = -errno;
    etcd_http_close(h_r);
    return res;
}

static void req_free(struct etcd_http *h, struct etcd_http_req *r)
{
    TAILQ_REMOVE(&h->reqs, r, link);
    curl_multi_remove_handle(h->multi, r->easy);
    curl_easy_cleanup(r->easy);
    curl_slist_free_all(r->headers);
    free(r->url);
    free(r->authorization);
    free(r->answer);
    free(r);
}

void etcd_http_close(struct etcd_http **h)
{
    if (!*h)
        return;
    while (!TAILQ_EMPTY(&(*h)->reqs))
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): TAILQ_REMOVE has taken the one before off the list */
        req_free(*h, TAILQ_FIRST(&(*h)->reqs));
    curl_multi_cleanup((*h)->multi);
    curl_global_cleanup();
    if ((*h)->fd >= 0)
        close((*h)->fd);
    free(*h);
    *h = NULL;
}

int etcd_http_fd(const struct etcd_http *h)
{
    return h->fd;
}

uint64_t etcd_http_next_us(const struct etcd_http *h)
{
    return h->timer_us;
}

/* CURLOPT_READFUNCTION.  Deliberately without a function to seek back: see the head of etcd_http.h. */
static size_t body_read(char *out_r, size_t size, size_t n, void *arg)
{
    struct etcd_http_req *r = arg;
    size_t part = r->body.n < size * n ? r->body.n : size * n;
    memcpy(out_r, r->body.p, part);
    r->body = slice_of(r->body.p + part, r->body.n - part);
    r->sent = true;
    return part;
}

/* CURLOPT_WRITEFUNCTION */
static size_t answer_write(char *p, size_t size, size_t n, void *arg)
{
    struct etcd_http_req *r = arg;
    size_t bytes = size * n;
    if (r->data) {
        r->data(r->arg, slice_of(p, bytes));
        return bytes;
    }
    if (r->answer_n + bytes > ETCD_HTTP_ANSWER_MAX_BYTES) {
        r->too_big = true;
        return 0;
    }
    if (r->answer_n + bytes > r->answer_cap) {
        r->answer_cap = (r->answer_n + bytes) * 2;
        r->answer = realloc(r->answer, r->answer_cap);
        if (!r->answer)
            abort();
    }
    memcpy(r->answer + r->answer_n, p, bytes);
    r->answer_n += bytes;
    return bytes;
}

static void header_add(struct etcd_http_req *r, const char *line)
{
    struct curl_slist *more = curl_slist_append(r->headers, line);
    if (!more)
        abort();
    r->headers = more;
}

static void req_headers(struct etcd_http_req *r, const struct etcd_http_ask *ask)
{
    header_add(r, "Content-Type: application/json");
    header_add(r, "Expect:");
    /* A member cut off from the others says so at once instead of after 7 s, and ends its watches. */
    header_add(r, "Grpc-Metadata-hasleader: true");
    if (!ask->token)
        return;
    if (asprintf(&r->authorization, "Authorization: %s", ask->token) < 0)
        abort();
    header_add(r, r->authorization);
}

static void req_options(struct etcd_http *h, struct etcd_http_req *r, const struct etcd_http_ask *ask)
{
    CURL *e = r->easy;
    curl_easy_setopt(e, CURLOPT_URL, r->url);
    curl_easy_setopt(e, CURLOPT_PRIVATE, r);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* don't wait for the thread of a name server that is silent */
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
    curl_easy_setopt(e, CURLOPT_READFUNCTION, body_read);
    curl_easy_setopt(e, CURLOPT_READDATA, r);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, answer_write);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->error);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)ask->connect_ms);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)ask->timeout_ms);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, (long)STREAM_IDLE_S);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, (long)STREAM_PROBE_S);
    if (h->cfg.ca)
        curl_easy_setopt(e, CURLOPT_CAINFO, h->cfg.ca);
    if (h->cfg.cert)
        curl_easy_setopt(e, CURLOPT_SSLCERT, h->cfg.cert);
    if (h->cfg.key)
        curl_easy_setopt(e, CURLOPT_SSLKEY, h->cfg.key);
}

struct etcd_http_req *etcd_http_post(struct etcd_http *h, const struct etcd_http_ask *ask)
{
    struct etcd_http_req *r = calloc(1, sizeof *r);
    if (!r || asprintf(&r->url, "%s%s", ask->endpoint, ask->path) < 0)
        abort();
    r->easy = curl_easy_init();
    if (!r->easy)
        abort();
    r->body = ask->body;
    r->data = ask->data;
    r->done = ask->done;
    r->arg = ask->arg;
    req_headers(r, ask);
    req_options(h, r, ask);
    TAILQ_INSERT_TAIL(&h->reqs, r, link);
    if (curl_multi_add_handle(h->multi, r->easy) != CURLM_OK)
        abort();
    return r;
}

void etcd_http_cancel(struct etcd_http *h, struct etcd_http_req **r)
{
    if (*r)
        req_free(h, *r);
    *r = NULL;
}

static enum etcd_http_end end_of(const struct etcd_http_req *r, CURLcode code)
{
    if (code == CURLE_OK)
        return ETCD_HTTP_ANSWERED;
    if (r->too_big)
        return ETCD_HTTP_TOO_BIG;
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_BAD_CONTENT_ENCODING)
        return ETCD_HTTP_NONSENSE;
    return ETCD_HTTP_UNREACHABLE;
}

/* A server that refuses our certificate says so in an alert and closes; a request under way can turn its close into a
 * reset that takes the alert with it. */
static bool tls_cut(const struct etcd_http_req *r, CURLcode code)
{
    const char *scheme = NULL;
    return (code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING) &&
           curl_easy_getinfo(r->easy, CURLINFO_SCHEME, &scheme) == CURLE_OK && scheme &&
           strcasecmp(scheme, "https") == 0;
}

static const char *remedy_of(const struct etcd_http_req *r, CURLcode code, const char *words)
{
    /* A refused client certificate shows late, as a failed read. */
    if (strstr(words, "SSL certificate") || strstr(words, "alert") || code == CURLE_SSL_CONNECT_ERROR ||
        code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE || code == CURLE_PEER_FAILED_VERIFICATION)
        return "check the CA, certificate and key for etcd on both sides";
    if (code == CURLE_COULDNT_RESOLVE_HOST)
        return "check the endpoint's name";
    if (code == CURLE_COULDNT_CONNECT)
        return "is etcd running there, and the port open?";
    if (code == CURLE_OPERATION_TIMEDOUT)
        return "is the machine up, and its etcd not overloaded?";
    return tls_cut(r, code) ? "look at etcd's log there, and check the CA, certificate and key for etcd on both sides"
                            : "look at etcd's log there";
}

static void why_set(struct etcd_http_req *r, CURLcode code)
{
    const char *words = r->error[0] ? r->error : curl_easy_strerror(code);
    if (code == CURLE_SEND_FAIL_REWIND) /* curl's words for not being able to send it again */
        words = "connection lost before an answer came";
    if (r->too_big)
        snprintf(r->why, sizeof r->why, "answer over %u MiB", ETCD_HTTP_ANSWER_MAX_BYTES >> 20);
    else
        snprintf(r->why, sizeof r->why, "%s: %s", words, remedy_of(r, code, words));
}

static void req_end(struct etcd_http *h, struct etcd_http_req *r, CURLcode code)
{
    struct etcd_http_answer a = {.end = end_of(r, code), .sent = r->sent, .why = r->why};
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &a.status);
    a.body = slice_of(r->answer, r->answer_n);
    if (code != CURLE_OK)
        why_set(r, code);
    r->done(r->arg, &a);
    req_free(h, r);
}

static void sockets_poll(struct etcd_http *h)
{
    struct epoll_event events[EVENTS_MAX];
    int running, n = epoll_wait(h->fd, events, EVENTS_MAX, 0);
    for (int i = 0; i < n; i++) {
        int what = events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0;
        what |= events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0;
        what |= events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0;
        curl_multi_socket_action(h->multi, events[i].data.fd, what, &running);
    }
}

void etcd_http_poll(struct etcd_http *h)
{
    CURLMsg *msg;
    int running, left;
    if (clock_boot_us(h->cfg.clock) >= h->timer_us) {
        h->timer_us = UINT64_MAX;
        curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    sockets_poll(h);
    while ((msg = curl_multi_info_read(h->multi, &left))) {
        struct etcd_http_req *r = NULL;
        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        req_end(h, r, msg->data.result);
    }
}
