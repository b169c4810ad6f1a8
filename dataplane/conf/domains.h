/* domains.h - which domains we serve, and how: the registry that the SMTP server asks at RCPT, the relay for its routes
 * and the admin API for its lists.
 *
 * Readers take a snapshot: an immutable, reference-counted table, cheap to take and valid until released, whatever is
 * changed meanwhile.  Changes are durable (DIR/domains.json, replaced as a whole) before they are visible, and are
 * visible to the next snapshot.  Thread: any.  Errors: negative SATCHEL_E*, with words for the operator in why_r (256
 * bytes). */
#pragma once
#include "dataplane/conf/recipients.h"
#include "spool/base/slice.h"

#define DOMAIN_NAME_MAX  254
#define PRIMARY_HOST_MAX 254
#define PRIMARIES_MAX    8
#define CONNECTIONS_MAX  1000
#define DOMAIN_POOL_MAX  32
#define KEEP_PRESET_S    (30u * 86400)
#define KEEP_MAX_S       (3650u * 86400)

enum domain_order {
    ORDER_STRICT, /* the final dot of a message waits for the answer to the one before: exact FIFO */
    ORDER_WINDOW, /* final dots are sent in order, answers may be outstanding on all connections: faster over long paths
                   */
};

struct primary {
    char host[PRIMARY_HOST_MAX]; /* a host name, or an address literal without brackets */
    uint16_t port;
};

struct domain {
    char name[DOMAIN_NAME_MAX];              /* lower case, A-label, no trailing dot */
    struct primary primaries[PRIMARIES_MAX]; /* in order of preference */
    uint32_t primaries_n;
    uint64_t keep_s;      /* how long mail is kept; 30 d */
    uint32_t connections; /* most connections to the primary at once; 4 */
    enum domain_order order;
    bool held;                            /* accept, do not relay */
    bool pending;                         /* provisioned, not open: RCPT is refused */
    uint64_t max_message_bytes;           /* 0: the server's limit */
    char pool[DOMAIN_POOL_MAX];           /* of the cluster's nodes that keep its mail; empty: the shared one */
    char recipients[RECIPIENTS_HASH_MAX]; /* the list of those that are taken (recipients.h); empty: all are */
    uint64_t recipients_n;                /* how many are on it */
};

struct domains;          /* the registry */
struct domains_snapshot; /* one state of it */

/* dir: the data directory. A missing file is an empty registry; a damaged one is an error that names file and line. */
int domains_open(struct domains **d_r, const char *dir, char *why_r);
void domains_close(struct domains **d);

const struct domains_snapshot *domains_get(struct domains *d);
void domains_put(const struct domains_snapshot *s);
/* name in any case. NULL: not served. Borrows from the snapshot. */
const struct domain *domains_find(const struct domains_snapshot *s, struct slice name);
size_t domains_count(const struct domains_snapshot *s);
const struct domain *domains_at(const struct domains_snapshot *s, size_t i); /* sorted by name */
/* Grows with each change: a cheap test for a newer snapshot; any thread. */
uint64_t domains_version(struct domains *d);
/* The lists of recipients beside it; lives as long as the registry. */
struct recipients *domains_recipients(struct domains *d);

/* Adds or replaces (replace: must exist; else must not). -SATCHEL_EEXIST, -SATCHEL_ENOENT, -SATCHEL_EINVAL (why says
 * which field). */
int domains_set(struct domains *d, const struct domain *dom, bool replace, char *why_r);
int domains_remove(struct domains *d, struct slice name, char *why_r);
/* Adds those of n domains that are not there yet, with one write for all (names within doms differ); returns how many
 * were added, or an error. */
int domains_add_missing(struct domains *d, const struct domain *doms, size_t n, char *why_r);

/* Which list a domain has; hash "": none, every recipient is taken. -SATCHEL_ENOENT: the domain is not served. */
int domains_set_recipients(struct domains *d, struct slice name, const char *hash, uint64_t n, char *why_r);
/* Removes lists that no domain has named for a while; every change does so too. */
void domains_sweep(struct domains *d);

/* Replaces all domains of which `in` says that they belong to a part by those n (which do), with one write; no write
 * where nothing differs. For domains that are kept elsewhere too (cluster/domains). */
int domains_replace_part(struct domains *d, bool (*in)(void *arg, const struct domain *dom), void *arg,
                         const struct domain *doms, size_t n, char *why_r);

/* Fills defaults and name (lower-cased, checked as a host name with at least two labels). */
int domain_init(struct domain *dom, struct slice name, char *why_r);
/* The rules a struct domain keeps, wherever it came from: at least one primary, bounds. -SATCHEL_EINVAL. */
int domain_check(const struct domain *dom, char *why_r);
const char *domain_order_name(enum domain_order o); /* "strict", "window" */
bool domain_order_parse(const char *name, enum domain_order *o_r);
/* "mail.example.com:25", "mail.example.com", "[::1]:2526", "192.0.2.1:25" */
int primary_parse(struct slice text, struct primary *p_r, char *why_r);
/* As primary_parse reads it, always with the port: "[::1]:2526". Returns out_r. */
#define PRIMARY_TEXT_MAX (PRIMARY_HOST_MAX + 9)
const char *primary_format(const struct primary *p, char out_r[PRIMARY_TEXT_MAX]);
