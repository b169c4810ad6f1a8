/* port_dpdk_eal.c - the EAL: started once, quietly, and what it complains about turned into words with a remedy.
 *
 * What it logs goes to our log ("dpdk.log"), from warnings on, or all of it at level debug; what it said last is kept
 * for the error that follows.  It would print its usage on standard output when it dislikes an argument: that is kept
 * away while it starts. */
#include "dataplane/net/port_dpdk.h"
#include "spool/base/clock.h"
#include "spool/base/err.h"
#include "spool/base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EAL_ARGS_MAX 64u
#define SAID_MAX     240u
#define AGAIN_US     1000000u
#define DMA_FAILED   "Cannot set up DMA remapping" /* all that DPDK does about it is to say so */

static bool started;
static atomic_bool hushed, dma_failed;
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;
static char said[SAID_MAX]; /* its complaints: the first is the cause, what follows are consequences */

/* ---- what it says */

static void said_add(struct slice line)
{
    pthread_mutex_lock(&said_lock);
    size_t at = strlen(said);
    snprintf(said + at, sizeof said - at, "%s%.*s", at ? "; " : "", SLICE_FMT(line));
    pthread_mutex_unlock(&said_lock);
}

static void said_get(char text_r[SAID_MAX])
{
    pthread_mutex_lock(&said_lock);
    memcpy(text_r, said, SAID_MAX);
    pthread_mutex_unlock(&said_lock);
}

void dpdk_said_forget(void)
{
    pthread_mutex_lock(&said_lock);
    said[0] = 0;
    pthread_mutex_unlock(&said_lock);
}

/* The same line as just before, within a second: drivers repeat themselves, some dozens of times over a peer that is
 * gone. */
static bool is_again(struct slice line)
{
    static char last[SAID_MAX];
    static uint64_t last_us;
    uint64_t now = clock_boot_us(clock_system());
    pthread_mutex_lock(&said_lock);
    bool again = slice_eq(line, slice_str(last)) && now - last_us < AGAIN_US;
    if (!again) {
        last_us = now;
        snprintf(last, sizeof last, "%.*s", SLICE_FMT(line));
    }
    pthread_mutex_unlock(&said_lock);
    return again;
}

static void heard(struct slice line, uint32_t level)
{
    char quoted[2 * SAID_MAX];
    if (level <= RTE_LOG_ERR)
        said_add(line);
    if (is_again(line))
        return;
    if (level <= RTE_LOG_WARNING)
        log_warning("dpdk.log", "text=%s", log_quote(line, quoted, sizeof quoted));
    else
        log_debug("dpdk.log", "text=%s", log_quote(line, quoted, sizeof quoted));
}

static ssize_t eal_wrote(void *cookie, const char *text, size_t n)
{
    int level = rte_log_cur_msg_loglevel();
    (void)cookie;
    if (memmem(text, n, DMA_FAILED, strlen(DMA_FAILED)))
        atomic_store(&dma_failed, true);
    for (size_t at = 0; at < n && !atomic_load(&hushed);) {
        size_t end = at;
        while (end < n && text[end] != '\n')
            end++;
        if (end > at)
            heard(slice_of(text + at, end - at), level < 0 ? RTE_LOG_ERR : (uint32_t)level);
        at = end + 1;
    }
    return (ssize_t)n;
}

bool dpdk_dma_failed(void)
{
    return atomic_load(&dma_failed);
}

void dpdk_log_hush(bool hush)
{
    atomic_store(&hushed, hush);
}

int dpdk_fail(int err, char *why_r, const char *remedy, const char *fmt, ...)
{
    char what[PORT_WHY_MAX / 2], text[SAID_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    said_get(text);
    int n = snprintf(why_r, PORT_WHY_MAX, "%s%s%s%s", what, *text ? " (DPDK says: " : "", text, *text ? ")" : "");
    int room = (int)PORT_WHY_MAX - (int)strlen(remedy) - 3;
    n = n > room ? room : n; /* the remedy is whole in any case */
    snprintf(why_r + n, PORT_WHY_MAX - (size_t)n, ": %s", remedy);
    return err < 0 ? err : -err;
}

/* ---- its arguments */

struct eal_args {
    char *v[2 * EAL_ARGS_MAX + 8];
    int n;
};

static void arg_add(struct eal_args *a, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        abort();
    a->v[a->n++] = copy;
}

/* "-m 512" is two. */
static void arg_split(struct eal_args *a, const char *text)
{
    char *first = strdup(text), *space = first ? strchr(first, ' ') : NULL;
    if (space)
        *space = 0;
    arg_add(a, first ? first : text);
    if (space)
        arg_add(a, space + 1 + strspn(space + 1, " "));
    free(first);
}

static bool arg_is(const char *arg, const char *name)
{
    size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 && (arg[n] == 0 || arg[n] == '=' || arg[n] == ' ' || name[1] != '-');
}

/* One of the names, separated by spaces, is among the operator's arguments. */
static bool given(const struct port_dpdk_config *cfg, const char *names)
{
    char list[128], *save = NULL;
    snprintf(list, sizeof list, "%s", names);
    for (char *name = strtok_r(list, " ", &save); name; name = strtok_r(NULL, " ", &save))
        for (uint32_t i = 0; i < cfg->eal_args_n; i++)
            if (arg_is(cfg->eal_args[i], name))
                return true;
    return false;
}

/* One lcore, free to run where this process may: our workers are threads of our own. */
static void arg_lcores(struct eal_args *a, const cpu_set_t *cpus)
{
    char text[1024] = "--lcores=0@(";
    size_t at = strlen(text);
    for (int i = 0; i < CPU_SETSIZE && at < sizeof text - 16; i++)
        if (CPU_ISSET(i, cpus))
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%d", text[at - 1] == '(' ? "" : ",", i);
    snprintf(text + at, sizeof text - at, ")");
    arg_add(a, text);
}

/* Without huge pages the EAL takes 64 MiB unless told: more where the rings of many workers need it. */
static void arg_memory(struct eal_args *a, const struct port_dpdk_config *cfg)
{
    char text[32];
    uint64_t buffers = cfg->buffers ? cfg->buffers : cfg->queues * (uint64_t)(cfg->rx_ring + cfg->tx_ring + 4096);
    uint64_t bytes = buffers * (256 + (cfg->mtu > 2048 ? cfg->mtu : 2048));
    snprintf(text, sizeof text, "%" PRIu64, 64 + (bytes >> 20) * 5 / 4);
    arg_add(a, "-m");
    arg_add(a, text);
}

/* The peer of a net_virtio_user maps our memory, eight files of it at most: a huge page each would be too many. */
static bool is_shared(const struct port_dpdk_config *cfg)
{
    for (uint32_t i = 0; i < cfg->eal_args_n; i++)
        if (dpdk_arg_is_virtio_user(cfg->eal_args[i]))
            return true;
    return false;
}

/* Memory and state of this process alone, so that several can live on one machine; nothing else listens.  The EAL knows
 * two words for it, and refuses the first without huge pages. */
static void args_fill(struct eal_args *a, const struct port_dpdk_config *cfg, const cpu_set_t *cpus)
{
    arg_add(a, "satcheld");
    if (!given(cfg, "-l -c --lcores"))
        arg_lcores(a, cpus);
    if (!given(cfg, "--in-memory --file-prefix --huge-dir --proc-type --huge-unlink --no-shconf"))
        arg_add(a, given(cfg, "--no-huge") ? "--no-shconf" : "--in-memory");
    if (!given(cfg, "--telemetry --no-telemetry"))
        arg_add(a, "--no-telemetry");
    if (given(cfg, "--no-huge") && !given(cfg, "-m --socket-mem"))
        arg_memory(a, cfg);
    if (is_shared(cfg) && !given(cfg, "--single-file-segments --no-huge"))
        arg_add(a, "--single-file-segments");
    for (uint32_t i = 0; i < cfg->eal_args_n; i++)
        arg_split(a, cfg->eal_args[i]);
}

static int args_check(const struct port_dpdk_config *cfg, char *why_r)
{
    if (cfg->eal_args_n > EAL_ARGS_MAX)
        return dpdk_fail(-SATCHEL_EINVAL, why_r, "DPDK needs a handful", "dataplane.eal has %u arguments",
                         cfg->eal_args_n);
    if (given(cfg, "-h --help -v --version"))
        return dpdk_fail(-SATCHEL_EINVAL, why_r, "see docs/dpdk.md for those that serve",
                         "dataplane.eal asks for help or a version");
    return 0;
}

/* ---- start */

#define REMEDY_ROOT                                                                                                    \
    "it must start as root (or with CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and CAP_SYS_ADMIN); set `user` for what " \
    "it becomes then"

/* The first row one of whose words DPDK said. */
static const struct remedy {
    const char *words[3];
    const char *text;
    bool for_others; /* where root is not to blame: for who is not root the remedy is to be it */
} remedies[] = {
    {{"command line"}, "one of dataplane.eal is no argument of DPDK's EAL", false},
    {{"parse device", "find bus"},
     "is that the name of a driver (net_af_packet0, net_tap0, net_memif0), and is it installed (apt-get install dpdk "
     "librte-meta-net)",
     false},
    {{"connect error"},
     "start what serves its socket first, or let satcheld serve it (server=1 for net_virtio_user)",
     false},
    {{"hugepage"},
     "reserve huge pages with 'sysctl vm.nr_hugepages=512', or, for virtual devices, add --no-huge to dataplane.eal",
     false},
    {{"Cannot open /dev/vfio"},
     "the device's group in /dev/vfio must be ours (chown satchel /dev/vfio/NN), or start as root with `user` set",
     false},
    {{"memory"},
     "give it more: huge pages (sysctl vm.nr_hugepages=512), or with --no-huge \"-m 512\" in dataplane.eal",
     false},
    {{"ermission denied", "not permitted"}, REMEDY_ROOT, false},
    {{"probe", "initialize", "attach"},
     "a device of dataplane.eal could not be made: are its arguments those of its driver, and does the interface that "
     "it names exist",
     true},
};

const char *dpdk_remedy(const char *otherwise)
{
    char text[SAID_MAX];
    said_get(text);
    for (size_t i = 0; i < sizeof remedies / sizeof *remedies; i++)
        for (size_t w = 0; w < 3 && remedies[i].words[w]; w++)
            if (strcasestr(text, remedies[i].words[w]))
                return remedies[i].for_others && geteuid() != 0 ? REMEDY_ROOT : remedies[i].text;
    return *text && geteuid() != 0 ? REMEDY_ROOT : otherwise;
}

/* Standard output, put aside; -1: it was closed. */
static int stdout_aside(void)
{
    fflush(stdout);
    int kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0 && kept >= 0)
        dup2(null, STDOUT_FILENO);
    if (null >= 0)
        close(null);
    return kept;
}

static void stdout_back(int kept)
{
    fflush(stdout);
    if (kept < 0)
        return;
    dup2(kept, STDOUT_FILENO);
    close(kept);
}

static void log_begin(void)
{
    static const cookie_io_functions_t io = {.write = eal_wrote};
    FILE *f = fopencookie(NULL, "w", io);
    if (f)
        rte_openlog_stream(f);
    rte_log_set_global_level(LOG_LEVEL_DEBUG <= log_level_now ? RTE_LOG_DEBUG : RTE_LOG_WARNING);
}

int dpdk_eal_start(const struct port_dpdk_config *cfg, char *why_r)
{
    static struct eal_args a, whole; /* the EAL keeps pointers into the first, and moves them about */
    cpu_set_t cpus;
    if (started)
        return 0;
    int err = args_check(cfg, why_r);
    if (err < 0 || (err = dpdk_sock_clear(cfg, why_r)) < 0)
        return err;
    CPU_ZERO(&cpus);
    sched_getaffinity(0, sizeof cpus, &cpus);
    args_fill(&whole, cfg, &cpus);
    a = whole;
    log_begin();
    int kept = stdout_aside();
    struct dpdk_wait *wait = dpdk_sock_wait_begin(cfg);
    int res = rte_eal_init(a.n, a.v), eal_err = rte_errno;
    err = dpdk_sock_wait_end(&wait, why_r);
    stdout_back(kept);
    sched_setaffinity(0, sizeof cpus, &cpus); /* it binds who starts it to the first lcore */
    if (err < 0)
        return err;
    if (res < 0)
        return dpdk_fail(eal_err ? -eal_err : -SATCHEL_EIO, why_r, dpdk_remedy("see docs/dpdk.md"),
                         "DPDK cannot start");
    started = true;
    return 0;
}
