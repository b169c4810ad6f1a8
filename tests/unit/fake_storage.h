/* fake_storage.h - the storage door in memory: a set of messages by number, live or final; answers after DISK_US.
 * Part of fake_cluster.h, which includes it. */
#pragma once

/* ---- storage */

static struct fnode *fnode_of(struct storage *s)
{
    return (struct fnode *)s;
}

static struct fmsg *fmsg_of(struct fnode *f, const struct msgid *id)
{
    return id->counter && id->counter < MSGS_MAX ? &f->msgs[id->counter] : &f->msgs[0];
}

static struct fop *fop_add(struct fnode *f)
{
    struct fop *o = calloc(1, sizeof *o);
    o->due_us = f->silent ? UINT64_MAX : net.now_us + DISK_US;
    *f->ops_tail = o;
    f->ops_tail = &o->next;
    return o;
}

static void fs_put(struct storage *s, struct storage_put *p)
{
    fop_add(fnode_of(s))->put = p;
}

static bool fs_merge(struct storage *s, struct storage_merge *m)
{
    fop_add(fnode_of(s))->merge = m;
    return fnode_of(s)->holds;
}

static void fput(struct fnode *f, uint64_t n, uint32_t d, uint8_t items)
{
    f->msgs[n] = (struct fmsg){.what = 1, .domain = (uint8_t)d, .items = items, .live = items};
    f->top = f->top > n ? f->top : (uint32_t)n;
}

static int fput_apply(struct fnode *f, const struct storage_put *p)
{
    const struct record *r = &p->rec;
    struct fmsg *m = fmsg_of(f, &r->id);
    f->puts++;
    if (r->type == REC_ABORT) {
        if (m->what == 1)
            m->what = 0;
        m->chunks = 0;
        return 0;
    }
    if (f->full || (f->full_chunks && r->type == REC_CHUNK))
        return -SATCHEL_EFULL;
    if (m->what == 2)
        return -SATCHEL_EEXIST;
    if (r->type == REC_CHUNK) {
        m->chunks++;
        return 0;
    }
    if (p->flags & PUT_REPAIR)
        m->damaged = false;
    if (m->what == 1)
        return 0;
    uint8_t chunks = m->chunks;
    fput(f, r->id.counter, (uint32_t)fdomain_of(meta_find(r->meta, RT_DOMAIN)), (uint8_t)meta_rcpts(r->meta));
    struct msg_state st;
    if (meta_find(r->meta, RT_STATE).p && state_decode(meta_find(r->meta, RT_STATE), &st) == 0) {
        m->live = (uint8_t)st.live;
        m->ends = st.ends[0];
        m->seq = st.seq;
    }
    m->chunks = chunks;
    return 0;
}

static uint8_t fowed_mask(struct slice owed, const struct fnode *self)
{
    uint8_t mask = 0;
    for (size_t i = 0; i + 16 <= owed.n; i += 16)
        for (uint32_t k = 0; k < net.n; k++)
            if (memcmp(owed.p + i, net.nodes[k].id.b, 16) == 0 && &net.nodes[k] != self)
                mask |= (uint8_t)(1 << k);
    return mask;
}

static int fmerge_apply(struct fnode *f, const struct storage_state *st)
{
    struct fmsg *m = fmsg_of(f, &st->id);
    if (m->claimed)
        return -SATCHEL_EBUSY;
    if (m->what == 0 && st->state.live)
        return -SATCHEL_ENOENT;
    if (m->what == 0)
        fput(f, st->id.counter, (uint32_t)fdomain_of(st->domain), (uint8_t)st->state.items);
    if (m->what == 2)
        return 0;
    struct msg_state mine = fstate(m);
    for (uint32_t i = 0; i < mine.items; i++)
        state_finish(&mine, i, state_end(&st->state, i));
    bool news = m->live != mine.live;
    m->live = (uint8_t)mine.live;
    m->ends = mine.ends[0];
    m->seq = st->state.seq > m->seq ? st->state.seq : m->seq;
    if (m->live == 0) {
        m->what = 2;
        m->owed = fowed_mask(st->owed, f);
    }
    if (news && st->tell)
        fop_add(f)->tap = st->id.counter;
    return 0;
}

static size_t fs_forget(struct storage *s, const struct msgid *ids, size_t n)
{
    struct fnode *f = fnode_of(s);
    size_t taken = 0;
    for (size_t i = 0; i < n; i++) {
        struct fmsg *m = fmsg_of(f, &ids[i]);
        if (m->what == 1 && !m->claimed) {
            m->what = 0;
            taken++;
        }
    }
    f->forgets += taken;
    return taken;
}

static int fs_find(struct storage *s, const struct msgid *id, struct queue_entry *e_r, char domain_r[256])
{
    struct fmsg *m = fmsg_of(fnode_of(s), id);
    if (m->what != 1)
        return -SATCHEL_ENOENT;
    struct slice d = fdomain(m->domain);
    memcpy(domain_r, d.p, d.n + 1);
    *e_r = (struct queue_entry){.domain = slice_str(domain_r),
                                .id = *id,
                                .arrival_us = farrival(id->counter),
                                .chunks = m->chunks,
                                .state = fstate(m)};
    return 0;
}

static void ftomb_state(struct fnode *f, uint64_t n, struct storage_state *st_r, uint8_t *owed)
{
    const struct fmsg *m = &f->msgs[n];
    size_t at = 0;
    for (uint32_t k = 0; k < net.n; k++)
        if (m->owed >> k & 1) {
            memcpy(owed + at, net.nodes[k].id.b, 16);
            at += 16;
        }
    *st_r = (struct storage_state){.id = fid(n),
                                   .arrival_us = farrival(n),
                                   .domain = fdomain(m->domain),
                                   .owed = slice_of(owed, at),
                                   .state = fstate(m)};
}

static int fs_tomb(struct storage *s, const struct msgid *id, struct storage_state *st_r)
{
    struct fnode *f = fnode_of(s);
    if (fmsg_of(f, id)->what != 2)
        return -SATCHEL_ENOENT;
    ftomb_state(f, id->counter, st_r, f->buf[0]);
    return 0;
}

static void fs_bag(struct storage *s, struct slice domain, struct bag_stat *st_r)
{
    struct fnode *f = fnode_of(s);
    int d = fdomain_of(domain);
    *st_r = (struct bag_stat){.messages = 0};
    for (uint32_t n = 1; n <= f->top; n++)
        if (f->msgs[n].what == 1 && f->msgs[n].domain == d) {
            struct msg_state state = fstate(&f->msgs[n]);
            struct msgid id = fid(n);
            st_r->messages++;
            st_r->bytes += 100;
            st_r->digest += queue_entry_digest(&id, &state);
        }
}

static void fs_bags(struct storage *s, void (*each)(void *arg, struct slice domain, const struct bag_stat *st),
                    void *arg)
{
    for (uint32_t d = 0; d < DOMAINS; d++) {
        struct bag_stat st;
        fs_bag(s, fdomain(d), &st);
        if (st.messages)
            each(arg, fdomain(d), &st);
    }
}

static int fs_list(struct storage *s, struct slice domain, struct slice after,
                   bool (*each)(void *arg, const struct queue_entry *e), void *arg, uint8_t *cursor_r,
                   size_t *cursor_n_r)
{
    struct fnode *f = fnode_of(s);
    uint64_t n = 0;
    if (after.n && after.n != 8)
        return -SATCHEL_EINVAL;
    if (after.n)
        memcpy(&n, after.p, 8);
    for (n++; n <= f->top; n++) {
        struct queue_entry e;
        char name[256];
        struct msgid id = fid(n);
        if ((domain.n && f->msgs[n].domain != fdomain_of(domain)) || fs_find(s, &id, &e, name) < 0)
            continue;
        bool more = each(arg, &e);
        if (cursor_r) {
            memcpy(cursor_r, &n, 8);
            *cursor_n_r = 8;
        }
        if (!more)
            break;
    }
    return 0;
}

static size_t fmeta(uint8_t *out, size_t cap, uint32_t d, uint32_t items, uint32_t chunks)
{
    struct wire_wr w = wire_wr(out, cap);
    meta_put(&w, RT_DOMAIN, fdomain(d));
    for (uint32_t i = 0; i < items; i++)
        meta_put(&w, RT_RCPT, SLICE_LIT("someone"));
    rig_put_chunks(&w, chunks, (uint64_t)chunks * 100);
    return wire_len(&w);
}

static size_t fmeta_chunk(uint8_t *out, size_t cap, uint32_t index)
{
    uint8_t v[4];
    struct wire_wr w = wire_wr(out, cap), c = wire_wr(v, sizeof v);
    wire_put_u32(&c, index);
    meta_put(&w, RT_CHUNK_INDEX, slice_of(v, sizeof v));
    return wire_len(&w);
}

static int fs_read(struct storage *s, const struct msgid *id, uint32_t part, struct record *rec_r)
{
    struct fnode *f = fnode_of(s);
    struct fmsg *m = fmsg_of(f, id);
    if (m->what != 1)
        return -SATCHEL_ENOENT;
    if (m->damaged)
        return -SATCHEL_EDAMAGED;
    size_t n = part ? fmeta_chunk(f->buf[1], 1000, part - 1) : fmeta(f->buf[1], 1000, m->domain, m->items, m->chunks);
    *rec_r = (struct record){.type = part ? REC_CHUNK : REC_MSG,
                             .flags = !part && m->chunks ? REC_F_CHUNKED : 0,
                             .id = *id,
                             .arrival_us = farrival(id->counter),
                             .meta = slice_of(f->buf[1], n),
                             .body = m->chunks && !part ? (struct slice){0} : SLICE_LIT("a body")};
    rec_r->body_sum = record_body_sum(rec_r->body);
    return 0;
}

static uint32_t fnode_index(const struct storage_id *id)
{
    for (uint32_t k = 0; k < net.n; k++)
        if (storage_id_eq(&net.nodes[k].id, id))
            return k;
    return FNODES_MAX;
}

static void fs_owed(struct storage *s, const struct storage_id *to, const struct msgid *after,
                    bool (*each)(void *arg, const struct storage_state *st), void *arg)
{
    struct fnode *f = fnode_of(s);
    uint32_t owed = to ? 1u << fnode_index(to) : UINT32_MAX;
    for (uint64_t n = after ? after->counter + 1 : 1; n <= f->top; n++) {
        struct storage_state st;
        if (f->msgs[n].what != 2 || !(f->msgs[n].owed & owed))
            continue;
        ftomb_state(f, n, &st, f->buf[1]);
        if (!each(arg, &st))
            return;
    }
}

static void fs_confirm(struct storage *s, const struct storage_id *to, const struct msgid *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fmsg_of(fnode_of(s), &ids[i])->owed &= (uint8_t) ~(1u << fnode_index(to));
}

static void fs_settled(struct storage *s, const struct msgid *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fmsg_of(fnode_of(s), &ids[i])->owed = 0;
}

static void fs_retire(struct storage *s, const struct storage_id *gone)
{
    for (uint32_t n = 1; n <= fnode_of(s)->top; n++)
        fnode_of(s)->msgs[n].owed &= (uint8_t) ~(1u << fnode_index(gone));
}

static void fs_tap(struct storage *s, void (*each)(void *arg, const struct storage_state *st), void *arg)
{
    fnode_of(s)->tap = each;
    fnode_of(s)->tap_arg = arg;
}

static void fs_observe(struct storage *s, uint64_t arrival_us)
{
    fnode_of(s)->observed_us = arrival_us;
}

static void fs_ready(struct storage *s, struct slice domain)
{
    (void)s;
    (void)domain;
}

static void fs_stat(struct storage *s, struct storage_stat *st_r)
{
    struct fnode *f = fnode_of(s);
    *st_r = (struct storage_stat){.self = f->id};
    for (uint32_t n = 1; n <= f->top; n++) {
        st_r->messages += f->msgs[n].what == 1;
        st_r->tombs += f->msgs[n].what == 2;
        st_r->tombs_owed += f->msgs[n].what == 2 && f->msgs[n].owed;
    }
}

static void fs_poll(struct storage *s)
{
    struct fnode *f = fnode_of(s);
    while (f->ops && f->ops->due_us <= net.now_us) {
        struct fop *o = f->ops;
        f->ops = o->next;
        if (!f->ops)
            f->ops_tail = &f->ops;
        if (o->put)
            o->put->done(o->put, fput_apply(f, o->put));
        else if (o->merge)
            o->merge->done(o->merge, fmerge_apply(f, &o->merge->st));
        else if (f->tap) {
            struct storage_state st;
            ftomb_state(f, o->tap, &st, f->buf[0]);
            st.dsn = o->dsn;
            f->tap(f->tap_arg, &st);
        }
        free(o);
    }
}

static const struct storage_ops fs_ops = {.put = fs_put,
                                          .merge = fs_merge,
                                          .forget = fs_forget,
                                          .find = fs_find,
                                          .tomb = fs_tomb,
                                          .bags = fs_bags,
                                          .bag = fs_bag,
                                          .list = fs_list,
                                          .read = fs_read,
                                          .owed = fs_owed,
                                          .confirm = fs_confirm,
                                          .settled = fs_settled,
                                          .retire = fs_retire,
                                          .tap = fs_tap,
                                          .observe = fs_observe,
                                          .ready = fs_ready,
                                          .stat = fs_stat,
                                          .poll = fs_poll};

/* What the relay does: all items delivered, these nodes (bits) are owed it. */
static void fdeliver(uint32_t node, uint64_t n, uint8_t owed, uint64_t dsn)
{
    struct fnode *f = &net.nodes[node];
    struct fmsg *m = &f->msgs[n];
    assert_int_equal(m->what, 1);
    m->what = 2;
    m->live = 0;
    m->ends = m->items == 2 ? 0x11 : 1;
    m->seq++;
    m->owed = owed & (uint8_t) ~(1u << node);
    struct fop *o = fop_add(f);
    o->tap = n;
    if (dsn)
        o->dsn = fid(dsn);
}

/* Of a message of two items the first is delivered, the other put off. */
static inline void fdeliver_first(uint32_t node, uint64_t n, uint8_t owed)
{
    struct fnode *f = &net.nodes[node];
    struct fmsg *m = &f->msgs[n];
    assert_int_equal(m->live, 2);
    m->live = 1;
    m->ends = 1;
    m->seq++;
    m->owed = owed & (uint8_t) ~(1u << node);
    fop_add(f)->tap = n;
}
