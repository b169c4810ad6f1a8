/* satcheld.c - the daemon: configuration in, threads out; the only place that knows all the rooms of the house.
 *
 *   satcheld [-c FILE]              run in the foreground (SIGTERM: finish and stop; SIGHUP: reload)
 *   satcheld --check [-c FILE]      say whether the configuration is good, and stop
 *
 * Order of the start: configuration, listening sockets, the DPDK device, privileges, spool (recovers), registry,
 * cluster, relay, admin API, workers. The stop goes the other way round: no new mail, messages in flight end, shards
 * are handed over, relay, cluster, spool. Exit status: 0; 1 the start or a thread failed; 2 usage; 69 (EX_UNAVAILABLE)
 * DPDK cannot have its memory or its device; 78 (EX_CONFIG) the configuration was refused. */
#include "cluster/cluster.h"
#include "cluster/shared/mount.h"
#include "ctl/admin.h"
#include "ctl/version.h"
#include "dataplane/conf/privileges.h"
#include "dataplane/conf/settings.h"
#include "dataplane/front.h"
#include "dataplane/relay/relay.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/metrics.h"
#include "spool/spool.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum { EXIT_PORT = 69, EXIT_CONFIG = 78, WHY_MAX = 512 };

const char *argp_program_version = "satcheld " SATCHEL_VERSION;

/* ---- command line */

struct args {
    const char *file;
    bool check;
};

enum { OPT_CHECK = 256, OPT_CONFIG_DOCS, OPT_METRICS_DOCS };

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "Configuration (YAML). Without it the presets hold: see docs/configuration.md", 0},
    {"check", OPT_CHECK, NULL, 0, "Say whether the configuration is good, and stop", 0},
    {"print-config-docs", OPT_CONFIG_DOCS, NULL, 0, "Write docs/configuration.md to standard output", 1},
    {"print-metrics-docs", OPT_METRICS_DOCS, NULL, 0, "Write docs/metrics.md to standard output", 1},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct args *a = state->input;
    switch (key) {
    case 'c':
        a->file = arg;
        return 0;
    case OPT_CHECK:
        a->check = true;
        return 0;
    case OPT_CONFIG_DOCS:
        settings_doc(stdout);
        exit(0);
    case OPT_METRICS_DOCS:
        admin_metrics_doc(stdout);
        exit(0);
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the daemon */

struct daemon {
    const char *file;
    struct settings settings;
    struct front *front;
    struct spool *spool;
    struct domains *domains;
    struct cluster *cluster; /* NULL: this node alone */
    char cluster_address[272];
    char log_dir[PATH_MAX]; /* on the shared file system; empty: in data_dir */
    struct storage_id mount;
    struct relay *relay;
    struct outlet *admin_outlet;
    struct admin *admin;
    uint64_t started_us;
    atomic_bool stopping;
};

static int fail(const char *what, const char *why)
{
    log_error("daemon.failed", "step=%s reason=\"%s\"", what, why);
    return 1;
}

static void raise_file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void spool_settings(const struct settings *st, struct spool_config *cfg)
{
    spool_config_init(cfg, st->data_dir);
    cfg->engine = (enum disk_engine)st->spool_engine;
    cfg->log.segment_bytes = (uint32_t)st->spool_segment_bytes;
    cfg->log.spare_segments = st->spool_spare_segments;
    cfg->log.max_bytes = st->spool_max_bytes;
    cfg->log.reserve_segments = st->spool_reserve_segments;
    cfg->queue.compact_live_pct = st->spool_compact_percent;
    cfg->index_cache_bytes = st->spool_index_cache_bytes;
    cfg->index_memtable_bytes = st->spool_index_memtable_bytes;
    cfg->memory_bytes = st->spool_memory_bytes;
    cfg->chunk_bytes = (uint32_t)st->spool_chunk_bytes;
    cfg->max_message_bytes = st->smtp_max_message_bytes;
}

/* With a shared directory the segments lie there. */
static int open_shared(struct daemon *d, struct spool_config *spool, char *why_r)
{
    const struct settings *st = &d->settings;
    if (!st->cluster_shared_dir[0])
        return 0;
    if (!st->cluster_node[0]) {
        snprintf(why_r, WHY_MAX, "cluster.shared_dir needs cluster.node: name this node");
        return -SATCHEL_EINVAL;
    }
    int rc = mount_open(st->cluster_shared_dir, st->cluster_node, st->data_dir, &d->mount, d->log_dir, why_r);
    spool->log_dir = d->log_dir;
    return rc;
}

static int open_domains(struct daemon *d, char *why_r)
{
    int rc = domains_open(&d->domains, d->settings.data_dir, why_r);
    return rc < 0 ? rc : domains_add_missing(d->domains, d->settings.domains, d->settings.domains_n, why_r);
}

/* What others dial: as set, or the host name and the port that we listen on. */
static const char *cluster_address(struct daemon *d)
{
    const struct settings *st = &d->settings;
    const char *colon = strrchr(st->cluster_listen, ':');
    if (st->cluster_address[0])
        return st->cluster_address;
    snprintf(d->cluster_address, sizeof d->cluster_address, "%.250s%.16s", st->hostname, colon ? colon : ":7400");
    return d->cluster_address;
}

static int open_cluster(struct daemon *d, char *why_r)
{
    const struct settings *st = &d->settings;
    if (!st->cluster_node[0])
        return 0;
    const struct cluster_config cfg = {
        .node = st->cluster_node,
        .name = st->cluster_name,
        .data_dir = st->data_dir,
        .etcd = (const char *const *)st->cluster_etcd.v,
        .etcd_ca = st->cluster_etcd_ca,
        .etcd_cert = st->cluster_etcd_cert,
        .etcd_key = st->cluster_etcd_key,
        .etcd_user = st->cluster_etcd_user,
        .etcd_password_file = st->cluster_etcd_password_file,
        .listen = st->cluster_listen,
        .address = cluster_address(d),
        .ca = st->cluster_ca,
        .cert = st->cluster_cert,
        .key = st->cluster_key,
        .shared_dir = st->cluster_shared_dir,
        .mount = d->mount,
        .zone = st->cluster_zone,
        .pool = st->cluster_pool,
        .weight = st->cluster_weight,
        .lease_s = (uint32_t)(st->cluster_lease_us / 1000000),
        .copies = st->cluster_copies,
        .acks = st->cluster_acks,
        .shards = st->cluster_shards,
    };
    return cluster_open(&d->cluster, &cfg, d->spool, d->domains, clock_system(), why_r);
}

/* An outlet door; in a cluster only for what this node owns. */
static int open_outlet(struct daemon *d, struct outlet **o_r)
{
    struct outlet *inner;
    int rc = spool_outlet(d->spool, &inner);
    if (rc < 0 || !d->cluster) {
        *o_r = rc < 0 ? NULL : inner;
        return rc;
    }
    rc = cluster_outlet(d->cluster, inner, o_r);
    if (rc < 0)
        inner->ops->close(&inner);
    return rc;
}

static int open_relay(struct daemon *d)
{
    const struct settings *st = &d->settings;
    struct relay_config cfg = relay_config_default;
    cfg.hostname = st->hostname;
    cfg.nameservers = (const char *const *)st->relay_nameservers.v;
    cfg.listeners = front_listeners(d->front);
    cfg.max_connections = st->relay_max_connections;
    cfg.connect_timeout_us = st->relay_connect_timeout_us;
    cfg.probe_min_us = st->relay_probe_min_us;
    cfg.probe_max_us = st->relay_probe_max_us;
    cfg.retry_min_us = st->relay_retry_min_us;
    cfg.retry_max_us = st->relay_retry_max_us;
    cfg.dsn = st->relay_dsn;
    cfg.smarthost = st->relay_smarthost[0] ? st->relay_smarthost : NULL;
    struct outlet *outlet;
    int rc = open_outlet(d, &outlet);
    if (rc == 0 && (rc = relay_open(&d->relay, &cfg, outlet, d->domains, clock_system())) < 0)
        outlet->ops->close(&outlet);
    return rc;
}

static void request_reload(void *arg)
{
    (void)arg;
    kill(getpid(), SIGHUP);
}

static bool shutting_down(void *arg)
{
    return atomic_load(&((struct daemon *)arg)->stopping);
}

static int open_admin(struct daemon *d, char *why_r)
{
    int rc = open_outlet(d, &d->admin_outlet);
    if (rc < 0) {
        snprintf(why_r, WHY_MAX, "%s", satchel_strerror(rc));
        return rc;
    }
    const struct admin_deps deps = {
        .spool = d->spool,
        .domains = d->domains,
        .relay = d->relay,
        .cluster = d->cluster,
        .front = d->front,
        .outlet = d->admin_outlet,
        .clock = clock_system(),
        .started_us = d->started_us,
        .request_reload = request_reload,
        .shutting_down = shutting_down,
        .arg = d,
    };
    return admin_open(&d->admin, &deps, &d->settings, why_r, WHY_MAX);
}

/* ---- start, reload, stop */

static const char step_port[] = "port";

static int daemon_open(struct daemon *d, char *why_r, const char **step_r)
{
    struct spool_config spool;
    int rc;
    *step_r = "listen";
    if ((rc = front_open(&d->front, &d->settings, why_r)) < 0)
        return rc;
    *step_r = step_port;
    if ((rc = front_port_open(d->front, why_r)) < 0)
        return rc;
    *step_r = "privileges";
    if ((rc = privileges_drop(d->settings.user, d->settings.data_dir, why_r, WHY_MAX)) < 0)
        return rc;
    *step_r = "spool";
    spool_settings(&d->settings, &spool);
    if ((rc = open_shared(d, &spool, why_r)) < 0)
        return rc;
    if ((rc = spool_open(&d->spool, &spool, why_r, WHY_MAX)) < 0)
        return rc;
    *step_r = "domains";
    if ((rc = open_domains(d, why_r)) < 0)
        return rc;
    *step_r = "cluster";
    if ((rc = open_cluster(d, why_r)) < 0)
        return rc;
    *step_r = "relay";
    if ((rc = open_relay(d)) < 0) {
        snprintf(why_r, WHY_MAX, "%s", satchel_strerror(rc));
        return rc;
    }
    *step_r = "admin";
    if ((rc = open_admin(d, why_r)) < 0)
        return rc;
    *step_r = "cluster";
    if (d->cluster && (rc = cluster_start(d->cluster, why_r)) < 0)
        return rc;
    *step_r = "workers";
    return front_start(d->front, d->spool, d->domains, why_r);
}

static void daemon_reload(struct daemon *d)
{
    struct settings loaded;
    char why[SETTINGS_WHY_MAX], keys[1024];
    sd_notify(0, "RELOADING=1");
    int rc = settings_load(&loaded, d->file, why, sizeof why);
    if (rc < 0) {
        log_error("daemon.reload", "refused=\"%s\" action=\"the running configuration stays\"", why);
    } else {
        if (settings_changed_needs_restart(&d->settings, &loaded, keys, sizeof keys))
            log_warning("daemon.reload", "need_restart=\"%s\"", keys);
        log_level_now = (enum log_level)loaded.log_level;
        front_reload(d->front, &loaded);
        admin_reload(d->admin, &loaded);
        settings_free(&loaded);
        log_info("daemon.reload", "done=1");
    }
    sd_notify(0, "READY=1");
}

static void daemon_close(struct daemon *d)
{
    atomic_store(&d->stopping, true);
    if (d->spool)
        spool_drain(d->spool);
    front_stop(d->front);
    if (d->cluster)
        cluster_leave(d->cluster, d->settings.smtp_shutdown_grace_us);
    admin_close(&d->admin);
    if (d->admin_outlet)
        d->admin_outlet->ops->close(&d->admin_outlet);
    relay_close(&d->relay, d->settings.smtp_shutdown_grace_us);
    cluster_close(&d->cluster);
    domains_close(&d->domains);
    spool_close(&d->spool);
    front_close(&d->front);
}

/* Signals are waited for here and blocked everywhere else. */
static void daemon_wait(struct daemon *d, const sigset_t *set)
{
    for (;;) {
        int sig = 0;
        sigwait(set, &sig);
        if (sig == SIGHUP) {
            daemon_reload(d);
            continue;
        }
        log_info("daemon.stopping", "signal=%s", sig == SIGINT ? "SIGINT" : "SIGTERM");
        return;
    }
}

static int daemon_run(struct daemon *d)
{
    sigset_t set;
    char why[WHY_MAX] = "";
    const char *step = "";
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    d->started_us = clock_wall_us(clock_system());
    int rc = daemon_open(d, why, &step);
    if (rc == 0) {
        log_info("daemon.ready", "hostname=%s listen=%s workers=%zu data_dir=%s socket=%s", d->settings.hostname,
                 front_listeners(d->front)[0], front_workers(d->front), d->settings.data_dir, d->settings.admin_socket);
        sd_notify(0, "READY=1\nSTATUS=Accepting mail");
        daemon_wait(d, &set);
        sd_notify(0, "STOPPING=1");
    } else {
        fail(step, why);
    }
    daemon_close(d);
    if (rc == 0)
        log_info("daemon.stopped", "clean=1");
    return rc == 0 ? 0 : step == step_port ? EXIT_PORT : 1;
}

/* What the settings name is looked at too. */
static int check(const struct args *args, struct settings *st)
{
    char why[FRONT_WHY_MAX];
    int rc = front_check(st, why);
    if (rc < 0)
        fprintf(stderr, "satcheld: %s\n", why);
    else
        printf("%s: ok\n", args->file ? args->file : "presets");
    settings_free(st);
    return rc < 0 ? EXIT_CONFIG : 0;
}

int main(int argc, char **argv)
{
    static struct daemon d;
    static const struct argp argp = {
        options, parse_option,
        NULL,    "The mail-bagging spool: accepts mail for domains whose server is down, keeps it, relays it.",
        NULL,    NULL,
        NULL};
    struct args args = {0};
    char why[SETTINGS_WHY_MAX];
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &args);
    d.file = args.file;
    log_init();
    if (settings_load(&d.settings, args.file, why, sizeof why) < 0) {
        fprintf(stderr, "satcheld: %s\n", why);
        return EXIT_CONFIG;
    }
    if (args.check)
        return check(&args, &d.settings);
    log_level_now = (enum log_level)d.settings.log_level;
    int rc = daemon_run(&d);
    settings_free(&d.settings);
    return rc;
}
