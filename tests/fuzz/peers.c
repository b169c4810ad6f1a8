/* peers.c - the peers of a fuzzed stack: what they were told, the frames that they make of it, and what holds of each
 * frame that comes. */
#include "dataplane/tcp/seq.h"
#include "tests/fuzz/fuzz.h"

enum { ETHER = 14, IP4 = 20, IP6 = 40, TCP = 20, ICMP = 8, ARP = 28 };
enum { PROTO_ICMP4 = 1, PROTO_TCP = 6, PROTO_ICMP6 = 58 };

const uint8_t peers_mac_us[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t mac_peer[6] = {2, 0, 0, 0, 0, 1};

static bool v6;
static const uint64_t *now_us;

/* A SYN-ACK of the stack, and the furthest window that it announced in that conversation. */
struct greeting {
    uint32_t isn;
    uint8_t shift; /* of its windows; 0: no scaling */
    bool edge_known;
    uint32_t edge;
};

static struct peer {
    uint32_t seq, ack; /* next of ours, next of theirs, as far as we were told */
    uint32_t ts_ecr;
    struct greeting greetings[GREETINGS_N];
    unsigned greetings_n; /* ever; the last ones are kept */
} peers[PEERS];

uint32_t take_delta(struct bytes *b)
{
    switch (take8(b) % 6) {
    case 0:
    case 1:
        return 0;
    case 2:
        return (uint32_t)(int32_t)(int8_t)take8(b);
    case 3:
        return take16(b);
    case 4:
        return 0u - take16(b);
    default:
        return take32(b);
    }
}

/* ---- addresses and sums */

static struct ip_addr addr_of(uint8_t host)
{
    if (!v6) {
        uint8_t b[4] = {10, 0, 0, host};
        uint32_t w;
        memcpy(&w, b, 4);
        return ip_addr_of4(w);
    }
    struct ip_addr a = {.b = {0x20, 0x01, 0x0d, 0xb8}};
    a.b[15] = host;
    return a;
}

struct ip_addr peers_addr_us(void)
{
    return addr_of(2);
}

void peers_open(bool six, uint64_t *clock)
{
    memset(peers, 0, sizeof peers);
    v6 = six;
    now_us = clock;
}

static uint32_t sum_add(const uint8_t *p, uint32_t n, uint32_t sum)
{
    for (uint32_t i = 0; i < n; i++)
        sum += (uint32_t)(i % 2 ? p[i] : p[i] << 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static uint32_t sum_pseudo(const uint8_t *ip, uint32_t l4_n, uint8_t proto)
{
    bool six = ip[0] >> 4 == 6;
    return sum_add(ip + (six ? 8 : 12), six ? 32 : 8, l4_n + proto);
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

/* ---- frames that come */

static void check_sums(const uint8_t *p, uint32_t n)
{
    const uint8_t *ip = p + ETHER;
    bool six = ip[0] >> 4 == 6;
    uint32_t head = six ? IP6 : (ip[0] & 15) * 4u, l4_n = n - ETHER - head;
    if (!six && sum_add(ip, head, 0) != 0xffff)
        world_fail("an IPv4 header with a wrong checksum was sent");
    if (sum_add(ip + head, l4_n, sum_pseudo(ip, l4_n, PROTO_TCP)) != 0xffff)
        world_fail("a segment with a wrong checksum was sent");
}

/* Of those greetings that are kept the one that w stands least behind. */
static struct greeting *greeting_of(struct peer *k, const struct wire_tcp *w)
{
    unsigned kept = k->greetings_n < GREETINGS_N ? k->greetings_n : GREETINGS_N;
    struct greeting *best = NULL;
    for (unsigned i = 0; i < kept; i++)
        if (!best || w->seq - k->greetings[i].isn < w->seq - best->isn)
            best = &k->greetings[i];
    return best;
}

static void greet(struct peer *k, const struct wire_tcp *w)
{
    struct greeting *g = greeting_of(k, w);
    if (!g || g->isn != w->seq)
        g = &k->greetings[k->greetings_n++ % GREETINGS_N];
    *g = (struct greeting){.isn = w->seq, .shift = (uint8_t)(w->wscale > 0 ? w->wscale : 0)};
}

/* RFC 9293 3.8.6: what was offered is not taken back. */
static void check_window(struct peer *k, const struct wire_tcp *w)
{
    struct greeting *g = greeting_of(k, w);
    if (!g || !w->ack || w->syn)
        return;
    uint32_t edge = w->ackno + ((uint32_t)w->wnd << g->shift);
    if (g->edge_known && seq_lt(edge, g->edge))
        world_fail("the window's right edge moved back by %u", g->edge - edge);
    g->edge = edge;
    g->edge_known = true;
}

static void hear_tcp(const struct wire_tcp *w)
{
    uint32_t i = w->dport - PORT_FIRST;
    if (w->malformed)
        world_fail("malformed options were sent");
    if (i >= PEERS || w->rst)
        return;
    struct peer *k = &peers[i];
    if (w->syn)
        greet(k, w);
    check_window(k, w);
    k->ack = w->seq + w->data_n + w->syn + w->fin;
    if (w->has_ts)
        k->ts_ecr = w->ts_val;
    if (w->ack)
        k->seq = w->ackno;
}

/* Asked for its address the peer answers, or nothing would ever be sent. */
static void hear_arp(const uint8_t *p, uint32_t n)
{
    if (n < ETHER + ARP || p[12] != 8 || p[13] != 6 || p[21] != 1)
        return;
    uint8_t f[ETHER + ARP];
    memcpy(f, p, sizeof f);
    memcpy(f, peers_mac_us, 6);
    memcpy(f + 6, mac_peer, 6);
    f[21] = 2;
    memcpy(f + 22, mac_peer, 6);
    memcpy(f + 28, p + 38, 4);
    memcpy(f + 32, peers_mac_us, 6);
    memcpy(f + 38, p + 28, 4);
    if (fuzz_room())
        fuzz_give(f, sizeof f);
}

/* ---- frames that go */

static uint8_t *put_ip6(uint8_t *ip, uint32_t l4_n, uint8_t proto, uint8_t tos)
{
    struct ip_addr peer = addr_of(1), us = addr_of(2);
    ip[0] = (uint8_t)(0x60 | tos >> 4);
    ip[1] = (uint8_t)(tos << 4);
    put16(ip + 4, l4_n);
    ip[6] = proto;
    ip[7] = 255;
    memcpy(ip + 8, peer.b, 16);
    memcpy(ip + 24, us.b, 16);
    return ip + IP6;
}

/* Ethernet and IP headers from the peer to us into a frame of zeroes; returns where the rest begins. */
static uint8_t *put_ip(uint8_t *f, uint32_t l4_n, uint8_t proto, uint8_t tos)
{
    struct ip_addr peer = addr_of(1), us = addr_of(2);
    uint8_t *ip = f + ETHER;
    memcpy(f, peers_mac_us, 6);
    memcpy(f + 6, mac_peer, 6);
    put16(f + 12, v6 ? 0x86dd : 0x0800);
    if (v6)
        return put_ip6(ip, l4_n, proto, tos);
    ip[0] = 0x45;
    ip[1] = tos;
    put16(ip + 2, IP4 + l4_n);
    ip[8] = 64;
    ip[9] = proto;
    memcpy(ip + 12, &peer.w[3], 4);
    memcpy(ip + 16, &us.w[3], 4);
    put16(ip + 10, ~sum_add(ip, IP4, 0));
    return ip + IP4;
}

static void put_sum(uint8_t *f, uint8_t *l4, uint32_t l4_n, uint8_t proto, uint32_t at)
{
    bool pseudo = v6 || proto == PROTO_TCP;
    put16(l4 + at, 0);
    put16(l4 + at, ~sum_add(l4, l4_n, pseudo ? sum_pseudo(f + ETHER, l4_n, proto) : 0));
}

static void hear_ndp(const uint8_t *p, uint32_t n)
{
    enum { ADVERT = 32 };
    if (n < ETHER + IP6 + 24 || p[12] != 0x86 || p[20] != PROTO_ICMP6 || p[54] != 135 || !fuzz_room())
        return;
    uint8_t f[ETHER + IP6 + ADVERT] = {0}, *l4 = put_ip(f, ADVERT, PROTO_ICMP6, 0);
    l4[0] = 136;
    l4[4] = 0x60;
    memcpy(l4 + 8, p + 62, 16);
    l4[24] = 2;
    l4[25] = 1;
    memcpy(l4 + 26, mac_peer, 6);
    put_sum(f, l4, ADVERT, PROTO_ICMP6, 2);
    fuzz_give(f, sizeof f);
}

void peers_hear(const uint8_t *p, uint32_t n)
{
    struct wire_tcp w;
    if (!wire_decode(&w, p, n)) {
        hear_arp(p, n);
        hear_ndp(p, n);
        return;
    }
    check_sums(p, n);
    hear_tcp(&w);
}

/* Timestamps that will do, where the input says 0xff; else the input's own bytes. */
static void put_options(struct bytes *b, const struct peer *k, uint8_t *opt, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        opt[i] = take8(b);
    if (n != 12 || opt[0] != 0xff)
        return;
    memcpy(opt, (uint8_t[4]){1, 1, 8, 10}, 4);
    put32(opt + 4, (uint32_t)(*now_us / 1000) + take_delta(b));
    put32(opt + 8, k->ts_ecr);
}

/* flags, port, shape: low bits words of options, then ECN, then payload; 0xff: a wrong checksum. */
void peers_segment(struct bytes *b)
{
    uint8_t f[FRAME_ROOM] = {0}, flags = take8(b), port = take8(b) % PEERS, shape = take8(b);
    struct peer *k = &peers[port];
    uint32_t opt_n = ((shape & 15) > 10 ? 10 : shape & 15) * 4u;
    uint32_t data_n = shape & 128 ? take16(b) % 1400 : shape & 64 ? 10 : 0, l4_n = TCP + opt_n + data_n;
    uint8_t *l4 = put_ip(f, l4_n, PROTO_TCP, shape >> 4 & 3);
    put16(l4, PORT_FIRST + port);
    put16(l4 + 2, 25);
    put32(l4 + 4, k->seq + take_delta(b));
    put32(l4 + 8, k->ack + take_delta(b));
    l4[12] = (uint8_t)((TCP + opt_n) / 4 << 4);
    l4[13] = flags;
    put16(l4 + 14, take8(b) % 4 ? 0xffff : take16(b));
    put_options(b, k, l4 + TCP, opt_n);
    memset(l4 + TCP + opt_n, 'x', data_n);
    put_sum(f, l4, l4_n, PROTO_TCP, 16);
    if (shape == 0xff)
        l4[16] ^= 1;
    fuzz_give(f, (uint32_t)(l4 - f) + l4_n);
}

void peers_handshake(struct bytes *b)
{
    uint8_t port = take8(b);
    uint8_t syn[] = {2, port, 5, 0, 0, 1, /* MSS 1460 */ 2, 4, 5, 180, /* SACK */ 4, 2, /* timestamps */ 8, 10, 0, 0,
                     0, 1,    0, 0, 0, 0, /* scale */ 1,    3, 3, 7};
    uint8_t ack[] = {16, port, 3, 0, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    peers_segment(&(struct bytes){syn, sizeof syn});
    fuzz_turn();
    peers_segment(&(struct bytes){ack, sizeof ack});
}

/* Any bytes, behind a good Ethernet header mostly. */
void peers_raw(struct bytes *b)
{
    uint8_t f[256] = {0}, n = take8(b), from = take8(b) % 3 ? ETHER : 0;
    put_ip(f, 60, take8(b), 0);
    for (uint32_t i = from; i < n && b->n > 0; i++)
        f[i] = take8(b);
    fuzz_give(f, n);
}

static void put_quote(uint8_t *q, uint32_t port, uint32_t seq)
{
    struct ip_addr peer = addr_of(1), us = addr_of(2);
    uint8_t *tcp = q + (v6 ? IP6 : IP4);
    q[0] = v6 ? 0x60 : 0x45;
    q[v6 ? 6 : 9] = PROTO_TCP;
    put16(q + (v6 ? 4 : 2), 1500);
    memcpy(q + (v6 ? 8 : 12), v6 ? us.b : (uint8_t *)&us.w[3], v6 ? 16 : 4);
    memcpy(q + (v6 ? 24 : 16), v6 ? peer.b : (uint8_t *)&peer.w[3], v6 ? 16 : 4);
    put16(tcp, 25);
    put16(tcp + 2, port);
    put32(tcp + 4, seq);
}

/* An error about what the stack sent, or nearly. */
void peers_icmp(struct bytes *b)
{
    uint8_t f[256] = {0}, port = take8(b) % PEERS;
    uint32_t quote = (v6 ? IP6 : IP4) + 8 + take8(b) % 24, l4_n = ICMP + quote;
    uint8_t proto = v6 ? PROTO_ICMP6 : PROTO_ICMP4, *l4 = put_ip(f, l4_n, proto, 0);
    l4[0] = v6 ? (uint8_t)(1 + take8(b) % 4) : 3;
    l4[1] = take8(b) % 6;
    put16(l4 + 6, take16(b));
    put_quote(l4 + ICMP, PORT_FIRST + port, peers[port].ack + take_delta(b));
    put_sum(f, l4, l4_n, proto, 2);
    fuzz_give(f, (uint32_t)(l4 - f) + l4_n);
}

/* ARP or NDP: any bytes behind a good beginning. */
void peers_link(struct bytes *b)
{
    uint8_t f[128] = {0};
    uint32_t n = 24 + take8(b) % 48;
    if (!v6) {
        static const uint8_t head[] = {8, 6, 0, 1, 8, 0, 6, 4, 0};
        put_ip(f, n, 0, 0);
        memcpy(f + 12, head, sizeof head);
        for (uint32_t i = 21; i < ETHER + n; i++)
            f[i] = take8(b);
        fuzz_give(f, ETHER + n);
        return;
    }
    uint8_t *l4 = put_ip(f, n, PROTO_ICMP6, 0);
    l4[0] = (uint8_t)(133 + take8(b) % 5);
    for (uint32_t i = 4; i < n; i++)
        l4[i] = take8(b);
    put_sum(f, l4, n, PROTO_ICMP6, 2);
    fuzz_give(f, (uint32_t)(l4 - f) + n);
}
