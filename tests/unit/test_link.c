/* Links between nodes: several peers in one process over loopback with certificates of their own. */
#include "cluster/link/peers.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "tests/unit/frame_rig.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_US = 8 * 1000 * 1000, NODES = 4 };

static char dir[SCRATCH_MAX]; /* certificates */

/* ---- the clock: the machine's, and what a test puts on top */

static uint64_t ahead_us;

static uint64_t test_boot(void *ctx)
{
    (void)ctx;
    return clock_boot_us(clock_system()) + ahead_us;
}

static uint64_t test_wall(void *ctx)
{
    (void)ctx;
    return clock_wall_us(clock_system());
}

static const struct clock test_clock = {test_boot, test_wall, NULL};

/* ---- nodes */

struct node {
    struct peers *peers;
    struct peers_tls_config cfg;
    struct peer_addr addr;
    struct peer_addr want[NODES];
    size_t want_n;
    char cert[128], key[128], ca[128], listen[64];
    bool stuck; /* its thread does nothing */
    int ups, downs, rooms;
    uint64_t next_seq[256]; /* by the first byte of the storage */
    uint64_t frames, bytes, sent;
    uint16_t odd_type; /* the last frame that is no SEQ_TYPE */
    char events[256];  /* "u": up, "d": down */
};

static struct node nodes[NODES];
static size_t nodes_n;

static void on_up(void *arg, const struct peer_info *peer)
{
    struct node *n = arg;
    assert_true(peer->up);
    assert_string_equal(peer->why, "");
    n->ups++;
    strcat(n->events, "u");
    n->next_seq[peer->hello.storage.b[0]] = 0;
}

static void on_down(void *arg, const struct storage_id *peer)
{
    struct node *n = arg;
    struct fbuf *f = fbuf_new(SEQ_TYPE, 1, 8);
    struct peer_info info;
    n->downs++;
    strcat(n->events, "d");
    if (!n->peers->ops->info(n->peers, peer, &info) || !info.up)
        assert_int_equal(n->peers->ops->send(n->peers, peer, f), -SATCHEL_ENOENT);
    fbuf_unref(f);
}

static void on_frame(void *arg, const struct storage_id *from, uint16_t type, uint16_t version, struct slice payload)
{
    struct node *n = arg;
    struct wire_rd r = wire_rd(payload);
    if (type != SEQ_TYPE) {
        n->odd_type = type;
        return;
    }
    assert_int_equal(version, 1);
    uint64_t seq = wire_u64(&r);
    assert_false(r.bad);
    assert_int_equal(seq, n->next_seq[from->b[0]]++);
    for (size_t i = 8; i < payload.n; i += 997)
        assert_int_equal(payload.p[i], (uint8_t)(seq + i));
    n->frames++;
    n->bytes += payload.n;
}

static void on_room(void *arg, const struct storage_id *peer)
{
    (void)peer;
    ((struct node *)arg)->rooms++;
}

/* A node by the name 'a', 'b', ...; the storage's first byte is the letter, so that earlier letters dial. */
static struct node *node_make(const char *name)
{
    struct node *n = &nodes[nodes_n++];
    *n = (struct node){0};
    n->cfg = (struct peers_tls_config){.buffer_bytes = 8u << 20, .ping_us = 1000000, .silence_us = 4000000};
    n->cfg.hello = (struct peer_hello){.proto = PROTO_VERSION, .proto_min = PROTO_VERSION_MIN, .boot = nodes_n};
    memset(n->cfg.hello.cluster.b, 0xcc, 16);
    memset(n->cfg.hello.storage.b, name[0], 16);
    snprintf(n->cfg.hello.name, sizeof n->cfg.hello.name, "%s", name);
    snprintf(n->addr.name, sizeof n->addr.name, "%s", name);
    snprintf(n->ca, sizeof n->ca, "%s/ca.pem", dir);
    snprintf(n->cert, sizeof n->cert, "%s/%s.pem", dir, name);
    snprintf(n->key, sizeof n->key, "%s/%s.key", dir, name);
    snprintf(n->listen, sizeof n->listen, "127.0.0.1:0");
    n->addr.storage = n->cfg.hello.storage;
    return n;
}

static void node_open(struct node *n)
{
    char why[256] = "";
    struct peers_app app = {on_up, on_down, on_frame, on_room, n};
    n->cfg.ca = n->ca;
    n->cfg.cert = n->cert;
    n->cfg.key = n->key;
    n->cfg.listen = n->listen;
    if (peers_tls_open(&n->peers, &n->cfg, &app, &test_clock, why) != 0)
        fail_msg("open: %s", why);
    uint16_t port = peers_tls_port(n->peers);
    assert_int_not_equal(port, 0);
    snprintf(n->listen, sizeof n->listen, "127.0.0.1:%u", port); /* the same when it is back */
    snprintf(n->addr.address, sizeof n->addr.address, "127.0.0.1:%u", port);
    n->peers->ops->want(n->peers, n->want, n->want_n);
}

static void node_stop(struct node *n)
{
    if (n->peers)
        n->peers->ops->close(&n->peers);
    assert_null(n->peers);
}

static void node_wants(struct node *n, const struct node *other)
{
    n->want[n->want_n++] = other->addr;
    n->peers->ops->want(n->peers, n->want, n->want_n);
}

static int stop_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < nodes_n; i++)
        node_stop(&nodes[i]);
    nodes_n = 0;
    ahead_us = 0;
    return 0;
}

/* One turn of every node; sleeps until one has something to do. */
static void turn(void)
{
    struct pollfd fds[NODES];
    uint64_t now = test_boot(NULL), wake = now + 10000;
    for (size_t i = 0; i < nodes_n; i++) {
        bool runs = nodes[i].peers && !nodes[i].stuck;
        fds[i] = (struct pollfd){.fd = runs ? nodes[i].peers->fd : -1, .events = POLLIN};
        uint64_t us = runs ? nodes[i].peers->ops->next_us(nodes[i].peers) : UINT64_MAX;
        wake = us < wake ? us : wake;
    }
    poll(fds, nodes_n, wake > now ? (int)((wake - now) / 1000) : 0);
    for (size_t i = 0; i < nodes_n; i++)
        if (nodes[i].peers && !nodes[i].stuck)
            nodes[i].peers->ops->poll(nodes[i].peers);
}

#define until(cond)                                                                                                    \
    for (uint64_t end_ = clock_boot_us(clock_system()) + PATIENCE_US; !(cond); turn())                                 \
        if (clock_boot_us(clock_system()) > end_)                                                                      \
    fail_msg("never: %s", #cond)

static struct peer_info info_of(const struct node *n, const struct node *other)
{
    struct peer_info info;
    assert_true(n->peers->ops->info(n->peers, &other->addr.storage, &info));
    return info;
}

static bool says(const struct node *n, const struct node *other, const char *words)
{
    return strstr(info_of(n, other).why, words) != NULL;
}

/* a and b, open and wanting each other. */
static void pair_open(struct node **a_r, struct node **b_r)
{
    struct node *a = *a_r = node_make("a"), *b = *b_r = node_make("b");
    node_open(a);
    node_open(b);
    node_wants(a, b);
    node_wants(b, a);
}

static void pair_up(struct node **a_r, struct node **b_r)
{
    pair_open(a_r, b_r);
    until((*a_r)->ups == 1 && (*b_r)->ups == 1);
}

static int send_seq(struct node *from, const struct node *to, size_t n)
{
    struct fbuf *f = seq_frame(from->sent, n);
    int rc = from->peers->ops->send(from->peers, &to->addr.storage, f);
    from->sent += rc == 0;
    fbuf_unref(f);
    return rc;
}

/* ---- links */

static void two_peers_talk_in_order(void **state)
{
    (void)state;
    struct node *a, *b;
    pair_up(&a, &b);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(send_seq(a, b, 8 + (size_t)i * 37 % 5000), 0);
        assert_int_equal(send_seq(b, a, 8 + (size_t)i * 53 % 300), 0);
        if (i % 500 == 0)
            turn();
    }
    until(b->frames == 3000 && a->frames == 3000);
    struct peer_info info = info_of(a, b);
    assert_true(info.up && info.sent > b->bytes && info.received > a->bytes && info.queued == 0);
    assert_string_equal(info.hello.name, "b");
    until(info_of(a, b).rtt_us > 0 && info_of(b, a).rtt_us > 0);
    assert_true(llabs(info_of(a, b).skew_us) < 1000000);
    struct storage_id nobody = {{1}};
    assert_int_equal(a->peers->ops->send(a->peers, &nobody, NULL), -SATCHEL_ENOENT);
    assert_string_equal(a->events, "u");
}

static void three_peers_by_name(void **state)
{
    (void)state;
    struct node *n[3] = {node_make("a"), node_make("b"), node_make("c")};
    for (int i = 0; i < 3; i++) {
        node_open(n[i]);
        /* a name instead of a number: it is looked up */
        snprintf(n[i]->addr.address, sizeof n[i]->addr.address, "localhost:%u", peers_tls_port(n[i]->peers));
    }
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            node_wants(n[i], n[k]); /* itself too: not linked */
    until(n[0]->ups == 2 && n[1]->ups == 2 && n[2]->ups == 2);
    struct fbuf *f = seq_frame(0, 4000); /* one frame, two ways */
    for (int k = 1; k < 3; k++)
        assert_int_equal(n[0]->peers->ops->send(n[0]->peers, &n[k]->addr.storage, f), 0);
    fbuf_unref(f);
    until(n[1]->frames == 1 && n[2]->frames == 1);
}

static void large_frames_pass(void **state)
{
    (void)state;
    struct node *a, *b;
    pair_up(&a, &b);
    static const size_t sizes[] = {8, 1153434, 9, FRAME_PAYLOAD_MAX, 16376, 16377, 1153434, 8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(send_seq(a, b, sizes[i]), 0);
        assert_int_equal(send_seq(b, a, sizes[i]), 0);
    }
    until(b->frames == 8 && a->frames == 8);
}

static void full_buffer_says_so_and_then_has_room(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    a->cfg.buffer_bytes = 256 * 1024;
    node_open(a);
    node_open(b);
    node_wants(a, b);
    node_wants(b, a);
    until(a->ups == 1 && b->ups == 1);
    b->stuck = true;
    int rc = 0;
    while ((rc = send_seq(a, b, 4096)) == 0)
        assert_true(a->sent < 16384); /* what the kernel takes is bounded too */
    assert_int_equal(rc, -SATCHEL_EAGAIN);
    for (int i = 0; i < 20; i++)
        turn();
    assert_int_equal(a->rooms, 0);
    assert_int_equal(send_seq(a, b, 4096), -SATCHEL_EAGAIN);
    assert_true(info_of(a, b).queued > 200 * 1024);
    b->stuck = false;
    until(a->rooms == 1);
    assert_int_equal(send_seq(a, b, 4096), 0);
    until(b->frames == a->sent);
    assert_int_equal(a->downs, 0);
}

static void killed_peer_comes_back(void **state)
{
    (void)state;
    struct node *a, *b;
    pair_up(&a, &b);
    for (int round = 1; round <= 2; round++) {
        struct node *gone = round == 1 ? a : b, *stays = round == 1 ? b : a;
        node_stop(gone);
        until(stays->downs == 1);
        assert_true(says(stays, gone, "closed") || says(stays, gone, "reset"));
        assert_int_equal(send_seq(stays, gone, 8), -SATCHEL_ENOENT);
        if (stays == a)
            until(says(a, b, "satcheld running there"));
        node_open(gone);
        until(stays->ups == 2);
        until(info_of(gone, stays).up);
        assert_string_equal(stays->events, "udu");
        stays->ups = stays->downs = 0;
        stays->events[0] = 0;
        stays->sent = 0;
        assert_int_equal(send_seq(stays, gone, 100), 0);
        uint64_t before = gone->frames;
        until(gone->frames == before + 1);
        stays->ups = 1;
        strcpy(stays->events, "u");
        gone->ups = 1;
        gone->downs = 0;
        strcpy(gone->events, "u");
    }
}

static void silent_peer_is_down_until_it_speaks(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    a->cfg.ping_us = 30000;
    a->cfg.silence_us = 150000;
    node_open(a);
    node_open(b);
    node_wants(a, b);
    node_wants(b, a);
    until(a->ups == 1 && b->ups == 1);
    uint64_t start = test_boot(NULL);
    until(test_boot(NULL) > start + 300000); /* pings keep it up */
    assert_int_equal(a->downs, 0);
    b->stuck = true;
    until(a->downs == 1);
    assert_true(says(a, b, "silent"));
    b->stuck = false;
    until(a->ups == 2 && b->ups == 2);
    assert_string_equal(b->events, "udu");
}

/* Our own pause is not the others' silence: what came meanwhile is read first. */
static void paused_node_keeps_its_links(void **state)
{
    (void)state;
    struct node *a, *b;
    pair_up(&a, &b);
    a->stuck = true;
    ahead_us += 3500000; /* b pings */
    until(info_of(b, a).received > 0);
    for (int i = 0; i < 5; i++)
        turn();
    a->stuck = false;
    ahead_us += 800000; /* 4.3 s without a turn */
    turn();
    until(send_seq(a, b, 8) == 0 && b->frames > 0);
    assert_string_equal(a->events, "u");
}

static void newer_connection_wins(void **state)
{
    (void)state;
    struct node *a, *b;
    pair_up(&a, &b);
    struct node *twin = node_make("a");
    node_open(twin);
    node_wants(twin, b);
    a->stuck = true; /* as a half-open link */
    until(b->ups == 2);
    assert_string_equal(b->events, "udu");
    assert_int_equal(info_of(b, a).hello.boot, twin->cfg.hello.boot);
    assert_int_equal(send_seq(twin, b, 8), 0);
    until(b->frames == 1);
    a->stuck = false; /* the older one was closed */
    until(a->downs == 1);
}

static void unwanted_peer_is_closed(void **state)
{
    (void)state;
    struct node *a, *b;
    struct peer_info info;
    pair_up(&a, &b);
    a->peers->ops->want(a->peers, NULL, 0);
    assert_int_equal(a->downs, 0); /* not from within */
    assert_int_equal(send_seq(a, b, 8), -SATCHEL_ENOENT);
    assert_false(a->peers->ops->info(a->peers, &b->addr.storage, &info));
    until(a->downs == 1 && b->downs == 1);
    a->peers->ops->want(a->peers, &b->addr, 1);
    until(a->ups == 2 && b->ups == 2);
    a->peers->ops->want(a->peers, NULL, 0);
    a->peers->ops->want(a->peers, &b->addr, 1); /* both between two turns */
    until(a->ups == 3 && b->ups == 3);
    assert_string_equal(a->events, "ududu");
}

static void address_may_change(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    node_open(a);
    node_open(b);
    node_wants(b, a);
    struct peer_addr there = b->addr, wrong = b->addr;
    snprintf(wrong.address, sizeof wrong.address, "127.0.0.1:1");
    a->peers->ops->want(a->peers, &wrong, 1);
    until(says(a, b, "satcheld running there"));
    snprintf(wrong.address, sizeof wrong.address, "nonsense");
    a->peers->ops->want(a->peers, &wrong, 1);
    until(says(a, b, "HOST:PORT"));
    a->peers->ops->want(a->peers, &there, 1);
    until(a->ups == 1 && b->ups == 1);
    snprintf(wrong.address, sizeof wrong.address, "127.0.0.1:1");
    a->peers->ops->want(a->peers, &wrong, 1); /* a link that stands is not touched */
    assert_int_equal(send_seq(a, b, 8), 0);
    until(b->frames == 1);
    assert_int_equal(a->downs, 0);
}

/* ---- refusals: both sides know why */

static void other_ca_is_refused(void **state)
{
    (void)state;
    static const char *const who[] = {"a", "b"};
    for (int i = 0; i < 2; i++) {
        struct node *a = node_make("a"), *b = node_make("b"), *odd = i ? b : a;
        snprintf(odd->ca, sizeof odd->ca, "%s/other/ca.pem", dir);
        snprintf(odd->cert, sizeof odd->cert, "%s/other/%s.pem", dir, who[i]);
        snprintf(odd->key, sizeof odd->key, "%s/other/%s.key", dir, who[i]);
        node_open(a);
        node_open(b);
        node_wants(a, b);
        node_wants(b, a);
        until(says(a, b, "of one CA"));
        assert_int_equal(a->ups + b->ups, 0);
        stop_all(NULL);
    }
}

/* Trusts the others, and is not trusted: the alert must reach it, though TLS 1.3 lets it finish first. */
static void untrusted_dialer_is_told(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    snprintf(a->cert, sizeof a->cert, "%s/other/a.pem", dir);
    snprintf(a->key, sizeof a->key, "%s/other/a.key", dir);
    node_open(a);
    node_open(b);
    node_wants(a, b);
    node_wants(b, a);
    until(says(a, b, "does not know the CA of our certificate"));
    assert_int_equal(a->ups + b->ups, 0);
}

static void other_name_in_certificate_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct node *a = node_make("a"), *b = node_make("b"), *odd = i ? b : a;
        snprintf(odd->cert, sizeof odd->cert, "%s/c.pem", dir);
        snprintf(odd->key, sizeof odd->key, "%s/c.key", dir);
        node_open(a);
        node_open(b);
        node_wants(a, b);
        node_wants(b, a);
        until(says(a, b, "is for 'c'") && says(b, a, "is for 'c'"));
        assert_int_equal(a->ups + b->ups, 0);
        stop_all(NULL);
    }
}

static void unknown_storage_is_refused(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    node_open(a);
    node_open(b);
    node_wants(a, b);
    until(says(a, b, "b refuses us: b knows no node a"));
    struct peer_addr before = a->addr; /* the map has the disk that was replaced */
    memset(before.storage.b, 'A', 16);
    b->peers->ops->want(b->peers, &before, 1);
    struct node was = *a;
    was.addr = before;
    until(says(b, &was, "satchelctl node replace a") && says(a, b, "satchelctl node replace a"));
    node_wants(b, a); /* it is in the map now */
    until(a->ups == 1 && b->ups == 1);
    stop_all(NULL);
    a = node_make("a");
    b = node_make("b"); /* and the other way: the dialer finds another disk */
    node_open(a);
    node_open(b);
    node_wants(b, a);
    memset(b->addr.storage.b, 'B' + 32 + 1, 16);
    node_wants(a, b);
    until(says(a, b, "satchelctl node replace b"));
    assert_int_equal(a->ups + b->ups, 0);
}

static void other_cluster_is_refused(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    memset(b->cfg.hello.cluster.b, 0xdd, 16);
    node_open(a);
    node_open(b);
    node_wants(a, b);
    node_wants(b, a);
    until(says(a, b, "belongs to cluster dddd") || says(a, b, "to cluster dddd"));
    until(says(b, a, "cluster"));
    assert_int_equal(a->ups + b->ups, 0);
}

static void cluster_may_be_learned_later(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    struct storage_id cluster = b->cfg.hello.cluster;
    memset(b->cfg.hello.cluster.b, 0, 16);
    node_open(a);
    node_open(b);
    node_wants(a, b);
    node_wants(b, a);
    until(says(a, b, "has not read the cluster's map"));
    b->peers->ops->join(b->peers, &cluster);
    until(a->ups == 1 && b->ups == 1);
}

static void protocols_must_overlap(void **state)
{
    (void)state;
    for (uint32_t min = PROTO_VERSION; min <= PROTO_VERSION + 1; min++) {
        struct node *a = node_make("a"), *b = node_make("b");
        b->cfg.hello.proto = PROTO_VERSION + 2;
        b->cfg.hello.proto_min = min;
        node_open(a);
        node_open(b);
        node_wants(a, b);
        node_wants(b, a);
        if (min == PROTO_VERSION) {
            until(a->ups == 1 && b->ups == 1);
            assert_int_equal(info_of(a, b).hello.proto, PROTO_VERSION + 2);
        } else {
            until(says(a, b, "speaks protocol") && says(b, a, "speaks protocol"));
            assert_int_equal(a->ups + b->ups, 0);
        }
        stop_all(NULL);
    }
}

/* ---- bad input */

static int stranger(const struct node *n)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(peers_tls_port(n->peers))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static bool ended(int fd)
{
    char buf[4096];
    ssize_t n;
    while ((n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0)
        ;
    return n == 0 || errno != EAGAIN;
}

static void garbage_on_the_port_is_dropped(void **state)
{
    (void)state;
    struct node *a, *b;
    static const char *const said[] = {"GET / HTTP/1.0\r\n\r\n", "EHLO x\r\n", "\x16\x03\x01\x02\x00garbage garbage"};
    pair_up(&a, &b);
    for (int i = 0; i < 3; i++) {
        int fd = stranger(a);
        assert_true(send(fd, said[i], strlen(said[i]), MSG_NOSIGNAL) > 0);
        if (i == 2)
            shutdown(fd, SHUT_WR);
        until(ended(fd));
        close(fd);
    }
    assert_int_equal(send_seq(a, b, 8), 0);
    until(b->frames == 1);
    assert_int_equal(a->downs, 0);
}

static void idle_strangers_make_room_and_time_out(void **state)
{
    (void)state;
    struct node *a, *b;
    int fds[70];
    pair_up(&a, &b);
    for (int i = 0; i < 70; i++) {
        fds[i] = stranger(a);
        turn();
    }
    until(ended(fds[0]) && ended(fds[5]));
    assert_false(ended(fds[69]));
    ahead_us += 3900000;
    turn();
    turn(); /* those who are linked ping */
    turn();
    ahead_us += 1200000;
    until(ended(fds[69]));
    for (int i = 0; i < 70; i++)
        close(fds[i]);
    assert_int_equal(a->downs + b->downs, 0);
}

static void damaged_stream_ends_the_link(void **state)
{
    (void)state;
    struct node *a, *b;
    pair_up(&a, &b);
    for (int i = 0; i < 2; i++) {
        struct fbuf *f = seq_frame(0, 100);
        if (i == 0)
            memset(f->data, 0xff, 4); /* longer than any */
        else
            memset(f->data + 4, 0, 2); /* type 0 */
        assert_int_equal(a->peers->ops->send(a->peers, &b->addr.storage, f), 0);
        fbuf_unref(f);
        until(b->downs == i + 1);
        assert_true(says(b, a, "damaged stream"));
        until(a->downs == i + 1);
        assert_true(says(a, b, "b refuses us: damaged stream"));
        until(a->ups == i + 2 && b->ups == i + 2);
    }
}

static void unknown_frames_are_passed_on(void **state)
{
    (void)state;
    struct node *a, *b;
    pair_up(&a, &b);
    struct fbuf *f = fbuf_new(4711, 9, 10);
    assert_int_equal(a->peers->ops->send(a->peers, &b->addr.storage, f), 0);
    fbuf_unref(f);
    until(b->odd_type == 4711);
    assert_int_equal(b->downs, 0);
}

/* ---- certificates, configuration */

static void copy_file(const char *from, const char *to)
{
    char cmd[400];
    snprintf(cmd, sizeof cmd, "cp %s/%s %s/.new && mv %s/.new %s/%s", dir, from, dir, dir, dir, to);
    assert_int_equal(system(cmd), 0);
}

static void reconnect(struct node *a, struct node *b)
{
    a->peers->ops->want(a->peers, NULL, 0);
    until(!info_of(b, a).up);
    ahead_us += 11 * 1000000; /* files are looked at every 10 s */
    a->peers->ops->want(a->peers, &b->addr, 1);
}

static void renewed_certificates_are_read(void **state)
{
    (void)state;
    struct node *a = node_make("a"), *b = node_make("b");
    snprintf(b->cert, sizeof b->cert, "%s/b-now.pem", dir);
    snprintf(b->key, sizeof b->key, "%s/b-now.key", dir);
    copy_file("b.pem", "b-now.pem");
    copy_file("b.key", "b-now.key");
    node_open(a);
    node_open(b);
    node_wants(a, b);
    node_wants(b, a);
    until(a->ups == 1 && b->ups == 1);
    copy_file("b.key", "b-now.pem"); /* no certificate at all: the old one stays */
    reconnect(a, b);
    until(a->ups == 2 && b->ups == 2);
    copy_file("c.pem", "b-now.pem"); /* a certificate without its key: the same */
    reconnect(a, b);
    until(a->ups == 3 && b->ups == 3);
    copy_file("c.key", "b-now.key"); /* both: it is used now */
    reconnect(a, b);
    until(says(a, b, "is for 'c'"));
    copy_file("b.pem", "b-now.pem");
    copy_file("b.key", "b-now.key");
    ahead_us += 11 * 1000000;
    until(a->ups == 4 && b->ups == 4);
}

static void open_refuses_with_the_remedy(void **state)
{
    (void)state;
    struct node *a = node_make("a");
    struct peers_app app = {on_up, on_down, on_frame, on_room, a};
    struct peers *p = NULL;
    char why[256];
    node_open(a);
    struct peers_tls_config cfg = a->cfg;
    assert_true(peers_tls_open(&p, &cfg, &app, &test_clock, why) < 0);
    assert_non_null(strstr(why, "choose another port"));
    cfg.listen = "nowhere";
    assert_true(peers_tls_open(&p, &cfg, &app, &test_clock, why) < 0);
    assert_non_null(strstr(why, "not an address"));
    cfg.listen = "*:0";
    cfg.ca = "/nonexistent.pem";
    assert_true(peers_tls_open(&p, &cfg, &app, &test_clock, why) < 0);
    assert_non_null(strstr(why, "/nonexistent.pem"));
    assert_non_null(strstr(why, "No such file"));
    cfg.ca = a->ca;
    cfg.key = nodes[0].cert;
    assert_true(peers_tls_open(&p, &cfg, &app, &test_clock, why) < 0);
    assert_null(p);
    cfg.key = a->key;
    assert_int_equal(peers_tls_open(&p, &cfg, &app, &test_clock, why), 0);
    p->ops->close(&p);
}

static int make_certificates(void **state)
{
    (void)state;
    char cmd[300];
    signal(SIGPIPE, SIG_IGN);
    log_level_now = getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR;
    scratch_make(dir, "link");
    snprintf(cmd, sizeof cmd,
             "scripts/cluster-certs %s a b c >/dev/null && scripts/cluster-certs %s/other a b >/dev/null", dir, dir);
    return system(cmd);
}

static int remove_certificates(void **state)
{
    (void)state;
    return scratch_remove(dir);
}

#define TEST(f) cmocka_unit_test_teardown(f, stop_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_peers_talk_in_order),
        TEST(three_peers_by_name),
        TEST(large_frames_pass),
        TEST(full_buffer_says_so_and_then_has_room),
        TEST(killed_peer_comes_back),
        TEST(silent_peer_is_down_until_it_speaks),
        TEST(paused_node_keeps_its_links),
        TEST(newer_connection_wins),
        TEST(unwanted_peer_is_closed),
        TEST(address_may_change),
        TEST(other_ca_is_refused),
        TEST(untrusted_dialer_is_told),
        TEST(other_name_in_certificate_is_refused),
        TEST(unknown_storage_is_refused),
        TEST(other_cluster_is_refused),
        TEST(cluster_may_be_learned_later),
        TEST(protocols_must_overlap),
        TEST(garbage_on_the_port_is_dropped),
        TEST(idle_strangers_make_room_and_time_out),
        TEST(damaged_stream_ends_the_link),
        TEST(unknown_frames_are_passed_on),
        TEST(renewed_certificates_are_read),
        TEST(open_refuses_with_the_remedy),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
