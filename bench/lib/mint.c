/* mint.c - makes the messages of a run (mint.h).  Headers are a template whose digits are overwritten: no formatting a
 * message. */
#include "bench/lib/mint.h"
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_WIDTH 10

struct mint_domain {
    char *envelope;
    size_t envelope_n;
    uint32_t next_seq, floor; /* floor: 1..floor are all acknowledged */
    uint8_t *acked;           /* one a message, by seq */
    uint32_t acked_cap;
};

struct mint {
    uint64_t next;
    unsigned turn, domains;
    struct mint_domain *domain;
    char header[MINT_HEADER_MAX];
    size_t header_n, at_token, at_token_id, at_to, at_seq_domain, at_seq, at_floor;
    bool rotate;
    char *filler;
    size_t filler_n;
    char token[MINT_TOKEN_MAX];
    size_t token_n;
};

static void put_number(char *at, unsigned width, uint64_t v)
{
    for (unsigned i = width; i-- > 0; v /= 10)
        at[i] = (char)('0' + v % 10);
}

static void domain_name(const struct mint_spec *s, unsigned i, char out[300])
{
    if (s->domain)
        snprintf(out, 300, "%s", s->domain);
    else
        snprintf(out, 300, "d%04u.test", i);
}

static void make_envelope(struct mint_domain *d, const struct mint_spec *s, const char *name)
{
    FILE *f = open_memstream(&d->envelope, &d->envelope_n);
    if (!f)
        err(1, "mint");
    fprintf(f, "MAIL FROM:<%s>\r\n", s->sender);
    for (unsigned i = 0; i < s->recipients; i++)
        fprintf(f, "RCPT TO:<user%u@%s>\r\n", i, name);
    fprintf(f, "DATA\r\n");
    fclose(f);
}

static size_t append(struct mint *m, const char *text)
{
    size_t at = m->header_n, n = strlen(text);
    if (at + n >= sizeof m->header)
        errx(2, "run, sender and domain are too long for a header");
    memcpy(m->header + at, text, n + 1);
    m->header_n += n;
    return at;
}

static void make_header(struct mint *m, const struct mint_spec *s)
{
    static const char zero[] = "0000000000";
    char name[300];
    domain_name(s, 0, name);
    m->token_n = (size_t)snprintf(m->token, sizeof m->token, "%s-%s", s->run, zero) - NUMBER_WIDTH;
    append(m, "X-Ledger: ");
    m->at_token = append(m, m->token) + m->token_n;
    append(m, "\r\nX-Sequence: ");
    append(m, s->run);
    append(m, " ");
    m->at_seq_domain = append(m, name) + 1;
    append(m, " ");
    m->at_seq = append(m, zero);
    append(m, " ");
    m->at_floor = append(m, zero);
    append(m, "\r\nMessage-ID: <");
    m->at_token_id = append(m, m->token) + m->token_n;
    append(m, "@gen.test>\r\nFrom: <");
    append(m, s->sender);
    append(m, ">\r\nTo: <user0@");
    m->at_to = append(m, name) + 1;
    append(m, ">\r\nSubject: load\r\n\r\n");
}

static void make_filler(struct mint *m, size_t size)
{
    static const char line[] = "The quick brown fox jumps over the lazy dog, once more and then once more .\r\n";
    size_t want = size > m->header_n + 2 ? size - m->header_n : 2;
    m->filler = malloc(want + 4);
    if (!m->filler)
        err(1, "mint");
    for (size_t i = 0; i < want - 2; i++)
        m->filler[i] = line[i % (sizeof line - 1)];
    /* a lone CR or LF at the cut would not be SMTP */
    for (size_t i = want - 2; i > 0 && (m->filler[i - 1] == '\r' || m->filler[i - 1] == '\n'); i--)
        m->filler[i - 1] = '-';
    memcpy(m->filler + want - 2, "\r\n.\r\n", 5);
    m->filler_n = want + 3;
}

struct mint *mint_open(const struct mint_spec *s)
{
    struct mint *m = calloc(1, sizeof *m);
    if (!m)
        err(1, "mint");
    m->rotate = !s->domain;
    m->domains = s->domain ? 1 : s->domains;
    m->domain = calloc(m->domains, sizeof *m->domain);
    if (!m->domain || strlen(s->run) > 32)
        errx(2, "mint: too many domains or too long a run name");
    for (unsigned i = 0; i < m->domains; i++) {
        char name[300];
        domain_name(s, i, name);
        make_envelope(&m->domain[i], s, name);
    }
    make_header(m, s);
    make_filler(m, s->size_bytes);
    return m;
}

void mint_close(struct mint **mp)
{
    struct mint *m = *mp;
    for (unsigned i = 0; i < m->domains; i++) {
        free(m->domain[i].envelope);
        free(m->domain[i].acked);
    }
    free(m->domain);
    free(m->filler);
    free(m);
    *mp = NULL;
}

struct mint_envelope mint_envelope(struct mint *m)
{
    unsigned i = m->turn;
    m->turn = (m->turn + 1) % m->domains;
    return (struct mint_envelope){i, m->domain[i].envelope, m->domain[i].envelope_n};
}

void mint_stamp(struct mint *m, unsigned domain, struct mint_message *g)
{
    struct mint_domain *d = &m->domain[domain];
    g->domain = domain;
    g->seq = ++d->next_seq;
    put_number(m->token + m->token_n, NUMBER_WIDTH, ++m->next);
    memcpy(g->token, m->token, m->token_n + NUMBER_WIDTH + 1);
    memcpy(g->header, m->header, m->header_n);
    g->header_n = m->header_n;
    put_number(g->header + m->at_token, NUMBER_WIDTH, m->next);
    put_number(g->header + m->at_token_id, NUMBER_WIDTH, m->next);
    put_number(g->header + m->at_seq, NUMBER_WIDTH, g->seq);
    put_number(g->header + m->at_floor, NUMBER_WIDTH, d->floor);
    if (m->rotate) {
        put_number(g->header + m->at_seq_domain, 4, domain);
        put_number(g->header + m->at_to, 4, domain);
    }
}

const char *mint_filler(const struct mint *m, size_t *n_r)
{
    *n_r = m->filler_n;
    return m->filler;
}

static void grow(struct mint_domain *d, uint32_t seq)
{
    uint32_t cap = d->acked_cap ? d->acked_cap : 1024;
    while (cap <= seq + 1)
        cap *= 2;
    if (cap == d->acked_cap)
        return;
    d->acked = realloc(d->acked, cap);
    if (!d->acked)
        err(1, "mint");
    memset(d->acked + d->acked_cap, 0, cap - d->acked_cap);
    d->acked_cap = cap;
}

void mint_acked(struct mint *m, const struct mint_message *g)
{
    struct mint_domain *d = &m->domain[g->domain];
    grow(d, g->seq);
    d->acked[g->seq] = 1;
    while (d->floor + 1 < d->acked_cap && d->acked[d->floor + 1])
        d->floor++;
}
