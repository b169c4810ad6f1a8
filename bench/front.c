/* satchel-front - the SMTP front-end without a spool: takes messages, answers 250, keeps nothing, and says what it
 * cost.
 *
 *   satchel-front [options] HOST:PORT        on kernel sockets
 *   satchel-front [options] --dpdk ARGS --address NET PORT        on a DPDK port
 *     --max N              sessions (1100000)
 *     --domains N          d0000.test, d0001.test, ... (1)
 *     --engine NAME        of kernel sockets: uring, epoll (uring where the kernel allows it)
 *     --block NET          DPDK: a source network that is not answered; may be given several times
 *     --host-rate N        DPDK: connections a second of one host, and as many at once; 0: no limit (0)
 *     --early MS           DPDK: who speaks within that time after the handshake is dismissed (0)
 *     --idle-polls N       DPDK: turns without work before it sleeps; 0: never (0)
 *
 * Each line on stdin is answered with one line of JSON: what was counted so far.  Ends when stdin ends, or on SIGTERM.
 */
#include "bench/lib/bare.h"
#include "bench/lib/dpdk.h"
#include "bench/lib/sock.h"
#include "dataplane/net/user.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/cycles.h"
#include "spool/base/log.h"
#include <err.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCKS_MAX 64

struct server {
    struct bare front;
    struct transport *transport;
    struct port *port; /* DPDK */
    struct stats stats;
    pthread_t thread;
    struct dpdk_options dpdk;
    struct ip_prefix blocked[BLOCKS_MAX];
    uint32_t blocked_n, host_rate, early_ms, idle_polls, max, domains;
    enum net_engine engine;
    uint64_t begin_cycles, begin_us;
};

static struct server s = {.max = 1100000, .domains = 1};

/* ---- on kernel sockets, or on a port */

static void open_kernel(const char *address)
{
    char why[NET_WHY_MAX];
    int fds[2], n = net_listen(address, fds, 2, why);
    struct kernel_config cfg = kernel_config_default;
    struct transport_app app = bare_app(&s.front);
    if (n < 0)
        errx(1, "%s", why);
    cfg.engine = s.engine;
    cfg.listen_fds = fds;
    cfg.listen_n = (size_t)n;
    cfg.max_conns = s.max;
    if (transport_kernel_open(&s.transport, &cfg, &app) < 0)
        errx(1, "no transport on kernel sockets");
}

static void block(void *arg, struct stack *stack)
{
    (void)arg;
    if (guard_block(stack_guard(stack), s.blocked, s.blocked_n) < 0)
        errx(2, "--block: networks must be in ascending order, none within another");
}

static void open_dpdk(const char *port)
{
    char why[USER_WHY_MAX], *end;
    struct user_config cfg;
    struct transport_app app = bare_app(&s.front);
    unsigned long number = strtoul(port, &end, 10);
    if (*end || number == 0 || number > 65535)
        errx(2, "%s is not a port", port);
    s.port = dpdk_open(&s.dpdk);
    user_config_default(&cfg);
    cfg.queue = s.port->ops->queue(s.port, 0);
    cfg.stats = &s.stats;
    cfg.ports[cfg.ports_n++] = (uint16_t)number;
    cfg.max_conns = s.max;
    cfg.early_talker_ms = s.early_ms;
    cfg.idle_polls = s.idle_polls;
    memcpy(cfg.stack.ip.addrs, s.dpdk.addrs, sizeof cfg.stack.ip.addrs);
    cfg.stack.ip.addrs_n = s.dpdk.addrs_n;
    *(ip_addr_is4(&s.dpdk.gateway) ? &cfg.stack.ip.gateway4 : &cfg.stack.ip.gateway6) = s.dpdk.gateway;
    cfg.stack.ip.dad = false; /* nobody else is on the wire */
    cfg.stack.guard.bogons = false;
    cfg.stack.guard.host_per_s = cfg.stack.guard.host_burst = s.host_rate;
    cfg.stack.guard.network_per_s = cfg.stack.guard.network_burst = 0;
    cfg.stack.guard.answers_per_s = 0;
    cfg.stack.tcp.rst_per_s = 1000000;
    cfg.stack.tcp.pages_max = 65536;
    cfg.stack.tcp.txblocks_max = 262144;
    if (transport_user_open(&s.transport, &cfg, &app, why) < 0)
        errx(1, "%s", why);
    transport_user_call(s.transport, block, NULL);
}

static void ready(void *arg, struct stack *stack)
{
    bool *all = arg;
    *all = true;
    for (uint8_t i = 0; i < s.dpdk.addrs_n; i++)
        *all &= ip_addr_ready(stack_ip(stack), i);
}

/* Addresses are probed for some seconds before they are used. */
static void wait_for_addresses(void)
{
    bool all = !s.dpdk.on;
    while (!all) {
        transport_user_call(s.transport, ready, &all);
        usleep(all ? 0 : 20000);
    }
}

static void *run(void *arg)
{
    (void)arg;
    if (s.transport->ops->run(s.transport) < 0)
        errx(1, "the transport ended");
    return NULL;
}

/* ---- what it cost */

static uint64_t thread_us(void)
{
    clockid_t id;
    struct timespec t = {0};
    if (pthread_getcpuclockid(s.thread, &id) == 0)
        clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void say_counts(void)
{
    uint64_t us = sock_now_us() - s.begin_us;
    double per_us = us ? (double)(cycles_now() - s.begin_cycles) / (double)us : 0;
    printf("{\"messages\": %llu, \"bytes\": %llu, \"sessions\": %u, \"cpu_us\": %lu, \"thread_us\": %lu, "
           "\"wall_us\": %lu, \"resident_bytes\": %lu, \"cycles_per_us\": %.3f, \"busy_us\": %.0f",
           (unsigned long long)s.front.counts.messages, (unsigned long long)s.front.counts.bytes,
           smtp_worker_sessions(s.front.smtp), sock_cpu_us(), thread_us(), us, resident_bytes(), per_us,
           per_us > 0 ? (double)stat_get(&s.stats, STAT_CYCLES_BUSY) / per_us : 0);
    if (s.dpdk.on) {
        printf(", \"mapped_bytes\": %zu, \"conn_bytes\": %zu, \"stats\": {", transport_user_mapped(s.transport),
               transport_user_conn_bytes(s.transport));
        for (int i = 0; i < STAT_N; i++)
            printf("%s\"%s\": %lu", i ? ", " : "", stat_rows[i].name, stat_get(&s.stats, (enum stat_id)i));
        printf("}");
    }
    printf("}\n");
    fflush(stdout);
}

static void terminate(int sig)
{
    (void)sig;
    close(0);
}

/* Signals come to this thread alone. */
static void start(void)
{
    struct sigaction sa = {.sa_handler = terminate};
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    pthread_sigmask(SIG_BLOCK, &ours, NULL);
    if (pthread_create(&s.thread, NULL, run, NULL))
        errx(1, "cannot start a thread");
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
}

static void serve(void)
{
    char line[256];
    wait_for_addresses();
    printf("{\"ready\": true}\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        say_counts();
}

/* ---- command line */

static uint32_t number(const char *what, uint32_t max)
{
    char *end;
    unsigned long v = strtoul(optarg, &end, 10);
    if (end == optarg || *end || v > max)
        errx(2, "%s %s: expected a number up to %u", what, optarg, max);
    return (uint32_t)v;
}

enum { OPT_MAX = 256, OPT_DOMAINS, OPT_ENGINE, OPT_BLOCK, OPT_HOST_RATE, OPT_EARLY, OPT_IDLE_POLLS };

static const struct option options[] = {
    {"max", 1, NULL, OPT_MAX},
    {"domains", 1, NULL, OPT_DOMAINS},
    {"engine", 1, NULL, OPT_ENGINE},
    {"block", 1, NULL, OPT_BLOCK},
    {"host-rate", 1, NULL, OPT_HOST_RATE},
    {"early", 1, NULL, OPT_EARLY},
    {"idle-polls", 1, NULL, OPT_IDLE_POLLS},
    DPDK_OPTIONS,
    {"help", 0, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void usage(int status)
{
    fprintf(status ? stderr : stdout,
            "usage: satchel-front [--max N] [--domains N] [--engine uring|epoll] HOST:PORT\n"
            "       satchel-front [--max N] [--domains N] [--block NET ...] [--host-rate N] [--early MS]\n"
            "                     [--idle-polls N] --dpdk ARGS --address NET[xN] PORT\n" DPDK_USAGE);
    exit(status);
}

static void block_add(void)
{
    if (s.blocked_n == BLOCKS_MAX || !addr_parse_prefix(slice_str(optarg), &s.blocked[s.blocked_n++]))
        errx(2, "--block %s: expected a network, %d at most", optarg, BLOCKS_MAX);
}

static void option(int o)
{
    switch (o) {
    case OPT_MAX:
        s.max = number("--max", 10000000);
        break;
    case OPT_DOMAINS:
        s.domains = number("--domains", 10000);
        break;
    case OPT_ENGINE:
        s.engine = strcmp(optarg, "epoll") == 0 ? NET_EPOLL : NET_URING;
        break;
    case OPT_BLOCK:
        block_add();
        break;
    case OPT_HOST_RATE:
        s.host_rate = number("--host-rate", 1000000);
        break;
    case OPT_EARLY:
        s.early_ms = number("--early", 60000);
        break;
    case OPT_IDLE_POLLS:
        s.idle_polls = number("--idle-polls", 1u << 30);
        break;
    default:
        if (o < DPDK_OPT)
            usage(o == 'h' ? 0 : 2);
        dpdk_option(&s.dpdk, o, optarg);
    }
}

int main(int argc, char **argv)
{
    int o;
    while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1)
        option(o);
    if (optind != argc - 1 || !s.domains || !s.max)
        usage(2);
    signal(SIGPIPE, SIG_IGN);
    sock_raise_files();
    log_level_now = LOG_LEVEL_ERROR;
    s.begin_us = sock_now_us();
    s.begin_cycles = cycles_now();
    bare_open(&s.front, s.max, s.domains);
    if (s.dpdk.on)
        open_dpdk(argv[optind]);
    else
        open_kernel(argv[optind]);
    bare_attach(&s.front, s.transport);
    start();
    serve();
    bare_shutdown(&s.front);
    pthread_join(s.thread, NULL);
    s.transport->ops->destroy(&s.transport);
    bare_close(&s.front);
    if (s.port)
        s.port->ops->close(&s.port);
    return 0;
}
