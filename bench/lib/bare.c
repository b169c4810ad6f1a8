/* bare.c - the front-end of bare.h. */
#include "bench/lib/bare.h"
#include "dataplane/conf/domains.h"
#include <err.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define COMMAND_S 1800u /* held sessions say nothing for long */

static void domains_fill(struct bare *f, unsigned n)
{
    char why[256], name[32];
    struct domain *doms = calloc(n, sizeof *doms);
    if (!doms)
        err(1, "domains");
    for (unsigned i = 0; i < n; i++) {
        int len = snprintf(name, sizeof name, "d%04u.test", i);
        if (domain_init(&doms[i], slice_of(name, (size_t)len), why) < 0 ||
            primary_parse(SLICE_LIT("127.0.0.1:9"), &doms[i].primaries[0], why) < 0)
            errx(1, "%s", why);
        doms[i].primaries_n = 1;
    }
    if (domains_add_missing(f->domains, doms, n, why) < 0)
        errx(1, "%s", why);
    free(doms);
}

void bare_open(struct bare *f, uint32_t max_sessions, unsigned domains)
{
    char why[256];
    struct smtp_server_config cfg = smtp_server_config_default;
    *f = (struct bare){.dir = "/tmp/satchel-front-XXXXXX"};
    if (!mkdtemp(f->dir))
        err(1, "%s", f->dir);
    if (domains_open(&f->domains, f->dir, why) < 0)
        errx(1, "%s", why);
    domains_fill(f, domains);
    f->door = nowhere_open(&f->counts);
    cfg.hostname = "front.test";
    cfg.max_sessions = max_sessions;
    cfg.limits.command_s = COMMAND_S;
    cfg.shutdown_s = 1;
    cfg.log_messages = false;
    if (smtp_worker_open(&f->smtp, &cfg, f->domains, f->door) < 0)
        errx(1, "no worker");
}

struct transport_app bare_app(struct bare *f)
{
    return smtp_worker_app(f->smtp);
}

void bare_attach(struct bare *f, struct transport *t)
{
    if (smtp_worker_attach(f->smtp, t) < 0)
        errx(1, "the transport does not watch the door");
}

void bare_shutdown(struct bare *f)
{
    smtp_worker_shutdown(f->smtp);
}

static int unlink_visit(const char *path, const struct stat *st, int type, struct FTW *w)
{
    (void)st;
    (void)type;
    (void)w;
    return remove(path);
}

void bare_close(struct bare *f)
{
    smtp_worker_close(&f->smtp);
    f->door->ops->close(&f->door);
    domains_close(&f->domains);
    nftw(f->dir, unlink_visit, 8, FTW_DEPTH | FTW_PHYS);
}
