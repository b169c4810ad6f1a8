/* test_neigh.c - neighbours: the cache alone, and what ARP and NDP make of it. */
#include "wire_rig.h"

#include "dataplane/tcp/neigh.h"
#include "spool/base/log.h"

/* ---- the cache alone: questions are counted, frames are numbers in frame.hash */

static struct {
    struct neigh_table t;
    void *mem;
    uint32_t asked_all, asked_one, sent_n, dropped_n;
    uint32_t last_sent, last_dropped;
    uint8_t last_mac[6];
    uint64_t now_us;
} c;

static void c_ask(void *ctx, const struct neigh *e, bool everybody, uint64_t now_us)
{
    (void)ctx;
    assert_int_equal(now_us, c.now_us);
    assert_true(e->state == NEIGH_ASKED || e->state == NEIGH_STALE);
    *(everybody ? &c.asked_all : &c.asked_one) += 1;
}

static void c_send(void *ctx, struct frame *f, const struct neigh *e)
{
    (void)ctx;
    c.sent_n++;
    c.last_sent = f->hash;
    memcpy(c.last_mac, e->mac, 6);
}

static void c_drop(void *ctx, struct frame *f)
{
    (void)ctx;
    c.dropped_n++;
    c.last_dropped = f->hash;
}

static void c_open(uint32_t max)
{
    static const uint8_t key[16] = {5};
    static const struct neigh_ops ops = {c_ask, c_send, c_drop, NULL};
    memset(&c, 0, sizeof c);
    c.now_us = 5000 * SECOND;
    c.mem = calloc(1, neigh_table_bytes(max));
    neigh_table_init(&c.t, c.mem, max, key, &ops);
}

static int setup(void **state)
{
    (void)state;
    c_open(64);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(c.mem);
    return 0;
}

static struct ip_addr host(uint32_t i)
{
    return ip_addr_of4(htonl(0x0a000000 + i));
}

static void send_to(uint32_t i, uint32_t number)
{
    struct ip_addr a = host(i);
    struct frame f = {.hash = number};
    neigh_send(&c.t, &a, 0, &f, c.now_us);
}

static bool hear(uint32_t i, uint8_t mac, enum neigh_word word)
{
    struct ip_addr a = host(i);
    uint8_t m[6];
    mac_of(mac, m);
    return neigh_hear(&c.t, &a, m, word, c.now_us);
}

static enum neigh_state state_of(uint32_t i)
{
    struct ip_addr a = host(i);
    const struct neigh *e = neigh_find(&c.t, &a);
    return e ? (enum neigh_state)e->state : NEIGH_NONE;
}

static void pass(uint64_t us)
{
    uint64_t end = c.now_us + us;
    for (uint64_t next; (next = neigh_next_us(&c.t)) <= end;) {
        c.now_us = next;
        neigh_tick(&c.t, c.now_us);
        assert_true(neigh_next_us(&c.t) > c.now_us);
    }
    c.now_us = end;
}

static void asked_then_answered(void **state)
{
    (void)state;
    send_to(1, 11);
    assert_int_equal(c.asked_all, 1);
    assert_int_equal(c.sent_n, 0);
    send_to(1, 12); /* the newest waits */
    assert_int_equal(c.dropped_n, 1);
    assert_int_equal(c.last_dropped, 11);
    assert_int_equal(c.asked_all, 1);
    assert_true(hear(1, 9, NEIGH_ANSWER));
    assert_int_equal(c.sent_n, 1);
    assert_int_equal(c.last_sent, 12);
    assert_int_equal(c.last_mac[5], 9);
    assert_int_equal(state_of(1), NEIGH_REACHABLE);
    assert_int_equal(neigh_next_us(&c.t) > c.now_us, true);
    pass(20 * SECOND);
    send_to(1, 13);
    assert_int_equal(c.sent_n, 2);
    assert_int_equal(c.asked_all + c.asked_one, 1);
}

static void nobody_answers(void **state)
{
    uint64_t pauses_s[] = {1, 2, 4, 8, 16, 16};
    (void)state;
    for (int round = 0; round < 6; round++) {
        c.asked_all = c.dropped_n = 0;
        send_to(1, 1);
        assert_int_equal(c.asked_all, 1);
        pass(SECOND - 1);
        assert_int_equal(c.asked_all, 1);
        pass(2 * SECOND);
        assert_int_equal(c.asked_all, 3);
        assert_int_equal(c.dropped_n, 0);
        pass(1);
        assert_int_equal(state_of(1), NEIGH_FAILED);
        assert_int_equal(c.dropped_n, 1);
        pass(pauses_s[round] * SECOND - 1);
        send_to(1, 2); /* remembered */
        assert_int_equal(c.dropped_n, 2);
        assert_int_equal(c.asked_all, 3);
        assert_int_equal(neigh_next_us(&c.t), UINT64_MAX);
        pass(1);
    }
}

static void failures_are_forgotten_when_he_answers(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        send_to(1, 1);
        pass(20 * SECOND);
    }
    send_to(1, 1);
    hear(1, 9, NEIGH_ANSWER);
    pass(3600 * SECOND);
    send_to(1, 1);
    pass(3 * SECOND);
    assert_int_equal(state_of(1), NEIGH_FAILED);
    pass(SECOND);
    c.asked_all = 0;
    send_to(1, 1);
    assert_int_equal(c.asked_all, 1);
}

static void old_ones_are_asked_again_alone(void **state)
{
    (void)state;
    send_to(1, 1);
    hear(1, 9, NEIGH_ANSWER);
    pass(31 * SECOND);
    assert_int_equal(c.asked_one, 0); /* not before he is needed */
    send_to(1, 2);
    assert_int_equal(c.sent_n, 2); /* at once */
    assert_int_equal(c.asked_one, 1);
    assert_int_equal(state_of(1), NEIGH_STALE);
    send_to(1, 3);
    assert_int_equal(c.asked_one, 1);
    hear(1, 9, NEIGH_ANSWER);
    assert_int_equal(state_of(1), NEIGH_REACHABLE);
    pass(31 * SECOND);
    send_to(1, 4);
    pass(SECOND);
    assert_int_equal(c.asked_one, 3);
    pass(2 * SECOND); /* silent: everybody is asked, frames wait again */
    assert_int_equal(c.asked_one, 4);
    assert_int_equal(c.asked_all, 2);
    assert_int_equal(state_of(1), NEIGH_ASKED);
    send_to(1, 5);
    assert_int_equal(c.sent_n, 4);
    hear(1, 10, NEIGH_ANSWER);
    assert_int_equal(c.last_sent, 5);
    assert_int_equal(c.last_mac[5], 10);
}

static void forgotten_after_ten_minutes(void **state)
{
    (void)state;
    send_to(1, 1);
    hear(1, 9, NEIGH_ANSWER);
    pass(601 * SECOND);
    send_to(1, 2);
    assert_int_equal(c.sent_n, 1);
    assert_int_equal(c.asked_all, 2);
    assert_int_equal(state_of(1), NEIGH_ASKED);
}

static void nothing_is_learnt_unasked(void **state)
{
    (void)state;
    assert_false(hear(1, 9, NEIGH_ANSWER));
    assert_false(hear(1, 9, NEIGH_CLAIM));
    assert_int_equal(state_of(1), NEIGH_NONE);
    send_to(1, 1);
    hear(1, 9, NEIGH_ANSWER);
    pass(31 * SECOND);
    hear(1, 9, NEIGH_ANSWER); /* not asked: says nothing of now */
    send_to(1, 2);
    assert_int_equal(c.asked_one, 1);
}

static void another_mac_makes_us_ask(void **state)
{
    (void)state;
    send_to(1, 1);
    hear(1, 9, NEIGH_ANSWER);
    for (int i = 0; i < 100; i++)
        hear(1, 66, i % 2 ? NEIGH_ANSWER : NEIGH_CLAIM);
    assert_int_equal(c.asked_all, 1); /* within a second of the last question */
    pass(SECOND);
    for (int i = 0; i < 100; i++)
        hear(1, 66, NEIGH_CLAIM);
    assert_int_equal(c.asked_all, 2);
    send_to(1, 2);
    assert_int_equal(c.last_mac[5], 9); /* until there is an answer */
    hear(1, 9, NEIGH_ANSWER);
    hear(1, 66, NEIGH_ANSWER); /* too late */
    send_to(1, 3);
    assert_int_equal(c.last_mac[5], 9);
    pass(SECOND);
    hear(1, 66, NEIGH_CLAIM); /* he moved in truth */
    hear(1, 66, NEIGH_ANSWER);
    send_to(1, 4);
    assert_int_equal(c.last_mac[5], 66);
    assert_int_equal(state_of(1), NEIGH_REACHABLE);
}

static void weak_answers_do_not_override(void **state)
{
    (void)state;
    send_to(1, 1);
    hear(1, 9, NEIGH_ANSWER_WEAK); /* nothing known yet: taken */
    assert_int_equal(state_of(1), NEIGH_REACHABLE);
    pass(31 * SECOND);
    send_to(1, 2);
    hear(1, 66, NEIGH_ANSWER_WEAK);
    send_to(1, 3);
    assert_int_equal(c.last_mac[5], 9);
    hear(1, 9, NEIGH_ANSWER_WEAK);
    assert_int_equal(state_of(1), NEIGH_REACHABLE);
}

static void his_own_question_answers_ours(void **state)
{
    (void)state;
    send_to(1, 1);
    hear(1, 9, NEIGH_CLAIM);
    assert_int_equal(c.last_sent, 1);
    assert_int_equal(state_of(1), NEIGH_STALE); /* usable; to be asked */
    send_to(1, 2);
    assert_int_equal(c.asked_one, 1);
    send_to(2, 1);
    pass(4 * SECOND);
    assert_int_equal(state_of(2), NEIGH_FAILED);
    hear(2, 9, NEIGH_CLAIM); /* back before the pause is over */
    send_to(2, 5);
    assert_int_equal(c.last_sent, 5);
}

static void bounded_and_the_useful_stay(void **state)
{
    (void)state;
    uint32_t kept = 0, entries = 0;
    struct ip_addr gateway = host(999999);
    neigh_pin(&c.t, &gateway);
    for (uint32_t i = 0; i < 24; i++) { /* answered */
        send_to(i, 1);
        hear(i, 9, NEIGH_ANSWER);
    }
    send_to(999999, 77);
    for (uint32_t i = 1000; i < 11000; i++) { /* a flood of those who don't exist */
        c.now_us++;
        send_to(i, 1);
    }
    for (uint32_t i = 0; i < 24; i++)
        kept += state_of(i) == NEIGH_REACHABLE;
    assert_int_equal(kept, 24);
    assert_int_equal(state_of(999999), NEIGH_ASKED);
    hear(999999, 9, NEIGH_ANSWER);
    assert_int_equal(c.last_sent, 77);
    for (uint32_t i = 0; neigh_at(&c.t, i); i++)
        entries += neigh_at(&c.t, i)->state != NEIGH_NONE;
    assert_in_range(entries, 25, 65);
    pass(10 * SECOND);
    assert_int_equal(c.dropped_n, 10000); /* no frame is kept by who was thrown out, or failed */
}

static void nearly_all_places_are_used(void **state)
{
    (void)state;
    uint32_t kept = 0;
    free(c.mem);
    c_open(1024);
    for (uint32_t i = 0; i < 900; i++) {
        send_to(i, 1);
        hear(i, 9, NEIGH_ANSWER);
    }
    for (uint32_t i = 0; i < 900; i++)
        kept += state_of(i) == NEIGH_REACHABLE;
    assert_in_range(kept, 850, 900);
}

/* ---- ARP */

static int ip_setup(void **state)
{
    struct ip_config cfg = wire_config();
    (void)state;
    log_level_now = LOG_LEVEL_ERROR;
    wire_open(&cfg);
    return 0;
}

static int ip_teardown(void **state)
{
    (void)state;
    wire_close();
    return 0;
}

static uint32_t neighbours(void)
{
    return ip_neighbours(wire.ip, NULL, 0, wire.now_us);
}

static void arp_requests_answered(void **state)
{
    (void)state;
    struct packet k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1");
    assert_int_equal(wire_give(&k), 0);
    assert_arp(0, ARP_ANSWER, "192.0.2.1", "192.0.2.9");
    assert_true(sent_to(0, 9));
    assert_memory_equal(sent(0) + 32, k.b + 22, 6);
    k = arp_from(9, 1, ARP_ASK, "192.0.2.9", "192.0.2.1"); /* to us alone: he looks whether we are there */
    wire_give(&k);
    assert_int_equal(wire.n, 2);
    k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.77");
    wire_dropped(&k, STAT_DROP_ARP);
    assert_int_equal(wire.n, 2);
    assert_int_equal(neighbours(), 0);                      /* nobody was learnt */
    k = arp_from(9, 0xff, ARP_ASK, "0.0.0.0", "192.0.2.1"); /* a probe for ours */
    wire_give(&k);
    assert_arp(2, ARP_ANSWER, "192.0.2.1", "0.0.0.0");
}

static void arp_unasked(void **state)
{
    (void)state;
    struct packet k = arp_from(9, 1, ARP_ANSWER, "192.0.2.9", "192.0.2.1");
    wire_dropped(&k, STAT_DROP_ARP);
    k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.9"); /* gratuitous */
    wire_dropped(&k, STAT_DROP_ARP);
    assert_int_equal(neighbours(), 0);
    wire_output(0, "192.0.2.9", 20);
    wire_resolve4(9, "192.0.2.9");
    wire_wait(2 * SECOND);
    wire_forget();
    k = arp_from(66, 1, ARP_ANSWER, "192.0.2.9", "192.0.2.1");
    wire_give(&k);
    assert_arp(0, ARP_ASK, "192.0.2.1", "192.0.2.9");
    wire_resolve4(9, "192.0.2.9");
    wire_output(0, "192.0.2.9", 20);
    assert_true(sent_to(1, 9));
}

static void arp_malformed(void **state)
{
    static const struct {
        uint32_t at;
        uint8_t value;
    } wrong[] = {{15, 6}, {16, 0x86}, {17, 1}, {18, 8}, {19, 16}, {21, 0}, {21, 3}, {22, 3}, {28, 224}, {28, 127}};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct packet k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1");
        k.b[wrong[i].at] = wrong[i].value;
        wire_dropped(&k, STAT_DROP_ARP);
    }
    struct packet k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1");
    memset(k.b + 22, 0, 6);
    wire_dropped(&k, STAT_DROP_ARP);
    k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1");
    memcpy(k.b + 22, wire.cfg.mac, 6); /* our own, come back */
    wire_dropped(&k, STAT_DROP_ARP);
    k.n = 14 + 27;
    wire_dropped(&k, STAT_DROP_ARP);
    assert_int_equal(wire.n, 0);
    k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1");
    wire_mangle(&k, 1, NULL);
}

static void arp_refreshes_alone(void **state)
{
    (void)state;
    struct ip_neighbour list[8];
    wire_output(0, "192.0.2.9", 20);
    wire_resolve4(9, "192.0.2.9");
    wire_wait(31 * SECOND);
    wire_forget();
    wire_output(0, "192.0.2.9", 20);
    assert_int_equal(wire.n, 2);
    assert_true(sent_to(0, 9) && sent_to(1, 9)); /* the question, and the frame */
    assert_arp(0, ARP_ASK, "192.0.2.1", "192.0.2.9");
    wire_output(0, "198.51.100.1", 20); /* by the gateway */
    assert_int_equal(ip_neighbours(wire.ip, list, 8, wire.now_us), 2);
    assert_int_equal(list[0].state, 2);
    assert_int_equal(list[0].age_s, 31);
    assert_int_equal(list[0].mac[5], 9);
    assert_int_equal(list[1].state, 0);
}

/* ---- NDP */

static void ndp_resolve(void)
{
    struct packet k = ndp_from(9, "2001:db8::9", "2001:db8::1", 136, 0x60, "2001:db8::9", 2);
    assert_int_equal(wire_give(&k), 0);
}

static void ndp_asks(void **state)
{
    (void)state;
    wire_output(1, "2001:db8::9", 20);
    assert_ndp(0, 135, "2001:db8::1", "ff02::1:ff00:9", "2001:db8::9");
    assert_memory_equal(sent(0), "\x33\x33\xff\0\0\x09", 6);
    assert_memory_equal(sent(0) + 78, "\x01\x01", 2);
    assert_memory_equal(sent(0) + 80, wire.cfg.mac, 6);
    ndp_resolve();
    assert_true(sent_to(1, 9));
    wire_wait(31 * SECOND);
    wire_output(1, "2001:db8::9", 20);
    assert_ndp(2, 135, "2001:db8::1", "2001:db8::9", "2001:db8::9"); /* he alone */
    assert_true(sent_to(2, 9) && sent_to(3, 9));
}

static void ndp_solicitations_answered(void **state)
{
    (void)state;
    struct packet k = ndp_from(9, "2001:db8::9", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 1);
    assert_int_equal(wire_give(&k), 0);
    assert_ndp(0, 136, "2001:db8::1", "2001:db8::9", "2001:db8::1");
    assert_true(sent_to(0, 9));
    assert_int_equal(sent(0)[58], 0x60); /* solicited, override, no router */
    assert_memory_equal(sent(0) + 78, "\x02\x01", 2);
    assert_memory_equal(sent(0) + 80, wire.cfg.mac, 6);
    k = ndp_from(9, "2001:db8::9", "2001:db8::1", 135, 0, "2001:db8::1", 0); /* to us alone, without his MAC */
    wire_give(&k);
    assert_true(sent_to(1, 9));
    assert_int_equal(neighbours(), 0);
    k = ndp_from(9, "2001:db8::9", "ff02::1:ff00:1", 135, 0, "2001:db8::77", 1);
    wire_dropped(&k, STAT_DROP_NDP);
}

/* A solicitation to us with one thing changed; hops, code and checksum included. */
static void ndp_refuse(uint8_t hops, uint32_t at, uint8_t value, uint32_t n)
{
    uint8_t p[64] = {135};
    struct ip_addr target = addr("2001:db8::1");
    memcpy(p + 8, target.b, 16);
    memcpy(p + 24, "\x01\x01\x02\0\0\0\0\x09", 8);
    memcpy(p + 32, "\x0e\x01\0\0\0\0\0\0", 8);
    p[at] = value;
    struct packet k = icmp6_from(9, "2001:db8::9", "2001:db8::1", hops, p, n);
    wire_dropped(&k, STAT_DROP_NDP);
}

static void ndp_malformed(void **state)
{
    (void)state;
    ndp_refuse(254, 0, 135, 40); /* from beyond the link */
    ndp_refuse(255, 1, 1, 40);
    ndp_refuse(255, 8, 0xff, 40);
    ndp_refuse(255, 25, 0, 40); /* an option of no length */
    ndp_refuse(255, 25, 3, 40); /* beyond the packet */
    ndp_refuse(255, 25, 2, 40); /* longer than a MAC */
    ndp_refuse(255, 26, 3, 40); /* a group's MAC */
    ndp_refuse(255, 33, 0, 40);
    ndp_refuse(255, 33, 2, 40); /* one that is not ours to know, beyond the packet */
    ndp_refuse(255, 0, 135, 25);
    ndp_refuse(255, 0, 135, 20);
    ndp_refuse(255, 0, 135, 31);
    for (uint8_t type = 133; type <= 137; type += type == 134 ? 3 : 1) { /* router messages, redirects */
        ndp_refuse(255, 0, type, 40);
    }
    struct packet k = ndp_from(9, "::", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 1); /* nobody with a MAC */
    wire_dropped(&k, STAT_DROP_NDP);
    k = ndp_from(9, "::", "ff02::1", 135, 0, "2001:db8::1", 0); /* to all */
    wire_dropped(&k, STAT_DROP_NDP);
    k = ndp_from(9, "2001:db8::9", "ff02::1", 136, 0x60, "2001:db8::9", 2); /* solicited, to all */
    wire_dropped(&k, STAT_DROP_NDP);
    assert_int_equal(wire.n, 0);
    k = ndp_from(9, "2001:db8::9", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 1);
    k.b[60] ^= 1;
    wire_dropped(&k, STAT_DROP_ICMP); /* checksum */
}

static void ndp_many_options(void **state)
{
    uint8_t p[24 + 17 * 8] = {135};
    struct ip_addr target = addr("2001:db8::1");
    (void)state;
    memcpy(p + 8, target.b, 16);
    for (int i = 0; i < 17; i++)
        memcpy(p + 24 + i * 8, "\x0e\x01", 2);
    struct packet k = icmp6_from(9, "2001:db8::9", "2001:db8::1", 255, p, sizeof p);
    wire_dropped(&k, STAT_DROP_NDP);
    k = icmp6_from(9, "2001:db8::9", "2001:db8::1", 255, p, sizeof p - 8);
    wire_give(&k);
    assert_int_equal(wire.n, 1);
}

static void ndp_unasked(void **state)
{
    (void)state;
    struct packet k = ndp_from(9, "2001:db8::9", "2001:db8::1", 136, 0x60, "2001:db8::9", 2);
    wire_dropped(&k, STAT_DROP_NDP);
    assert_int_equal(neighbours(), 0);
    wire_output(1, "2001:db8::9", 20);
    k = ndp_from(9, "2001:db8::9", "2001:db8::1", 136, 0x60, "2001:db8::9", 0); /* without a MAC: of no use */
    wire_dropped(&k, STAT_DROP_NDP);
    ndp_resolve();
    wire_wait(2 * SECOND);
    wire_forget();
    k = ndp_from(66, "2001:db8::9", "ff02::1", 136, 0x20, "2001:db8::9", 2); /* has he moved? */
    wire_give(&k);
    assert_ndp(0, 135, "2001:db8::1", "ff02::1:ff00:9", "2001:db8::9");
    k = ndp_from(66, "2001:db8::9", "2001:db8::1", 136, 0x60, "2001:db8::9", 2); /* he has */
    wire_give(&k);
    wire_output(1, "2001:db8::9", 20);
    assert_true(sent_to(1, 66));
    wire_wait(31 * SECOND);
    wire_output(1, "2001:db8::9", 20);
    k = ndp_from(66, "2001:db8::9", "2001:db8::1", 136, 0x40, "2001:db8::9", 0); /* says that he lives, not where */
    assert_int_equal(wire_give(&k), 0);
    struct ip_neighbour list[8];
    assert_int_equal(ip_neighbours(wire.ip, list, 8, wire.now_us), 1);
    assert_int_equal(list[0].state, 1);
}

static void mend6(struct packet *k)
{
    struct ip_addr src, dst;
    uint32_t n = be16_get(k->b + 18);
    if (n < 4 || 54 + n > k->n)
        return;
    memcpy(&src, k->b + 22, 16);
    memcpy(&dst, k->b + 38, 16);
    memset(k->b + 56, 0, 2);
    uint16_t sum = sum_field(sum_add(sum_pseudo(&src, &dst, 58, n), k->b + 54, n));
    memcpy(k->b + 56, &sum, 2);
}

static void ndp_cut_and_turned(void **state)
{
    (void)state;
    struct packet k = ndp_from(9, "2001:db8::9", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 1);
    wire_mangle(&k, 3, mend6);
    k = ndp_from(9, "2001:db8::9", "2001:db8::1", 136, 0x60, "2001:db8::9", 2);
    wire_output(1, "2001:db8::9", 20);
    wire_mangle(&k, 4, mend6);
}

int main(void)
{
#define C(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define IP(f) cmocka_unit_test_setup_teardown(f, ip_setup, ip_teardown)
    const struct CMUnitTest tests[] = {
        C(asked_then_answered),
        C(nobody_answers),
        C(failures_are_forgotten_when_he_answers),
        C(old_ones_are_asked_again_alone),
        C(forgotten_after_ten_minutes),
        C(nothing_is_learnt_unasked),
        C(another_mac_makes_us_ask),
        C(weak_answers_do_not_override),
        C(his_own_question_answers_ours),
        C(bounded_and_the_useful_stay),
        C(nearly_all_places_are_used),
        IP(arp_requests_answered),
        IP(arp_unasked),
        IP(arp_malformed),
        IP(arp_refreshes_alone),
        IP(ndp_asks),
        IP(ndp_solicitations_answered),
        IP(ndp_malformed),
        IP(ndp_many_options),
        IP(ndp_unasked),
        IP(ndp_cut_and_turned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
