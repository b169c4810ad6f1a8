/* test_settings.c - the configuration file: what is read, and that each refusal says where and what was expected. */
#include "dataplane/conf/settings.h"
#include "dataplane/conf/settings_dataplane.h"
#include "dataplane/conf/units.h"
#include "dataplane/net/transport.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/segment/disk.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[SCRATCH_MAX], file[96];

static int setup(void **state)
{
    (void)state;
    scratch_make(dir, "settings");
    snprintf(file, sizeof file, "%s/satcheld.yaml", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return scratch_remove(dir);
}

static int load_text(struct settings *st, const char *text, char *err, size_t cap)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return settings_load(st, file, err, cap);
}

static void loads(struct settings *st, const char *text)
{
    char err[SETTINGS_WHY_MAX];
    int res = load_text(st, text, err, sizeof err);
    if (res < 0)
        fail_msg("refused: %s", err);
}

/* The message without the name of the file in front. */
static void refuses(const char *text, const char *expected)
{
    struct settings st;
    char err[SETTINGS_WHY_MAX];
    int res = load_text(&st, text, err, sizeof err);
    if (res == 0)
        fail_msg("taken, instead of: %s", expected);
    assert_int_equal(res, -SATCHEL_ECONFIG);
    assert_memory_equal(err, file, strlen(file));
    assert_string_equal(err + strlen(file), expected);
    settings_free(&st);
}

static void presets_are_what_the_table_says(void **state)
{
    (void)state;
    struct settings st;
    char err[SETTINGS_WHY_MAX];
    assert_int_equal(settings_load(&st, NULL, err, sizeof err), 0);
    assert_int_equal(st.listen.n, 1);
    assert_string_equal(st.listen.v[0], "127.0.0.1:2525");
    assert_null(st.listen.v[1]);
    assert_string_equal(st.data_dir, "./run");
    assert_string_equal(st.admin_socket, "./run/admin.sock");
    assert_true(strlen(st.hostname) > 0);
    assert_int_equal(st.spool_segment_bytes, 64 << 20);
    assert_int_equal(st.keep_us, 30 * DAY);
    assert_int_equal(st.smtp_workers, 0);
    assert_int_equal(st.log_level, LOG_LEVEL_INFO);
    assert_true(st.relay_dsn);
    assert_non_null(st.relay_nameservers.v);
    assert_null(st.relay_nameservers.v[0]);
    settings_free(&st);
}

static void choices_are_the_values_of_their_enums(void **state)
{
    (void)state;
    struct settings st;
    loads(&st, "log:\n  level: debug\ndataplane: {engine: epoll}\nspool: {engine: sync}\n");
    assert_int_equal(st.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(st.dataplane_engine, NET_EPOLL);
    assert_int_equal(st.spool_engine, DISK_SYNC);
    settings_free(&st);
    loads(&st, "log:\n  level: error\ndataplane: {engine: uring}\nspool: {engine: uring}\n");
    assert_int_equal(st.log_level, LOG_LEVEL_ERROR);
    assert_int_equal(st.dataplane_engine, NET_URING);
    assert_int_equal(st.spool_engine, DISK_URING);
    settings_free(&st);
}

static void every_kind_is_read(void **state)
{
    (void)state;
    struct settings st;
    loads(&st, "# a comment\n"
               "hostname: mx.example.net\n"
               "listen: ['*:25', '[::1]:2525']\n"
               "data_dir: /var/lib/satchel\n"
               "smtp:\n"
               "  workers: 3\n"
               "  max_message: 10MiB\n"
               "  command_timeout: 90s\n"
               "relay:\n"
               "  dsn: no\n"
               "  nameservers: 127.0.0.1:5353\n"
               "log:\n");
    assert_string_equal(st.hostname, "mx.example.net");
    assert_int_equal(st.listen.n, 2);
    assert_string_equal(st.listen.v[1], "[::1]:2525");
    assert_string_equal(st.admin_socket, "/var/lib/satchel/admin.sock");
    assert_int_equal(st.smtp_workers, 3);
    assert_int_equal(st.smtp_max_message_bytes, 10 << 20);
    assert_int_equal(st.smtp_command_timeout_us, 90 * SECOND);
    assert_false(st.relay_dsn);
    assert_int_equal(st.relay_nameservers.n, 1);
    settings_free(&st);
}

static void an_empty_file_is_the_presets(void **state)
{
    (void)state;
    struct settings st;
    loads(&st, "# nothing but a comment\n");
    assert_string_equal(st.data_dir, "./run");
    settings_free(&st);
    loads(&st, "");
    settings_free(&st);
}

static void domains_are_read(void **state)
{
    (void)state;
    struct settings st;
    loads(&st, "domains:\n"
               "  - name: Example.COM\n"
               "    primary: [mail.example.com, '[::1]:2526']\n"
               "    connections: 2\n"
               "    order: window\n"
               "  - {name: example.org, primary: 192.0.2.1:26, keep: 1h}\n"
               "keep: 5d\n");
    assert_int_equal(st.domains_n, 2);
    assert_string_equal(st.domains[0].name, "example.com");
    assert_int_equal(st.domains[0].primaries_n, 2);
    assert_int_equal(st.domains[0].primaries[0].port, 25);
    assert_string_equal(st.domains[0].primaries[1].host, "::1");
    assert_int_equal(st.domains[0].primaries[1].port, 2526);
    assert_int_equal(st.domains[0].keep_s, 5 * 86400);
    assert_int_equal(st.domains[0].connections, 2);
    assert_int_equal(st.domains[0].order, ORDER_WINDOW);
    assert_int_equal(st.domains[1].keep_s, 3600);
    settings_free(&st);
}

static void bad_values_are_refused_with_their_place(void **state)
{
    (void)state;
    refuses("spool:\n  segment: 12XB\n",
            ":2:12: spool.segment: \"12XB\" is not a size; expected bytes with a unit such as "
            "64MiB, between 1MiB and 1GiB");
    refuses("spool: {segment: 4GiB}\n",
            ":1:18: spool.segment: \"4GiB\" is too large; expected bytes with a unit such as "
            "64MiB, between 1MiB and 1GiB");
    refuses("smtp:\n  workers: -1\n",
            ":2:12: smtp.workers: \"-1\" is not a number; expected a whole number of threads, between 0 and 256");
    refuses("smtp:\n  workers: 99999999999999999999999\n",
            ":2:12: smtp.workers: \"99999999999999999999999\" is not a "
            "number; expected a whole number of threads, between 0 and 256");
    refuses("smtp:\n  max_errors: 0\n",
            ":2:15: smtp.max_errors: \"0\" is too small; expected a whole number of commands, between 1 and 10000");
    refuses("smtp:\n  data_timeout: 5\n",
            ":2:17: smtp.data_timeout: \"5\" is not a time; expected a time with a unit (ms, "
            "s, m, h, d, w) such as 30s, between 1s and 1h");
    refuses("relay: {dsn: maybe}\n", ":1:14: relay.dsn: \"maybe\" is neither yes nor no; expected yes or no");
    refuses("log: {level: loud}\n",
            ":1:14: log.level: \"loud\" is not known; expected one of error|warning|info|debug");
    refuses("listen: ['']\n", ":1:10: listen: \"\" is empty; expected a list of address:port");
    refuses("spool:\n  max:\n",
            ":2:7: spool.max: \"\" is not a size; expected bytes with a unit such as 64MiB, between 0 "
            "and 1024TiB");
}

/* ---- dataplane */

static void the_dataplane_is_read(void **state)
{
    (void)state;
    struct settings st;
    struct ip_config ip = {.echo_per_s = 7};
    uint16_t ports[DATAPLANE_PORTS_MAX];
    char text[ADDR_TEXT_MAX];
    loads(&st, "listen:\n"
               "dataplane:\n"
               "  engine: dpdk\n"
               "  eal: [--no-huge, '--vdev=net_tap0']\n"
               "  addresses: [192.0.2.25/24, '2001:db8::25/64']\n"
               "  gateways: ['fe80::1', 192.0.2.1]\n"
               "  ports: [25, 587]\n"
               "  queues: 1\n"
               "  cores: 0\n"
               "  vlan: 12\n");
    assert_true(settings_on_dpdk(&st));
    assert_int_equal(st.dataplane_engine, NET_DPDK);
    assert_int_equal(st.listen.n, 0);
    assert_int_equal(st.dataplane_eal.n, 2);
    settings_ip(&st, &ip);
    assert_int_equal(ip.echo_per_s, 7);
    assert_int_equal(ip.addrs_n, 2);
    assert_string_equal(addr_format_prefix(&ip.addrs[0], text), "192.0.2.25/24");
    assert_string_equal(addr_format_prefix(&ip.addrs[1], text), "2001:db8::25/64");
    assert_string_equal(addr_format(&ip.gateway4, text), "192.0.2.1");
    assert_string_equal(addr_format(&ip.gateway6, text), "fe80::1");
    assert_int_equal(ip.vlan, 12);
    assert_int_equal(ip.mtu, 0);
    assert_int_equal(settings_ports(&st, ports), 2);
    assert_int_equal(ports[1], 587);
    assert_int_equal(settings_core(&st, 0), 0);
    assert_int_equal(settings_core(&st, 1), -1);
    settings_free(&st);
}

static void addresses_that_no_host_has_are_refused(void **state)
{
    (void)state;
    refuses(
        "dataplane: {engine: dpdk}\n",
        ":1:21: dataplane.engine: dpdk needs dataplane.addresses: the kernel's do not count here; expected some such "
        "as 192.0.2.25/24");
    refuses("dataplane:\n  addresses:\n    - 192.0.2.25/24\n    - 192.0.2.26\n",
            ":4:7: dataplane.addresses: \"192.0.2.26\" is no address with a prefix length; expected one such as "
            "192.0.2.25/24 or 2001:db8::25/64");
    refuses("dataplane: {addresses: 192.0.2.300/24}\n",
            ":1:24: dataplane.addresses: \"192.0.2.300/24\" is no address with a prefix length; expected one such as "
            "192.0.2.25/24 or 2001:db8::25/64");
    refuses("dataplane: {addresses: 192.0.2.0/24}\n",
            ":1:24: dataplane.addresses: address 192.0.2.0/24: it is the network's own; expected a host's in it");
    refuses("dataplane: {addresses: 127.0.0.1/8}\n",
            ":1:24: dataplane.addresses: address 127.0.0.1/8: no host may have it");
    refuses("dataplane: {addresses: 224.0.0.5/8}\n",
            ":1:24: dataplane.addresses: address 224.0.0.5/8: no host may have it");
    refuses("dataplane: {addresses: ['2001:db8::1/64', '2001:db8:0::1/64']}\n",
            ":1:43: dataplane.addresses: address 2001:db8::1/64: twice");
}

static void gateways_off_the_link_are_refused(void **state)
{
    (void)state;
    refuses("dataplane:\n  addresses: [192.0.2.25/25]\n  gateways: [192.0.2.129]\n",
            ":3:14: dataplane.gateways: gateway 192.0.2.129: it is in none of our networks; are the addresses' prefix "
            "lengths right?");
    refuses("dataplane:\n  gateways: ['2001:db8::fe']\n  addresses: [192.0.2.25/24]\n",
            ":2:14: dataplane.gateways: gateway 2001:db8::fe: there is no IPv6 address to go with it");
    refuses("dataplane:\n  addresses: [192.0.2.25/24]\n  gateways: [192.0.2.1, 192.0.2.2]\n",
            ":3:25: dataplane.gateways: \"192.0.2.2\" is the second one of its kind; expected at most one IPv4 and one "
            "IPv6");
    refuses("dataplane:\n  addresses: [192.0.2.25/24]\n  gateways: 192.0.2.25\n",
            ":3:13: dataplane.gateways: gateway 192.0.2.25: it is our own address");
    refuses("dataplane:\n  gateways: 192.0.2.1\n",
            ":2:13: dataplane.gateways: needs dataplane.addresses: on whose link is it");
    refuses("dataplane:\n  gateways: mail.example.com\n",
            ":2:13: dataplane.gateways: \"mail.example.com\" is no address; expected one such as 192.0.2.1 or fe80::1, "
            "without a length");
}

static void numbers_of_the_dataplane_are_bounded(void **state)
{
    (void)state;
    refuses("dataplane: {queues: 0}\n",
            ":1:21: dataplane.queues: \"0\" is too small; expected a whole number of queues, between 1 and 64");
    refuses("dataplane: {vlan: 4095}\n",
            ":1:19: dataplane.vlan: \"4095\" is too large; expected a whole number of the VLAN, between 0 and 4094");
    refuses("dataplane: {mtu: 500}\n", ":1:18: dataplane.mtu: \"500\" is too small; expected 0, or 576 and more");
    refuses("dataplane: {mtu: 1000, addresses: '2001:db8::25/64'}\n",
            ":1:18: dataplane.mtu: mtu 1000: IPv6 (2001:db8::25/64) needs 1280");
    refuses("dataplane: {ports: [25, 0]}\n",
            ":1:25: dataplane.ports: \"0\" is no TCP port; expected a number, 1 to 65535");
    refuses("dataplane: {ports: [25, 25]}\n", ":1:25: dataplane.ports: 25 is there twice");
    refuses("dataplane: {engine: dpdk, addresses: 192.0.2.25/24, ports: []}\n",
            ":1:60: dataplane.ports: is empty; expected a port such as 25");
    refuses("dataplane: {queues: 2, cores: [0]}\n", ":1:31: dataplane.cores: 1 cores for 2 queues; expected one each");
    refuses("dataplane: {memory: 4MiB, window: 512KiB, queues: 4}\n",
            ":1:21: dataplane.memory: is too small; expected at least 8MiB: four windows for each queue");
    refuses("listen:\n", ":1:8: listen: is empty; expected one address such as *:25");
}

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    refuses("smtp:\n  worker: 4\n", ":2:3: unknown setting smtp.worker; did you mean smtp.workers?");
    refuses("hostnam: x\n", ":1:1: unknown setting hostnam; did you mean hostname?");
    refuses("max_recipients: 5\n", ":1:1: unknown setting max_recipients; did you mean smtp.max_recipients?");
    refuses("domain:\n", ":1:1: unknown setting domain; did you mean domains?");
}

static void wrong_shapes_are_refused(void **state)
{
    (void)state;
    refuses("- a\n- b\n", ":1:1: expected settings such as `hostname: mx.example.net`");
    refuses("just words\n", ":1:1: expected settings such as `hostname: mx.example.net`");
    refuses("smtp: 5\n", ":1:7: smtp: expected settings below it, indented, such as `key: value`");
    refuses("hostname: [a]\n", ":1:11: hostname: a list is not wanted here; expected a host name");
    refuses("hostname: {a: b}\n", ":1:11: hostname: a mapping is not wanted here; expected a host name");
    refuses("[a]: b\n", ":1:1: a key must be a plain word");
    refuses("keep: 1d\n---\nkeep: 2d\n", ":3:1: a second document; expected one");
}

static void duplicate_keys_are_refused(void **state)
{
    (void)state;
    refuses("keep: 1d\nuser: a\nkeep: 2d\n", ":3:1: keep is there twice; the first one is in line 1");
    refuses("smtp:\n  workers: 1\n  workers: 2\n", ":3:3: workers is there twice; the first one is in line 2");
    refuses("smtp:\n  workers: 1\nsmtp:\n  max_errors: 5\n", ":3:1: smtp is there twice; the first one is in line 1");
}

static void broken_yaml_is_refused(void **state)
{
    (void)state;
    refuses("smtp:\n\tworkers: 1\n",
            ":2:1: not YAML: found character that cannot start any token, while scanning for the "
            "next token; indent with spaces, not tabs");
    refuses("hostname: \"abc\n", ":2:1: not YAML: found unexpected end of stream, while scanning a quoted scalar");
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    refuses("relay: {probe_min: 2h}\n",
            ":1:20: relay.probe_min: \"2h\" is too large; expected a time with a unit (ms, s, "
            "m, h, d, w) such as 30s, between 100ms and 1h");
    refuses("relay: {probe_min: 30m}\n", ":1:20: relay.probe_min: is above relay.probe_max");
    refuses("relay: {retry_max: 1s}\n", ":1:20: relay.retry_min: is above relay.retry_max");
    refuses("spool: {max: 128MiB}\n",
            ":1:14: spool.max: is too small; expected at least 256MiB: the reserve and two segments for mail");
    refuses("listen: []\n", ":1:9: listen: is empty; expected one address such as *:25");
    refuses("listen: 127.0.0.1\n",
            ":1:9: listen: \"127.0.0.1\" has no port; expected an address such as *:25 or 127.0.0.1:2525");
    refuses("admin: {http: 0.0.0.0:8025}\n",
            ":1:15: admin.http: \"0.0.0.0:8025\" is not a loopback address; expected one "
            "such as 127.0.0.1:8025, or nothing for off");
}

static void bad_domains_are_refused(void **state)
{
    (void)state;
    refuses("domains: example.com\n", ":1:10: domains: expected a list: `- name: example.com` and its settings");
    refuses("domains: [{primary: a}]\n", ":1:11: domains: a domain without name; expected `name: example.com`");
    refuses("domains: [{name: com, primary: a}]\n", ":1:18: domains: name: name: \"com\" is not a domain name; "
                                                    "expected one such as example.com, without a final dot");
    refuses("domains:\n  - name: example.com\n",
            ":2:5: domains: example.com has no primary; expected `primary: mail.example.com:25`");
    refuses("domains: [{name: a.b, primary: 'x:99999'}]\n",
            ":1:32: domains: primary: \"x:99999\": the port is not a number between 1 and 65535");
    refuses("domains: [{name: a.b, primary: x, order: fifo}]\n",
            ":1:42: domains: order: \"fifo\" is not known; expected one of strict|window");
    refuses("domains: [{name: a.b, primary: x}, {name: A.B, primary: y}]\n", ":1:36: domains: a.b is there twice");
    refuses("domains: [{name: a.b, primry: x}]\n",
            ":1:23: domains: unknown key primry; known are name, primary, keep, connections, order");
}

static void unreadable_files_are_refused(void **state)
{
    (void)state;
    struct settings st;
    char err[SETTINGS_WHY_MAX];
    assert_int_equal(settings_load(&st, "/nonexistent/satcheld.yaml", err, sizeof err), -SATCHEL_ENOENT);
    assert_string_equal(err, "/nonexistent/satcheld.yaml: cannot read the configuration: No such file or directory");
    assert_int_equal(settings_load(&st, "/tmp", err, sizeof err), -EISDIR);
    assert_string_equal(err, "/tmp: cannot read the configuration: Is a directory");
}

static void the_example_passes(void **state)
{
    (void)state;
    struct settings st;
    char err[SETTINGS_WHY_MAX];
    if (settings_load(&st, "dist/satcheld.yaml", err, sizeof err) < 0)
        fail_msg("%s", err);
    settings_free(&st);
}

static void reload_names_what_needs_a_restart(void **state)
{
    (void)state;
    struct settings a, b;
    char names[256];
    loads(&a, "hostname: a\n");
    loads(&b, "hostname: a\nlisten: '*:25'\nspool: {segment: 128MiB}\nkeep: 1d\nlog: {level: debug}\n");
    assert_int_equal(settings_changed_needs_restart(&a, &b, names, sizeof names), 2);
    assert_string_equal(names, "listen, spool.segment");
    assert_int_equal(settings_changed_needs_restart(&a, &a, names, sizeof names), 0);
    assert_string_equal(names, "");
    settings_free(&a);
    settings_free(&b);
}

static void units_survive_a_round_trip(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 1023, KIB, 1500 * KIB, MIB, 50 * MIB, GIB, 3 * TIB};
    static const uint64_t times[] = {0, SECOND / 1000, SECOND, 90 * SECOND, HOUR, 36 * HOUR, 30 * DAY};
    char text[UNITS_TEXT_MAX];
    uint64_t v;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(size_parse(slice_str(size_format(sizes[i], text)), &v), 0);
        assert_int_equal(v, sizes[i]);
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        assert_int_equal(duration_parse(slice_str(duration_format(times[i], text)), &v), 0);
        assert_int_equal(v, times[i]);
    }
    assert_string_equal(duration_format(30 * DAY, text), "30d");
    assert_true(size_parse(SLICE_LIT("18446744073709551616"), &v) < 0);
    assert_true(size_parse(SLICE_LIT("99999999999TiB"), &v) < 0);
    assert_true(size_parse(SLICE_LIT("MiB"), &v) < 0);
    assert_true(size_parse(SLICE_LIT(""), &v) < 0);
    assert_true(duration_parse(SLICE_LIT("1h30m"), &v) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_what_the_table_says),
        cmocka_unit_test(choices_are_the_values_of_their_enums),
        cmocka_unit_test(every_kind_is_read),
        cmocka_unit_test(an_empty_file_is_the_presets),
        cmocka_unit_test(domains_are_read),
        cmocka_unit_test(bad_values_are_refused_with_their_place),
        cmocka_unit_test(the_dataplane_is_read),
        cmocka_unit_test(addresses_that_no_host_has_are_refused),
        cmocka_unit_test(gateways_off_the_link_are_refused),
        cmocka_unit_test(numbers_of_the_dataplane_are_bounded),
        cmocka_unit_test(unknown_keys_name_the_nearest),
        cmocka_unit_test(wrong_shapes_are_refused),
        cmocka_unit_test(duplicate_keys_are_refused),
        cmocka_unit_test(broken_yaml_is_refused),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(bad_domains_are_refused),
        cmocka_unit_test(unreadable_files_are_refused),
        cmocka_unit_test(the_example_passes),
        cmocka_unit_test(reload_names_what_needs_a_restart),
        cmocka_unit_test(units_survive_a_round_trip),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
