/* commands.c - the table of satchelctl's commands. */
#include "ctl/commands.h"

static const struct ctl_option domain_options[] = {
    {"primary", "HOST[:PORT]",
     "Where the domain's mail goes; best first when given more than once. Port 25 if left out"},
    {"keep", "TIME", "How long its mail is kept, such as 30d; the server's `keep` if left out"},
    {"connections", "N", "Most connections to the primary at once; 4"},
    {"order", "strict|window", "strict: messages end one after the other. window: answers may be outstanding"},
    {"max-message", "SIZE", "Largest message for this domain, such as 20MiB; the server's limit if left out"},
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
    {"reload", "", 0, 0, NULL, cmd_reload, "Read the configuration again, as SIGHUP does",
     "What came of it stands in the daemon's log."},
    {"spool check", "", 0, 0, check_options, cmd_spool_check, "Examine the spool of a stopped node",
     "Reads every record, verifies every checksum, and compares the index with what the log says. Changes nothing.\n"
     "Exit code 1: something is damaged; each place is named."},
    {"spool dump", "", 0, 0, dump_options, cmd_spool_dump, "Print the records of a stopped node, one line each", ""},
    {"version", "", 0, 0, NULL, cmd_version, "The version of this program", ""},
    {0},
};
