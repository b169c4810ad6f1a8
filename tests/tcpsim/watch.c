/* watch.c - what every segment must obey, seen from the wire: the window announced never shrinks, nobody sends beyond
 * the window that he was told, what is repeated unasked begins with the first byte that is not acknowledged, and two
 * hosts do not acknowledge each other's acknowledgements for ever.
 *
 * A tuple may have several greetings at a time: a SYN that was doubled draws SYN-ACKs with different numbers when
 * cookies are out, and a port is used again.  Which ones a segment means is told by its numbers: those that it stands
 * least behind. */
#include "dataplane/tcp/seq.h"
#include "tests/tcpsim/tcpsim.h"

enum { FLOWS = 1024, GREETINGS = 16, ECHOES_MAX = 2000, REPORTS = 16 };

struct greeting {
    uint32_t isn;
    int wscale; /* -1: not offered */
};

/* What one host says on one tuple. */
static struct flow {
    bool used;
    uint16_t sport, dport;
    struct greeting greetings[GREETINGS];
    unsigned greetings_n; /* ever; the last ones are kept */
    /* Of the conversation that these two begin: */
    const struct greeting *ours, *theirs;
    bool edge_known, told_known, sent_known, una_known;
    uint32_t edge;                     /* right edge that we announced, furthest */
    uint32_t told;                     /* right edge of the other's window that reached us, furthest */
    uint32_t sent;                     /* end of our data, furthest */
    uint32_t una;                      /* acknowledgement that reached us, furthest */
    uint64_t heard_us, begun_us;       /* when anything reached us last; when we last sent from una on */
    struct wire_sack reports[REPORTS]; /* what we hold of the other's; the last ones are kept */
    unsigned reports_n;                /* ever */
    bool acked;                        /* the last that we sent was an acknowledgement that moved nothing */
    uint32_t echoes;                   /* such ones in turn with the other's, with nothing else between */
} flows[HOSTS][FLOWS];
/* When anything but TCP reached a host: what waited for its neighbour leaves then. */
static uint64_t aside_us[HOSTS];

void watch_open(void)
{
    memset(flows, 0, sizeof flows);
    memset(aside_us, 0, sizeof aside_us);
}

static struct flow *flow_of(int from, uint16_t sport, uint16_t dport)
{
    for (uint32_t i = 0; i < FLOWS; i++) {
        struct flow *f = &flows[from][i];
        if (!f->used)
            *f = (struct flow){.used = true, .sport = sport, .dport = dport};
        if (f->sport == sport && f->dport == dport)
            return f;
    }
    world_fail("more than %d tuples", FLOWS);
    return &flows[from][0];
}

static void greet(struct flow *f, const struct wire_tcp *w)
{
    unsigned kept = f->greetings_n < GREETINGS ? f->greetings_n : GREETINGS;
    for (unsigned i = 0; i < kept; i++)
        if (f->greetings[i].isn == w->seq && f->greetings[i].wscale == w->wscale)
            return;
    f->greetings[f->greetings_n++ % GREETINGS] = (struct greeting){w->seq, w->wscale};
}

static const struct greeting *greeting_of(const struct flow *f, uint32_t seq)
{
    unsigned kept = f->greetings_n < GREETINGS ? f->greetings_n : GREETINGS;
    const struct greeting *best = NULL;
    for (unsigned i = 0; i < kept; i++)
        if (!best || seq - f->greetings[i].isn < seq - best->isn)
            best = &f->greetings[i];
    return best;
}

static void forget(struct flow *f)
{
    f->edge_known = f->told_known = f->sent_known = f->una_known = false;
    f->reports_n = 0;
}

/* The conversation that a segment from `f` to `back` belongs to; false: one of them has not greeted. */
static bool converse(struct flow *f, struct flow *back, const struct wire_tcp *w)
{
    const struct greeting *ours = greeting_of(f, w->seq), *theirs = greeting_of(back, w->ackno);
    if (!ours || !theirs)
        return false;
    if (f->ours != ours || f->theirs != theirs)
        forget(f);
    if (back->ours != theirs || back->theirs != ours)
        forget(back);
    f->ours = back->theirs = ours;
    f->theirs = back->ours = theirs;
    return true;
}

static uint32_t edge_of(const struct flow *f, const struct wire_tcp *w)
{
    bool scaled = !w->syn && f->ours->wscale >= 0 && f->theirs->wscale >= 0;
    return w->ackno + ((uint32_t)w->wnd << (scaled ? f->ours->wscale : 0));
}

static void furthest(uint32_t *edge, bool *known, uint32_t now)
{
    if (!*known || seq_gt(now, *edge))
        *edge = now;
    *known = true;
}

static void show(int from, const struct wire_tcp *w)
{
    world_trace("%d>%d %u>%u %s%s%s%s%s%s seq %u ack %u wnd %u data %u", from, !from, w->sport, w->dport,
                w->syn ? "S" : "", w->fin ? "F" : "", w->rst ? "R" : "", w->ack ? "." : "", w->ece ? "E" : "",
                w->cwr ? "W" : "", w->seq, w->ackno, w->wnd, w->data_n);
}

/* A SYN-ACK that is repeated says what it said the first time. */
static void check_window(int from, struct flow *f, const struct wire_tcp *w)
{
    uint32_t edge = edge_of(f, w);
    if (f->edge_known && !w->syn && seq_lt(edge, f->edge))
        world_fail("port %u/%u: host %d moved its window's right edge back by %u", w->sport, w->dport, from,
                   f->edge - edge);
    furthest(&f->edge, &f->edge_known, edge);
}

/* But the byte of a probe. */
static void check_data(int from, const struct flow *f, const struct wire_tcp *w)
{
    uint32_t end = w->seq + w->data_n;
    if (w->data_n == 0 || !f->told_known || seq_leq(end, f->told) || (w->data_n == 1 && w->seq == f->told))
        return;
    world_fail("port %u/%u: host %d sent %u bytes beyond the window", w->sport, w->dport, from, end - f->told);
}

/* With nothing heard it was a timer that sent it: the first byte that is not acknowledged goes first (RFC 6298 5.4),
 * though it was reported once (RFC 2018 8: who reports may throw away).  A probe of the window would send it too, some
 * time; so the stream's end alone does not tell.  Where frames run out, what an acknowledgement asked for leaves late.
 */
static void check_repetition(int from, struct flow *f, const struct wire_tcp *w)
{
    bool asked = f->heard_us == world.now_us || aside_us[from] == world.now_us || world.plan.no_buffer[from] > 0;
    if (w->data_n == 0)
        return;
    if (!f->una_known || seq_leq(w->seq, f->una))
        f->begun_us = world.now_us;
    else if (f->sent_known && seq_lt(w->seq, f->sent) && f->begun_us != world.now_us && !asked)
        world_fail("port %u/%u: host %d repeats unasked, and not from the first unacknowledged byte, %u before",
                   w->sport, w->dport, from, w->seq - f->una);
    furthest(&f->sent, &f->sent_known, w->seq + w->data_n);
}

/* Who holds the byte that is next acknowledges it: reported, and not acknowledged now, it was thrown away
 * (RFC 2018 8).  That is allowed; it is counted, so that it is known to happen. */
static void count_reneged(struct flow *f, const struct wire_tcp *w)
{
    for (unsigned i = 0; i < f->reports_n && i < REPORTS; i++)
        if (seq_leq(f->reports[i].start, w->ackno) && seq_lt(w->ackno, f->reports[i].end)) {
            f->reports[i].end = f->reports[i].start;
            world.reneged++;
        }
    for (unsigned i = 0; i < w->sack_n; i++)
        if (seq_gt(w->sack[i].start, w->ackno))
            f->reports[f->reports_n++ % REPORTS] = w->sack[i];
}

/* A burst without SACK draws many duplicates, both ways at a time even; but not thousands after the last byte. */
static void check_echo(int from, struct flow *f, struct flow *back, const struct wire_tcp *w)
{
    bool idle = w->data_n == 0 && !w->syn && !w->fin;
    f->echoes = idle && back->acked ? back->echoes + 1 : idle ? f->echoes : 0;
    if (!idle)
        back->echoes = 0;
    f->acked = idle;
    back->acked = false;
    if (f->echoes > ECHOES_MAX)
        world_fail("port %u/%u: host %d and the other acknowledge each other without end", w->sport, w->dport, from);
}

void watch_sent(int from, const uint8_t *p, uint32_t n)
{
    struct wire_tcp w;
    if (n > 14 + 1500)
        world_fail("host %d sent a frame of %u bytes", from, n);
    if (!wire_decode(&w, p, n))
        return;
    show(from, &w);
    if (w.malformed)
        world_fail("host %d sent malformed options", from);
    if (w.rst)
        return;
    struct flow *f = flow_of(from, w.sport, w.dport), *back = flow_of(!from, w.dport, w.sport);
    if (w.syn)
        greet(f, &w);
    if (!w.ack || !converse(f, back, &w))
        return;
    check_window(from, f, &w);
    check_data(from, f, &w);
    check_repetition(from, f, &w);
    check_echo(from, f, back, &w);
    count_reneged(f, &w);
}

void watch_arrived(int to, const uint8_t *p, uint32_t n)
{
    struct wire_tcp w;
    bool tcp = wire_decode(&w, p, n);
    if (!tcp)
        aside_us[to] = world.now_us;
    if (!tcp || w.rst || !w.ack)
        return;
    struct flow *theirs = flow_of(!to, w.sport, w.dport), *ours = flow_of(to, w.dport, w.sport);
    ours->heard_us = world.now_us;
    if (theirs->ours != greeting_of(theirs, w.seq) || theirs->theirs != greeting_of(ours, w.ackno) || !theirs->ours)
        return; /* of another conversation */
    furthest(&ours->told, &ours->told_known, edge_of(theirs, &w));
    furthest(&ours->una, &ours->una_known, w.ackno);
}
