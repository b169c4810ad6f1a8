/* say.c - a frame that a peer sends, in words. */
#include "tests/pkt/say.h"
#include "tests/pkt/say_net.h"

#include <stdlib.h>

/* ---- options of TCP, in the order of their words */

static void opt(struct spec *t, const void *p, unsigned n)
{
    if (t->opts_n + n <= sizeof t->opts) {
        memcpy(t->opts + t->opts_n, p, n);
        t->opts_n += n;
    }
}

static void opt_ts(struct spec *t, uint32_t val, uint32_t ecr)
{
    uint8_t o[12] = {1, 1, 8, 10};
    put32(o + 4, val);
    put32(o + 8, ecr);
    opt(t, o, 12);
}

static uint32_t ts_now(const struct world *w, const struct peer *c)
{
    return c->ts_start + (uint32_t)((w->now_us - c->ts_start_us) / 1000);
}

static void word_mss(struct words *s, struct peer *c, struct spec *t)
{
    uint8_t o[4] = {2, 4};
    (void)c;
    put16(o + 2, (uint32_t)words_int(s));
    opt(t, o, 4);
}

static void word_wscale(struct words *s, struct peer *c, struct spec *t)
{
    uint8_t o[3] = {3, 3, (uint8_t)words_int(s)};
    (void)c;
    opt(t, o, 3);
}

static void word_sackok(struct words *s, struct peer *c, struct spec *t)
{
    (void)s;
    (void)c;
    opt(t, (uint8_t[]){4, 2}, 2);
}

/* ts VALUE|now ECHO|last */
static void word_ts(struct words *s, struct peer *c, struct spec *t)
{
    uint32_t val = words_take(s, "now") ? ts_now(s->w, c) : (uint32_t)words_int(s);
    uint32_t ecr = words_take(s, "last") ? c->ts_ours : (uint32_t)words_int(s);
    opt_ts(t, val, ecr);
}

static void word_sack(struct words *s, struct peer *c, struct spec *t)
{
    uint8_t o[4 + 32] = {1, 1, 5, 2};
    int64_t start, end;
    bool any;
    while (words_look(s) && words_range(s, words_look(s), &start, &end, &any) && o[3] < 34) {
        put32(o + 2 + o[3], c->our_isn + (uint32_t)start);
        put32(o + 6 + o[3], c->our_isn + (uint32_t)end);
        o[3] = (uint8_t)(o[3] + 8);
        s->i++;
    }
    opt(t, o, o[3] + 2u);
}

static void word_nop(struct words *s, struct peer *c, struct spec *t)
{
    (void)s;
    (void)c;
    opt(t, (uint8_t[]){1}, 1);
}

static void word_eol(struct words *s, struct peer *c, struct spec *t)
{
    (void)s;
    (void)c;
    opt(t, (uint8_t[]){0}, 1);
}

static void word_opts(struct words *s, struct peer *c, struct spec *t)
{
    (void)c;
    t->opts_n += words_hex(s, t->opts + t->opts_n, (uint32_t)sizeof t->opts - t->opts_n);
}

/* ---- the rest of the header */

static void word_ack(struct words *s, struct peer *c, struct spec *t)
{
    t->ack = c->our_isn + (uint32_t)words_int(s);
}

/* In bytes, as the peer means it. */
static void word_win(struct words *s, struct peer *c, struct spec *t)
{
    uint32_t bytes = (uint32_t)words_int(s);
    uint8_t scale = c->ws_on && !(t->flags_tcp & F_SYN) ? c->ws_peers : 0;
    if (bytes >> scale > 0xffff || bytes & ((1u << scale) - 1))
        fail(s->w, "the script: a window of %u cannot be said with scale %u", bytes, scale);
    t->wnd = (uint16_t)(bytes >> scale);
}

static void word_rawwin(struct words *s, struct peer *c, struct spec *t)
{
    (void)c;
    t->wnd = (uint16_t)words_int(s);
}

static void word_urg(struct words *s, struct peer *c, struct spec *t)
{
    (void)c;
    t->urg = (uint16_t)words_int(s);
}

static void word_doff(struct words *s, struct peer *c, struct spec *t)
{
    (void)c;
    t->doff = (uint8_t)words_int(s);
    t->has_doff = true;
}

static void word_sport(struct words *s, struct peer *c, struct spec *t)
{
    (void)c;
    t->sport = (uint16_t)words_int(s);
}

static void word_dport(struct words *s, struct peer *c, struct spec *t)
{
    (void)c;
    t->dport = (uint16_t)words_int(s);
}

static const struct {
    const char *word;
    void (*take)(struct words *s, struct peer *c, struct spec *t);
} tcp_words[] = {{"mss", word_mss},   {"wscale", word_wscale}, {"sackok", word_sackok}, {"ts", word_ts},
                 {"sack", word_sack}, {"nop", word_nop},       {"eol", word_eol},       {"opts", word_opts},
                 {"ack", word_ack},   {"win", word_win},       {"rawwin", word_rawwin}, {"urg", word_urg},
                 {"doff", word_doff}, {"sport", word_sport},   {"dport", word_dport}};

static bool tcp_word(struct words *s, struct peer *c, struct spec *t, const char *word)
{
    for (size_t i = 0; i < sizeof tcp_words / sizeof *tcp_words; i++)
        if (!strcmp(tcp_words[i].word, word)) {
            tcp_words[i].take(s, c, t);
            return true;
        }
    if (!strcmp(word, "junk"))
        return t->junk = true;
    if (!strcmp(word, "zerosum"))
        return t->zero_sum = true;
    return false;
}

/* ---- what the peer knows after it spoke */

static void note_option(const struct world *w, struct peer *c, const uint8_t *o)
{
    if (o[0] == 2 && o[1] == 4) {
        c->mss = get16(o + 2);
    } else if (o[0] == 3 && o[1] == 3) {
        c->ws_asked = true;
        c->ws_peers = o[2] > 14 ? 14 : o[2];
    } else if (o[0] == 4 && o[1] == 2) {
        c->sack_asked = true;
    } else if (o[0] == 8 && o[1] == 10) {
        c->ts_asked = true;
        c->ts_start = get32(o + 2);
        c->ts_start_us = w->now_us;
    }
}

/* As RFC 9293 3.2 reads them, by words or by `opts`: a malformed one ends them, one of wrong size is none. */
static void note_options(const struct world *w, struct peer *c, const struct spec *t)
{
    c->ts_asked = c->ws_asked = c->sack_asked = false;
    c->mss = ip_addr_is4(&c->addr) ? 536 : 1220; /* RFC 9293 3.7.1: the default */
    for (unsigned i = 0; i < t->opts_n && t->opts[i] != 0;) {
        if (t->opts[i] == 1) {
            i++;
            continue;
        }
        if (i + 1 >= t->opts_n || t->opts[i + 1] < 2 || i + t->opts[i + 1] > t->opts_n)
            return;
        note_option(w, c, t->opts + i);
        i += t->opts[i + 1];
    }
}

static void note_syn(const struct world *w, struct peer *c, const struct spec *t)
{
    c->syn = t->seq;
    note_options(w, c, t);
    c->ecn_asked = (t->flags_tcp & (F_ECE | F_CWR)) == (F_ECE | F_CWR);
    if (t->flags_tcp & F_ACK) { /* an answer to our own SYN */
        c->ts_on = c->ts_asked && c->offers_ts;
        c->ws_on = c->ws_asked && c->offers_ws;
        c->sack_on = c->sack_asked && c->offers_sack;
        c->ecn_on = (t->flags_tcp & (F_ECE | F_CWR)) == F_ECE && c->offers_ecn;
    }
}

static void note_window(struct peer *c, const struct spec *t)
{
    uint8_t scale = c->ws_on && !(t->flags_tcp & F_SYN) ? c->ws_peers : 0;
    uint32_t edge = t->ack + ((uint32_t)t->wnd << scale);
    bool sane = (int32_t)(t->ack - c->our_next) <= 0 && (int32_t)(t->ack - c->our_isn) > 0;
    if (t->flags_tcp & F_ACK && sane && (!c->edge_peers_known || (int32_t)(edge - c->edge_peers) > 0)) {
        c->edge_peers = edge;
        c->edge_peers_known = true;
    }
}

struct spec say_segment(struct world *w, struct peer *c, uint16_t flags)
{
    struct spec t = {.kind = PKT_TCP, .vlan = SPEC_DEFAULT};
    t.src = c->addr;
    t.dst = world_host(w, HOST_US);
    t.has_smac = true;
    memcpy(t.smac, c->mac, 6);
    t.sport = c->port;
    t.dport = c->our_port;
    t.flags_tcp = flags;
    t.seq = c->next;
    t.ack = flags & F_ACK ? c->our_next : 0;
    t.wnd = (uint16_t)(c->ws_on && !(flags & F_SYN) ? 65535 >> c->ws_peers : 65535);
    return t;
}

void say_send(struct world *w, struct peer *c, const struct spec *t)
{
    char text[512];
    struct pkt k = {.kind = PKT_TCP, .flags = t->flags_tcp, .seq = t->seq, .ack = t->ack, .n = t->payload_n};
    k.wnd = t->wnd;
    k.tos = t->tos;
    if (t->flags_tcp & F_SYN)
        note_syn(w, c, t);
    note_window(c, t);
    if (t->seq == c->next)
        c->next += t->payload_n + !!(t->flags_tcp & F_SYN) + !!(t->flags_tcp & F_FIN);
    pkt_text(&k, c, false, text, sizeof text);
    trace(w, ">", text);
    build_send(w, t);
}

static void tcp_line(struct words *s, struct peer *c, int flags)
{
    struct spec t = say_segment(s->w, c, (uint16_t)flags);
    int64_t start, end;
    bool any, stamps = c->ts_on && !(flags & F_SYN);
    const char *word = words_look(s);
    if (word && words_range(s, word, &start, &end, &any)) {
        t.seq = c->isn + (uint32_t)start;
        t.payload_rel = (uint32_t)start + !!(flags & F_SYN);
        t.payload_n = (uint32_t)(end - start);
        s->i++;
        if (end < start || end - start > 65000)
            fail(s->w, "the script: a segment of %lld bytes", (long long)(end - start));
    }
    while (words_look(s) && !s->w->failed) {
        word = words_next(s);
        if (!strcmp(word, "ts") || !strcmp(word, "nots"))
            stamps = false;
        if (strcmp(word, "nots") != 0 && !tcp_word(s, c, &t, word) && !say_net_word(s, &t, word))
            words_unknown(s, word);
    }
    if (stamps)
        opt_ts(&t, ts_now(s->w, c), c->ts_ours);
    if (!s->w->failed)
        say_send(s->w, c, &t);
    free(t.ext);
}

void say_line(struct words *s, struct peer *c)
{
    const char *word = words_next(s);
    int flags = words_flags(word);
    if (say_net_line(s, c, word))
        return;
    if (flags < 0)
        return words_unknown(s, word);
    tcp_line(s, c, flags);
}
