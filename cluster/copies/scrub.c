/* scrub.c - reads what lies here, slowly, so that damage is found while another copy is good.
 *
 * A page of messages at a time through all bags, at most scrub_bytes_s; each record is verified by the storage as it is
 * read.  A damaged one is asked for (WANT) from a member of its shard and put again over the bad one (PUT_REPAIR).  One
 * that none of them gave is found again by every comparison: it is asked for once a minute.
 *
 * Diagnostics: copies.damaged (found; with the peer asked), copies.repaired, copies.damaged_alone (nobody has it). */
#include "cluster/copies/copies_impl.h"

enum { PAGE = 32, STEP_US = 250000, REPAIRS_MAX = 16, REST_US = 60000000, KNOWN = 64 };

/* A record that was found damaged and not repaired. */
struct damaged {
    struct msgid id;
    uint32_t tries; /* in vain, since the last rest */
    uint64_t at_us; /* not asked for before */
};

struct scrub {
    struct {
        struct msgid id;
        uint32_t chunks;
        char domain[256];
    } page[PAGE];
    uint32_t n, at, part, repairs;
    uint32_t turn; /* whom to ask next */
    struct damaged known[KNOWN];
    uint32_t known_at;
    uint8_t cursor[QUEUE_CURSOR_MAX];
    size_t cursor_n;
    uint64_t at_us;
};

static bool page_each(void *arg, const struct queue_entry *e)
{
    struct scrub *s = arg;
    size_t n = e->domain.n < 255 ? e->domain.n : 255;
    s->page[s->n].id = e->id;
    s->page[s->n].chunks = e->chunks;
    memcpy(s->page[s->n].domain, e->domain.p, n);
    s->page[s->n].domain[n] = 0;
    return ++s->n < PAGE;
}

static bool page_fill(struct copies *c, struct scrub *s)
{
    s->n = s->at = s->part = 0;
    c->env.storage->ops->list(c->env.storage, (struct slice){0}, slice_of(s->cursor, s->cursor_n), page_each, s,
                              s->cursor, &s->cursor_n);
    return s->n > 0;
}

/* Bytes that were read. */
static uint64_t scrub_one(struct copies *c, struct scrub *s)
{
    struct record rec;
    uint64_t bytes = REC_HEADER_BYTES;
    struct slice domain = slice_str(s->page[s->at].domain);
    int rc = c->env.storage->ops->read(c->env.storage, &s->page[s->at].id, s->part, &rec);
    if (rc == 0)
        bytes = record_size(&rec);
    else if (rc == -SATCHEL_EDAMAGED)
        scrub_repair(c, &s->page[s->at].id, domain);
    if (rc == 0 && s->part < s->page[s->at].chunks) {
        s->part++;
    } else {
        s->part = 0;
        s->at++;
    }
    return bytes;
}

void scrub_tick(struct copies *c, uint64_t now)
{
    struct scrub *s = c->scrub;
    if (c->cfg.scrub_bytes_s == 0)
        return;
    if (!s && !(s = c->scrub = calloc(1, sizeof *s)))
        return;
    if (now < s->at_us) {
        copies_wake(c, s->at_us);
        return;
    }
    s->at_us = now + STEP_US;
    for (uint64_t read = 0; read < c->cfg.scrub_bytes_s / 4;) {
        if (s->at == s->n && !page_fill(c, s)) {
            s->cursor_n = 0;
            s->at_us = now + REST_US;
            break;
        }
        uint64_t bytes = scrub_one(c, s);
        read += bytes;
        c->info.scrubbed_bytes += bytes;
    }
    copies_wake(c, s->at_us);
}

static struct damaged *damaged_find(struct scrub *s, const struct msgid *id)
{
    for (uint32_t i = 0; i < KNOWN; i++)
        if (msgid_eq(&s->known[i].id, id))
            return &s->known[i];
    return NULL;
}

/* Takes the place of the one that was entered first. */
static struct damaged *damaged_need(struct scrub *s, const struct msgid *id)
{
    struct damaged *d = damaged_find(s, id);
    if (d)
        return d;
    d = &s->known[s->known_at++ % KNOWN];
    *d = (struct damaged){.id = *id};
    return d;
}

static void damaged_alone(const struct msgid *id)
{
    char text[MSGID_TEXT_MAX];
    msgid_format(id, text);
    log_error("copies.damaged_alone",
              "id=%s remedy=\"bring up the other nodes that had a copy; if there are none, satchelctl queue delete\"",
              text);
}

/* Each of the members that are linked was asked: it rests. */
static void in_vain(struct copies *c, struct damaged *d, uint32_t linked)
{
    if (++d->tries < linked)
        return;
    damaged_alone(&d->id);
    d->tries = 0;
    d->at_us = copies_now(c) + REST_US;
}

/* arg: its place among those known, and how many can be asked. */
static void repaired(struct copies *c, uint64_t arg, int res)
{
    struct damaged *d = c->scrub ? &c->scrub->known[arg % KNOWN] : NULL;
    if (!d)
        return;
    c->scrub->repairs--;
    if (res == -SATCHEL_ENOENT || res == -SATCHEL_EDAMAGED)
        in_vain(c, d, (uint32_t)(arg / KNOWN));
    if (res < 0)
        return; /* found again */
    d->id = (struct msgid){.counter = 0};
    c->info.scrub_repaired++;
    metric_add(M_COPIES_SCRUB_REPAIRED, 1);
    log_info("copies.repaired", "repaired=%llu", (unsigned long long)c->info.scrub_repaired);
}

/* The linked members in turn: not all of them need have it, and one that has may have it damaged, too. */
static struct cpeer *repairer(struct copies *c, uint32_t shard, uint32_t *linked_r)
{
    const struct map_shard *m = c->shards[shard].map;
    struct cpeer *found = NULL;
    *linked_r = 0;
    uint32_t from = c->scrub->turn;
    for (uint32_t i = 0; i < m->members_n; i++) {
        struct cpeer *p = peer_find(c, &m->members[(from + i) % m->members_n]);
        if (!p || !p->up)
            continue;
        ++*linked_r;
        if (!found)
            c->scrub->turn = from + i + 1;
        found = found ? found : p;
    }
    return found;
}

void scrub_repair(struct copies *c, const struct msgid *id, struct slice domain)
{
    char text[MSGID_TEXT_MAX];
    uint32_t shard = shard_of(c, domain), linked = 0;
    if (!c->scrub)
        c->scrub = calloc(1, sizeof *c->scrub);
    if (!c->scrub || c->scrub->repairs >= REPAIRS_MAX)
        return;
    struct damaged *d = damaged_need(c->scrub, id);
    if (copies_now(c) < d->at_us)
        return;
    struct cpeer *p = shard == UINT32_MAX ? NULL : repairer(c, shard, &linked);
    uint64_t arg = (uint64_t)(d - c->scrub->known) + (uint64_t)linked * KNOWN;
    if (!p || !job_want(c, p, id, 1, true, repaired, arg)) {
        d->tries = 0;
        in_vain(c, d, 1);
        return;
    }
    c->scrub->repairs++;
    msgid_format(id, text);
    log_warning("copies.damaged", "id=%s asked=%s", text, p->node ? p->node->name : "-");
}

void scrub_close(struct copies *c)
{
    free(c->scrub);
    c->scrub = NULL;
}
