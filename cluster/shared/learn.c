/* learn.c - what dead nodes knew of the ends of messages that are here, too.
 *
 * Most of what ended there was never here: of bags that are empty here nothing is looked up.  What ended is read from
 * the DONE that says so.  -SATCHEL_EBUSY (the relay has it under way): tried again for a while. */
#include "cluster/shared/adopt_impl.h"

#include "spool/base/err.h"

#include <stdlib.h>

enum { LOOKS_MAX = 512, BUSY_US = 200000, BUSY_TRIES = 150, LEARNS_MAX = 256 };

struct learn {
    struct learn *next;
    struct alog *log;
    struct reader_job job; /* reads the DONE */
    struct storage_merge m;
    bool asked; /* the reader or the storage has it */
    uint32_t tries;
    uint64_t retry_us;
    struct storage_id live; /* where it is live, too; zero: nowhere */
    uint8_t owed[REC_COPYSET_MAX * 16];
    char domain[256];
};

static void learn_free(struct learn *n)
{
    struct learn **at = &n->log->a->learns;
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    n->log->busy--;
    reader_parts_free(n->job.parts, n->job.parts_n);
    free(n);
}

static void learn_merged(struct storage_merge *m, int res)
{
    struct learn *n = m->arg;
    struct adopt *a = n->log->a;
    n->asked = false;
    a->learning--;
    if (res == -SATCHEL_EBUSY && ++n->tries < BUSY_TRIES && !a->closing) {
        n->retry_us = adopt_now(a) + BUSY_US;
        adopt_wake(a, n->retry_us);
        return;
    }
    a->info.ends += res == 0;
    if (!a->closing)
        adopt_wake(a, 0);
    learn_free(n);
}

static void learn_merge(struct learn *n)
{
    struct adopt *a = n->log->a;
    n->asked = true;
    n->m.done = learn_merged;
    n->m.arg = n;
    a->learning++;
    a->env.storage->ops->merge(a->env.storage, &n->m);
}

static struct slice owed_else(struct learn *n, struct slice copyset)
{
    size_t out = storage_id_zero(&n->live) ? 0 : 16;
    memcpy(n->owed, n->live.b, out);
    for (size_t i = 0; i + 16 <= copyset.n && out < sizeof n->owed; i += 16) {
        const uint8_t *id = copyset.p + i;
        if (memcmp(id, n->log->id.b, 16) == 0 || memcmp(id, n->log->a->cfg.self.b, 16) == 0 ||
            memcmp(id, n->live.b, 16) == 0)
            continue;
        memcpy(n->owed + out, id, 16);
        out += 16;
    }
    return slice_of(n->owed, out);
}

/* The DONE was read. */
static void learn_read(struct reader_job *j)
{
    struct learn *n = j->arg;
    const struct reader_part *p = &j->parts[0];
    n->asked = false;
    if (p->res == -SATCHEL_ENOENT && !n->log->a->closing)
        alog_again(n->log);
    struct slice v =
        p->res == 0 && msgid_eq(&p->rec.id, &n->m.st.id) ? meta_find(p->rec.meta, RT_STATE) : slice_of(NULL, 0);
    if (!v.p || state_decode(v, &n->m.st.state) < 0 || n->log->a->closing) {
        learn_free(n);
        return;
    }
    n->m.st.owed = owed_else(n, p->rec.copyset);
    learn_merge(n);
}

static bool learn_start(struct alog *l, const struct census_entry *e, struct slice domain,
                        const struct storage_id *live)
{
    struct adopt *a = l->a;
    struct learn *n = calloc(1, sizeof *n);
    struct reader_part *part = calloc(1, sizeof *part);
    if (!n || !part) {
        free(n);
        free(part);
        return false;
    }
    n->log = l;
    n->live = live ? *live : (struct storage_id){{0}};
    memcpy(n->domain, domain.p, domain.n);
    n->m.st = (struct storage_state){.id = e->id, .arrival_us = e->arrival_us, .domain = slice_str(n->domain)};
    *part = (struct reader_part){.pos = e->pos, .size = e->size, .head = true};
    n->job = (struct reader_job){.log = l->f, .parts = part, .parts_n = 1, .done = learn_read, .arg = n};
    n->next = a->learns;
    a->learns = n;
    l->busy++;
    if (e->flags & CENSUS_FINAL) {
        n->asked = true;
        reader_ask(a->reader, &n->job);
    } else if (census_state(e, &n->m.st.state)) {
        learn_merge(n);
    } else {
        learn_free(n);
    }
    return true;
}

/* May it be live here? */
static bool may_be_here(struct alog *l, const struct census_entry *e, struct slice domain)
{
    struct storage *s = l->a->env.storage;
    struct bag_stat bag;
    struct queue_entry found;
    char name[256];
    s->ops->bag(s, domain, &bag);
    return bag.messages && s->ops->find(s, &e->id, &found, name) == 0;
}

static uint32_t learns_n(const struct adopt *a)
{
    uint32_t n = 0;
    for (const struct learn *k = a->learns; k; k = k->next)
        n++;
    return n;
}

bool learn_tell(struct alog *l, struct alog *from, const struct census_entry *e)
{
    return learns_n(l->a) < LEARNS_MAX && learn_start(from, e, census_name(foreign_census(from->f), e->domain), &l->id);
}

bool learn_step(struct adopt *a)
{
    uint32_t looks = LOOKS_MAX, room = learns_n(a);
    room = room < LEARNS_MAX ? LEARNS_MAX - room : 0;
    for (struct alog *l = a->logs; l; l = l->next) {
        struct census *c = alog_open(l) ? foreign_census(l->f) : NULL;
        for (; c && l->ends_at < census_ends_n(c) && looks && room; l->ends_at++) {
            const struct census_entry *e = census_end(c, l->ends_at);
            if (!alog_ours(l, e))
                continue;
            looks--;
            struct slice domain = census_name(c, e->domain);
            if (may_be_here(l, e, domain))
                room -= learn_start(l, e, domain, NULL);
        }
        if (c && l->ends_at < census_ends_n(c))
            return room > 0;
    }
    return false;
}

bool learn_pending(const struct adopt *a, const struct alog *l)
{
    for (const struct learn *n = a->learns; n; n = n->next)
        if (n->log == l && n->tries == 0)
            return true;
    return false;
}

void learn_tick(struct adopt *a, uint64_t now)
{
    for (struct learn *n = a->learns, *next; n; n = next) {
        next = n->next;
        if (n->asked)
            continue;
        if (now >= n->retry_us)
            learn_merge(n);
        else
            adopt_wake(a, n->retry_us);
    }
}

void learn_close(struct adopt *a)
{
    while (a->learns)
        learn_free(a->learns); /* NOLINT(clang-analyzer-unix.Malloc): it takes it off the list */
}
