/* admin_impl.h - what the files of the admin API share: the server, a request at work, and the replies.
 * A handler answers its request exactly once, with one of the admin_reply_* functions. */
#pragma once
#include "ctl/admin.h"
#include "ctl/rates.h"
#include "spool/base/err.h"

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#define ADMIN_BODY_MAX (256u * 1024) /* of a request; a list of recipients: RECIPIENTS_TEXT_MAX */
#define ADMIN_NAME_MAX 256

enum admin_rate { RATE_ACCEPTED, RATE_ACCEPTED_BYTES, RATE_DELIVERED, RATE_GROUPS, RATE_COUNT };

struct admin {
    struct admin_deps deps;
    char *hostname, *socket_path;
    atomic_uint_fast64_t keep_s; /* of a domain that does not say */
    struct rates *rates;
    pthread_mutex_t outlet_lock; /* one request at a time uses the outlet door */
    struct MHD_Daemon *unix_daemon, *tcp_daemon;
};

struct admin_request {
    struct admin *a;
    struct MHD_Connection *c;
    const char *method, *url;  /* as they came */
    bool trusted;              /* came through the socket */
    char name[ADMIN_NAME_MAX]; /* the part of the path that the route leaves open */
    char *body;                /* NUL-terminated, NULL: none */
    size_t body_n, body_cap, body_most;
    bool body_too_big;
};

typedef enum MHD_Result admin_handler(struct admin_request *r);

/* ---- admin_reply.c */

/* Takes over the reference. */
enum MHD_Result admin_reply_json(struct admin_request *r, unsigned status, json_t *j);
/* text comes from malloc and is taken over. */
enum MHD_Result admin_reply_text(struct admin_request *r, unsigned status, const char *type, char *text, size_t n);
/* The file is closed when it is sent. */
enum MHD_Result admin_reply_fd(struct admin_request *r, const char *type, int fd, uint64_t n);
enum MHD_Result admin_reply_error(struct admin_request *r, unsigned status, const char *error, const char *remedy);
/* Query argument, or NULL. */
const char *admin_arg(const struct admin_request *r, const char *name);
/* A number from the query within [least, most], the preset where there is none; false: it is answered with 400. */
bool admin_arg_number(struct admin_request *r, const char *name, uint64_t preset, uint64_t most, uint64_t *v_r,
                      enum MHD_Result *answered_r);
/* Wall clock as text, JSON null for 0. */
json_t *admin_json_time(uint64_t wall_us);
double admin_age_s(const struct admin *a, uint64_t wall_us);

/* ---- what the daemon says of itself: admin_status.c */

enum admin_health { HEALTH_OK, HEALTH_FENCED, HEALTH_INDEX, HEALTH_FULL, HEALTH_STOPPING };
struct admin_health_info {
    const char *word, *reason, *remedy;
};
/* Static storage; word is "ok" when mail is accepted. */
const struct admin_health_info *admin_health(struct admin *a, const struct spool_info *info);

admin_handler admin_metrics_get, admin_health_get, admin_status_get, admin_reload_post;

/* ---- admin_gauges.c */

/* Sets the gauges that are measured on demand; this node's part in the cluster as JSON, null: in none. */
json_t *admin_gauges(struct admin *a);
/* admin_cluster.c: who leads; null: nobody, or it is not known while coordination is away or refused.  map may be NULL.
 */
json_t *admin_leader_json(const struct cmap *map, const struct node_info *n);

/* ---- admin_route.c */

/* What a request is about says which node answers it. */
enum admin_about {
    ABOUT_NODE,    /* this node, or ?node= */
    ABOUT_DOMAIN,  /* the domain in the path: who owns its bag */
    ABOUT_BAG,     /* the domain in ?domain=, if any */
    ABOUT_MESSAGE, /* the message in the path */
};
/* true: another node answered it, or could not. */
bool admin_elsewhere(struct admin_request *r, enum admin_about about, enum MHD_Result *answered_r);
/* For cluster_serve. */
int admin_serve(void *admin, const char *method, const char *path, const char *body, struct cluster_answer *answer_r);

/* ---- admin_cluster.c */
admin_handler admin_cluster_get, admin_settings_get, admin_settings_put;
admin_handler admin_nodes_get, admin_node_get, admin_node_delete;
admin_handler admin_node_cordon, admin_node_drain, admin_node_undrain;
admin_handler admin_shards_get, admin_shard_get, admin_shard_move;

/* ---- admin_port.c */
admin_handler admin_port_get;
/* In Prometheus' format; nothing where there is no port. */
void admin_port_metrics(struct front *f, FILE *out);

/* ---- admin_page.c */
admin_handler admin_page_get;

/* ---- admin_domains.c */

/* The domain with its bag and what the relay says of it; dom NULL: not served (any more). */
json_t *admin_domain_json(struct admin *a, struct slice name, const struct domain *dom);
/* Those with mail first, fullest first, then the rest by name; at most `most`. */
json_t *admin_domains_top(struct admin *a, size_t most);
admin_handler admin_domains_get, admin_domains_post;
admin_handler admin_domain_get, admin_domain_put, admin_domain_delete, admin_domain_hold, admin_domain_release;

/* 404, with the remedy. */
enum MHD_Result admin_domain_not_served(struct admin_request *r);

/* ---- admin_recipients.c */
admin_handler admin_recipients_get, admin_recipients_put, admin_recipients_delete;
admin_handler admin_recipients_add, admin_recipients_remove;

/* ---- admin_queue.c, admin_message.c */
admin_handler admin_queue_get, admin_queue_delete, admin_queue_flush;
admin_handler admin_message_get, admin_message_content, admin_message_delete;
/* Ends every item of a claimed message as deleted. 0 or an error. */
int admin_message_end(struct admin *a, struct outlet_msg *m);
