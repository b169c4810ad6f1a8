/* test_port_dpdk_start.c - what port_dpdk_open says when it can't: what failed, and the remedy.
 *
 * The EAL starts once a process: each attempt is a child's. */
#include "dpdk_rig.h"

#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>

struct attempt {
    const char *args[8];
    const char *device;
    uint32_t queues;
    bool nobody; /* not as root */
    bool told_to_end;
};

struct outcome {
    int res;
    char why[PORT_WHY_MAX];
    struct port_info info;
    char out[256]; /* what came on standard output */
};

static void become_nobody(void)
{
    const struct passwd *pw = getpwnam("nobody");
    if (geteuid() == 0 && (!pw || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0))
        _exit(9);
}

static void attempt_here(const struct attempt *a, int fd)
{
    struct outcome o = {.res = 1};
    struct port_dpdk_config cfg = {.eal_args = a->args,
                                   .device = a->device,
                                   .queues = a->queues,
                                   .rx_ring = 256,
                                   .tx_ring = 256,
                                   .peer_wait_ms = 200,
                                   .offloads = true};
    struct port *p;
    while (cfg.eal_args_n < 8 && a->args[cfg.eal_args_n])
        cfg.eal_args_n++;
    if (a->nobody)
        become_nobody();
    if (a->told_to_end) {
        sigset_t term;
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigprocmask(SIG_BLOCK, &term, NULL);
        kill(getpid(), SIGTERM);
        cfg.peer_wait_ms = 0; /* 30 s */
        alarm(10);
    }
    o.res = port_dpdk_open(&p, &cfg, o.why);
    if (o.res == 0) {
        p->ops->info(p, &o.info);
        p->ops->close(&p);
    }
    _exit(write(fd, &o, sizeof o) != sizeof o);
}

static struct outcome attempt(const struct attempt *a)
{
    struct outcome o = {.res = 2};
    int pair[2], out[2], status;
    assert_int_equal(pipe(pair) | pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(out[1], STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        attempt_here(a, pair[1]);
    }
    close(pair[1]);
    close(out[1]);
    assert_int_equal(read(pair[0], &o, sizeof o), sizeof o);
    o.out[read(out[0], o.out, sizeof o.out - 1)] = 0;
    close(pair[0]);
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return o;
}

static void refused(const struct attempt *a, const char *what, const char *remedy)
{
    struct outcome o = attempt(a);
    if (o.res >= 0 || !strstr(o.why, what) || !strstr(o.why, remedy))
        fail_msg("%d \"%s\" should have \"%s\" and \"%s\"", o.res, o.why, what, remedy);
    assert_string_equal(o.out, "");
}

/* ---- each cause by itself */

static void no_device(void **state)
{
    (void)state;
    rig_need_dpdk();
    refused(&(struct attempt){.args = {"--no-huge", "--no-pci"}, .queues = 1}, "DPDK found no device",
            "--vdev=net_af_packet0,iface=");
    refused(&(struct attempt){.args = {"--no-huge", "--no-pci"}, .queues = 1}, "DPDK found no device",
            "dpdk-devbind.py -b vfio-pci");
}

/* What is said of one that exists: tests/dpdk/nics.py. */
static void a_pci_device_that_is_not_there(void **state)
{
    static const char *const named[] = {"-a 0000:ff:1f.7", "-aff:1f.7", "--allow=ff:1f.7,x=y"};
    (void)state;
    rig_need_dpdk();
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        refused(&(struct attempt){.args = {"--no-huge", "--no-pci", named[i]}, .queues = 1}, "",
                "there is no PCI device 0000:ff:1f.7 here");
    refused(&(struct attempt){.args = {"--no-huge", "--no-pci"}, .device = "0000:ff:1f.7", .queues = 1},
            "DPDK found no device", "there is no PCI device 0000:ff:1f.7 here");
}

static void wrong_name(void **state)
{
    (void)state;
    rig_need_dpdk();
    refused(
        &(struct attempt){
            {"--no-huge", "--no-pci", "--vdev=net_null0", "--vdev=net_ring7"}, "net_nul0", 1, false, false},
        "no device net_nul0; there are: ", "dataplane.device");
}

static void no_name_among_two(void **state)
{
    (void)state;
    rig_need_dpdk();
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_null0", "--vdev=net_null1"}, NULL, 1, false, false},
            "2 devices: net_null0, net_null1", "set dataplane.device to one of them");
}

static void wrong_driver(void **state)
{
    (void)state;
    rig_need_root();
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_nosuch0"}, NULL, 1, false, false},
            "device 'net_nosuch0'", "is that the name of a driver");
}

static void no_such_interface(void **state)
{
    (void)state;
    rig_need_root();
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_af_packet0,iface=nosuch"}, NULL, 1, false, false},
            "No such device", "does the interface that it names exist");
}

static void wrong_argument_of_a_device(void **state)
{
    (void)state;
    rig_need_root();
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_tap0,mac=zz"}, NULL, 1, false, false},
            "TAP user MAC (zz) is not in format", "are its arguments those of its driver");
}

static void wrong_argument(void **state)
{
    (void)state;
    rig_need_dpdk();
    refused(&(struct attempt){{"--no-huge", "--nonsense"}, NULL, 1, false, false}, "DPDK cannot start",
            "dataplane.eal");
    refused(&(struct attempt){{"--no-huge", "--nonsense"}, NULL, 1, true, false}, "DPDK cannot start", "dataplane.eal");
    refused(&(struct attempt){{"--help"}, NULL, 1, false, false}, "asks for help", "docs/dpdk.md");
}

static void no_permission(void **state)
{
    (void)state;
    rig_need_root(); /* else nobody else's veth would be there */
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_af_packet0,iface=sat0"}, NULL, 1, true, false},
            "DPDK found no device", "it must start as root");
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_tap0"}, NULL, 1, true, false}, "net_tap0",
            "it must start as root");
}

static bool hugepages_are_free(void)
{
    char line[128];
    unsigned long n = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "HugePages_Free: %lu", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n > 0;
}

static void no_hugepages(void **state)
{
    (void)state;
    rig_need_root();
    if (hugepages_are_free()) {
        print_message("huge pages are reserved here\n");
        skip();
    }
    refused(&(struct attempt){{"--no-pci", "--vdev=net_null0"}, NULL, 1, false, false}, "DPDK cannot start",
            "sysctl vm.nr_hugepages=");
    refused(&(struct attempt){{"--no-pci", "--vdev=net_null0"}, NULL, 1, false, false}, "DPDK cannot start",
            "--no-huge");
}

static void no_hugepages_for_af_xdp(void **state)
{
    (void)state;
    rig_need_root();
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_af_xdp0,iface=sat0"}, NULL, 1, false, false},
            "net_af_xdp0 loses frames without huge pages", "use net_af_packet");
}

static void too_little_memory(void **state)
{
    (void)state;
    rig_need_dpdk();
    refused(&(struct attempt){{"--no-huge", "--no-pci", "-m 4", "--vdev=net_null0"}, NULL, 4, false, false},
            "no memory for", "-m");
}

static void queues_out_of_range(void **state)
{
    (void)state;
    rig_need_dpdk();
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_null0"}, NULL, 0, false, false}, "0 queues",
            "1 to 64");
    refused(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_null0"}, NULL, 65, false, false}, "65 queues",
            "1 to 64");
}

static void the_only_device_needs_no_name(void **state)
{
    (void)state;
    rig_need_dpdk();
    struct outcome o = attempt(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_null0"}, NULL, 3, false, false});
    assert_int_equal(o.res, 0);
    assert_string_equal(o.info.name, "net_null0");
    assert_string_equal(o.info.driver, "net_null");
    assert_int_equal(o.info.queues, 3);
    assert_string_equal(o.out, "");
    o = attempt(&(struct attempt){{"--no-huge", "--no-pci", "--vdev=net_null0"}, NULL, 1, true, false});
    assert_int_equal(o.res, 0); /* what needs no privilege needs no root */
}

/* ---- sockets that a device listens on */

static char at[64];        /* the path */
static char vdevs[4][128]; /* devices that would listen there */

static void socket_path(void)
{
    snprintf(at, sizeof at, "/tmp/satchel-test-start-%d", (int)getpid());
    snprintf(vdevs[0], sizeof vdevs[0], "--vdev=net_vhost0,iface=%s", at);
    snprintf(vdevs[1], sizeof vdevs[1], "--vdev net_virtio_user0,path=%s,server=1", at);
    snprintf(vdevs[2], sizeof vdevs[2], "--vdev=net_memif0,role=server,socket=%s,socket-abstract=no", at);
    snprintf(vdevs[3], sizeof vdevs[3], "--vdev=eth_vhost0,iface=%s,client=0", at);
    unlink(at);
}

static int socket_at(int type, bool served)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", at);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    if (served)
        assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void another_serves_the_socket(void **state)
{
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET};
    (void)state;
    rig_need_dpdk();
    socket_path();
    for (int t = 0; t < 2; t++) {
        int fd = socket_at(types[t], true);
        for (int i = 0; i < 4; i++)
            refused(&(struct attempt){{"--no-huge", "--no-pci", vdevs[i]}, NULL, 1, false, false},
                    "another process serves /tmp/satchel-test-start-", "name another path in dataplane.eal");
        close(fd);
        assert_int_equal(unlink(at), 0); /* it was left alone */
    }
}

static void what_is_no_socket_is_left_alone(void **state)
{
    struct stat sb;
    (void)state;
    rig_need_dpdk();
    socket_path();
    close(open(at, O_CREAT | O_WRONLY, 0600));
    for (int i = 0; i < 4; i++)
        refused(&(struct attempt){{"--no-huge", "--no-pci", vdevs[i]}, NULL, 1, false, false}, "is no socket",
                "name another path in dataplane.eal");
    assert_int_equal(stat(at, &sb), 0);
    assert_true(S_ISREG(sb.st_mode));
    unlink(at);
}

static void a_socket_that_was_left_is_replaced(void **state)
{
    static const int of[] = {0, 2, 3};
    (void)state;
    rig_need_dpdk();
    socket_path();
    for (int i = 0; i < 3; i++) {
        close(socket_at(SOCK_STREAM, true));
        struct outcome o = attempt(&(struct attempt){{"--no-huge", "--no-pci", vdevs[of[i]]}, NULL, 1, false, false});
        if (o.res != 0)
            fail_msg("%s: %s", vdevs[of[i]], o.why);
        unlink(at);
    }
}

static void nobody_connects(void **state)
{
    (void)state;
    rig_need_dpdk();
    socket_path();
    for (int told = 0; told < 2; told++) { /* it need not wait the whole time when it is told to end */
        close(socket_at(SOCK_STREAM, true));
        refused(&(struct attempt){{"--no-huge", "--no-pci", vdevs[1]}, NULL, 1, false, told},
                "nobody connected to /tmp/", "start the switch or guest");
        unlink(at);
    }
}

static void a_client_needs_its_server(void **state)
{
    char vdev[128];
    (void)state;
    rig_need_dpdk();
    socket_path();
    snprintf(vdev, sizeof vdev, "--vdev=net_virtio_user0,path=%s", at);
    close(socket_at(SOCK_STREAM, true));
    refused(&(struct attempt){{"--no-huge", "--no-pci", vdev}, NULL, 1, false, false}, "connect error",
            "start what serves its socket first");
    assert_int_equal(unlink(at), 0);
    refused(&(struct attempt){{"--no-huge", "--no-pci", vdev}, NULL, 1, false, false}, "connect error",
            "start what serves its socket first");
}

static int group_begin(void **state)
{
    (void)state;
    return !port_dpdk_built() || geteuid() != 0 || rig_namespace() ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_device),
        cmocka_unit_test(a_pci_device_that_is_not_there),
        cmocka_unit_test(wrong_name),
        cmocka_unit_test(no_name_among_two),
        cmocka_unit_test(wrong_driver),
        cmocka_unit_test(no_such_interface),
        cmocka_unit_test(wrong_argument),
        cmocka_unit_test(wrong_argument_of_a_device),
        cmocka_unit_test(no_permission),
        cmocka_unit_test(no_hugepages),
        cmocka_unit_test(no_hugepages_for_af_xdp),
        cmocka_unit_test(too_little_memory),
        cmocka_unit_test(queues_out_of_range),
        cmocka_unit_test(the_only_device_needs_no_name),
        cmocka_unit_test(another_serves_the_socket),
        cmocka_unit_test(what_is_no_socket_is_left_alone),
        cmocka_unit_test(a_socket_that_was_left_is_replaced),
        cmocka_unit_test(nobody_connects),
        cmocka_unit_test(a_client_needs_its_server),
    };
    return cmocka_run_group_tests_name("port_dpdk_start", tests, group_begin, NULL);
}
