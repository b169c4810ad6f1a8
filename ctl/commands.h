/* commands.h - satchelctl's commands: one table that makes the parser, the help and docs/satchelctl.md.
 * A command returns the exit code: EXIT_SUCCESS, EXIT_FAILURE, or CTL_USAGE. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CTL_USAGE = 2, CTL_WORDS_MAX = 64, CTL_GIVEN_MAX = 64 };

struct client;
struct ctl_command;

/* One call of the program. */
struct ctl {
    const char *socket; /* --socket, or where it is usually found */
    bool json;
    struct client *client; /* made at the first use */
    const struct ctl_command *command;
    const char *words[CTL_WORDS_MAX]; /* behind the command's name */
    size_t words_n;
    struct {
        const char *option, *value;
    } given[CTL_GIVEN_MAX];
    size_t given_n;
};

struct ctl_option {
    const char *name, *value, *help; /* value NULL: a flag */
};

struct ctl_command {
    const char *name; /* "domain add" */
    const char *args; /* "NAME" */
    size_t least, most;
    const struct ctl_option *options; /* ended by one without name; NULL: none */
    int (*run)(struct ctl *c);
    const char *summary, *text;
};

extern const struct ctl_command ctl_commands[]; /* ended by one without name */

/* The whole program. */
int ctl_main(int argc, char **argv);
void ctl_help(FILE *out);
void ctl_command_help(const struct ctl_command *cmd, FILE *out);
/* docs/satchelctl.md, whole. */
void ctl_docs(FILE *out);

/* ---- for the commands: ctl_util.c */

/* The option's last value, "" for a flag, NULL: not given. */
const char *ctl_given(const struct ctl *c, const char *option);
/* Says "satchelctl: ..." and returns EXIT_FAILURE, CTL_USAGE. */
__attribute__((format(printf, 1, 2))) int ctl_fail(const char *fmt, ...);
__attribute__((format(printf, 2, 3))) int ctl_usage(const struct ctl *c, const char *fmt, ...);
/* Calls the admin API; NULL: it is said why, return EXIT_FAILURE.  path is taken over and freed. */
json_t *ctl_call(struct ctl *c, const char *method, char *path, const json_t *body);
/* The same with a text as the body. */
json_t *ctl_send(struct ctl *c, const char *method, char *path, const char *text);
struct client *ctl_client(struct ctl *c);
/* printf into new memory, with each %s percent-escaped before by the caller. */
__attribute__((format(printf, 1, 2))) char *ctl_path(const char *fmt, ...);
/* With --json: prints the answer and says true. */
bool ctl_json(const struct ctl *c, const json_t *answer);

/* ---- the commands */
int cmd_status(struct ctl *c);
int cmd_reload(struct ctl *c);
int cmd_version(struct ctl *c);
int cmd_domain_add(struct ctl *c);
int cmd_domain_set(struct ctl *c);
int cmd_domain_show(struct ctl *c);
int cmd_domain_list(struct ctl *c);
int cmd_domain_remove(struct ctl *c);
int cmd_domain_hold(struct ctl *c);
int cmd_domain_release(struct ctl *c);
int cmd_domain_recipients(struct ctl *c);
int cmd_queue_list(struct ctl *c);
int cmd_queue_show(struct ctl *c);
int cmd_queue_view(struct ctl *c);
int cmd_queue_flush(struct ctl *c);
int cmd_queue_delete(struct ctl *c);
int cmd_node_list(struct ctl *c);
int cmd_node_show(struct ctl *c);
int cmd_node_cordon(struct ctl *c);
int cmd_node_drain(struct ctl *c);
int cmd_node_undrain(struct ctl *c);
int cmd_node_remove(struct ctl *c);
int cmd_node_replace(struct ctl *c);
int cmd_shard_list(struct ctl *c);
int cmd_shard_show(struct ctl *c);
int cmd_shard_move(struct ctl *c);
int cmd_cluster_status(struct ctl *c);
int cmd_cluster_settings(struct ctl *c);
int cmd_port_show(struct ctl *c);
int cmd_spool_check(struct ctl *c);
int cmd_spool_dump(struct ctl *c);
