/* sack.c - what the peer holds beyond snd_una: ranges in ascending order, none touching another, in one block of txq.
 */
#include "dataplane/tcp/tcp_send.h"

#define RANGES_MAX 63u

struct sb {
    uint32_t n, bytes; /* of all ranges */
    struct tcp_range v[RANGES_MAX];
};
static_assert(sizeof(struct sb) <= TCP_TXBLOCK_BYTES, "a scoreboard is one block");

static struct sb *sb_of(const struct tcp *t, const struct tcp_conn *c)
{
    return c->sb == TCP_NONE ? NULL : txblock_at(t, c->sb);
}

static uint32_t len(const struct tcp_range *r)
{
    return r->end - r->start;
}

/* ---- what comes in */

/* As distances from snd_una, so that nothing far away on the circle seems near.  Below: D-SACK. At snd_una itself: who
 * holds that byte acknowledges it. */
static bool believed(const struct tcp_conn *c, const struct tcp_range *r)
{
    uint32_t start = r->start - c->snd_una, end = r->end - c->snd_una;
    return start > 0 && start < end && end <= c->snd_max - c->snd_una;
}

/* Joined with those that it touches; without room for one more it is forgotten, and will be sent again at worst. */
static void add(struct sb *b, struct tcp_range r)
{
    uint32_t i = 0, j;
    while (i < b->n && seq_lt(b->v[i].end, r.start))
        i++;
    for (j = i; j < b->n && seq_leq(b->v[j].start, r.end); j++) {
        r = (struct tcp_range){seq_min(r.start, b->v[j].start), seq_max(r.end, b->v[j].end)};
        b->bytes -= len(&b->v[j]);
    }
    if (i == j && b->n == RANGES_MAX)
        return;
    memmove(&b->v[i + 1], &b->v[j], (b->n - j) * sizeof r);
    b->n += 1 - (j - i);
    b->v[i] = r;
    b->bytes += len(&r);
}

uint32_t sb_note(struct tcp *t, struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t before = c->sb == TCP_NONE ? 0 : sb_of(t, c)->bytes;
    for (uint8_t i = 0; i < s->sack_n; i++) {
        if (!believed(c, &s->sack[i]))
            continue;
        if (c->sb == TCP_NONE) {
            c->sb = txblock_take(t);
            if (c->sb == TCP_NONE)
                return 0;
            memset(sb_of(t, c), 0, sizeof(struct sb));
        }
        add(sb_of(t, c), s->sack[i]);
    }
    return c->sb == TCP_NONE ? 0 : sb_of(t, c)->bytes - before;
}

void sb_trim(struct tcp *t, struct tcp_conn *c)
{
    struct sb *b = sb_of(t, c);
    uint32_t gone = 0;
    if (!b)
        return;
    for (; gone < b->n && seq_leq(b->v[gone].end, c->snd_una); gone++)
        b->bytes -= len(&b->v[gone]);
    b->n -= gone;
    memmove(b->v, b->v + gone, b->n * sizeof *b->v);
    if (b->n == 0) {
        sb_drop(t, c);
    } else if (seq_leq(b->v[0].start, c->snd_una)) {
        b->bytes -= c->snd_una - b->v[0].start;
        b->v[0].start = c->snd_una;
    }
}

void sb_drop(struct tcp *t, struct tcp_conn *c)
{
    if (c->sb != TCP_NONE)
        txblock_give(t, c->sb);
    c->sb = TCP_NONE;
}

/* ---- what it means */

uint32_t sb_below(const struct tcp *t, const struct tcp_conn *c, uint32_t seq)
{
    const struct sb *b = sb_of(t, c);
    uint32_t n = 0;
    for (uint32_t i = 0; b && i < b->n && seq_lt(b->v[i].start, seq); i++)
        n += seq_min(b->v[i].end, seq) - b->v[i].start;
    return n;
}

bool sb_has(const struct tcp *t, const struct tcp_conn *c, uint32_t seq)
{
    const struct sb *b = sb_of(t, c);
    for (uint32_t i = 0; b && i < b->n; i++)
        if (seq_leq(b->v[i].start, seq) && seq_lt(seq, b->v[i].end))
            return true;
    return false;
}

/* The holes in ascending order; each is judged by what was reported behind it (RFC 6675 4, IsLost). */
struct hole {
    struct tcp_range at;
    uint32_t i, above; /* before which range; bytes of that and those behind it */
    bool lost;
};

static void judge(const struct tcp_conn *c, const struct sb *b, struct hole *h)
{
    h->at.end = b->v[h->i].start;
    h->lost = b->n - h->i >= TCP_DUP_THRESH || h->above > (TCP_DUP_THRESH - 1) * c->mss;
}

static bool hole_first(const struct tcp_conn *c, const struct sb *b, struct hole *h)
{
    if (!b)
        return false;
    *h = (struct hole){.at.start = c->snd_una, .above = b->bytes};
    judge(c, b, h);
    return true;
}

static bool hole_next(const struct tcp_conn *c, const struct sb *b, struct hole *h)
{
    if (h->i + 1 == b->n)
        return false;
    h->above -= len(&b->v[h->i]);
    h->at.start = b->v[h->i].end;
    h->i++;
    judge(c, b, h);
    return true;
}

/* Of the holes: what is not lost is under way; what was sent again is, once more. */
uint32_t sb_pipe(const struct tcp *t, const struct tcp_conn *c)
{
    const struct sb *b = sb_of(t, c);
    uint32_t pipe = c->snd_max - c->snd_una;
    struct hole h;
    for (bool any = hole_first(c, b, &h); any; any = hole_next(c, b, &h)) {
        if (h.lost)
            pipe -= len(&h.at);
        if (seq_gt(c->rtx_next, h.at.start))
            pipe += seq_min(c->rtx_next, h.at.end) - h.at.start;
    }
    return b ? pipe - b->bytes : pipe;
}

bool sb_first_lost(const struct tcp *t, const struct tcp_conn *c)
{
    struct hole h;
    return hole_first(c, sb_of(t, c), &h) && h.lost;
}

bool sb_hole(const struct tcp *t, const struct tcp_conn *c, uint32_t from, bool lost, struct tcp_range *r)
{
    const struct sb *b = sb_of(t, c);
    struct hole h;
    for (bool any = hole_first(c, b, &h); any && (h.lost || !lost); any = hole_next(c, b, &h)) {
        if (seq_leq(h.at.end, from))
            continue;
        *r = (struct tcp_range){seq_max(h.at.start, from), h.at.end};
        return true;
    }
    return false;
}

uint32_t sb_skip(const struct tcp *t, const struct tcp_conn *c, uint32_t *seq)
{
    const struct sb *b = sb_of(t, c);
    for (uint32_t i = 0; b && i < b->n; i++) {
        if (seq_lt(*seq, b->v[i].start))
            return b->v[i].start - *seq;
        if (seq_lt(*seq, b->v[i].end))
            *seq = b->v[i].end;
    }
    return UINT32_MAX;
}
