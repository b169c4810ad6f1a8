/* port_dpdk_sock.c - UNIX sockets that virtual devices listen on: net_vhost, net_virtio_user with server=1, net_memif.
 *
 * Their drivers take badly what lies at that path: a socket that a killed process left stops them, another process's is
 * taken over, and any other file removed.  So it is looked at before.
 *
 * And net_virtio_user waits for its peer while the EAL starts, for ever. Who knocks and says nothing is a peer that it
 * gives up. */
#include "dataplane/net/port_dpdk.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <poll.h>
#include <pthread.h>
#include <rte_kvargs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { TICK_MS = 50, SILENT_MS = 1000, PEER_WAIT_MS = 30000 };

#define SOCK_PATH_MAX sizeof(((struct sockaddr_un *)0)->sun_path)

/* ---- the arguments */

/* Which key names the socket, and what says that we listen on it. */
static const struct listener {
    const char *driver;
    const char *path;
    const char *key, *value;
    bool by_default; /* unless the key has the value */
} listeners[] = {
    {"net_vhost", "iface", "client", "1", true},
    {"eth_vhost", "iface", "client", "1", true},
    {"net_virtio_user", "path", "server", "1", false},
    {"virtio_user", "path", "server", "1", false},
    {"net_memif", "socket", "socket-abstract", "no", false},
};

static bool starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

/* "--vdev=NAME,key=value" or "--vdev NAME,key=value" -> "NAME,key=value"; NULL: another argument. */
static const char *vdev_of(const char *arg)
{
    if (!starts(arg, "--vdev") || (arg[6] != '=' && arg[6] != ' '))
        return NULL;
    return arg + 7 + strspn(arg + 7, " ");
}

bool dpdk_arg_is_virtio_user(const char *arg)
{
    const char *vdev = vdev_of(arg);
    return vdev && (starts(vdev, "net_virtio_user") || starts(vdev, "virtio_user"));
}

static bool has(const struct rte_kvargs *kv, const char *key, const char *value)
{
    const char *v = rte_kvargs_get(kv, key);
    return v && strcmp(v, value) == 0;
}

static bool listens(const struct listener *l, const struct rte_kvargs *kv)
{
    return has(kv, l->key, l->value) != l->by_default && !has(kv, "role", "client") && !has(kv, "role", "slave");
}

/* The socket that the device of this argument will listen on. */
static bool socket_of(const char *arg, char path_r[SOCK_PATH_MAX])
{
    const char *vdev = vdev_of(arg), *keys = vdev ? strchr(vdev, ',') : NULL;
    struct rte_kvargs *kv = keys ? rte_kvargs_parse(keys + 1, NULL) : NULL;
    const char *path = NULL;
    for (size_t i = 0; kv && i < sizeof listeners / sizeof *listeners; i++)
        if (starts(vdev, listeners[i].driver) && listens(&listeners[i], kv))
            path = rte_kvargs_get(kv, listeners[i].path);
    bool found = path && strlen(path) < SOCK_PATH_MAX;
    if (found)
        memcpy(path_r, path, strlen(path) + 1);
    rte_kvargs_free(kv);
    return found;
}

/* ---- what lies there */

/* A connection, or -errno. */
static int connected(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memcpy(sa.sun_path, path, strlen(path));
    if (fd < 0 || connect(fd, (const struct sockaddr *)&sa, sizeof sa) == 0)
        return fd < 0 ? -errno : fd;
    int err = errno;
    close(fd);
    return -err;
}

/* Only "refused" says that nobody is there: full queues and other kinds of sockets are somebody's. */
static bool is_stale(const char *path)
{
    int fd = connected(path);
    if (fd >= 0)
        close(fd);
    return fd == -ECONNREFUSED;
}

static int clear(const char *path, char *why_r)
{
    struct stat sb;
    if (lstat(path, &sb) != 0)
        return 0;
    if (!S_ISSOCK(sb.st_mode))
        return dpdk_fail(-SATCHEL_EEXIST, why_r, "name another path in dataplane.eal", "%s is there, and is no socket",
                         path);
    if (!is_stale(path))
        return dpdk_fail(-SATCHEL_EBUSY, why_r, "end it, or name another path in dataplane.eal",
                         "another process serves %s", path);
    if (unlink(path) != 0)
        return dpdk_fail(-errno, why_r, "remove it", "%s was left by a process that is gone: %s", path,
                         satchel_strerror(errno));
    log_info("port.socket_left", "path=%s removed=1", path);
    return 0;
}

int dpdk_sock_clear(const struct port_dpdk_config *cfg, char *why_r)
{
    char path[SOCK_PATH_MAX];
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < cfg->eal_args_n; i++)
        if (socket_of(cfg->eal_args[i], path))
            err = clear(path, why_r);
    return err;
}

/* ---- the peer that does not come */

struct dpdk_wait {
    pthread_t thread;
    bool running;
    int stop; /* eventfd */
    int knock;
    uint32_t ms;
    bool gave_up;
    char path[SOCK_PATH_MAX], device[RTE_ETH_NAME_MAX_LEN];
};

/* satcheld holds these signals back until it is ready. */
static bool told_to_end(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* The driver's questions are taken, and it reads the end of the stream where answers should be. */
static void give_up(struct dpdk_wait *w)
{
    w->gave_up = true;
    if (w->knock < 0)
        w->knock = connected(w->path);
    if (w->knock >= 0)
        shutdown(w->knock, SHUT_WR);
}

static void *wait_main(void *arg)
{
    struct dpdk_wait *w = arg;
    struct pollfd stop = {.fd = w->stop, .events = POLLIN};
    for (uint32_t waited = 0; poll(&stop, 1, TICK_MS) == 0;) {
        if (access(w->path, F_OK) != 0)
            continue; /* the EAL is not as far yet: it may have many huge pages to look at */
        waited += TICK_MS;
        if (waited == SILENT_MS)
            log_info("port.waiting", "socket=%s seconds=%u", w->path, w->ms / 1000);
        if (waited >= w->ms || told_to_end())
            give_up(w);
    }
    return NULL;
}

/* The device of this argument, if it waits for a peer. */
static bool waits(struct dpdk_wait *w, const char *arg)
{
    if (!dpdk_arg_is_virtio_user(arg) || !socket_of(arg, w->path))
        return false;
    const char *vdev = vdev_of(arg);
    snprintf(w->device, sizeof w->device, "%.*s", (int)strcspn(vdev, ","), vdev);
    return true;
}

struct dpdk_wait *dpdk_sock_wait_begin(const struct port_dpdk_config *cfg)
{
    struct dpdk_wait *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->knock = w->stop = -1;
    w->ms = cfg->peer_wait_ms ? cfg->peer_wait_ms : PEER_WAIT_MS;
    for (uint32_t i = 0; i < cfg->eal_args_n && w->stop < 0; i++)
        if (waits(w, cfg->eal_args[i]))
            w->stop = eventfd(0, EFD_CLOEXEC);
    w->running = w->stop >= 0 && pthread_create(&w->thread, NULL, wait_main, w) == 0;
    return w;
}

int dpdk_sock_wait_end(struct dpdk_wait **w_p, char *why_r)
{
    struct dpdk_wait *w = *w_p;
    uint16_t id;
    int err = 0;
    *w_p = NULL;
    if (w->running) {
        eventfd_write(w->stop, 1);
        pthread_join(w->thread, NULL);
    }
    if (w->gave_up && rte_eth_dev_get_port_by_name(w->device, &id) != 0) {
        dpdk_said_forget();
        err = dpdk_fail(-ETIMEDOUT, why_r, "start the switch or guest that is to, with the same path and as client",
                        "nobody connected to %s", w->path);
    }
    if (w->knock >= 0)
        close(w->knock);
    if (w->stop >= 0)
        close(w->stop);
    free(w);
    return err;
}
