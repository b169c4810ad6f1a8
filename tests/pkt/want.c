/* want.c - a frame that the stack must send. What a line does not mention may be anything, but: flags (PSH only when
 * mentioned), payload and options are as the line says; "..." allows more options. */
#include "tests/pkt/want.h"

/* Timers are of milliseconds, rounded once on either side. */
#define TOLERANCE_US 2000u

struct range64 {
    bool set;
    int64_t low, high;
};

struct want {
    enum pkt_kind kind;
    uint64_t low_us, high_us; /* after the line before */
    /* TCP, relative */
    int flags;
    bool has_seq, any_seq, any_end;
    int64_t seq, end;
    struct range64 ack, win, ts_val, ts_ecr, mss, wscale, id, number, ttl;
    bool sackok, more, has_sack, any_ack;
    unsigned sack_n;
    int64_t sack[4][2];
    struct range64 ect; /* the two bits */
    /* ARP, NDP, ICMP */
    int type; /* -1: any */
    bool has_target, has_sender, has_to;
    struct ip_addr target, sender, to;
    struct range64 na_flags;
    uint32_t n;
};

/* ---- the words */

/* "5", "*", ">=5", "<=5", "5..9" */
static struct range64 range(struct words *s)
{
    struct range64 r = {.set = true, .low = INT64_MIN, .high = INT64_MAX};
    const char *word = words_next(s);
    long long a, b;
    if (!strcmp(word, "*"))
        r.set = false;
    else if (sscanf(word, ">=%lld", &a) == 1)
        r.low = a;
    else if (sscanf(word, "<=%lld", &a) == 1)
        r.high = a;
    else if (sscanf(word, "%lld..%lld", &a, &b) == 2)
        r = (struct range64){true, a, b};
    else if (words_number(s, word, &r.low))
        r.high = r.low;
    else
        words_unknown(s, word);
    return r;
}

/* "*": any value, but there must be one. */
static struct range64 present(struct range64 r)
{
    return r.set ? r : (struct range64){true, INT64_MIN, INT64_MAX};
}

static void sack(struct words *s, struct want *e)
{
    bool any;
    e->has_sack = true;
    while (words_look(s) && e->sack_n < 4 &&
           words_range(s, words_look(s), &e->sack[e->sack_n][0], &e->sack[e->sack_n][1], &any)) {
        e->sack_n++;
        s->i++;
    }
}

static bool ect(struct want *e, const char *word)
{
    static const struct {
        const char *word;
        int64_t low, high;
    } marks[] = {{"notect", 0, 0}, {"ect1", 1, 1}, {"ect0", 2, 2}, {"ect", 1, 2}, {"ce", 3, 3}};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (!strcmp(marks[i].word, word)) {
            e->ect = (struct range64){true, marks[i].low, marks[i].high};
            return true;
        }
    return false;
}

static void tcp_word(struct words *s, struct want *e, const char *word)
{
    static const struct {
        const char *word;
        size_t at;
    } ranges[] = {{"ack", offsetof(struct want, ack)},
                  {"win", offsetof(struct want, win)},
                  {"mss", offsetof(struct want, mss)},
                  {"wscale", offsetof(struct want, wscale)},
                  {"ttl", offsetof(struct want, ttl)}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!strcmp(ranges[i].word, word)) {
            struct range64 *r = (struct range64 *)((char *)e + ranges[i].at);
            *r = present(range(s));
            return;
        }
    if (!strcmp(word, "ts")) {
        e->ts_val = present(range(s));
        e->ts_ecr = present(range(s));
    } else if (!strcmp(word, "sackok"))
        e->sackok = true;
    else if (!strcmp(word, "sack"))
        sack(s, e);
    else if (!strcmp(word, "..."))
        e->more = true;
    else if (!ect(e, word))
        words_unknown(s, word);
}

static void parse_tcp(struct words *s, struct want *e, const char *first)
{
    e->kind = PKT_TCP;
    e->any_ack = !strcmp(first, "R*"); /* a reset with or without ACK */
    e->flags = e->any_ack ? F_RST : words_flags(first);
    if (e->flags < 0)
        return words_unknown(s, first);
    const char *word = words_look(s);
    if (word && !strcmp(word, "*")) {
        e->any_seq = true;
        s->i++;
    } else if (word && words_range(s, word, &e->seq, &e->end, &e->any_end)) {
        e->has_seq = true;
        s->i++;
    }
    while (words_look(s) && !s->w->failed)
        tcp_word(s, e, words_next(s));
}

static void who(struct words *s, struct want *e)
{
    for (bool more = true; more && !s->w->failed;) {
        if ((more = words_take(s, "for"))) {
            e->has_target = true;
            e->target = words_addr(s);
        } else if ((more = words_take(s, "from"))) {
            e->has_sender = true;
            e->sender = words_addr(s);
        } else if ((more = words_take(s, "to"))) {
            e->has_to = true;
            e->to = words_addr(s);
        } else if ((more = words_take(s, "flags"))) {
            e->na_flags = range(s);
        }
    }
}

static void parse_icmp(struct words *s, struct want *e)
{
    unsigned n;
    e->kind = PKT_ICMP;
    if (words_take(s, "reply"))
        e->type = s->w->variant.v6 ? 129 : 0;
    else
        e->type = (int)words_int(s);
    e->id = range(s);
    e->number = range(s);
    if (words_look(s) && sscanf(words_look(s), "(%u)", &n) == 1) {
        e->n = n;
        s->i++;
    }
    if (words_take(s, "to")) {
        e->has_to = true;
        e->to = words_addr(s);
    }
}

static void parse(struct words *s, struct want *e)
{
    const char *word = words_next(s);
    e->type = -1;
    if (!strcmp(word, "arp")) {
        e->kind = PKT_ARP;
        e->type = words_take(s, "request") ? 1 : words_take(s, "reply") ? 2 : -1;
        who(s, e);
    } else if (!strcmp(word, "ndp")) {
        e->kind = PKT_NDP;
        e->type = words_take(s, "solicit") ? 135 : words_take(s, "advert") ? 136 : -1;
        who(s, e);
    } else if (!strcmp(word, "icmp")) {
        parse_icmp(s, e);
    } else {
        parse_tcp(s, e, word);
    }
    if (words_look(s))
        words_unknown(s, words_look(s));
}

/* ---- comparing: NULL when it fits, else what does not */

static bool within(struct range64 r, int64_t v)
{
    return !r.set || (v >= r.low && v <= r.high);
}

static const char *options_differ(const struct want *e, const struct pkt *k, const struct peer *c)
{
    bool syn = k->flags & F_SYN;
    if (e->mss.set ? !k->has_mss || !within(e->mss, k->mss) : syn && k->has_mss && !e->more)
        return "mss";
    if (e->wscale.set ? !k->has_ws || !within(e->wscale, k->ws) : syn && k->has_ws && !e->more)
        return "wscale";
    if (e->sackok ? !k->sackok : syn && k->sackok && !e->more)
        return "sackok";
    if (e->ts_val.set ? !k->has_ts || !within(e->ts_val, k->ts_val) || !within(e->ts_ecr, k->ts_ecr)
                      : syn && k->has_ts && !e->more)
        return "ts";
    if (e->more && !e->has_sack)
        return NULL;
    bool same = e->sack_n == k->sack_n;
    for (unsigned i = 0; same && i < e->sack_n; i++)
        same = k->sack[i][0] == c->isn + (uint32_t)e->sack[i][0] && k->sack[i][1] == c->isn + (uint32_t)e->sack[i][1];
    return same ? NULL : "sack";
}

static const char *tcp_differs(const struct want *e, const struct pkt *k, const struct peer *c)
{
    int ignored = (e->flags & F_PSH ? 0 : F_PSH) | (e->any_ack ? F_ACK : 0);
    uint8_t scale = c->ws_on && !(k->flags & F_SYN) ? c->ws_ours : 0;
    if ((k->flags | ignored) != (e->flags | ignored))
        return "flags";
    if (!e->any_seq && e->has_seq && k->seq != c->our_isn + (uint32_t)e->seq)
        return "sequence number";
    if (!e->any_seq && !e->any_end && k->n != (uint32_t)(e->end - e->seq))
        return "length of the payload";
    if (e->ack.set && (!(k->flags & F_ACK) || !within(e->ack, (int32_t)(k->ack - c->isn))))
        return "ack";
    if (!within(e->win, (int64_t)k->wnd << scale))
        return "window";
    if (!within(e->ect, k->tos & 3))
        return "ECN bits";
    if (!within(e->ttl, k->ttl))
        return "TTL";
    return options_differ(e, k, c);
}

static const char *other_differs(const struct want *e, const struct pkt *k)
{
    if (e->type >= 0 && e->type != k->type)
        return "type";
    if (e->has_target && !ip_addr_eq(&e->target, &k->target))
        return "whom it is for";
    if (e->has_sender && !ip_addr_eq(&e->sender, k->kind == PKT_ARP ? &k->sender : &k->src))
        return "whom it is from";
    if (e->has_to && !ip_addr_eq(&e->to, &k->dst))
        return "whom it goes to";
    if (k->kind == PKT_NDP && !within(e->na_flags, k->na_flags >> 29))
        return "flags";
    if (k->kind == PKT_ICMP && (!within(e->id, k->id) || !within(e->number, k->number)))
        return "identifier or number";
    if (k->kind == PKT_ICMP && k->n != e->n)
        return "length";
    for (uint32_t i = 0; k->kind == PKT_ICMP && i < k->n; i++)
        if (k->data[i] != peer_byte(i))
            return "bytes";
    return NULL;
}

/* ---- waiting */

static struct sent *next_of(struct world *w, const struct want *e, const struct peer *c)
{
    for (size_t i = 0; i < w->sent_n; i++) {
        struct sent *t = &w->sent[i];
        if (!t->taken && t->k.kind == e->kind && (e->kind != PKT_TCP || t->peer == c))
            return t;
    }
    return NULL;
}

static struct sent *wait_for(struct world *w, const struct want *e, const struct peer *c)
{
    uint64_t limit = w->now_us + e->high_us + TOLERANCE_US;
    struct sent *t;
    while (!(t = next_of(w, e, c)))
        if (!world_step(w, limit))
            return NULL;
    return t;
}

static void compare(struct world *w, const struct want *e, struct sent *t, const struct peer *c, uint64_t base_us)
{
    const char *what = e->kind == PKT_TCP ? tcp_differs(e, &t->k, c) : other_differs(e, &t->k);
    uint64_t after = t->at_us > base_us ? t->at_us - base_us : 0;
    char text[512];
    pkt_text(&t->k, t->peer, true, text, sizeof text);
    if (after + TOLERANCE_US < e->low_us || after > e->high_us + TOLERANCE_US)
        fail(w, "sent +%.3f: %s\n(the time differs)", (double)after / 1e6, text);
    else if (what)
        fail(w, "sent +%.3f: %s\n(%s)", (double)after / 1e6, text, what);
    t->taken = true;
}

void want_line(struct words *s, struct peer *c)
{
    struct want e = {0};
    uint64_t base = s->w->now_us;
    words_time(s, &e.low_us, &e.high_us);
    parse(s, &e);
    if (s->w->failed)
        return;
    struct sent *t = wait_for(s->w, &e, c);
    if (t)
        return compare(s->w, &e, t, c, base);
    t = world_unexpected(s->w);
    char text[512] = "nothing";
    if (t)
        pkt_text(&t->k, t->peer, true, text, sizeof text);
    fail(s->w, "sent instead until +%.3f: %s", (double)(e.high_us + TOLERANCE_US) / 1e6, text);
}
