/* commands.c - the table of satchelctl's commands. */
#include "ctl/commands.h"

static const struct ctl_option domain_options[] = {
    {"primary", "HOST[:PORT]",
     "Where the domain's mail goes; best first when given more than once. Port 25 if left out"},
    {"keep", "TIME", "How long its mail is kept, such as 30d; the server's `keep` if left out"},
    {"connections", "N", "Most connections to the primary at once; 4"},
    {"pool", "NAME", "Which pool of the cluster keeps its mail; the shared one if left out"},
    {"order", "strict|window", "strict: messages end one after the other. window: answers may be outstanding"},
    {"max-message", "SIZE", "Largest message for this domain, such as 20MiB; the server's limit if left out"},
    {0},
};

static const struct ctl_option recipients_options[] = {
    {"set", "FILE", "The whole list: one recipient a line, an address or its local part; - for standard input"},
    {"add", "ADDRESS", "Put on the list; more than once for several"},
    {"remove", "ADDRESS", "Take off the list; more than once for several"},
    {"clear", NULL, "No list any more: every recipient is taken"},
    {0},
};

static const struct ctl_option status_options[] = {
    {"domains", "N", "Show at most N domains, the fullest first; 20"},
    {0},
};

static const struct ctl_option queue_list_options[] = {
    {"limit", "N", "Show at most N messages; 100. 0: all of them"},
    {0},
};

static const struct ctl_option flush_options[] = {
    {"all", NULL, "Every domain"},
    {0},
};

static const struct ctl_option delete_options[] = {
    {"domain", "NAME", "All mail of this domain"},
    {"yes", NULL, "Do not ask"},
    {0},
};

static const struct ctl_option drain_options[] = {
    {"no-wait", NULL, "Start it, and do not wait for its end"},
    {0},
};

static const struct ctl_option replace_options[] = {
    {"yes", NULL, "Its disk will never come back"},
    {0},
};

static const struct ctl_option shard_options[] = {
    {"pool", "NAME", "Shards of this pool alone"},
    {"node", "NAME", "Shards that this node stores"},
    {0},
};

static const struct ctl_option settings_options[] = {
    {"pool", "NAME", "Which pool; the shared one if left out. A pool that is not there is made"},
    {"copies", "N", "Storages that keep each message"},
    {"acks", "N", "Storages that have synced it before the 250"},
    {"shards", "N", "Parts its domains are spread over; only for a new pool"},
    {"fallback", "NAME", "The pool that takes over while none of its own nodes lives"},
    {"repair-delay", "SECONDS", "How long a node may be dead before its copies are made again; for all pools"},
    {0},
};

static const struct ctl_option port_options[] = {
    {"all", NULL, "Counters that are zero too"},
    {0},
};

static const struct ctl_option check_options[] = {
    {"dir", "DIR", "The data directory; ./run if left out"},
    {0},
};

static const struct ctl_option dump_options[] = {
    {"dir", "DIR", "The data directory; ./run if left out"},
    {"body", NULL, "Print the message behind its line too"},
    {0},
};

const struct ctl_command ctl_commands[] = {
    {"status", "", 0, 0, status_options, cmd_status, "How the node is, and the fullest bags",
     "Shows whether mail is accepted and, if not, why; the room that is left; what is bagged; and for each domain the\n"
     "state of its primary, the next probe and the last failure."},
    {"domain add", "NAME", 1, 1, domain_options, cmd_domain_add, "Serve a domain",
     "From the next recipient on, mail for NAME is accepted and relayed to its primary. Needs --primary."},
    {"domain set", "NAME", 1, 1, domain_options, cmd_domain_set, "Change how a domain is served",
     "Changes what is given and leaves the rest. With --primary, all primaries are replaced."},
    {"domain show", "NAME", 1, 1, NULL, cmd_domain_show, "One domain: settings, bag, state of its primary", ""},
    {"domain list", "", 0, 0, NULL, cmd_domain_list, "Every domain that is served", ""},
    {"domain remove", "NAME", 1, 1, NULL, cmd_domain_remove, "Serve a domain no more",
     "Its recipients are refused from then on. Mail that is bagged stays, undelivered, until the domain is added "
     "again\n"
     "or the mail is deleted."},
    {"domain hold", "NAME", 1, 1, NULL, cmd_domain_hold, "Keep accepting, relay nothing", ""},
    {"domain release", "NAME", 1, 1, NULL, cmd_domain_release, "Relay again what was held", ""},
    {"domain recipients", "NAME", 1, 1, recipients_options, cmd_domain_recipients, "For whom a domain takes mail",
     "Without options prints the list. A recipient that is not on it is refused with 550 5.1.1; a domain without a\n"
     "list takes everyone. Letters count alike in both cases. `user+` on the list stands for user and user+anything;\n"
     "postmaster is always taken. In a file, lines that begin with # are skipped."},
    {"queue list", "[DOMAIN]", 0, 1, queue_list_options, cmd_queue_list, "Bagged messages, oldest first",
     "Of one domain, or of all. Starts at once whatever is bagged."},
    {"queue show", "ID", 1, 1, NULL, cmd_queue_show, "One message: envelope and the state of each recipient", ""},
    {"queue view", "ID", 1, 1, NULL, cmd_queue_view, "The message itself, as it will be relayed",
     "Writes header and body to standard output, byte by byte as stored."},
    {"queue flush", "[DOMAIN]", 0, 1, flush_options, cmd_queue_flush, "Try now",
     "Makes deferred messages due and probes the primary at once. Name a domain, or say --all."},
    {"queue delete", "[ID...]", 0, CTL_WORDS_MAX, delete_options, cmd_queue_delete, "Delete messages for good",
     "Names message IDs, or --domain for all mail of a domain. Nobody is told. Messages that are being delivered at\n"
     "that moment are left out."},
    {"node list", "", 0, 0, NULL, cmd_node_list, "Every node of the cluster: state, shards, what it holds", ""},
    {"node show", "NODE", 1, 1, NULL, cmd_node_show, "One node", ""},
    {"node cordon", "NODE", 1, 1, NULL, cmd_node_cordon, "Give a node nothing new",
     "It keeps what it has and goes on relaying. `node undrain` ends it."},
    {"node drain", "NODE", 1, 1, drain_options, cmd_node_drain, "Empty a node under load",
     "Its shards are handed over in order and its copies are made on others. It says \"drained\" only when every\n"
     "message that was acknowledged lies on enough other nodes. Refused where too few would be left."},
    {"node undrain", "NODE", 1, 1, NULL, cmd_node_undrain, "Let a node take part again", ""},
    {"node remove", "NODE", 1, 1, NULL, cmd_node_remove, "Forget a node that is drained", ""},
    {"node replace", "NODE", 1, 1, replace_options, cmd_node_replace, "Give up a node whose disk is lost",
     "Its copies are made again from the other nodes'. Then a new node may start under the same name."},
    {"shard list", "", 0, 0, shard_options, cmd_shard_list, "Who owns and stores which shard", ""},
    {"shard show", "SHARD|DOMAIN", 1, 1, NULL, cmd_shard_show, "One shard, or that of a domain", ""},
    {"shard move", "SHARD NODE", 2, 2, NULL, cmd_shard_move, "Let another member own a shard",
     "Planned and without a duplicate. The leader may move it back where the balance asks for it."},
    {"cluster status", "", 0, 0, NULL, cmd_cluster_status, "Leader, etcd, and what is not as it should be",
     "Sums over all nodes that answer: under-replicated messages lack a copy; unaccounted ones were sent to a node\n"
     "that did not say what became of them; in doubt are final dots whose answer was lost."},
    {"cluster settings", "", 0, 0, settings_options, cmd_cluster_settings, "Pools, copies, and delays",
     "Shows them, or changes what is given."},
    {"port show", "", 0, 0, port_options, cmd_port_show, "The DPDK port: addresses, load, counters, neighbours",
     "Counters since the start, of each queue: frames, what was dropped and why, handshakes, TCP. Where the device is\n"
     "one of DPDK's (dataplane.engine: dpdk)."},
    {"reload", "", 0, 0, NULL, cmd_reload, "Read the configuration again, as SIGHUP does",
     "What came of it stands in the daemon's log."},
    {"spool check", "", 0, 0, check_options, cmd_spool_check, "Examine the spool of a stopped node",
     "Reads every record, verifies every checksum, and compares the index with what the log says. Changes nothing.\n"
     "Exit code 1: something is damaged; each place is named."},
    {"spool dump", "", 0, 0, dump_options, cmd_spool_dump, "Print the records of a stopped node, one line each", ""},
    {"version", "", 0, 0, NULL, cmd_version, "The version of this program", ""},
    {0},
};
