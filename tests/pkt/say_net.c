/* say_net.c - what a peer's frame says below TCP. */
#include "tests/pkt/say_net.h"

#include <stdlib.h>

/* ---- words about Ethernet and IP */

/* ext hop|dest|route|mobility|NUMBER HEX, from the length byte on; ext*N for N of them. */
static void word_ext(struct words *s, struct spec *t, unsigned times)
{
    static const struct {
        const char *name;
        uint8_t type;
    } types[] = {{"hop", 0}, {"route", 43}, {"esp", 50}, {"ah", 51}, {"none", 59}, {"dest", 60}, {"mobility", 135}};
    struct spec_ext e = {.type = 255};
    const char *word = words_next(s);
    int64_t n;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, word))
            e.type = types[i].type;
    if (e.type == 255 && words_number(s, word, &n))
        e.type = (uint8_t)n;
    e.n = (uint16_t)words_hex(s, e.body, sizeof e.body);
    t->ext = realloc(t->ext, (t->ext_n + times) * sizeof *t->ext);
    while (times-- > 0)
        t->ext[t->ext_n++] = e;
}

static void word_frag(struct words *s, struct spec *t)
{
    t->frag = true;
    t->frag_at = (uint32_t)words_int(s);
    t->more = words_take(s, "more");
}

static void word_vlan(struct words *s, struct spec *t)
{
    t->vlan = words_take(s, "none") ? SPEC_NONE : (int)words_int(s);
}

static void word_mac(struct words *s, uint8_t mac[6], bool *has_r)
{
    int64_t n;
    *has_r = true;
    if (words_look(s) && words_number(s, words_look(s), &n) && strlen(words_look(s)) <= 3) {
        s->i++;
        world_mac((unsigned)n, mac);
    } else if (words_hex(s, mac, 6) != 6) {
        words_unknown(s, "that MAC");
    }
}

struct flag_word {
    const char *word;
    size_t at;
};

static const struct flag_word bools[] = {{"badsum", offsetof(struct spec, bad_sum)},
                                         {"badipsum", offsetof(struct spec, bad_ip_sum)},
                                         {"vlan-off", offsetof(struct spec, vlan_taken_off)},
                                         {"nomac", offsetof(struct spec, no_mac_option)}};

static const struct {
    const char *word;
    uint16_t flag;
} port_says[] = {
    {"ipgood", FRAME_IP_GOOD}, {"ipbad", FRAME_IP_BAD}, {"l4good", FRAME_L4_GOOD}, {"l4bad", FRAME_L4_BAD}};

static const struct {
    const char *word;
    uint8_t tos;
} marks[] = {{"ect1", 1}, {"ect0", 2}, {"ce", 3}};

static bool plain_word(struct spec *t, const char *word)
{
    for (size_t i = 0; i < sizeof bools / sizeof *bools; i++)
        if (!strcmp(bools[i].word, word))
            return *(bool *)((char *)t + bools[i].at) = true;
    for (size_t i = 0; i < sizeof port_says / sizeof *port_says; i++)
        if (!strcmp(port_says[i].word, word))
            return t->flags |= port_says[i].flag;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (!strcmp(marks[i].word, word))
            return t->tos |= marks[i].tos;
    return false;
}

static bool number_word(struct words *s, struct spec *t, const char *word)
{
    if (!strcmp(word, "ttl"))
        t->ttl = (uint8_t)words_int(s);
    else if (!strcmp(word, "tos"))
        t->tos = (uint8_t)words_int(s);
    else if (!strcmp(word, "proto"))
        t->proto = (uint8_t)words_int(s);
    else if (!strcmp(word, "iplen"))
        t->ip_extra = (int)words_int(s);
    else if (!strcmp(word, "pad"))
        t->pad = (uint32_t)words_int(s);
    else if (!strcmp(word, "ethertype"))
        t->ethertype = (uint16_t)words_int(s);
    else if (!strcmp(word, "version")) {
        t->version = (uint8_t)words_int(s);
        t->has_version = true;
    } else if (!strcmp(word, "ihl")) {
        t->ihl = (uint8_t)words_int(s);
        t->has_ihl = true;
    } else if (!strcmp(word, "truncate")) {
        t->truncate = (uint32_t)words_int(s);
        t->has_truncate = true;
    } else {
        return false;
    }
    return true;
}

bool say_net_word(struct words *s, struct spec *t, const char *word)
{
    unsigned times;
    if (plain_word(t, word) || number_word(s, t, word))
        return true;
    if (!strcmp(word, "src"))
        t->src = words_addr(s);
    else if (!strcmp(word, "dst"))
        t->dst = words_addr(s);
    else if (!strcmp(word, "ipopt"))
        t->options_n = (uint8_t)words_hex(s, t->options, sizeof t->options);
    else if (!strcmp(word, "ext"))
        word_ext(s, t, 1);
    else if (sscanf(word, "ext*%u", &times) == 1)
        word_ext(s, t, times);
    else if (!strcmp(word, "frag"))
        word_frag(s, t);
    else if (!strcmp(word, "vlan"))
        word_vlan(s, t);
    else if (!strcmp(word, "smac"))
        word_mac(s, t->smac, &t->has_smac);
    else if (!strcmp(word, "dmac"))
        word_mac(s, t->dmac, &t->has_dmac);
    else
        return false;
    return true;
}

/* The rest of the line: such words alone. */
static void rest(struct words *s, struct spec *t)
{
    while (words_look(s) && !s->w->failed) {
        const char *word = words_next(s);
        if (!say_net_word(s, t, word))
            words_unknown(s, word);
    }
}

static void send(struct words *s, struct spec *t)
{
    trace(s->w, ">", s->l->text + strspn(s->l->text, "> "));
    if (!s->w->failed)
        build_send(s->w, t);
    free(t->ext);
}

/* ---- arp request|reply for WHO from WHO [to WHO] [mac N]; ndp solicit|advert likewise */

/* False: none of these words. */
static bool who(struct words *s, struct spec *t, struct ip_addr *target, struct ip_addr *sender)
{
    unsigned before = s->i;
    for (bool more = true; more && !s->w->failed;) {
        if (words_take(s, "for")) {
            *target = words_addr(s);
        } else if (words_take(s, "from")) {
            *sender = words_addr(s);
            world_mac(sender->b[15], t->mac);
            memcpy(t->smac, t->mac, 6);
        } else if (words_take(s, "to")) {
            t->dst = words_addr(s);
        } else if (words_take(s, "mac")) {
            bool has;
            word_mac(s, t->mac, &has);
        } else {
            more = false;
        }
    }
    return s->i > before;
}

static void arp_line(struct words *s)
{
    struct spec t = {.kind = PKT_ARP, .vlan = SPEC_DEFAULT, .has_smac = true};
    t.type = words_take(s, "request") ? 1 : words_take(s, "reply") ? 2 : (uint8_t)words_int(s);
    t.target = world_host(s->w, HOST_US);
    who(s, &t, &t.target, &t.sender);
    if (t.type == 1) {
        t.has_dmac = true;
        memset(t.dmac, 0xff, 6);
    }
    rest(s, &t);
    send(s, &t);
}

/* RFC 4291 2.7.1: ff02::1:ffXX:XXXX, and its MAC. */
static void solicited_node(const struct ip_addr *target, struct ip_addr *group_r, uint8_t mac_r[6])
{
    memset(group_r, 0, sizeof *group_r);
    memcpy(group_r->b, (uint8_t[]){0xff, 2}, 2);
    group_r->b[11] = 1;
    group_r->b[12] = 0xff;
    memcpy(group_r->b + 13, target->b + 13, 3);
    memcpy(mac_r, (uint8_t[]){0x33, 0x33}, 2);
    memcpy(mac_r + 2, group_r->b + 12, 4);
}

static bool ndp_flag(struct words *s, struct spec *t)
{
    static const char *const names[] = {"router", "solicited", "override"};
    for (unsigned i = 0; i < 3; i++)
        if (words_take(s, names[i])) {
            t->na_flags |= 0x80000000u >> i;
            return true;
        }
    return false;
}

static void ndp_line(struct words *s)
{
    static uint8_t options[512];
    struct spec t = {.kind = PKT_NDP, .vlan = SPEC_DEFAULT, .has_smac = true, .ttl = 255};
    struct ip_addr unset = {.q = {0, 0}};
    t.type = words_take(s, "solicit") ? 135 : words_take(s, "advert") ? 136 : (uint8_t)words_int(s);
    t.target = t.src = world_host(s->w, HOST_US);
    while (who(s, &t, &t.target, &t.src) || ndp_flag(s, &t))
        ;
    if (words_take(s, "options")) {
        t.body_n = words_hex(s, options, sizeof options);
        t.body = options;
        t.no_mac_option = true;
    }
    if (ip_addr_eq(&t.dst, &unset) && t.type == 135) {
        t.has_dmac = true;
        solicited_node(&t.target, &t.dst, t.dmac);
    } else if (ip_addr_eq(&t.dst, &unset)) {
        t.dst = world_host(s->w, HOST_US);
    }
    rest(s, &t);
    send(s, &t);
}

/* ---- icmp echo|reply ID NUMBER (BYTES); icmp unreach|... seq N */

static const struct {
    const char *name;
    uint8_t type4, code4, type6, code6;
} errors[] = {{"net", 3, 0, 1, 0},  {"host", 3, 1, 1, 3},   {"proto", 3, 2, 4, 1},
              {"port", 3, 3, 1, 4}, {"toobig", 3, 4, 2, 0}, {"admin", 3, 13, 1, 1},
              {"ttl", 11, 0, 3, 0}, {"param", 12, 0, 4, 0}, {"quench", 4, 0, 100, 0}};

static void echo(struct words *s, struct spec *t, bool reply)
{
    static uint8_t body[66000];
    t->type = s->w->variant.v6 ? (reply ? 129 : 128) : (reply ? 0 : 8);
    put16(t->rest, (uint32_t)words_int(s));
    put16(t->rest + 2, (uint32_t)words_int(s));
    unsigned n = 0;
    if (words_look(s) && sscanf(words_look(s), "(%u)", &n) == 1)
        s->i++;
    for (unsigned i = 0; i < n && i < sizeof body; i++)
        body[i] = peer_byte(i);
    t->body = body;
    t->body_n = n;
}

struct quote {
    struct ip_addr src, dst;
    uint16_t sport, dport;
    uint32_t seq, n;
};

static bool quote_word(struct words *s, const struct peer *c, struct spec *t, struct quote *q)
{
    if (words_take(s, "seq"))
        q->seq = c->our_isn + (uint32_t)words_int(s);
    else if (words_take(s, "quote"))
        q->n = (uint32_t)words_int(s);
    else if (words_take(s, "qsport"))
        q->sport = (uint16_t)words_int(s);
    else if (words_take(s, "qdport"))
        q->dport = (uint16_t)words_int(s);
    else if (words_take(s, "qsrc"))
        q->src = words_addr(s);
    else if (words_take(s, "qdst"))
        q->dst = words_addr(s);
    else if (words_take(s, "mtu")) /* as over IPv4: see world_start */
        put32(t->rest, (uint32_t)words_int(s) + (s->w->variant.v6 ? WIRE_IP6 - WIRE_IP4 : 0));
    else if (words_take(s, "rawmtu"))
        put32(t->rest, (uint32_t)words_int(s));
    else
        return false;
    return true;
}

static void icmp_error(struct words *s, const struct peer *c, struct spec *t, const char *name)
{
    static uint8_t body[2048];
    struct quote q = {world_host(s->w, HOST_US), c->addr, c->our_port, c->port, c->our_isn, 20};
    bool known = false;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, name)) {
            t->type = s->w->variant.v6 ? errors[i].type6 : errors[i].type4;
            t->code = s->w->variant.v6 ? errors[i].code6 : errors[i].code4;
            known = true;
        }
    if (!known)
        return words_unknown(s, name);
    while (quote_word(s, c, t, &q))
        ;
    t->body_n = build_quote(body, &q.src, &q.dst, q.sport, q.dport, q.seq, q.n);
    t->body = body;
}

static void icmp_line(struct words *s, struct peer *c)
{
    struct spec t = {.kind = PKT_ICMP, .vlan = SPEC_DEFAULT, .src = c->addr, .dst = world_host(s->w, HOST_US)};
    const char *name = words_next(s);
    t.has_smac = true;
    memcpy(t.smac, c->mac, 6);
    if (!strcmp(name, "echo") || !strcmp(name, "reply")) {
        echo(s, &t, *name == 'r');
    } else if (!strcmp(name, "type")) {
        t.type = (uint8_t)words_int(s);
        t.code = (uint8_t)words_int(s);
    } else {
        t.src = world_host(s->w, HOST_GATEWAY);
        world_mac(HOST_GATEWAY, t.smac);
        icmp_error(s, c, &t, name);
    }
    rest(s, &t);
    send(s, &t);
}

static void raw_line(struct words *s)
{
    static struct spec t;
    t = (struct spec){.kind = PKT_OTHER, .vlan = SPEC_DEFAULT};
    while (words_look(s) && !s->w->failed)
        t.raw_n += words_hex(s, t.raw + t.raw_n, (uint32_t)sizeof t.raw - t.raw_n);
    send(s, &t);
}

bool say_net_line(struct words *s, struct peer *c, const char *word)
{
    if (!strcmp(word, "arp"))
        arp_line(s);
    else if (!strcmp(word, "ndp"))
        ndp_line(s);
    else if (!strcmp(word, "icmp"))
        icmp_line(s, c);
    else if (!strcmp(word, "raw"))
        raw_line(s);
    else
        return false;
    return true;
}
