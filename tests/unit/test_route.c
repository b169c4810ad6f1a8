/* test_route.c - where mail goes: against a table of answers, and through c-ares against dnsmasq on loopback. */
#include "dataplane/relay/resolver.h"
#include "dataplane/relay/watch.h"
#include "spool/base/clock.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct answer {
    const char *name;
    enum route_found found;
    const char *addrs[4];
};

struct zone {
    struct answer hosts[8];
    struct {
        enum route_found found;
        struct route_mx mx[5];
        size_t n;
    } mx;
};

static struct rng rng;

static void answer_addrs(struct route *r, const struct zone *z, const char *name)
{
    struct route_addr addrs[4];
    size_t n = 0;
    for (const struct answer *a = z->hosts; a->name; a++) {
        if (strcmp(a->name, name) != 0)
            continue;
        for (; n < 4 && a->addrs[n]; n++)
            assert_true(route_addr_parse(a->addrs[n], 0, &addrs[n]));
        route_answer_addrs(r, a->found, addrs, n);
        return;
    }
    route_answer_addrs(r, ROUTE_NO_NAME, NULL, 0);
}

static void resolve(struct route *r, const struct zone *z, struct route_last *last)
{
    enum route_lookup what;
    const char *name;
    while (route_ask(r, &what, &name)) {
        struct zone copy = *z;
        if (what == ROUTE_LOOKUP_MX)
            route_answer_mx(r, copy.mx.found, copy.mx.mx, copy.mx.n, &rng);
        else
            answer_addrs(r, z, name);
    }
    route_end(r, last);
}

static void assert_addrs(struct route *r, const char *want)
{
    char got[512] = "", text[ROUTE_TEXT_MAX];
    struct route_addr a;
    while (route_next(r, &a)) {
        route_addr_text(&a, text);
        strcat(got, got[0] ? " " : "");
        strcat(got, text);
    }
    assert_string_equal(got, want);
}

static const struct primary primaries[] = {
    {"one.test", 25}, {"192.0.2.7", 2525}, {"two.test", 26}, {"2001:db8::9", 25}};

static void in_order_of_preference(void **state)
{
    (void)state;
    struct zone z = {
        .hosts = {{"one.test", ROUTE_FOUND, {"192.0.2.1", "2001:db8::1"}}, {"two.test", ROUTE_FOUND, {"192.0.2.2"}}}};
    struct route r;
    struct route_last last = {0};
    route_begin(&r, primaries, 4);
    resolve(&r, &z, &last);
    assert_addrs(&r, "192.0.2.1:25 [2001:db8::1]:25 192.0.2.7:2525 192.0.2.2:26 [2001:db8::9]:25");
}

static void what_does_not_exist_is_no_route(void **state)
{
    (void)state;
    struct zone z = {.hosts = {{"one.test", ROUTE_FOUND, {"192.0.2.1"}}}}, gone = {0};
    struct route r;
    struct route_last last = {0};
    route_begin(&r, primaries, 1);
    resolve(&r, &z, &last);
    route_begin(&r, primaries, 1);
    resolve(&r, &gone, &last);
    assert_addrs(&r, "");
    assert_non_null(strstr(r.reason, "NXDOMAIN"));
    route_begin(&r, NULL, 0);
    resolve(&r, &z, &last);
    assert_addrs(&r, "");
    assert_non_null(strstr(r.reason, "no primary"));
}

static void the_last_answer_serves_while_dns_fails(void **state)
{
    (void)state;
    struct zone z = {.hosts = {{"one.test", ROUTE_FOUND, {"192.0.2.1"}}}};
    struct zone failing = {.hosts = {{"one.test", ROUTE_FAILED, {NULL}}}};
    struct zone moved = {.hosts = {{"one.test", ROUTE_FOUND, {"192.0.2.99"}}}};
    struct route r;
    struct route_last last = {0};
    route_begin(&r, primaries, 1);
    resolve(&r, &failing, &last);
    assert_addrs(&r, "");
    route_begin(&r, primaries, 1);
    resolve(&r, &z, &last);
    route_begin(&r, primaries, 1);
    resolve(&r, &failing, &last);
    assert_addrs(&r, "192.0.2.1:25");
    route_begin(&r, primaries, 1);
    resolve(&r, &moved, &last);
    assert_addrs(&r, "192.0.2.99:25");
}

static void by_mx(void **state)
{
    (void)state;
    struct zone z = {
        .hosts = {{"b.test", ROUTE_FOUND, {"192.0.2.2"}}, {"a.test", ROUTE_FOUND, {"192.0.2.1"}}},
        .mx = {.found = ROUTE_FOUND, .mx = {{"b.test", 20}, {"a.test", 10}}, .n = 2},
    };
    struct route r;
    struct route_last last = {0};
    route_begin_mx(&r, SLICE_LIT("dest.test"));
    resolve(&r, &z, &last);
    assert_addrs(&r, "192.0.2.1:25 192.0.2.2:25");
}

static void equal_preference_is_shuffled(void **state)
{
    (void)state;
    int first_a = 0;
    for (int i = 0; i < 100; i++) {
        struct route_mx mx[] = {{"a.test", 10}, {"b.test", 10}, {"c.test", 5}};
        struct route r;
        route_begin_mx(&r, SLICE_LIT("dest.test"));
        route_answer_mx(&r, ROUTE_FOUND, mx, 3, &rng);
        assert_string_equal(r.hosts[0].host, "c.test");
        first_a += strcmp(r.hosts[1].host, "a.test") == 0;
    }
    assert_true(first_a > 20 && first_a < 80);
}

static void implicit_and_null_mx(void **state)
{
    (void)state;
    struct zone z = {.hosts = {{"dest.test", ROUTE_FOUND, {"192.0.2.5"}}}, .mx = {.found = ROUTE_NO_DATA}};
    struct zone null = {.mx = {.found = ROUTE_FOUND, .mx = {{"", 0}}, .n = 1}};
    struct zone nx = {.mx = {.found = ROUTE_NO_NAME}};
    struct route r;
    struct route_last last = {0};
    route_begin_mx(&r, SLICE_LIT("dest.test"));
    resolve(&r, &z, &last);
    assert_addrs(&r, "192.0.2.5:25");
    route_begin_mx(&r, SLICE_LIT("dest.test"));
    resolve(&r, &null, &last);
    assert_addrs(&r, "");
    assert_non_null(strstr(r.reason, "null MX"));
    route_begin_mx(&r, SLICE_LIT("dest.test"));
    resolve(&r, &nx, &last);
    assert_addrs(&r, "");
}

static bool two_is_local(const struct route_addr *a)
{
    char text[ROUTE_TEXT_MAX];
    route_addr_text(a, text);
    return strstr(text, "192.0.2.2") != NULL;
}

static bool self(const char *ip, uint16_t port, const char *listener)
{
    const char *list[] = {"192.0.2.200:9", listener, NULL};
    struct route_addr a;
    assert_true(route_addr_parse(ip, port, &a));
    return route_is_self(&a, list, two_is_local);
}

static void ourselves(void **state)
{
    (void)state;
    struct route_addr a;
    assert_true(self("192.0.2.1", 25, "192.0.2.1:25"));
    assert_false(self("192.0.2.1", 26, "192.0.2.1:25"));
    assert_false(self("192.0.2.3", 25, "192.0.2.1:25"));
    assert_true(self("192.0.2.2", 25, "*:25"));
    assert_true(self("192.0.2.2", 25, "0.0.0.0:25"));
    assert_false(self("192.0.2.1", 25, "*:25"));
    assert_true(self("2001:db8::1", 25, "[2001:db8::1]:25"));
    assert_true(route_addr_parse("127.0.0.1", 25, &a) && route_addr_local(&a));
    assert_true(route_addr_parse("192.0.2.1", 25, &a) && !route_addr_local(&a));
}

/* ---- through c-ares */

struct dns {
    pid_t pid;
    int port, epfd;
    char hosts[64];
};

static void dns_write_hosts(struct dns *d, const char *text)
{
    FILE *f = fopen(d->hosts, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    if (d->pid)
        kill(d->pid, SIGHUP);
}

/* Bound and let go: nobody else here asks for ports by number. */
static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static bool dns_start(struct dns *d)
{
    char port[32], hosts[128];
    snprintf(d->hosts, sizeof d->hosts, "/tmp/satchel-route-%d.hosts", getpid());
    dns_write_hosts(d, "192.0.2.10 mail.zone.test\n");
    d->port = free_port();
    snprintf(port, sizeof port, "--port=%d", d->port);
    snprintf(hosts, sizeof hosts, "--addn-hosts=%s", d->hosts);
    const char *paths[] = {"/usr/sbin/dnsmasq", "/usr/bin/dnsmasq", NULL};
    const char **path = paths;
    while (*path && access(*path, X_OK) != 0)
        path++;
    if (!*path)
        return false;
    d->pid = fork();
    if (d->pid == 0) {
        execl(*path, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
              "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/zone.test/",
              "--mx-host=zone.test,mail.zone.test,10", "--user=", "--log-facility=/dev/null", port, hosts, "--pid-file",
              (char *)NULL);
        _exit(127);
    }
    d->epfd = epoll_create1(0);
    return true;
}

static void dns_stop(struct dns *d)
{
    kill(d->pid, SIGTERM);
    waitpid(d->pid, NULL, 0);
    close(d->epfd);
    unlink(d->hosts);
}

struct lookup {
    bool done;
    enum route_found found;
    char text[ROUTE_TEXT_MAX];
};

static void looked_up(void *arg, enum route_found found, const struct route_addr *addrs, struct route_mx *mx, size_t n)
{
    struct lookup *l = arg;
    l->done = true;
    l->found = found;
    if (n && addrs)
        route_addr_text(&addrs[0], l->text);
    if (n && mx)
        snprintf(l->text, sizeof l->text, "%.40s/%u", mx[0].host, mx[0].preference);
}

static struct lookup look(struct resolver *r, int epfd, enum route_lookup what, const char *name)
{
    struct lookup l = {0};
    uint64_t end = clock_boot_us(clock_system()) + 8000000;
    resolver_lookup(r, what, name, looked_up, &l);
    while (!l.done && clock_boot_us(clock_system()) < end) {
        struct epoll_event e[8];
        int ms = resolver_wait_ms(r), n = epoll_wait(epfd, e, 8, ms < 0 || ms > 100 ? 100 : ms);
        for (int i = 0; i < n; i++) {
            struct watch *w = e[i].data.ptr;
            if (w->fd >= 0)
                w->fn(w->arg, e[i].events);
        }
        resolver_tick(r);
    }
    assert_true(l.done);
    return l;
}

/* dnsmasq needs a moment to start, and to read its hosts again: asks until the answer is the one expected. */
static void look_until(struct resolver *r, int epfd, const char *name, const char *want)
{
    struct lookup l = {0};
    for (int i = 0; i < 200 && strcmp(l.text, want) != 0; i++) {
        l = look(r, epfd, ROUTE_LOOKUP_ADDRS, name);
        poll(NULL, 0, 10);
    }
    assert_string_equal(l.text, want);
}

static void real_lookups(void **state)
{
    (void)state;
    struct dns d = {0};
    struct resolver *r = NULL;
    char server[32];
    const char *servers[] = {server, NULL};
    if (!dns_start(&d))
        skip();
    snprintf(server, sizeof server, "127.0.0.1:%d", d.port);
    assert_int_equal(resolver_open(&r, d.epfd, servers), 0);
    look_until(r, d.epfd, "mail.zone.test", "192.0.2.10:0");
    dns_write_hosts(&d, "192.0.2.11 mail.zone.test\n");
    look_until(r, d.epfd, "mail.zone.test", "192.0.2.11:0"); /* asked afresh, not remembered */
    assert_int_equal(look(r, d.epfd, ROUTE_LOOKUP_ADDRS, "none.zone.test").found, ROUTE_NO_NAME);
    assert_string_equal(look(r, d.epfd, ROUTE_LOOKUP_MX, "zone.test").text, "mail.zone.test/10");
    assert_int_equal(look(r, d.epfd, ROUTE_LOOKUP_MX, "mail.zone.test").found, ROUTE_NO_DATA);
    resolver_close(&r);
    dns_stop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_of_preference),
        cmocka_unit_test(what_does_not_exist_is_no_route),
        cmocka_unit_test(the_last_answer_serves_while_dns_fails),
        cmocka_unit_test(by_mx),
        cmocka_unit_test(equal_preference_is_shuffled),
        cmocka_unit_test(implicit_and_null_mx),
        cmocka_unit_test(ourselves),
        cmocka_unit_test(real_lookups),
    };
    rng_seed(&rng, 1);
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
