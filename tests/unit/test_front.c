/* test_front.c - the front-end on a DPDK port before a real spool: its settings arrive where they belong, a block list
 * is read again or stays, others may look while it serves and when it does not.  The device is net_null: nobody is
 * there.  Mail over a port is tests/dpdk's. */
#include "dataplane/front.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/err.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct node {
    uint16_t tcp; /* a port of the kernel's that nobody has just now */
    char dir[SCRATCH_MAX], file[96], list[96], why[FRONT_WHY_MAX];
    struct settings st;
    struct spool *spool;
    struct domains *domains;
    struct front *front;
} node;

static void write_file(const char *path, const char *fmt, ...)
{
    va_list ap;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    fclose(f);
}

static uint16_t free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

static void settings_write(const char *more)
{
    write_file(node.file,
               "hostname: bag.test\n"
               "listen: ['127.0.0.1:%u']\n"
               "data_dir: %s\n"
               "dataplane:\n"
               "  engine: dpdk\n"
               "  eal: [--no-huge, --no-pci, '--vdev=net_null0,no-rx=1']\n"
               "  addresses: [192.0.2.25/24, '2001:db8::25/64']\n"
               "  gateways: [192.0.2.1, 'fe80::1']\n"
               "  ports: [25, 587]\n"
               "  queues: 2\n"
               "  connections: 1001\n"
               "  memory: 16MiB\n"
               "  mtu: 1400\n"
               "  block_list: %s\n%s",
               node.tcp, node.dir, node.list, more);
}

static void load(struct settings *st_r)
{
    if (settings_load(st_r, node.file, node.why, sizeof node.why) < 0)
        fail_msg("%s", node.why);
}

static void need_dpdk(void)
{
    if (!port_dpdk_built()) {
        print_message("needs DPDK\n");
        skip();
    }
}

static int setup(void **state)
{
    struct spool_config cfg;
    (void)state;
    memset(&node, 0, sizeof node);
    node.tcp = free_port();
    scratch_make(node.dir, "front");
    snprintf(node.file, sizeof node.file, "%s/satcheld.yaml", node.dir);
    snprintf(node.list, sizeof node.list, "%s/blocked", node.dir);
    write_file(node.list, "198.51.100.0/24\n203.0.113.7\n");
    settings_write("");
    load(&node.st);
    spool_config_init(&cfg, node.dir);
    cfg.log.segment_bytes = 1 << 20;
    cfg.log.spare_segments = 1;
    if (spool_open(&node.spool, &cfg, node.why, sizeof node.why) < 0)
        fail_msg("%s", node.why);
    return domains_open(&node.domains, node.dir, node.why);
}

static int teardown(void **state)
{
    (void)state;
    front_stop(node.front);
    front_close(&node.front);
    domains_close(&node.domains);
    spool_close(&node.spool);
    settings_free(&node.st);
    return scratch_remove(node.dir);
}

/* ---- what --check finds */

static void a_check_reads_the_block_list(void **state)
{
    (void)state;
    need_dpdk();
    assert_int_equal(front_check(&node.st, node.why), 0);
    write_file(node.list, "# mine\n198.51.100.9/24\n");
    assert_int_equal(front_check(&node.st, node.why), -SATCHEL_EINVAL);
    assert_non_null(strstr(node.why, "blocked:2: "));
    assert_non_null(strstr(node.why, "198.51.100.0/24"));
    unlink(node.list);
    assert_int_equal(front_check(&node.st, node.why), -SATCHEL_ENOENT);
    assert_non_null(strstr(node.why, node.list));
}

/* ---- serving: one device a process, so one test */

static void look_finds_the_settings(void)
{
    struct front_port l;
    char text[ADDR_TEXT_MAX];
    assert_int_equal(front_port_look(node.front, &l), 0);
    assert_string_equal(l.info.driver, "net_null");
    assert_int_equal(l.info.queues, 2);
    assert_int_equal(l.mtu, 1400);
    assert_int_equal(l.addrs_n, 3);
    assert_string_equal(addr_format_prefix(&l.addrs[0].at, text), "192.0.2.25/24");
    assert_string_equal(addr_format_prefix(&l.addrs[1].at, text), "2001:db8::25/64");
    assert_memory_equal(l.addrs[2].at.addr.b, "\xfe\x80", 2);
    assert_string_equal(addr_format(&l.gateway4, text), "192.0.2.1");
    assert_string_equal(addr_format(&l.gateway6, text), "fe80::1");
    assert_int_equal(l.blocked, 2);
    assert_int_equal(l.conns_max, 501); /* of a queue */
    assert_int_equal(l.pages_max, 2048);
    assert_true(l.mapped_bytes > 2048 * 4096);
    assert_int_equal(front_port_queues(node.front), 2);
}

static void listeners_are_all_addresses(void)
{
    const char *const *l = front_listeners(node.front);
    char sockets[32];
    snprintf(sockets, sizeof sockets, "127.0.0.1:%u", node.tcp);
    const char *const want[] = {sockets, "192.0.2.25:25", "192.0.2.25:587", "[2001:db8::25]:25", "[2001:db8::25]:587"};
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(l[i], want[i]);
    assert_null(l[5]);
}

static uint32_t blocked_after(const char *lines)
{
    struct settings loaded;
    struct front_port l;
    write_file(node.list, "%s", lines);
    load(&loaded);
    front_reload(node.front, &loaded);
    settings_free(&loaded);
    assert_int_equal(front_port_look(node.front, &l), 0);
    return l.blocked;
}

/* A client that waits in the queue of the kernel's socket from before there is anybody to greet it. */
static struct client {
    pthread_t thread;
    int fd;
    bool greeted, there;
} client;

static void *client_run(void *arg)
{
    struct front_port l;
    char greeting[4];
    (void)arg;
    client.greeted = recv(client.fd, greeting, sizeof greeting, MSG_WAITALL) == 4 && memcmp(greeting, "220 ", 4) == 0;
    client.there = front_port_look(node.front, &l) == 0;
    return NULL;
}

static void client_open(void)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(node.tcp)};
    client = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(connect(client.fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(pthread_create(&client.thread, NULL, client_run, NULL), 0);
}

static void who_is_greeted_finds_the_port(void)
{
    pthread_join(client.thread, NULL);
    close(client.fd);
    assert_true(client.greeted);
    assert_true(client.there);
}

static void a_port_serves(void **state)
{
    static char names[64][64];
    uint64_t values[64];
    struct ip_neighbour n[4];
    struct front_port l;
    (void)state;
    need_dpdk();
    assert_int_equal(front_open(&node.front, &node.st, node.why), 0);
    assert_int_equal(front_port_look(node.front, &l), -SATCHEL_EAGAIN);
    client_open();
    if (front_port_open(node.front, node.why) < 0 || front_start(node.front, node.spool, node.domains, node.why) < 0)
        fail_msg("%s", node.why);
    who_is_greeted_finds_the_port();
    assert_int_equal(front_workers(node.front), 3); /* one beside the queues, for the sockets */
    look_finds_the_settings();
    listeners_are_all_addresses();
    assert_int_equal(blocked_after("192.0.2.0/24\n"), 1);
    assert_int_equal(blocked_after("192.0.2.0/24\nnonsense\n"), 1); /* the earlier list stays */
    assert_int_equal(blocked_after(""), 0);
    for (int i = 0; i < 10000 && front_port_stat(node.front, 0, STAT_TX_FRAMES) == 0; i++)
        usleep(1000);
    assert_true(front_port_stat(node.front, 0, STAT_TX_FRAMES) > 0); /* it probes its addresses */
    assert_true(front_port_device(node.front, names, values, 64) > 0);
    assert_true(front_port_neighbours(node.front, 1, n, 4) <= 4);
    front_stop(node.front);
    assert_int_equal(front_port_look(node.front, &l), -SATCHEL_EAGAIN);
    assert_int_equal(front_port_neighbours(node.front, 0, n, 4), 0);
    assert_true(front_port_stat(node.front, 0, STAT_TX_FRAMES) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_check_reads_the_block_list, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_serves, setup, teardown),
    };
    return cmocka_run_group_tests_name("front", tests, NULL, NULL);
}
