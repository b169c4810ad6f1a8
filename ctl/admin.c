/* admin.c - the server behind the admin API: two listeners, one table of routes.
 *
 * Both listeners ask the same table; a request through TCP gets only what is marked open there, and only when it names
 * a loopback host (a page in a browser may be made to send requests to 127.0.0.1 under its own name). */
#include "ctl/admin_impl.h"
#include "spool/base/log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECTIONS_LIMIT = 64, IDLE_TIMEOUT_S = 30, BACKLOG = 64 };

/* ---- routes */

static const struct route {
    const char *method, *path; /* one `*` stands for one part of the path, which goes to request.name */
    admin_handler *handle;
    enum admin_about about;
    bool open;  /* on TCP too */
    bool waits; /* may wait for other nodes: must not keep the others from the outlet door, and does not use it */
} routes[] = {
    {"GET", "/", admin_page_get, ABOUT_NODE, true, false},
    {"GET", "/metrics", admin_metrics_get, ABOUT_NODE, true, false},
    {"GET", "/health", admin_health_get, ABOUT_NODE, true, false},
    {"GET", "/v1/status", admin_status_get, ABOUT_NODE, true, false},
    {"GET", "/v1/port", admin_port_get, ABOUT_NODE, false, true},
    {"POST", "/v1/reload", admin_reload_post, ABOUT_NODE, false, false},
    {"GET", "/v1/domains", admin_domains_get, ABOUT_NODE, false, false},
    {"POST", "/v1/domains", admin_domains_post, ABOUT_NODE, false, true},
    {"GET", "/v1/domains/*", admin_domain_get, ABOUT_DOMAIN, false, false},
    {"PUT", "/v1/domains/*", admin_domain_put, ABOUT_NODE, false, true},
    {"DELETE", "/v1/domains/*", admin_domain_delete, ABOUT_NODE, false, true},
    {"POST", "/v1/domains/*/hold", admin_domain_hold, ABOUT_NODE, false, true},
    {"POST", "/v1/domains/*/release", admin_domain_release, ABOUT_NODE, false, true},
    {"GET", "/v1/domains/*/recipients", admin_recipients_get, ABOUT_NODE, false, true},
    {"PUT", "/v1/domains/*/recipients", admin_recipients_put, ABOUT_NODE, false, true},
    {"DELETE", "/v1/domains/*/recipients", admin_recipients_delete, ABOUT_NODE, false, true},
    {"POST", "/v1/domains/*/recipients/add", admin_recipients_add, ABOUT_NODE, false, true},
    {"POST", "/v1/domains/*/recipients/remove", admin_recipients_remove, ABOUT_NODE, false, true},
    {"GET", "/v1/queue", admin_queue_get, ABOUT_BAG, false, false},
    {"DELETE", "/v1/queue", admin_queue_delete, ABOUT_BAG, false, false},
    {"POST", "/v1/queue/flush", admin_queue_flush, ABOUT_BAG, false, false},
    {"GET", "/v1/queue/*", admin_message_get, ABOUT_MESSAGE, false, false},
    {"GET", "/v1/queue/*/content", admin_message_content, ABOUT_MESSAGE, false, false},
    {"DELETE", "/v1/queue/*", admin_message_delete, ABOUT_MESSAGE, false, false},
    {"GET", "/v1/cluster", admin_cluster_get, ABOUT_NODE, false, true},
    {"GET", "/v1/cluster/settings", admin_settings_get, ABOUT_NODE, false, true},
    {"PUT", "/v1/cluster/settings", admin_settings_put, ABOUT_NODE, false, true},
    {"GET", "/v1/nodes", admin_nodes_get, ABOUT_NODE, false, true},
    {"GET", "/v1/nodes/*", admin_node_get, ABOUT_NODE, false, true},
    {"DELETE", "/v1/nodes/*", admin_node_delete, ABOUT_NODE, false, true},
    {"POST", "/v1/nodes/*/cordon", admin_node_cordon, ABOUT_NODE, false, true},
    {"POST", "/v1/nodes/*/drain", admin_node_drain, ABOUT_NODE, false, true},
    {"POST", "/v1/nodes/*/undrain", admin_node_undrain, ABOUT_NODE, false, true},
    {"GET", "/v1/shards", admin_shards_get, ABOUT_NODE, false, true},
    {"GET", "/v1/shards/*", admin_shard_get, ABOUT_NODE, false, true},
    {"POST", "/v1/shards/*/move", admin_shard_move, ABOUT_NODE, false, true},
};

/* What `*` stands for goes to name_r (ADMIN_NAME_MAX). */
static bool path_matches(const char *pattern, const char *path, char *name_r)
{
    const char *star = strchr(pattern, '*');
    if (!star)
        return strcmp(pattern, path) == 0;
    size_t before = (size_t)(star - pattern);
    if (strncmp(pattern, path, before) != 0)
        return false;
    size_t n = strcspn(path + before, "/");
    if (n == 0 || n >= ADMIN_NAME_MAX || strcmp(path + before + n, star + 1) != 0)
        return false;
    memcpy(name_r, path + before, n);
    name_r[n] = 0;
    return true;
}

static bool method_matches(const char *route, const char *method)
{
    return strcmp(route, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(route, "GET") == 0);
}

/* other_method_r: the path is known, the method is not. */
static const struct route *route_find(struct admin_request *r, const char *method, const char *path,
                                      bool *other_method_r)
{
    *other_method_r = false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!path_matches(routes[i].path, path, r->name))
            continue;
        if (method_matches(routes[i].method, method))
            return &routes[i];
        *other_method_r = true;
    }
    return NULL;
}

/* "127.0.0.1:8025", "localhost", "[::1]:8025" */
static bool host_is_loopback(const char *host)
{
    struct primary p;
    struct in_addr v4;
    struct in6_addr v6;
    char why[256];
    if (!host || primary_parse(slice_str(host), &p, why) < 0)
        return false;
    if (strcmp(p.host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, p.host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, p.host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* TCP's routes touch no door, and a request that waits for other nodes must not keep those out that they wait for. */
static enum MHD_Result request_answer(struct admin_request *r, const struct route *route)
{
    enum MHD_Result answered;
    if (admin_elsewhere(r, route->about, &answered))
        return answered;
    if (route->waits || !r->trusted)
        return route->handle(r);
    pthread_mutex_lock(&r->a->outlet_lock);
    answered = route->handle(r);
    pthread_mutex_unlock(&r->a->outlet_lock);
    return answered;
}

static enum MHD_Result request_route(struct admin_request *r, const char *method, const char *path)
{
    bool other_method;
    const struct route *route = route_find(r, method, path, &other_method);
    if (!r->trusted && !host_is_loopback(MHD_lookup_connection_value(r->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST)))
        return admin_reply_error(r, MHD_HTTP_FORBIDDEN, "this name is not answered here",
                                 "ask for 127.0.0.1 or localhost");
    if (!r->trusted && (!route || !route->open))
        return admin_reply_error(r, MHD_HTTP_FORBIDDEN, "not served on this port: it has no authentication",
                                 "use satchelctl, or the admin socket: curl --unix-socket DATA/admin.sock");
    if (!route && other_method)
        return admin_reply_error(r, MHD_HTTP_METHOD_NOT_ALLOWED, "this method is not known here",
                                 "see docs/admin-api.md");
    if (!route)
        return admin_reply_error(r, MHD_HTTP_NOT_FOUND, "nothing is served at this path", "see docs/admin-api.md");
    if (r->body_too_big)
        return admin_reply_error(r, MHD_HTTP_CONTENT_TOO_LARGE, "the request is too large",
                                 "send at most 256 KiB; of a list of recipients 64 MiB");
    r->method = method;
    r->url = path;
    return request_answer(r, route);
}

/* ---- requests, as libmicrohttpd hands them over: once to begin, then pieces of the body, then once to answer */

/* Room for n bytes more and the NUL, at least twice what there was. */
static bool body_grow(struct admin_request *r, size_t n)
{
    size_t need = r->body_n + n + 1, cap = r->body_cap * 2 > need ? r->body_cap * 2 : need;
    if (need <= r->body_cap)
        return true;
    char *body = realloc(r->body, cap);
    if (!body)
        return false;
    r->body = body;
    r->body_cap = cap;
    return true;
}

static void request_body_add(struct admin_request *r, const char *data, size_t n)
{
    if (r->body_n + n > r->body_most || !body_grow(r, n)) {
        r->body_too_big = true;
        return;
    }
    memcpy(r->body + r->body_n, data, n);
    r->body_n += n;
    r->body[r->body_n] = 0;
}

static size_t body_most(struct admin_request *r, const char *method, const char *path)
{
    bool other_method;
    const struct route *route = r->trusted ? route_find(r, method, path, &other_method) : NULL;
    bool list = route && (route->handle == admin_recipients_put || route->handle == admin_recipients_add ||
                          route->handle == admin_recipients_remove);
    return list ? RECIPIENTS_TEXT_MAX : ADMIN_BODY_MAX;
}

static enum MHD_Result request_handle(struct admin *a, struct MHD_Connection *c, bool trusted, const char *url,
                                      const char *method, const char *data, size_t *data_n, void **request)
{
    struct admin_request *r = *request;
    if (!r) {
        r = calloc(1, sizeof *r);
        if (!r)
            return MHD_NO;
        *r = (struct admin_request){.a = a, .c = c, .trusted = trusted};
        r->body_most = body_most(r, method, url);
        *request = r;
        return MHD_YES;
    }
    if (*data_n > 0) {
        request_body_add(r, data, *data_n);
        *data_n = 0;
        return MHD_YES;
    }
    return request_route(r, method, url);
}

static enum MHD_Result unix_handle(void *a, struct MHD_Connection *c, const char *url, const char *method,
                                   const char *version, const char *data, size_t *data_n, void **request)
{
    (void)version;
    return request_handle(a, c, true, url, method, data, data_n, request);
}

static enum MHD_Result tcp_handle(void *a, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *data_n, void **request)
{
    (void)version;
    return request_handle(a, c, false, url, method, data, data_n, request);
}

static void request_done(void *a, struct MHD_Connection *c, void **request, enum MHD_RequestTerminationCode how)
{
    struct admin_request *r = *request;
    (void)a, (void)c, (void)how;
    if (r)
        free(r->body);
    free(r);
    *request = NULL;
}

__attribute__((format(printf, 2, 0))) static void mhd_log(void *arg, const char *fmt, va_list ap)
{
    char text[512], quoted[600];
    (void)arg;
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = 0;
    log_warning("admin.http", "text=%s", log_quote(slice_str(text), quoted, sizeof quoted));
}

/* ---- listeners */

/* In a cluster each request through the socket has a thread of its own: some wait for other nodes, which may wait for
 * us. */
static struct MHD_Daemon *daemon_start(struct admin *a, int fd, MHD_AccessHandlerCallback handle)
{
    bool waits = a->deps.cluster && handle == unix_handle;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG;
    return MHD_start_daemon(flags | (waits ? MHD_USE_THREAD_PER_CONNECTION : MHD_USE_EPOLL), 0, NULL, NULL, handle, a,
                            MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
                            MHD_OPTION_NOTIFY_COMPLETED, request_done, a, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)CONNECTIONS_LIMIT, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
                            MHD_OPTION_END);
}

static int listen_on(const struct sockaddr *sa, socklen_t n)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0)
        return -errno;
    if (sa->sa_family != AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, sa, n) == 0 &&
        (sa->sa_family != AF_UNIX || chmod(((const struct sockaddr_un *)sa)->sun_path, 0600) == 0) &&
        listen(fd, BACKLOG) == 0)
        return fd;
    int err = errno;
    close(fd);
    return -err;
}

/* The directory's lock says that no other daemon lives here, so what lies at our path is a dead one's.  Anything but a
 * socket is left alone. */
static int unix_listen(const char *path, char *why_r, size_t cap)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat sb;
    if (strlen(path) >= sizeof sa.sun_path) {
        snprintf(why_r, cap, "%s: longer than the %zu characters of a socket: set admin.socket to a shorter path", path,
                 sizeof sa.sun_path - 1);
        return -SATCHEL_EINVAL;
    }
    memcpy(sa.sun_path, path, strlen(path));
    if (lstat(path, &sb) == 0 && S_ISSOCK(sb.st_mode))
        unlink(path);
    mode_t mask = umask(0177); /* 0600 from the first moment on */
    int fd = listen_on((const struct sockaddr *)&sa, sizeof sa);
    umask(mask);
    if (fd < 0)
        snprintf(why_r, cap,
                 "%s: cannot listen: %s: set admin.socket to a path in a directory that is there and is ours", path,
                 satchel_strerror(fd));
    return fd;
}

static int tcp_listen(const char *address, char *why_r, size_t cap)
{
    struct primary at;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char why[256];
    int fd = primary_parse(slice_str(address), &at, why);
    if (fd == 0) {
        v4.sin_port = v6.sin6_port = htons(at.port);
        if (inet_pton(AF_INET, at.host, &v4.sin_addr) == 1)
            fd = listen_on((const struct sockaddr *)&v4, sizeof v4);
        else if (inet_pton(AF_INET6, at.host, &v6.sin6_addr) == 1)
            fd = listen_on((const struct sockaddr *)&v6, sizeof v6);
        else
            fd = -SATCHEL_EINVAL;
    }
    if (fd < 0)
        snprintf(why_r, cap, "%s: cannot listen: %s: set admin.http to a free loopback address, or to nothing", address,
                 satchel_strerror(fd));
    return fd;
}

static int daemon_open(struct admin *a, struct MHD_Daemon **d_r, int fd, MHD_AccessHandlerCallback handle, char *why_r,
                       size_t cap)
{
    if (fd < 0)
        return fd;
    *d_r = daemon_start(a, fd, handle);
    if (*d_r)
        return 0;
    close(fd);
    snprintf(why_r, cap, "cannot start the admin server; the log says why");
    return -SATCHEL_EIO;
}

static int listeners_open(struct admin *a, const struct settings *settings, char *why_r, size_t cap)
{
    int fd = unix_listen(settings->admin_socket, why_r, cap);
    int res = daemon_open(a, &a->unix_daemon, fd, unix_handle, why_r, cap);
    if (fd >= 0)
        a->socket_path = strdup(settings->admin_socket);
    if (res < 0 || *settings->admin_http == 0)
        return res;
    fd = tcp_listen(settings->admin_http, why_r, cap);
    return daemon_open(a, &a->tcp_daemon, fd, tcp_handle, why_r, cap);
}

/* ---- life */

static const enum metric rate_counters[RATE_COUNT] = {
    [RATE_ACCEPTED] = M_SMTP_ACCEPTED,
    [RATE_ACCEPTED_BYTES] = M_SMTP_ACCEPTED_BYTES,
    [RATE_DELIVERED] = M_RELAY_DELIVERED,
    [RATE_GROUPS] = M_SPOOL_GROUPS,
};

int admin_open(struct admin **a_r, const struct admin_deps *deps, const struct settings *settings, char *why_r,
               size_t cap)
{
    struct admin *a = calloc(1, sizeof *a);
    if (!a || !(a->hostname = strdup(settings->hostname)))
        abort();
    a->deps = *deps;
    pthread_mutex_init(&a->outlet_lock, NULL);
    admin_reload(a, settings);
    int res = rates_open(&a->rates, rate_counters, RATE_COUNT, deps->clock);
    if (res < 0)
        snprintf(why_r, cap, "cannot start a thread: %s", satchel_strerror(res));
    else
        res = listeners_open(a, settings, why_r, cap);
    if (res == 0 && deps->cluster)
        cluster_serve(deps->cluster, admin_serve, a);
    if (res < 0)
        admin_close(&a);
    else
        *a_r = a;
    return res;
}

void admin_reload(struct admin *a, const struct settings *settings)
{
    atomic_store(&a->keep_s, settings->keep_us / UINT64_C(1000000));
}

void admin_close(struct admin **a_r)
{
    struct admin *a = *a_r;
    if (!a)
        return;
    if (a->deps.cluster)
        cluster_serve(a->deps.cluster, NULL, NULL);
    if (a->unix_daemon)
        MHD_stop_daemon(a->unix_daemon);
    if (a->tcp_daemon)
        MHD_stop_daemon(a->tcp_daemon);
    if (a->socket_path)
        unlink(a->socket_path);
    rates_close(&a->rates);
    pthread_mutex_destroy(&a->outlet_lock);
    free(a->socket_path);
    free(a->hostname);
    free(a);
    *a_r = NULL;
}
