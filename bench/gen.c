/* satchel-gen - a load generator for SMTP servers.
 *
 *   satchel-gen [options] HOST:PORT
 *     -c N             connections (20)
 *     -n N             messages to begin (10000); with -d: as many as fit
 *     -d SECONDS       begin no message after that
 *     -T SECONDS       end after that in any case (600); then the exit status is 1
 *     -m N             messages a session (20)
 *     -s BYTES         size of a message with its headers (4096)
 *     -r N             recipients a message (1), all in one domain
 *     --domains N      rotate over d0000.test, d0001.test, ... (1)
 *     --domain NAME    one domain of that name instead
 *     --from ADDRESS   sender (gen@gen.test)
 *     --run NAME       first half of the tokens, letters and digits (a random one)
 *     --no-pipelining  one command at a time; else MAIL, RCPT and DATA go in one write
 *     --deep           the next MAIL, RCPT and DATA ride behind the final dot
 *     --rate N         messages (--refused: connections) a second, evenly spaced, all threads together
 *     --retry          connect again, whatever happens, until the end
 *     --ledger FILE    what was sent and what was acknowledged (bench/lib/lines.h)
 *     -t N             threads (1); each has connections, messages and a run name ("RUNt1") of its own
 *     --json           one JSON object, else a summary for people
 *     --idle N         open N sessions, say EHLO and hold them until stdin ends; -T bounds that too.  A line
 *                      "noop SECONDS" on stdin: all say NOOP in turn for so long
 *
 *     --refused N      N connections that the server does not want, -c at a time: each ends when the server ends it
 *     --give-up MS     ... or when nothing was heard for so long; 0: at once, so that each is one SYN (1000)
 *     --wait           keep the port until stdin ends
 *
 *   satchel-gen [options] --dpdk ARGS --address NET HOST:PORT      by our own TCP over a DPDK port (bench/lib/dpdk.h)
 *     --delack MS      how long acknowledgements wait for something to go with (40); 0: they do not
 *     --idle-polls N   turns in which nothing comes before it sleeps (2000)
 *
 * Latency is from the moment the final dot was handed to the kernel to the moment its 250 was read. */
#include "bench/lib/dpdk.h"
#include "bench/lib/load.h"
#include "bench/lib/wire_user.h"
#include <err.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define THREADS_MAX 16
#define CONNS_MAX   1100000u /* of our own TCP; memory is taken as they come */

struct gen {
    struct load_spec spec;
    unsigned threads, idle;
    bool json;
    char run[THREADS_MAX][40];
    struct load_spec part[THREADS_MAX];
    struct sock_addr target;
    struct dpdk_options dpdk;
    struct port *port;              /* DPDK */
    unsigned delack_ms, idle_polls; /* likewise */
    struct stats wire;              /* what it counted */
    bool wait;
    struct refuse_spec refuse;
    struct load_result *result; /* one a thread; the sum is in the first */
};

static struct gen g = {
    .spec = {.connections = 20,
             .per_session = 20,
             .pipelining = true,
             .messages = 10000,
             .deadline_us = 600 * 1000000ull,
             .mint = {.domains = 1, .recipients = 1, .size_bytes = 4096, .sender = "gen@gen.test"}},
    .threads = 1,
    .delack_ms = 40,
    .idle_polls = 2000,
    .refuse = {.give_up_us = 1000000},
};

/* ---- what carries it */

static struct ip_addr target_addr(uint16_t *port_r)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&g.target.sa;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&g.target.sa;
    struct ip_addr a = ip_addr_of4(in->sin_addr.s_addr);
    if (in->sin_family == AF_INET6)
        memcpy(a.b, &in6->sin6_addr, sizeof a.b);
    *port_r = be16toh(in->sin_family == AF_INET6 ? in6->sin6_port : in->sin_port);
    return a;
}

static struct wire *wire_dpdk_open(void)
{
    char why[256];
    struct wire_user_config cfg = {.addrs_n = g.dpdk.addrs_n,
                                   .gateway = g.dpdk.gateway,
                                   .conns_max = CONNS_MAX,
                                   .delack_ms = g.delack_ms,
                                   .idle_polls = g.idle_polls};
    g.port = dpdk_open(&g.dpdk);
    cfg.queue = g.port->ops->queue(g.port, 0);
    memcpy(cfg.addrs, g.dpdk.addrs, sizeof cfg.addrs);
    cfg.target = target_addr(&cfg.target_port);
    struct wire *w = wire_user_open(&cfg, why);
    if (!w)
        errx(2, "%s", why);
    return w;
}

static struct wire *wire_open(void)
{
    return g.dpdk.on ? wire_dpdk_open() : wire_kernel_open(&g.target);
}

static void wire_end(struct wire **w)
{
    if (g.dpdk.on)
        memcpy(&g.wire, wire_user_stats(*w), sizeof g.wire);
    wire_destroy(w);
}

/* memif's other side may fall over when we go while it is looked at: who reads its counts says when. */
static void port_end(void)
{
    char buf[64];
    fflush(stdout);
    while (g.wait && read(0, buf, sizeof buf) > 0)
        ;
    if (g.port)
        g.port->ops->close(&g.port);
}

/* ---- threads */

static uint64_t share(uint64_t total, unsigned i)
{
    return total / g.threads + (i < total % g.threads);
}

static void divide(unsigned i)
{
    struct load_spec *p = &g.part[i];
    *p = g.spec;
    p->connections = (unsigned)share(g.spec.connections, i);
    if (g.spec.messages != UINT64_MAX)
        p->messages = share(g.spec.messages, i);
    p->rate = g.spec.rate / g.threads;
    if (g.threads > 1) {
        snprintf(g.run[i], sizeof g.run[i], "%.28st%u", g.spec.mint.run, i + 1);
        p->mint.run = g.run[i];
    }
}

static void *thread_main(void *arg)
{
    size_t i = (size_t)arg;
    struct wire *wire = wire_open();
    load_run(&g.part[i], wire, &g.result[i]);
    wire_end(&wire);
    return NULL;
}

static void merge(struct load_result *into, const struct load_result *from)
{
    struct load_book *a = &into->book;
    const struct load_book *b = &from->book;
    a->acked += b->acked;
    a->refused += b->refused;
    a->unanswered += b->unanswered;
    a->sessions += b->sessions;
    a->lost_sessions += b->lost_sessions;
    if (b->first_us && (!a->first_us || b->first_us < a->first_us))
        a->first_us = b->first_us;
    if (b->last_us > a->last_us)
        a->last_us = b->last_us;
    hist_merge(&a->dot, &b->dot);
    tally_merge(&a->replies, &b->replies);
    into->connect_failures += from->connect_failures;
    into->late += from->late;
    into->timed_out |= from->timed_out;
}

static void run_threads(void)
{
    pthread_t id[THREADS_MAX];
    g.result = calloc(g.threads, sizeof *g.result);
    if (!g.result)
        err(1, "gen");
    for (unsigned i = 0; i < g.threads; i++)
        divide(i);
    for (size_t i = 1; i < g.threads; i++) {
        if (pthread_create(&id[i], NULL, thread_main, (void *)i))
            errx(1, "cannot start a thread");
    }
    thread_main((void *)0);
    for (unsigned i = 1; i < g.threads; i++) {
        pthread_join(id[i], NULL);
        merge(&g.result[0], &g.result[i]);
    }
}

struct figures {
    double seconds, per_s, mb_per_s, cpu_us;
};

static struct figures figures(const struct load_book *b)
{
    double s = b->last_us > b->first_us ? (double)(b->last_us - b->first_us) / 1e6 : 0;
    double n = (double)b->acked;
    struct figures f = {.seconds = s};
    f.per_s = s > 0 ? n / s : 0;
    f.mb_per_s = f.per_s * (double)g.spec.mint.size_bytes / 1e6;
    f.cpu_us = n > 0 ? (double)sock_cpu_us() / n : 0;
    return f;
}

static void print_wire(void)
{
    const char *sep = "";
    printf(",\n \"wire\": {");
    for (int i = 0; i < STAT_N; i++) {
        uint64_t n = stat_get(&g.wire, (enum stat_id)i);
        if (n)
            printf("%s\"%s\": %lu", sep, stat_rows[i].name, n);
        sep = n ? ", " : sep;
    }
    printf("}");
}

static void print_json(const struct load_result *r)
{
    const struct load_book *b = &r->book;
    struct figures f = figures(b);
    printf("{\"run\": \"%s\", \"acked\": %lu, \"refused\": %lu, \"unanswered\": %lu, \"seconds\": %.6f,\n",
           g.spec.mint.run, b->acked, b->refused, b->unanswered, f.seconds);
    printf(" \"messages_per_s\": %.1f, \"bytes_per_s\": %.0f, \"cpu_us_per_message\": %.2f,\n", f.per_s,
           f.mb_per_s * 1e6, f.cpu_us);
    printf(" \"dot_us\": {\"p50\": %lu, \"p99\": %lu, \"p999\": %lu, \"max\": %lu, \"mean\": %lu},\n",
           hist_quantile(&b->dot, .5), hist_quantile(&b->dot, .99), hist_quantile(&b->dot, .999), b->dot.max,
           hist_mean(&b->dot));
    printf(" \"sessions\": %lu, \"lost_sessions\": %lu, \"connect_failures\": %lu, \"late\": %lu, \"timed_out\": %s,\n"
           " \"replies\": ",
           b->sessions, b->lost_sessions, r->connect_failures, r->late, r->timed_out ? "true" : "false");
    tally_print(&b->replies, stdout);
    if (g.dpdk.on)
        print_wire();
    printf("}\n");
}

static void print_text(const struct load_result *r)
{
    const struct load_book *b = &r->book;
    struct figures f = figures(b);
    printf("%lu acknowledged in %.3f s: %.0f messages/s, %.1f MB/s; %lu refused, %lu without an answer\n", b->acked,
           f.seconds, f.per_s, f.mb_per_s, b->refused, b->unanswered);
    printf("final dot to 250: p50 %lu us, p99 %lu us, p99.9 %lu us, max %lu us\n", hist_quantile(&b->dot, .5),
           hist_quantile(&b->dot, .99), hist_quantile(&b->dot, .999), b->dot.max);
    printf("%lu sessions, %lu lost, %lu connections failed; %.1f us of the generator's CPU a message%s\nreplies: ",
           b->sessions, b->lost_sessions, r->connect_failures, f.cpu_us, r->timed_out ? "; ENDED BY ITS DEADLINE" : "");
    tally_print(&b->replies, stdout);
    printf("\n");
}

static void usage(int status)
{
    fprintf(
        status ? stderr : stdout,
        "usage: satchel-gen [-c CONNECTIONS] [-n MESSAGES] [-d SECONDS] [-T SECONDS] [-m PER_SESSION] [-s BYTES]\n"
        "                   [-r RECIPIENTS] [-t THREADS] [--domains N | --domain NAME] [--from ADDRESS] [--run NAME]\n"
        "                   [--no-pipelining] [--deep] [--rate N] [--retry] [--ledger FILE] [--json] [--idle N]\n"
        "                   [--refused N [--give-up MS]] [--wait] HOST:PORT\n"
        "       satchel-gen [options] --dpdk ARGS --address NET[xN] [--delack MS] [--idle-polls N] "
        "ADDRESS:PORT\n" DPDK_USAGE);
    exit(status);
}

static uint64_t number(const char *what, uint64_t min, uint64_t max)
{
    char *end = NULL;
    unsigned long long v = strtoull(optarg, &end, 10);
    if (end == optarg || *end || v < min || v > max)
        errx(2, "%s %s: expected a number from %llu to %llu", what, optarg, (unsigned long long)min,
             (unsigned long long)max);
    return v;
}

enum {
    OPT_DOMAINS = 256,
    OPT_DOMAIN,
    OPT_FROM,
    OPT_RUN,
    OPT_NOPIPE,
    OPT_DEEP,
    OPT_RATE,
    OPT_RETRY,
    OPT_LEDGER,
    OPT_JSON,
    OPT_IDLE,
    OPT_REFUSED,
    OPT_GIVE_UP,
    OPT_WAIT,
    OPT_DELACK,
    OPT_IDLE_POLLS
};

static const struct option options[] = {
    {"domains", 1, NULL, OPT_DOMAINS},
    {"domain", 1, NULL, OPT_DOMAIN},
    {"from", 1, NULL, OPT_FROM},
    {"run", 1, NULL, OPT_RUN},
    {"no-pipelining", 0, NULL, OPT_NOPIPE},
    {"deep", 0, NULL, OPT_DEEP},
    {"rate", 1, NULL, OPT_RATE},
    {"retry", 0, NULL, OPT_RETRY},
    {"ledger", 1, NULL, OPT_LEDGER},
    {"json", 0, NULL, OPT_JSON},
    {"idle", 1, NULL, OPT_IDLE},
    {"refused", 1, NULL, OPT_REFUSED},
    {"give-up", 1, NULL, OPT_GIVE_UP},
    {"wait", 0, NULL, OPT_WAIT},
    {"delack", 1, NULL, OPT_DELACK},
    {"idle-polls", 1, NULL, OPT_IDLE_POLLS},
    DPDK_OPTIONS,
    {"help", 0, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void option_long(int o)
{
    struct load_spec *s = &g.spec;
    switch (o) {
    case OPT_DOMAINS:
        s->mint.domains = (unsigned)number("--domains", 1, 10000);
        break;
    case OPT_DOMAIN:
        s->mint.domain = optarg;
        break;
    case OPT_FROM:
        s->mint.sender = optarg;
        break;
    case OPT_RUN:
        s->mint.run = optarg;
        break;
    case OPT_NOPIPE:
        s->pipelining = false;
        break;
    case OPT_DEEP:
        s->deep = true;
        break;
    case OPT_RATE:
        s->rate = (double)number("--rate", 1, 10000000);
        break;
    case OPT_RETRY:
        s->retry = true;
        break;
    case OPT_LEDGER:
        s->ledger = lines_open(optarg);
        break;
    case OPT_JSON:
        g.json = true;
        break;
    case OPT_IDLE:
        g.idle = (unsigned)number("--idle", 1, 1000000);
        break;
    case OPT_REFUSED:
        g.refuse.n = number("--refused", 1, UINT64_MAX - 1);
        break;
    case OPT_GIVE_UP:
        g.refuse.give_up_us = number("--give-up", 0, 1000000) * 1000;
        break;
    case OPT_WAIT:
        g.wait = true;
        break;
    case OPT_DELACK:
        g.delack_ms = (unsigned)number("--delack", 0, 500);
        break;
    case OPT_IDLE_POLLS:
        g.idle_polls = (unsigned)number("--idle-polls", 1, 1u << 30);
        break;
    default:
        if (o < DPDK_OPT)
            usage(o == 'h' ? 0 : 2);
        dpdk_option(&g.dpdk, o, optarg);
    }
}

static void option(int o)
{
    struct load_spec *s = &g.spec;
    switch (o) {
    case 'c':
        s->connections = (unsigned)number("-c", 1, 100000);
        break;
    case 'n':
        s->messages = number("-n", 1, UINT64_MAX - 1);
        break;
    case 'd':
        s->duration_us = number("-d", 1, 1000000) * 1000000;
        s->messages = UINT64_MAX;
        break;
    case 'T':
        s->deadline_us = number("-T", 1, 1000000) * 1000000;
        break;
    case 'm':
        s->per_session = (unsigned)number("-m", 1, 1000000000);
        break;
    case 's':
        s->mint.size_bytes = number("-s", 1, 1 << 30);
        break;
    case 'r':
        s->mint.recipients = (unsigned)number("-r", 1, 1000);
        break;
    case 't':
        g.threads = (unsigned)number("-t", 1, THREADS_MAX);
        break;
    default:
        option_long(o);
    }
}

static void name_run(void)
{
    static char name[16];
    uint32_t r = 0;
    if (getrandom(&r, sizeof r, 0) != sizeof r)
        err(1, "getrandom");
    snprintf(name, sizeof name, "g%08x", r);
    if (!g.spec.mint.run)
        g.spec.mint.run = name;
}

static int idle(void)
{
    struct wire *wire = wire_open();
    if (!g.dpdk.on && sock_raise_files() < g.idle + 64)
        warnx("the limit of open files is below %u", g.idle + 64);
    int rc = load_idle(wire, g.idle, g.spec.deadline_us);
    wire_end(&wire);
    return rc;
}

static int refused(void)
{
    struct wire *wire = wire_open();
    g.refuse.at_once = g.spec.connections;
    g.refuse.rate = g.spec.rate;
    uint64_t begin = sock_now_us();
    struct refuse_counts c = load_refuse(wire, &g.refuse, g.spec.deadline_us);
    printf("{\"tried\": %lu, \"ended\": %lu, \"turned_away\": %lu, \"greeted\": %lu, \"silent\": %lu, \"failed\": %lu, "
           "\"seconds\": %.3f, \"cpu_us\": %lu}\n",
           c.tried, c.ended, c.turned_away, c.greeted, c.silent, c.failed, (double)(sock_now_us() - begin) / 1e6,
           sock_cpu_us());
    fflush(stdout);
    wire_end(&wire);
    return c.ended + c.silent == g.refuse.n ? 0 : 1;
}

int main(int argc, char **argv)
{
    int o;
    while ((o = getopt_long(argc, argv, "hc:n:d:T:m:s:r:t:", options, NULL)) != -1)
        option(o);
    if (optind != argc - 1 || g.spec.connections < g.threads || (g.dpdk.on && g.threads > 1))
        usage(2);
    signal(SIGPIPE, SIG_IGN);
    name_run();
    sock_raise_files();
    g.target = sock_parse(argv[optind]);
    if (g.idle || g.refuse.n) {
        int rc = g.idle ? idle() : refused();
        port_end();
        return rc;
    }
    run_threads();
    if (g.json)
        print_json(&g.result[0]);
    else
        print_text(&g.result[0]);
    port_end();
    lines_close(&g.spec.ledger);
    return g.result[0].timed_out ? 1 : 0;
}
