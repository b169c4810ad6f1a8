/* front_rig.h - the front-end that stores nothing in a thread, on kernel sockets over loopback or on our own TCP over a
 * pair of ports in memory, and a wire of the generator to it. */
#pragma once
#include "bench/lib/bare.h"
#include "bench/lib/wire_user.h"
#include "dataplane/net/user.h"
#include "dataplane/tcp/addr_text.h"
#include "spool/base/log.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define RIG_RING 1024u

enum carrier { KERNEL, USER };

struct front_rig {
    enum carrier carrier;
    struct bare front;
    struct transport *transport;
    struct port *ports[2]; /* USER: the front-end's, the generator's */
    struct stats stats;    /* USER: of the front-end */
    pthread_t thread;
    struct wire *wire;
};

static void *rig_run(void *arg)
{
    struct front_rig *r = arg;
    assert_int_equal(r->transport->ops->run(r->transport), 0);
    return NULL;
}

static struct ip_prefix rig_net(const char *text)
{
    struct ip_prefix p;
    assert_true(addr_parse_prefix(slice_str(text), &p));
    return p;
}

static void rig_front_user(struct front_rig *r, uint32_t max)
{
    char why[USER_WHY_MAX];
    struct user_config cfg;
    struct transport_app app = bare_app(&r->front);
    user_config_default(&cfg);
    assert_int_equal(port_mem_open(&r->ports[0], &r->ports[1], 1, RIG_RING), 0);
    cfg.queue = r->ports[0]->ops->queue(r->ports[0], 0);
    cfg.stats = &r->stats;
    cfg.ports[cfg.ports_n++] = 25;
    cfg.max_conns = max;
    cfg.stack.ip.addrs[cfg.stack.ip.addrs_n++] = rig_net("198.18.0.1/16");
    cfg.stack.ip.dad = false;
    cfg.stack.guard.bogons = false;
    cfg.stack.guard.host_per_s = cfg.stack.guard.host_burst = 0;
    cfg.stack.guard.network_per_s = cfg.stack.guard.network_burst = 0;
    cfg.stack.tcp.pages_max = 4096;
    cfg.stack.tcp.txblocks_max = 16384;
    if (transport_user_open(&r->transport, &cfg, &app, why) != 0)
        fail_msg("%s", why);
}

static void rig_wire_user(struct front_rig *r, uint32_t max, uint8_t addrs)
{
    char why[256], text[32];
    struct wire_user_config cfg = {.queue = r->ports[1]->ops->queue(r->ports[1], 0),
                                   .target = rig_net("198.18.0.1").addr,
                                   .target_port = 25,
                                   .conns_max = max,
                                   .delack_ms = 40};
    for (; cfg.addrs_n < addrs; cfg.addrs_n++) {
        snprintf(text, sizeof text, "198.18.1.%u/16", 1u + cfg.addrs_n);
        cfg.addrs[cfg.addrs_n] = rig_net(text);
    }
    r->wire = wire_user_open(&cfg, why);
    if (!r->wire)
        fail_msg("%s", why);
}

static void rig_front_kernel(struct front_rig *r, struct sock_addr *at_r)
{
    char why[NET_WHY_MAX], text[32];
    int fd;
    struct kernel_config cfg = kernel_config_default;
    struct transport_app app = bare_app(&r->front);
    assert_int_equal(net_listen("127.0.0.1:0", &fd, 1, why), 1);
    snprintf(text, sizeof text, "127.0.0.1:%d", net_listen_port(fd));
    *at_r = sock_parse(text);
    cfg.listen_fds = &fd;
    cfg.listen_n = 1;
    assert_int_equal(transport_kernel_open(&r->transport, &cfg, &app), 0);
}

/* max: sessions that the front-end takes; addrs: of the generator (USER). */
static void rig_open(struct front_rig *r, enum carrier carrier, uint32_t max, uint8_t addrs)
{
    struct sock_addr at;
    *r = (struct front_rig){.carrier = carrier};
    log_level_now = LOG_LEVEL_ERROR;
    bare_open(&r->front, max, 3);
    if (carrier == USER)
        rig_front_user(r, max);
    else
        rig_front_kernel(r, &at);
    bare_attach(&r->front, r->transport);
    assert_int_equal(pthread_create(&r->thread, NULL, rig_run, r), 0);
    if (carrier == USER)
        rig_wire_user(r, max + 64, addrs);
    else
        r->wire = wire_kernel_open(&at);
}

static void rig_close(struct front_rig *r)
{
    wire_destroy(&r->wire);
    bare_shutdown(&r->front);
    pthread_join(r->thread, NULL);
    assert_int_equal(smtp_worker_sessions(r->front.smtp), 0);
    r->transport->ops->destroy(&r->transport);
    bare_close(&r->front);
    for (int i = 0; i < 2; i++)
        if (r->ports[i])
            r->ports[i]->ops->close(&r->ports[i]);
}
