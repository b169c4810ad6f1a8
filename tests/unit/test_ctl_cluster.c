/* test_ctl_cluster.c - satchelctl's commands for a cluster and for lists of recipients, before a faked admin socket:
 * what they ask, and what they print. */
#include "ctl/commands.h"
#include "ctl/progress.h"
#include "tests/unit/scratch.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { CANNED_MAX = 16 };

/* ---- an admin socket that knows some answers by heart */

static struct server {
    char dir[SCRATCH_MAX], path[96];
    int fd;
    pthread_t thread;
    struct {
        const char *request, *body; /* "GET /v1/nodes" */
        unsigned status;
        bool used;
    } canned[CANNED_MAX];
    size_t canned_n;
    char asked[16384]; /* a line a request, with its body */
} server;

static void answers_with(const char *request, unsigned status, const char *body)
{
    server.canned[server.canned_n].request = request;
    server.canned[server.canned_n].status = status;
    server.canned[server.canned_n++].body = body;
}

static void answers(const char *request, const char *body)
{
    answers_with(request, 200, body);
}

/* Each answer once, in order; the last one for a request again and again. */
static size_t answer_find(const char *request)
{
    size_t last = SIZE_MAX;
    for (size_t i = 0; i < server.canned_n; i++) {
        if (strcmp(server.canned[i].request, request) != 0)
            continue;
        if (!server.canned[i].used)
            return i;
        last = i;
    }
    return last;
}

static void answer_one(int fd, char *head, const char *body)
{
    char out[8192];
    *strstr(head, " HTTP/1.1") = 0;
    size_t at = answer_find(head), n = strlen(server.asked);
    snprintf(server.asked + n, sizeof server.asked - n, "%s%s%s\n", head, *body ? " " : "", body);
    bool known = at != SIZE_MAX;
    if (known)
        server.canned[at].used = true;
    const char *said = known ? server.canned[at].body : "{\"error\": \"not canned\"}";
    n = (size_t)snprintf(out, sizeof out, "HTTP/1.1 %u X\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                         known ? server.canned[at].status : 500, strlen(said), said);
    if (write(fd, out, n) != (ssize_t)n)
        abort();
}

static void serve_one(int fd)
{
    char in[4096];
    size_t n = 0, length = 0;
    char *end = NULL;
    for (ssize_t got; !end || (size_t)(in + n - end) < length + 4; n += (size_t)got) {
        got = read(fd, in + n, sizeof in - n - 1);
        if (got <= 0)
            return;
        in[n + (size_t)got] = 0;
        end = strstr(in, "\r\n\r\n");
        const char *field = strcasestr(in, "\r\nContent-Length: ");
        length = end && field && field < end ? strtoul(field + 18, NULL, 10) : 0;
    }
    answer_one(fd, in, end + 4);
}

static void *server_main(void *arg)
{
    (void)arg;
    for (int fd; (fd = accept(server.fd, NULL, NULL)) >= 0;) {
        serve_one(fd);
        close(fd);
    }
    return NULL;
}

static int setup(void **state)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    (void)state;
    memset(&server, 0, sizeof server);
    scratch_make(server.dir, "ctl");
    snprintf(server.path, sizeof server.path, "%s/a.sock", server.dir);
    memcpy(sa.sun_path, server.path, strlen(server.path));
    server.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(server.fd, 8), 0);
    return pthread_create(&server.thread, NULL, server_main, NULL);
}

static int teardown(void **state)
{
    (void)state;
    shutdown(server.fd, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    close(server.fd);
    unlink(server.path);
    return rmdir(server.dir);
}

/* ---- running the program */

static char out[16384], err[4096];

static void caught(FILE *f, char *to, size_t cap)
{
    rewind(f);
    to[fread(to, 1, cap - 1, f)] = 0;
    fclose(f);
}

static FILE *catch_output(int fd, int *saved_r)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    *saved_r = dup(fd);
    dup2(fileno(f), fd);
    return f;
}

static void restore(int fd, int saved)
{
    dup2(saved, fd);
    close(saved);
}

static int run(const char *const *args)
{
    char *argv[20] = {(char *)(uintptr_t) "satchelctl", (char *)(uintptr_t) "--socket", server.path};
    int argc = 3, saved_out, saved_err;
    for (size_t i = 0; args[i]; i++)
        argv[argc++] = (char *)(uintptr_t)args[i];
    fflush(stdout);
    FILE *o = catch_output(STDOUT_FILENO, &saved_out), *e = catch_output(STDERR_FILENO, &saved_err);
    int code = ctl_main(argc, argv);
    fflush(stdout);
    fflush(stderr);
    restore(STDOUT_FILENO, saved_out);
    restore(STDERR_FILENO, saved_err);
    caught(o, out, sizeof out);
    caught(e, err, sizeof err);
    return code;
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

/* A line of the output is this one, however its columns are padded. */
static void prints(const char *expected)
{
    char line[1024];
    size_t n = 0;
    for (const char *p = out; *p; p++) {
        if (*p == '\n') {
            while (n && line[n - 1] == ' ')
                n--;
            line[n] = 0;
            if (strcmp(line, expected) == 0)
                return;
            n = 0;
        } else if ((*p != ' ' || (n && line[n - 1] != ' ')) && n + 1 < sizeof line) {
            line[n++] = *p;
        }
    }
    fail_msg("no line \"%s\" in:\n%s", expected, out);
}

/* ---- nodes */

#define NODE_A                                                                                                         \
    "{\"name\": \"a\", \"storage\": \"11\", \"address\": \"10.0.0.1:7400\", \"zone\": \"z1\", \"pool\": \"shared\", "  \
    "\"weight\": 100, \"state\": \"active\", \"live\": true, \"leader\": true, \"owned\": 8, \"stored\": 24, "         \
    "\"former\": 0, \"self\": true, \"load\": {\"messages\": 1234, \"bytes\": 2048, \"ends_owed\": 3, "                \
    "\"room_bytes\": 1073741824}}"
#define NODE_B                                                                                                         \
    "{\"name\": \"b\", \"storage\": \"22\", \"address\": \"10.0.0.2:7400\", \"zone\": \"\", \"pool\": \"acme\", "      \
    "\"weight\": 50, \"state\": \"draining\", \"live\": true, \"leader\": false, \"owned\": 0, \"stored\": 2, "        \
    "\"former\": 1, \"link\": {\"up\": false, \"why\": \"refused: is it running?\"}}"
#define NODE_C                                                                                                         \
    "{\"name\": \"c\", \"pool\": \"shared\", \"zone\": \"z2\", \"state\": \"cordoned\", \"live\": false, "             \
    "\"leader\": false, \"owned\": 0, \"stored\": 24}"

static void nodes_are_listed(void **state)
{
    (void)state;
    answers("GET /v1/nodes", "{\"nodes\": [" NODE_A ", " NODE_B ", " NODE_C "]}");
    assert_int_equal(RUN("node", "list"), EXIT_SUCCESS);
    prints("NODE STATE POOL ZONE OWNS STORES HOLDS BYTES ROOM");
    prints("a active shared z1 8 24 1234 2.0 KiB 1.0 GiB leader");
    prints("b no link acme 0 2");
    prints("c dead shared z2 0 24");
    assert_int_equal(RUN("node", "list", "--json"), EXIT_SUCCESS);
    json_t *j = json_loads(out, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(j, "nodes")), 3);
    json_decref(j);
}

static void a_node_is_shown(void **state)
{
    (void)state;
    answers("GET /v1/nodes/a", NODE_A);
    answers("GET /v1/nodes/b", NODE_B);
    assert_int_equal(RUN("node", "show", "a"), EXIT_SUCCESS);
    prints("node a, active, leads the cluster");
    prints("place pool shared, zone z1, weight 100");
    prints("shards owns 8, stores 24, still has something of 0 more");
    prints("holds 1234 messages, 2.0 KiB; ends that others do not know yet: 3");
    assert_int_equal(RUN("node", "show", "b"), EXIT_SUCCESS);
    prints("node b, no link");
    prints("place pool acme, zone of its own, weight 50");
    prints("link down: refused: is it running?");
}

static void an_error_is_said_with_its_remedy(void **state)
{
    (void)state;
    answers_with("GET /v1/nodes/x%20y", 404, "{\"error\": \"there is no such node\", \"remedy\": \"see the list\"}");
    answers_with("POST /v1/nodes/a/drain", 409, "{\"error\": \"draining a would leave 1 node\"}");
    assert_int_equal(RUN("node", "show", "x y"), EXIT_FAILURE);
    assert_string_equal(err, "satchelctl: there is no such node: see the list\n");
    assert_int_equal(RUN("node", "drain", "a"), EXIT_FAILURE);
    assert_string_equal(err, "satchelctl: draining a would leave 1 node\n");
    assert_string_equal(out, "");
}

static void nodes_are_taken_in_and_out(void **state)
{
    (void)state;
    answers("POST /v1/nodes/a/cordon", "{}");
    answers("POST /v1/nodes/a/undrain", "{}");
    answers("POST /v1/nodes/a/drain", "{}");
    answers("DELETE /v1/nodes/a", "{}");
    answers("DELETE /v1/nodes/a?lost=1", "{}");
    assert_int_equal(RUN("node", "cordon", "a"), EXIT_SUCCESS);
    assert_int_equal(RUN("node", "undrain", "a"), EXIT_SUCCESS);
    assert_int_equal(RUN("node", "drain", "a", "--no-wait"), EXIT_SUCCESS);
    prints("a is being emptied: `satchelctl node show` tells how far it is.");
    assert_int_equal(RUN("node", "remove", "a"), EXIT_SUCCESS);
    assert_int_equal(RUN("node", "replace", "a"), EXIT_FAILURE); /* not without --yes */
    assert_non_null(strstr(err, "--yes"));
    assert_int_equal(RUN("node", "replace", "a", "--yes"), EXIT_SUCCESS);
    assert_string_equal(server.asked, "POST /v1/nodes/a/cordon\nPOST /v1/nodes/a/undrain\nPOST /v1/nodes/a/drain\n"
                                      "DELETE /v1/nodes/a\nDELETE /v1/nodes/a?lost=1\n");
}

/* ---- draining */

#define DRAINING(state, messages, shards)                                                                              \
    "{\"name\": \"b\", \"state\": \"" state "\", \"live\": true, \"owned\": " shards ", \"stored\": " shards           \
    ", \"former\": 0, \"load\": {\"messages\": " messages ", \"ends_owed\": 0}}"

static void a_drain_is_waited_for(void **state)
{
    (void)state;
    answers("POST /v1/nodes/b/drain", "{}");
    answers("GET /v1/nodes/b", DRAINING("draining", "1000", "1"));
    answers("GET /v1/nodes/b", DRAINING("draining", "500", "0"));
    answers("GET /v1/nodes/b", DRAINING("drained", "0", "0"));
    assert_int_equal(RUN("node", "drain", "b"), EXIT_SUCCESS);
    prints("0 %: 1000 messages, 2 shards left");
    prints("b is drained: nothing that was acknowledged lies on it alone.");
    answers("POST /v1/nodes/c/drain", "{}");
    answers("GET /v1/nodes/c", DRAINING("active", "10", "1"));
    assert_int_equal(RUN("node", "drain", "c"), EXIT_FAILURE);
    assert_non_null(strstr(err, "somebody ended the drain of c"));
}

static void progress_shows_how_far_it_is(void **state)
{
    struct progress p;
    int saved;
    (void)state;
    fflush(stdout);
    FILE *f = catch_output(STDOUT_FILENO, &saved);
    progress_start(&p);
    progress_show(&p, 200, "200 messages");
    progress_show(&p, 100, "100 messages"); /* too soon for another line */
    p.shown_s -= 10;
    p.started_s -= 10;
    progress_show(&p, 50, "50 messages");
    progress_end(&p);
    p.terminal = true;
    progress_show(&p, 100, "100 messages");
    progress_show(&p, 400, "400 messages"); /* it grew: what is done is not taken back below nothing */
    progress_end(&p);
    fflush(stdout);
    restore(STDOUT_FILENO, saved);
    caught(f, out, sizeof out);
    assert_string_equal(out, "0 %: 200 messages left\n"
                             "75 %: 50 messages left, about 3 s\n"
                             "\r\033[K[###############               ]  50 %  100 messages left, about 10 s"
                             "\r\033[K[                              ]   0 %  400 messages left"
                             "\r\033[K");
}

/* ---- shards */

#define SHARD(name, owner, members, more)                                                                              \
    "{\"name\": \"" name "\", \"owner\": " owner ", \"members\": [" members "], \"former\": [], \"next\": null, "      \
    "\"epoch\": 7, \"messages\": 12" more "}"

static void shards_are_listed_page_by_page(void **state)
{
    (void)state;
    answers("GET /v1/shards?limit=1000",
            "{\"shards\": [" SHARD("shared.0", "\"a\"", "\"a\", \"b\"", "") "], \"next\": 1}");
    answers("GET /v1/shards?limit=1000&after=1", "{\"shards\": [" SHARD("shared.1", "null", "\"c\"", "") ", " SHARD(
                                                     "sharedx.0", "\"c\"", "\"c\"", "") "], \"next\": null}");
    assert_int_equal(RUN("shard", "list"), EXIT_SUCCESS);
    prints("SHARD OWNER MEMBERS FORMER NEXT EPOCH HERE");
    prints("shared.0 a a, b 7 12");
    prints("shared.1 (nobody) c 7 12");
    assert_int_equal(RUN("shard", "list", "--node", "b"), EXIT_SUCCESS);
    assert_non_null(strstr(out, "shared.0"));
    assert_null(strstr(out, "shared.1"));
    assert_int_equal(RUN("shard", "list", "--pool", "shared"), EXIT_SUCCESS);
    assert_non_null(strstr(out, "shared.1"));
    assert_null(strstr(out, "sharedx.0"));
}

static void a_shard_is_shown_and_moved(void **state)
{
    (void)state;
    answers("GET /v1/shards/example.com",
            SHARD("shared.3", "\"a\"", "\"a\", \"b\"", ", \"state\": \"owned\", \"synced\": [\"a\"]"));
    answers("POST /v1/shards/shared.3/move?to=b", "{}");
    assert_int_equal(RUN("shard", "show", "example.com"), EXIT_SUCCESS);
    prints("shard shared.3, epoch 7");
    prints("owner a, owned");
    prints("members a, b");
    prints("in sync a");
    prints("here 12 messages");
    assert_int_equal(RUN("shard", "move", "shared.3", "b"), EXIT_SUCCESS);
    prints("shared.3 goes to b as soon as its owner has handed it over.");
}

/* ---- the cluster */

#define SAID(owned, merging, lease)                                                                                    \
    "{\"lease\": {\"held\": true, \"left_s\": " lease "}, \"ownership\": {\"owned\": " owned ", \"merging\": " merging \
    ", \"handing\": 0}, \"copies\": {\"under_replicated\": 2, \"unowned\": 1, \"unaccounted\": 5, "                    \
    "\"scrub_repaired\": 1}, \"leadership\": {\"shards_ownerless\": 3, \"moves_under_way\": 4, \"moves_planned\": 6, " \
    "\"copies_short\": 0}, \"in_doubt\": 1, \"quarantined\": 0, \"refused\": \"\"}"

static void the_cluster_is_summed_up(void **state)
{
    (void)state;
    answers(
        "GET /v1/cluster",
        "{\"node\": \"a\", \"cluster\": \"uuid\", \"leader\": \"a\", \"map_rev\": 99, \"epoch\": 12, \"lease\": {}, "
        "\"coordination\": {\"reachable\": true, \"for_s\": 61, \"endpoint\": \"http://e:2379\"}, \"nodes\": {"
        "\"a\": " SAID("8", "0", "8.5") ", \"b\": " SAID(
            "4", "2", "3.0") ", \"c\": null, "
                             "\"d\": {\"refused\": \"another storage has this name\"}}}");
    assert_int_equal(RUN("cluster", "status"), EXIT_SUCCESS);
    prints("leader a");
    prints("etcd http://e:2379, reachable for 1 min 1 s");
    prints("map revision 99, highest epoch 12");
    prints("shards 3 without an owner, 4 moves under way, 6 to come, 0 copies that no node can take");
    prints("messages 4 under-replicated, 2 held by nodes that should not, 10 unaccounted, 2 in doubt");
    prints("damage 0 quarantined ranges; 2 records repaired by scrubbing");
    prints("a owns 8; lease for 8.5 s");
    prints("b owns 4, adopting 2; lease for 3.0 s");
    prints("c does not answer");
    prints("d takes no part: another storage has this name");
}

static void a_cluster_without_etcd(void **state)
{
    (void)state;
    answers("GET /v1/cluster", "{\"cluster\": \"uuid\", \"leader\": null, \"lease\": {}, \"coordination\": "
                               "{\"reachable\": false, \"for_s\": 5, \"why\": \"connection refused\"}, \"nodes\": {}}");
    assert_int_equal(RUN("cluster", "status"), EXIT_SUCCESS);
    prints("leader not known: etcd is not reachable");
    prints("etcd not reachable for 5 s: connection refused");
}

static void a_cluster_whose_etcd_is_refused(void **state)
{
    (void)state;
    answers("GET /v1/cluster", "{\"cluster\": \"uuid\", \"leader\": null, \"lease\": {}, \"coordination\": "
                               "{\"reachable\": true, \"for_s\": 5, "
                               "\"endpoint\": \"http://e:2379\", \"refused\": \"it is empty\"}, \"nodes\": {}}");
    assert_int_equal(RUN("cluster", "status"), EXIT_SUCCESS);
    prints("leader not known: what etcd has is refused");
    prints(
        "etcd http://e:2379, reachable for 5 s, but what it has is refused: it is empty; the map before that is used");
}

static void a_cluster_without_a_leader(void **state)
{
    (void)state;
    answers("GET /v1/cluster", "{\"cluster\": \"uuid\", \"leader\": null, \"lease\": {}, \"coordination\": "
                               "{\"reachable\": true, \"for_s\": 5, "
                               "\"endpoint\": \"http://e:2379\", \"refused\": \"\"}, \"nodes\": {}}");
    assert_int_equal(RUN("cluster", "status"), EXIT_SUCCESS);
    prints("leader none: shards of dead nodes wait for one");
}

static void a_node_alone_is_in_no_cluster(void **state)
{
    (void)state;
    answers("GET /v1/cluster", "{\"cluster\": null, \"node\": \"mx\"}");
    assert_int_equal(RUN("cluster", "status"), EXIT_SUCCESS);
    prints("This node is in no cluster. docs/operations.md says how to make one.");
}

static void settings_are_shown_and_changed(void **state)
{
    (void)state;
    answers("GET /v1/cluster/settings", "{\"pools\": [{\"name\": \"shared\", \"copies\": 3, \"acks\": 2, \"shards\": "
                                        "64, \"fallback\": \"\"}], \"repair_delay_s\": 60, \"version\": 1}");
    answers("PUT /v1/cluster/settings?pool=acme&copies=2&fallback=shared&repair_delay_s=90", "{\"done\": true}");
    answers_with("PUT /v1/cluster/settings?acks=9", 400, "{\"error\": \"acks\", \"remedy\": \"1 to 4\"}");
    assert_int_equal(RUN("cluster", "settings"), EXIT_SUCCESS);
    prints("POOL COPIES ACKS SHARDS FALLS BACK TO");
    prints("shared 3 2 64");
    prints("A dead node's copies are made again after 60 s (--repair-delay).");
    assert_int_equal(
        RUN("cluster", "settings", "--pool", "acme", "--copies", "2", "--repair-delay", "90", "--fallback", "shared"),
        EXIT_SUCCESS);
    prints("Changed, for the whole cluster.");
    assert_int_equal(RUN("cluster", "settings", "--acks", "9"), EXIT_FAILURE);
    assert_string_equal(err, "satchelctl: acks: 1 to 4\n");
}

/* ---- status of a node */

static void status_has_a_line_of_the_cluster(void **state)
{
    (void)state;
    answers(
        "GET /v1/status?domains=20",
        "{\"node\": \"mx\", \"accepting\": true, \"reason\": \"accepting mail\", \"cluster\": {\"node\": \"b\", "
        "\"leader\": \"a\", \"owned\": 5, \"adopting\": 1, \"handing_over\": 0, \"leased\": true, \"lease_s\": 7.25, "
        "\"coordination_reachable\": false, \"refused\": \"\"}}");
    assert_int_equal(RUN("status"), EXIT_SUCCESS);
    prints("cluster node b, leader a, owns 5 shards, adopting 1; lease for 7.2 s; etcd cannot be reached");
}

static void status_of_a_node_alone_has_none(void **state)
{
    (void)state;
    answers("GET /v1/status?domains=20", "{\"node\": \"mx\", \"accepting\": true, \"cluster\": null}");
    assert_int_equal(RUN("status"), EXIT_SUCCESS);
    assert_null(strstr(out, "cluster"));
}

/* ---- lists of recipients */

#define LIST "/v1/domains/example.com/recipients"

static void a_list_is_shown_page_by_page(void **state)
{
    (void)state;
    answers("GET " LIST "?limit=50000", "{\"domain\": \"example.com\", \"list\": \"x\", \"count\": 2, \"recipients\": "
                                        "[\"a+b@example.com\"], \"next\": \"a+b@example.com\"}");
    answers("GET " LIST "?limit=50000&after=a%2Bb%40example.com",
            "{\"domain\": \"example.com\", \"list\": \"x\", \"count\": 2, \"recipients\": [\"c@example.com\"], "
            "\"next\": null}");
    assert_int_equal(RUN("domain", "recipients", "example.com"), EXIT_SUCCESS);
    assert_string_equal(out, "a+b@example.com\nc@example.com\n");
    assert_int_equal(RUN("domain", "recipients", "example.com", "--json"), EXIT_SUCCESS);
    json_t *j = json_loads(out, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(j, "recipients")), 2);
    json_decref(j);
}

static void a_domain_without_a_list(void **state)
{
    (void)state;
    answers("GET " LIST "?limit=50000",
            "{\"domain\": \"example.com\", \"list\": null, \"count\": 0, \"recipients\": [], \"next\": null}");
    answers("DELETE " LIST, "{\"domain\": \"example.com\", \"list\": null, \"count\": 0}");
    assert_int_equal(RUN("domain", "recipients", "example.com"), EXIT_SUCCESS);
    assert_string_equal(out, "");
    assert_string_equal(err, "example.com has no list: every recipient is taken\n");
    assert_int_equal(RUN("domain", "recipients", "example.com", "--clear"), EXIT_SUCCESS);
    prints("example.com: no list any more: every recipient is taken");
}

static void a_list_is_sent(void **state)
{
    char path[128];
    (void)state;
    answers("PUT " LIST, "{\"domain\": \"example.com\", \"list\": \"x\", \"count\": 2}");
    answers("POST " LIST "/add", "{\"domain\": \"example.com\", \"list\": \"y\", \"count\": 4}");
    answers("POST " LIST "/remove", "{\"domain\": \"example.com\", \"list\": \"z\", \"count\": 1}");
    snprintf(path, sizeof path, "%s/list", server.dir);
    FILE *f = fopen(path, "w");
    fputs("bob\nalice\n", f);
    fclose(f);
    assert_int_equal(RUN("domain", "recipients", "example.com", "--set", path), EXIT_SUCCESS);
    prints("example.com: 2 recipients; others are refused");
    assert_int_equal(RUN("domain", "recipients", "example.com", "--add", "c", "--remove", "e", "--add", "d"),
                     EXIT_SUCCESS);
    prints("example.com: 4 recipients; others are refused");
    prints("example.com: 1 recipient; others are refused");
    assert_string_equal(server.asked,
                        "PUT " LIST " bob\nalice\n\nPOST " LIST "/add c\nd\n\nPOST " LIST "/remove e\n\n");
    f = fopen(path, "w");
    fwrite("bob\nal\0ice\n", 1, 11, f);
    fclose(f);
    assert_int_equal(RUN("domain", "recipients", "example.com", "--set", path), EXIT_FAILURE);
    assert_non_null(strstr(err, "line 2 holds a NUL byte"));
    unlink(path);
    assert_int_equal(RUN("domain", "recipients", "example.com", "--set", path), EXIT_FAILURE);
    assert_non_null(strstr(err, "cannot read"));
    assert_int_equal(RUN("domain", "recipients", "example.com", "--set", "-", "--clear"), CTL_USAGE);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(nodes_are_listed),
        T(a_node_is_shown),
        T(an_error_is_said_with_its_remedy),
        T(nodes_are_taken_in_and_out),
        T(a_drain_is_waited_for),
        T(progress_shows_how_far_it_is),
        T(shards_are_listed_page_by_page),
        T(a_shard_is_shown_and_moved),
        T(the_cluster_is_summed_up),
        T(a_cluster_without_etcd),
        T(a_cluster_whose_etcd_is_refused),
        T(a_cluster_without_a_leader),
        T(a_node_alone_is_in_no_cluster),
        T(settings_are_shown_and_changed),
        T(status_has_a_line_of_the_cluster),
        T(status_of_a_node_alone_has_none),
        T(a_list_is_shown_page_by_page),
        T(a_domain_without_a_list),
        T(a_list_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
