/* test_ip.c - IP: what is accepted, what is dropped and why, what leaves and where to, our addresses, paths. */
#include "wire_rig.h"

#include "spool/base/log.h"

static const uint8_t segment[20] = {0x30, 0x39, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff};

static struct packet tcp4(void)
{
    return ip4_from(9, "192.0.2.9", "192.0.2.1", 6, segment, sizeof segment);
}

static struct packet tcp6(void)
{
    return ip6_from(9, "2001:db8::9", "2001:db8::1", 6, 64, segment, sizeof segment);
}

static int setup(void **state)
{
    struct ip_config cfg = wire_config();
    (void)state;
    log_level_now = LOG_LEVEL_ERROR;
    wire_open(&cfg);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wire_close();
    return 0;
}

/* ---- Ethernet */

static void ethernet(void **state)
{
    (void)state;
    struct packet k = tcp4();
    assert_int_equal(wire_give(&k), 1);
    k.b[5] = 2; /* to another */
    wire_dropped(&k, STAT_DROP_ETHER);
    memset(k.b, 0xff, 6); /* IPv4 in a broadcast (RFC 1122 3.3.6) */
    wire_dropped(&k, STAT_DROP_ETHER);
    k = tcp4();
    k.b[6] |= 1; /* from a group */
    wire_dropped(&k, STAT_DROP_ETHER);
    k = tcp4();
    k.b[11] = 1; /* from our own MAC */
    wire_dropped(&k, STAT_DROP_ETHER);
    k = tcp4();
    be16_put(k.b + 12, 0x88cc);
    wire_dropped(&k, STAT_DROP_ETHER);
    k = tcp6();
    memcpy(k.b, "\x33\x33\0\0\0\1", 6); /* a group's frame, one's packet */
    wire_dropped(&k, STAT_DROP_ETHER);
}

static void padding_is_left_out(void **state)
{
    (void)state;
    struct packet k = tcp4();
    put(&k, "padding", 7);
    assert_int_equal(wire_give(&k), 1);
    assert_int_equal(wire.p.l4_n, sizeof segment);
    k = tcp6();
    put(&k, "padding", 7);
    assert_int_equal(wire_give(&k), 1);
    assert_int_equal(wire.p.l4_n, sizeof segment);
}

/* Another tag, in the frame. */
static struct packet tagged(struct packet k, uint16_t tci)
{
    memmove(k.b + 16, k.b + 12, k.n - 12);
    be16_put(k.b + 12, 0x8100);
    be16_put(k.b + 14, tci);
    k.n += 4;
    return k;
}

static void vlans(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    struct packet plain = tcp4(), k = tagged(plain, 5);
    wire_dropped(&k, STAT_DROP_VLAN);
    k = tagged(plain, 0x6000); /* priority, no VLAN */
    assert_int_equal(wire_give(&k), 1);
    k = tagged(tagged(plain, 0), 0);
    wire_dropped(&k, STAT_DROP_VLAN);
    wire_close();
    cfg.vlan = 5;
    wire_open(&cfg);
    wire_dropped(&plain, STAT_DROP_VLAN);
    k = tagged(plain, 0xe005);
    assert_int_equal(wire_give(&k), 1);
    assert_int_equal(wire_give_part(&plain, plain.n, FRAME_VLAN, 0xa005), 1); /* the port took it off */
    assert_int_equal(wire_give_part(&plain, plain.n, FRAME_VLAN, 6), 0);
    assert_int_equal(wire_give_part(&k, k.n, FRAME_VLAN, 5), 0); /* one within another */
    k.n = 15;
    wire_dropped(&k, STAT_DROP_SHORT);
}

/* ---- IPv4 */

static void ipv4_taken(void **state)
{
    (void)state;
    struct packet k = tcp4();
    struct ip_addr src = addr("192.0.2.9"), dst = addr("192.0.2.1");
    k.b[15] = 3;
    k.b[22] = 0; /* no hop left: still for us (RFC 1122 3.2.1.7) */
    sum4_fix(&k);
    assert_int_equal(wire_give(&k), 1);
    assert_true(ip_addr_eq(&wire.p.src, &src));
    assert_true(ip_addr_eq(&wire.p.dst, &dst));
    assert_int_equal(wire.p.proto, 6);
    assert_int_equal(wire.p.ecn, 3);
    assert_int_equal(wire.p.local, 0);
    assert_memory_equal(wire.p.l4, segment, sizeof segment);
}

static void ipv4_sums(void **state)
{
    (void)state;
    struct packet k = tcp4();
    k.b[24] ^= 1;
    wire_dropped(&k, STAT_DROP_IP_SUM);
    assert_int_equal(wire_give_part(&k, k.n, FRAME_IP_GOOD, 0), 1);
    k = tcp4();
    assert_int_equal(wire_give_part(&k, k.n, FRAME_IP_BAD, 0), 0);
    assert_int_equal(stat_get(&wire.stats, STAT_DROP_IP_SUM), 2);
}

static void ipv4_lengths(void **state)
{
    (void)state;
    struct packet k = tcp4();
    k.b[14] = 0x44;
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    k.b[14] = 0x55;
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    k = tcp4();
    be16_put(k.b + 16, 41);
    sum4_fix(&k);
    wire_dropped(&k, STAT_DROP_SHORT);
    be16_put(k.b + 16, 19);
    sum4_fix(&k);
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    k = tcp4();
    k.b[14] = 0x4f; /* a header longer than the packet */
    wire_dropped(&k, STAT_DROP_IP_HEADER);
}

/* With options of n bytes before the segment. */
static struct packet with_options(const char *options, uint32_t n)
{
    struct packet k = tcp4();
    memmove(k.b + 34 + n, k.b + 34, sizeof segment);
    memcpy(k.b + 34, options, n);
    k.n += n;
    k.b[14] = (uint8_t)(0x40 | (5 + n / 4));
    be16_put(k.b + 16, (uint16_t)(40 + n));
    sum4_fix(&k);
    return k;
}

static void ipv4_options(void **state)
{
    static const char *const bad[] = {
        "\x83\x04\x04\0", /* loose source route */
        "\x89\x04\x04\0", /* strict */
        "\x01\x01\x83\x03" /* behind others */,
        "\x07\0\0\0",   /* length 0 */
        "\x07\x01\0\0", /* 1 */
        "\x07\x05\0\0", /* beyond */
        "\x01\x01\x01\x07" /* no length */,
    };
    (void)state;
    struct packet k = with_options("\x94\x04\0\0\x01\x07\x03\0", 8); /* router alert, nop, record route */
    assert_int_equal(wire_give(&k), 1);
    assert_memory_equal(wire.p.l4, segment, sizeof segment);
    k = with_options("\0\x83\x83\x83", 4); /* nothing counts behind the end */
    assert_int_equal(wire_give(&k), 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        k = with_options(bad[i], 4);
        wire_dropped(&k, STAT_DROP_IP_HEADER);
        k.n = 38; /* nothing behind the header */
        be16_put(k.b + 16, 24);
        sum4_fix(&k);
        wire_dropped(&k, STAT_DROP_IP_HEADER);
    }
}

static void ipv4_fragments(void **state)
{
    (void)state;
    for (uint16_t flags = 1; flags <= 0x2000; flags *= 2) {
        struct packet k = tcp4();
        be16_put(k.b + 20, flags);
        sum4_fix(&k);
        wire_dropped(&k, STAT_DROP_IP_FRAGMENT);
    }
}

static void ipv4_addresses(void **state)
{
    static const char *const sources[] = {"0.0.0.0",         "127.0.0.1",   "224.0.0.1", "239.255.255.255", "192.0.2.1",
                                          "255.255.255.255", "192.0.2.255", "192.0.2.0", "127.255.0.1"};
    static const char *const destinations[] = {"192.0.2.2", "192.0.2.255", "255.255.255.255", "224.0.0.1", "127.0.0.1"};
    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct packet k = ip4_from(9, sources[i], "192.0.2.1", 6, segment, sizeof segment);
        wire_dropped(&k, STAT_DROP_BOGON);
    }
    for (size_t i = 0; i < sizeof destinations / sizeof *destinations; i++) {
        struct packet k = ip4_from(9, "192.0.2.9", destinations[i], 6, segment, sizeof segment);
        wire_dropped(&k, STAT_DROP_IP_ADDRESS);
    }
    struct packet k = ip4_from(9, "192.0.2.9", "192.0.2.1", 17, segment, sizeof segment);
    wire_dropped(&k, STAT_DROP_IP_PROTOCOL);
    k.b[23] = 58;
    sum4_fix(&k);
    wire_dropped(&k, STAT_DROP_IP_PROTOCOL); /* the other version's ICMP */
}

/* ---- IPv6 */

static void ipv6_taken(void **state)
{
    (void)state;
    struct packet k = tcp6();
    struct ip_addr src = addr("2001:db8::9");
    k.b[15] = 0x20; /* class 2: ECT(0) */
    assert_int_equal(wire_give(&k), 1);
    assert_true(ip_addr_eq(&wire.p.src, &src));
    assert_int_equal(wire.p.local, 1);
    assert_int_equal(wire.p.ecn, 2);
    assert_int_equal(wire.p.hops, 64);
    assert_memory_equal(wire.p.l4, segment, sizeof segment);
    k.b[14] = 0x40;
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    k = tcp6();
    be16_put(k.b + 18, sizeof segment + 1);
    wire_dropped(&k, STAT_DROP_SHORT);
}

/* With these extension headers, the first of which is of this kind. */
static struct packet extended(uint8_t first, const char *p, uint32_t n)
{
    uint8_t body[2048];
    memcpy(body, p, n);
    memcpy(body + n, segment, sizeof segment);
    return ip6_from(9, "2001:db8::9", "2001:db8::1", first, 64, body, (uint32_t)(n + sizeof segment));
}

static void ipv6_extensions(void **state)
{
    (void)state;
    struct packet k = extended(0,
                               "\x3c\0\x05\x02\0\0\x01\0" /* hop-by-hop: router alert, padding; */
                               "\x2b\0\x01\x04\0\0\0\0"   /* destination: padding; */
                               "\x06\0\x02\0\0\0\0\0",
                               24); /* routing, used up; TCP */
    assert_int_equal(wire_give(&k), 1);
    assert_memory_equal(wire.p.l4, segment, sizeof segment);
    assert_int_equal(wire.p.proto, 6);
    k = extended(43, "\x06\0\0\x01\0\0\0\0", 8); /* a segment left */
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    k = extended(60, "\0\0\x01\x04\0\0\0\0\x06\0\x01\x04\0\0\0\0", 16); /* hop-by-hop, not first */
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    k = extended(44, "\x06\0\0\0\0\0\0\x01", 8);
    wire_dropped(&k, STAT_DROP_IP_FRAGMENT);
    k = extended(60, "\x2c\0\x01\x04\0\0\0\0\x06\0\0\0\0\0\0\x01", 16);
    wire_dropped(&k, STAT_DROP_IP_FRAGMENT);
    k = extended(59, "", 0);
    wire_dropped(&k, STAT_DROP_IP_PROTOCOL);
}

static void ipv6_options(void **state)
{
    static const char *const bad[] = {
        "\x06\0\xc2\x04\0\0\0\0",                             /* jumbo: drop when not understood */
        "\x06\0\x40\x04\0\0\0\0",   "\x06\0\x01\x05\0\0\0\0", /* beyond the header */
        "\x06\0\0\0\0\0\0\x01",                               /* no length */
        "\x06\x03\x01\x04\0\0\0\0",                           /* a header beyond the packet */
    };
    (void)state;
    struct packet k = extended(60, "\x06\0\x3e\x02\0\0\0\0", 8); /* unknown, to be skipped; Pad1 twice */
    assert_int_equal(wire_give(&k), 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        k = extended(60, bad[i], 8);
        wire_dropped(&k, STAT_DROP_IP_HEADER);
    }
}

static void ipv6_extensions_are_bounded(void **state)
{
    char many[9 * 8], long_one[264] = {6, 32, 1, 0};
    (void)state;
    for (int i = 0; i < 9; i++)
        memcpy(many + i * 8, i == 8 ? "\x06\0\x01\x04\0\0\0\0" : "\x3c\0\x01\x04\0\0\0\0", 8);
    struct packet k = extended(60, many, 72);
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    k = extended(60, many + 8, 64);
    assert_int_equal(wire_give(&k), 1);
    k = extended(60, long_one, 264);
    wire_dropped(&k, STAT_DROP_IP_HEADER);
    long_one[1] = 31;
    k = extended(60, long_one, 256);
    assert_int_equal(wire_give(&k), 1);
}

static void ipv6_addresses(void **state)
{
    static const char *const sources[] = {"::", "::1", "ff02::1", "2001:db8::1", "::ffff:192.0.2.9"};
    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct packet k = ip6_from(9, sources[i], "2001:db8::1", 6, 64, segment, sizeof segment);
        wire_dropped(&k, STAT_DROP_BOGON);
    }
    struct packet k = ip6_from(9, "2001:db8::9", "::ffff:192.0.2.1", 6, 64, segment, sizeof segment);
    wire_dropped(&k, STAT_DROP_BOGON);
    k = ip6_from(9, "2001:db8::9", "2001:db8::2", 6, 64, segment, sizeof segment);
    wire_dropped(&k, STAT_DROP_IP_ADDRESS);
    k = ip6_from(9, "2001:db8::9", "ff02::1", 6, 64, segment, sizeof segment);
    wire_dropped(&k, STAT_DROP_IP_ADDRESS);
    k = ip6_from(9, "fe80::9", "fe80::ff:fe00:1", 6, 64, segment, sizeof segment); /* link-local, from our MAC */
    assert_int_equal(wire_give(&k), 1);
    assert_int_equal(wire.p.local, 2);
    struct ip_addr link_local = addr("fe80::ff:fe00:1"), at = ip_addr_at(wire.ip, 2);
    assert_int_equal(ip_addrs_n(wire.ip), 3);
    assert_true(ip_addr_eq(&at, &link_local));
}

static void cut_and_turned(void **state)
{
    (void)state;
    struct packet k = with_options("\x94\x04\0\0\x01\x07\x03\0", 8);
    wire_mangle(&k, 1, NULL);
    k = tagged(k, 0);
    wire_mangle(&k, 2, NULL);
    k = extended(0, "\x3c\0\x05\x02\0\0\x01\0\x2b\0\x01\x04\0\0\0\0\x06\0\x02\0\0\0\0\0", 24);
    wire_mangle(&k, 3, NULL);
}

/* ---- out */

static void out_on_link4(void **state)
{
    (void)state;
    wire_output(0, "192.0.2.9", 100);
    assert_int_equal(wire.n, 1);
    assert_arp(0, 1, "192.0.2.1", "192.0.2.9");
    wire_resolve4(9, "192.0.2.9");
    const uint8_t *p = sent(1);
    struct ip_addr src = addr("192.0.2.1"), dst = addr("192.0.2.9");
    assert_true(sent_to(1, 9));
    assert_int_equal(wire.sent[1].n, 14 + 20 + 100);
    assert_memory_equal(p + 12, "\x08\0\x45\0\0\x78\0\0\x40\0\x40\x06", 12); /* ID 0, don't fragment, TTL 64 */
    assert_memory_equal(p + 26, src.b + 12, 4);
    assert_memory_equal(p + 30, dst.b + 12, 4);
    assert_true(sum_good(sum_add(0, p + 14, 20)));
    assert_true(sum_good(sum_add(sum_pseudo(&src, &dst, 6, 100), p + 34, 100)));
    assert_int_equal(wire.sent[1].l3, 14);
    assert_int_equal(wire.sent[1].l4, 34);
    assert_int_equal(wire.sent[1].flags, 0);
    assert_int_equal(wire.out, 0);
}

static void out_by_gateway(void **state)
{
    (void)state;
    wire_output(0, "198.51.100.9", 20);
    assert_arp(0, 1, "192.0.2.1", "192.0.2.254");
    wire_resolve4(254, "192.0.2.254");
    assert_true(sent_to(1, 254));
    wire_output(0, "203.0.113.9", 20);
    assert_true(sent_to(2, 254));
    wire_output(1, "2600::9", 20);
    assert_ndp(3, 135, "2001:db8::1", "ff02::1:ff00:fe", "2001:db8::fe");
    struct packet k = ndp_from(254, "2001:db8::fe", "2001:db8::1", 136, 0x60, "2001:db8::fe", 2);
    assert_int_equal(wire_give(&k), 0);
    assert_true(sent_to(4, 254));
    const uint8_t *p = sent(4);
    struct ip_addr src = addr("2001:db8::1"), dst = addr("2600::9");
    assert_memory_equal(p + 12, "\x86\xdd\x60\0\0\0\0\x14\x06\x40", 10);
    assert_true(sum_good(sum_add(sum_pseudo(&src, &dst, 6, 20), p + 54, 20)));
    assert_int_equal(wire.sent[4].l3, 14);
    assert_int_equal(wire.sent[4].l4, 54);
}

static void out_nowhere(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    wire_close();
    memset(&cfg.gateway4, 0, sizeof cfg.gateway4);
    wire_open(&cfg);
    wire_output(0, "198.51.100.9", 20);
    wire_output(0, "192.0.2.1", 20); /* ourselves */
    assert_int_equal(wire.n, 0);
    assert_int_equal(wire.out, 0);
    assert_int_equal(stat_get(&wire.stats, STAT_TX_NO_NEIGHBOUR), 2);
}

static void out_with_offloads(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    wire_close();
    cfg.tx_ip_sum = cfg.tx_tcp_sum = cfg.tx_vlan = true;
    cfg.vlan = 7;
    wire_open(&cfg);
    struct packet k = arp_from(9, 1, ARP_ANSWER, "192.0.2.9", "192.0.2.1");
    wire_output(0, "192.0.2.9", 100);
    assert_int_equal(wire.sent[0].flags, FRAME_VLAN);
    wire_give_part(&k, k.n, FRAME_VLAN, 7);
    const uint8_t *p = sent(1);
    struct ip_addr src = addr("192.0.2.1"), dst = addr("192.0.2.9");
    uint16_t pseudo = sum_fold(sum_pseudo(&src, &dst, 6, 100));
    assert_int_equal(wire.sent[1].flags, FRAME_VLAN | FRAME_TX_IP_SUM | FRAME_TX_TCP_SUM);
    assert_int_equal(wire.sent[1].vlan, 7);
    assert_int_equal(be16_get(p + 24), 0);
    assert_memory_equal(p + 34 + 16, &pseudo, 2);
}

static void out_tagged(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    wire_close();
    cfg.vlan = 7;
    wire_open(&cfg);
    struct packet k = arp_from(9, 1, ARP_ANSWER, "192.0.2.9", "192.0.2.1");
    wire_output(0, "192.0.2.9", 100);
    assert_memory_equal(sent(0) + 12, "\x81\0\0\x07\x08\x06", 6);
    wire_give_part(&k, k.n, FRAME_VLAN, 7);
    assert_memory_equal(sent(1) + 12, "\x81\0\0\x07\x08\0\x45", 7);
    assert_int_equal(wire.sent[1].l3, 18);
    assert_int_equal(wire.sent[1].l4, 38);
}

static void out_ecn(void **state)
{
    (void)state;
    struct frame f;
    struct ip_route to = {.dst = addr("2001:db8::9"), .local = 1, .ecn = 2};
    struct packet k = ndp_from(9, "2001:db8::9", "2001:db8::1", 136, 0x60, "2001:db8::9", 2);
    wire_alloc(NULL, &f);
    f.n = 20;
    memset(f.p, 0, 20);
    ip_output(wire.ip, &f, &to, wire.now_us);
    wire_give(&k);
    assert_int_equal(be32_get(sent(1) + 14), 0x60200000);
}

/* ---- our addresses */

static void ipv4_probed_then_announced(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    wire_close();
    cfg.dad = true;
    cfg.addrs_n = 1;
    cfg.gateway6 = (struct ip_addr){0};
    wire_open(&cfg);
    uint64_t start = wire.now_us;
    struct packet k = tcp4();
    for (uint32_t i = 0; i < 3; i++) {
        while (wire.n == i)
            wire_wait(SECOND / 100);
        assert_arp(i, 1, "0.0.0.0", "192.0.2.1");
        assert_false(ip_addr_ready(wire.ip, 0));
        wire_dropped(&k, STAT_DROP_IP_ADDRESS);
    }
    assert_in_range(wire.now_us - start, 2 * SECOND, 5 * SECOND + SECOND / 10);
    wire_wait(2 * SECOND - SECOND / 50);
    assert_false(ip_addr_ready(wire.ip, 0));
    wire_wait(SECOND / 50);
    assert_true(ip_addr_ready(wire.ip, 0));
    assert_arp(3, 1, "192.0.2.1", "192.0.2.1");
    assert_int_equal(wire_give(&k), 1);
    wire_wait(60 * SECOND);
    assert_int_equal(wire.n, 5);
    assert_arp(4, 1, "192.0.2.1", "192.0.2.1");
    assert_int_equal(ip_next_us(wire.ip), UINT64_MAX);
}

static void addresses_announced_without_probes(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    struct packet k = tcp4();
    wire_close();
    cfg.announce = true;
    cfg.addrs_n = 1;
    cfg.gateway6 = (struct ip_addr){0};
    wire_open(&cfg);
    assert_int_equal(wire_give(&k), 1); /* used at once */
    wire_wait(60 * SECOND);
    assert_int_equal(wire.n, 2);
    assert_arp(0, 1, "192.0.2.1", "192.0.2.1");
    assert_arp(1, 1, "192.0.2.1", "192.0.2.1");
    assert_int_equal(ip_next_us(wire.ip), UINT64_MAX);
}

static void open_probing(uint8_t only)
{
    struct ip_config cfg = wire_config();
    wire_close();
    cfg.dad = true;
    cfg.addrs_n = 1;
    if (only == 6)
        cfg.addrs[0] = cfg.addrs[1];
    *(only == 6 ? &cfg.gateway4 : &cfg.gateway6) = (struct ip_addr){0};
    wire_open(&cfg);
}

static void ipv4_taken_by_another(void **state)
{
    (void)state;
    struct packet k[] = {arp_from(9, 0xff, ARP_ASK, "192.0.2.1", "192.0.2.77"), /* he uses it */
                         arp_from(9, 1, ARP_ANSWER, "192.0.2.1", "0.0.0.0"),    /* he answers the probe */
                         arp_from(9, 0xff, ARP_ASK, "0.0.0.0", "192.0.2.1")};   /* he probes at the same time */
    for (int i = 0; i < 3; i++) {
        open_probing(4);
        wire_wait(3 * SECOND / 2);
        assert_int_equal(wire_give(&k[i]), 0);
        wire_forget();
        wire_wait(30 * SECOND);
        assert_int_equal(wire.n, 0);
        assert_false(ip_addr_ready(wire.ip, 0));
        assert_int_equal(stat_get(&wire.stats, STAT_ADDR_CONFLICT), 1);
        wire_wait(40 * SECOND); /* a minute later he is gone */
        assert_true(ip_addr_ready(wire.ip, 0));
    }
}

static void ipv4_defended_with_a_limit(void **state)
{
    (void)state;
    struct packet k = arp_from(9, 0xff, ARP_ASK, "192.0.2.1", "192.0.2.77");
    for (int i = 0; i < 100; i++)
        assert_int_equal(wire_give(&k), 0);
    assert_int_equal(wire.n, 1);
    assert_arp(0, 1, "192.0.2.1", "192.0.2.1");
    wire_wait(11 * SECOND);
    wire_give(&k);
    assert_int_equal(wire.n, 2);
    assert_true(ip_addr_ready(wire.ip, 0));
}

static void ipv6_probed(void **state)
{
    (void)state;
    open_probing(6);
    wire_wait(SECOND);
    assert_int_equal(wire.n, 4); /* and the link-local address; each with a report before it */
    for (uint32_t i = 1; i < 4; i += 2) {
        bool global = sent(i)[62] == 0x20;
        assert_ndp(i, 135, "::", "ff02::1:ff00:1", global ? "2001:db8::1" : "fe80::ff:fe00:1");
        assert_int_equal(wire.sent[i].n, 14 + 40 + 24); /* without an option */
    }
    wire_forget();
    wire_wait(SECOND);
    assert_true(ip_addr_ready(wire.ip, 0) && ip_addr_ready(wire.ip, 1));
    assert_int_equal(be16_get(sent(1) + 54), 136 << 8);
}

static void ipv6_taken_by_another(void **state)
{
    (void)state;
    struct packet k[] = {ndp_from(9, "2001:db8::1", "ff02::1", 136, 0x20, "2001:db8::1", 2),
                         ndp_from(9, "::", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 0)};
    for (int i = 0; i < 2; i++) {
        open_probing(6);
        wire_wait(SECOND / 2);
        wire_give(&k[i]);
        wire_wait(30 * SECOND);
        assert_false(ip_addr_ready(wire.ip, 0));
        assert_true(ip_addr_ready(wire.ip, 1));
    }
}

static void ipv6_probe_of_another_is_answered(void **state)
{
    (void)state;
    struct packet k = ndp_from(9, "::", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 0);
    assert_int_equal(wire_give(&k), 0);
    assert_ndp(0, 136, "2001:db8::1", "ff02::1", "2001:db8::1");
    assert_memory_equal(sent(0), "\x33\x33\0\0\0\x01", 6);
    assert_int_equal(sent(0)[58], 0x20); /* not solicited */
}

/* ---- several queues */

static void quiet_queues_are_quiet(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    uint8_t echo[16] = {8};
    wire_close();
    cfg.dad = cfg.quiet = true;
    wire_open(&cfg);
    wire_wait(20 * SECOND);
    assert_true(ip_addr_ready(wire.ip, 0) && ip_addr_ready(wire.ip, 1));
    struct packet k[] = {arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1"),
                         icmp4_from(9, "192.0.2.9", "192.0.2.1", echo, sizeof echo),
                         ndp_from(9, "2001:db8::9", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 1),
                         arp_from(9, 0xff, ARP_ASK, "192.0.2.1", "192.0.2.77"),
                         arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.77")};
    for (int i = 0; i < 5; i++)
        assert_int_equal(wire_give(&k[i]), 0);
    assert_int_equal(wire.n, 0);
    assert_int_equal(stat_get(&wire.stats, STAT_DROP_ARP), 0);
    wire_output(0, "192.0.2.9", 20); /* but it asks for itself */
    assert_arp(0, 1, "192.0.2.1", "192.0.2.9");
    wire_resolve4(9, "192.0.2.9");
    assert_true(sent_to(1, 9));
}

static bool shared(const struct packet *k)
{
    struct frame f = {.p = malloc(k->n), .n = k->n};
    memcpy(f.p, k->b, k->n);
    bool yes = ip_frame_shared(&f);
    for (f.n = 0; f.n < k->n; f.n++) { /* at each length, at the end of its block */
        uint8_t *all = f.p;
        f.p = malloc(f.n + 1);
        memcpy(f.p + 1, all, f.n);
        struct frame cut = {.p = f.p + 1, .n = f.n};
        (void)ip_frame_shared(&cut);
        free(f.p);
        f.p = all;
    }
    free(f.p);
    return yes;
}

static void what_queues_share(void **state)
{
    uint8_t echo[16] = {8};
    (void)state;
    struct packet k[] = {arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1"),
                         icmp4_from(9, "192.0.2.9", "192.0.2.1", echo, sizeof echo),
                         ndp_from(9, "2001:db8::9", "ff02::1:ff00:1", 135, 0, "2001:db8::1", 1)};
    for (int i = 0; i < 3; i++) {
        struct packet with_tag = tagged(k[i], 5);
        assert_true(shared(&k[i]));
        assert_true(shared(&with_tag));
    }
    k[0] = tcp4();
    k[1] = tcp6();
    k[2] = tagged(tcp4(), 5);
    for (int i = 0; i < 3; i++)
        assert_false(shared(&k[i]));
}

/* ---- paths */

static void paths(void **state)
{
    (void)state;
    struct ip_addr a4 = addr("198.51.100.1"), b4 = addr("198.51.100.2"), a6 = addr("2600::1");
    assert_int_equal(ip_mtu(wire.ip, &a4, wire.now_us), 1500);
    ip_mtu_learn(wire.ip, &a4, 1400, wire.now_us);
    ip_mtu_learn(wire.ip, &a6, 600, wire.now_us);
    assert_int_equal(ip_mtu(wire.ip, &a4, wire.now_us), 1400);
    assert_int_equal(ip_mtu(wire.ip, &b4, wire.now_us), 1500);
    assert_int_equal(ip_mtu(wire.ip, &a6, wire.now_us), 1280);
    wire_wait(300 * SECOND);
    ip_mtu_learn(wire.ip, &a4, 1450, wire.now_us); /* never wider */
    assert_int_equal(ip_mtu(wire.ip, &a4, wire.now_us), 1400);
    ip_mtu_learn(wire.ip, &b4, 68, wire.now_us);
    assert_int_equal(ip_mtu(wire.ip, &b4, wire.now_us), 576);
    wire_wait(300 * SECOND); /* ten minutes */
    assert_int_equal(ip_mtu(wire.ip, &a4, wire.now_us), 1500);
    assert_int_equal(ip_mtu(wire.ip, &b4, wire.now_us), 576);
    wire_wait(300 * SECOND);
    assert_int_equal(ip_mtu(wire.ip, &b4, wire.now_us), 1500);
}

static void paths_are_bounded(void **state)
{
    (void)state;
    struct ip_addr a = addr("2600::");
    uint32_t known = 0;
    for (int round = 0; round < 2; round++) {
        known = 0;
        for (uint32_t i = 0; i < 10000; i++) {
            be32_put(a.b + 12, i);
            if (round == 0)
                ip_mtu_learn(wire.ip, &a, 1300, wire.now_us + i);
            known += ip_mtu(wire.ip, &a, wire.now_us + 10000) == 1300;
        }
    }
    assert_in_range(known, 48, 64); /* the latest, as buckets have them */
}

/* ---- configuration */

static void refused(const struct ip_config *cfg, const char *because)
{
    char why[256] = "";
    struct ip *ip;
    void *mem = calloc(1, ip_bytes(cfg));
    assert_true(ip_init(&ip, mem, cfg, &wire_pool, &wire.stats, 0, why) < 0);
    if (!strstr(why, because))
        fail_msg("\"%s\" does not say \"%s\"", why, because);
    free(mem);
}

#define REFUSED(because, ...)                                                                                          \
    do {                                                                                                               \
        struct ip_config cfg = wire_config();                                                                          \
        __VA_ARGS__;                                                                                                   \
        refused(&cfg, because);                                                                                        \
    } while (0)

static void configurations_refused(void **state)
{
    (void)state;
    REFUSED("station", cfg.mac[0] = 1);
    REFUSED("station", memset(cfg.mac, 0, 6));
    REFUSED("vlan 4095", cfg.vlan = 4095);
    REFUSED("mtu 575", cfg.mtu = 575);
    REFUSED("needs 1280", cfg.mtu = 1279);
    REFUSED("0 addresses", cfg.addrs_n = 0);
    REFUSED("17 addresses", cfg.addrs_n = 17);
    REFUSED("127.0.0.1/8: no host", cfg.addrs[0] = prefix("127.0.0.1", 8));
    REFUSED("224.0.0.1/8: no host", cfg.addrs[0] = prefix("224.0.0.1", 8));
    REFUSED("::1/128: no host", cfg.addrs[1] = prefix("::1", 128));
    REFUSED("ff02::1/64: no host", cfg.addrs[1] = prefix("ff02::1", 64));
    REFUSED("the network's own", cfg.addrs[0] = prefix("192.0.2.0", 24));
    REFUSED("the network's own", cfg.addrs[0] = prefix("192.0.2.255", 24));
    REFUSED("prefix length", cfg.addrs[0] = prefix("192.0.2.1", 0));
    REFUSED("prefix length", cfg.addrs[1] = prefix("2001:db8::1", 129));
    REFUSED("twice", cfg.addrs[1] = cfg.addrs[0]);
    REFUSED("in none of our networks", cfg.gateway4 = addr("192.0.3.1"));
    REFUSED("in none of our networks", cfg.gateway6 = addr("2001:db8:1::1"));
    REFUSED("our own", cfg.gateway4 = addr("192.0.2.1"));
    REFUSED("expected an IPv4", cfg.gateway4 = addr("2001:db8::2"));
    REFUSED("expected an IPv6", cfg.gateway6 = addr("192.0.2.2"));
    REFUSED("no IPv6 address", cfg.addrs_n = 1);
    REFUSED("neighbours 0", cfg.neighbours_max = 0);
    REFUSED("paths 0", cfg.paths_max = 0);
}

static void configurations_taken(void **state)
{
    (void)state;
    struct ip_config cfg = wire_config();
    wire_close();
    cfg.addrs[0] = prefix("192.0.2.0", 31); /* RFC 3021 */
    cfg.gateway4 = addr("192.0.2.1");
    cfg.gateway6 = addr("fe80::1");
    wire_open(&cfg);
    wire_output(0, "198.51.100.1", 20);
    assert_arp(0, 1, "192.0.2.0", "192.0.2.1");
    wire_output(1, "2600::1", 20); /* asked for from the address that is on its link */
    assert_ndp(1, 135, "fe80::ff:fe00:1", "ff02::1:ff00:1", "fe80::1");
}

static void no_buffers_left(void **state)
{
    (void)state;
    struct packet k = arp_from(9, 0xff, ARP_ASK, "192.0.2.9", "192.0.2.1");
    wire.none_left = true;
    assert_int_equal(wire_give(&k), 0);
    assert_int_equal(wire.n, 0);
    assert_int_equal(stat_get(&wire.stats, STAT_TX_NOBUF), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(ethernet),
        T(padding_is_left_out),
        T(vlans),
        T(ipv4_taken),
        T(ipv4_sums),
        T(ipv4_lengths),
        T(ipv4_options),
        T(ipv4_fragments),
        T(ipv4_addresses),
        T(ipv6_taken),
        T(ipv6_extensions),
        T(ipv6_options),
        T(ipv6_extensions_are_bounded),
        T(ipv6_addresses),
        T(cut_and_turned),
        T(out_on_link4),
        T(out_by_gateway),
        T(out_nowhere),
        T(out_with_offloads),
        T(out_tagged),
        T(out_ecn),
        T(ipv4_probed_then_announced),
        T(addresses_announced_without_probes),
        T(ipv4_taken_by_another),
        T(ipv4_defended_with_a_limit),
        T(ipv6_probed),
        T(ipv6_taken_by_another),
        T(ipv6_probe_of_another_is_answered),
        T(quiet_queues_are_quiet),
        T(what_queues_share),
        T(paths),
        T(paths_are_bounded),
        T(configurations_refused),
        T(configurations_taken),
        T(no_buffers_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
