/* hello.c - codec and judgement of HELLO. */
#include "cluster/link/hello.h"

#include "spool/base/err.h"

struct fbuf *hello_frame(const struct peer_hello *us, const char *reason)
{
    struct fbuf *f = fbuf_new(FRAME_HELLO, FRAME_HELLO_VERSION, sizeof(struct hello) + 16);
    if (!f)
        return NULL;
    struct wire_wr w = fbuf_writer(f);
    wire_put(&w, us->cluster.b, sizeof us->cluster.b);
    wire_put(&w, us->storage.b, sizeof us->storage.b);
    wire_put_u32(&w, us->proto);
    wire_put_u32(&w, us->proto_min);
    wire_put_u64(&w, us->boot);
    wire_put_u64(&w, us->wall_us);
    size_t name = strnlen(us->name, sizeof us->name - 1), text = strnlen(reason, WHY_MAX - 1);
    wire_put_u8(&w, (uint8_t)name);
    wire_put(&w, us->name, name);
    wire_put_u16(&w, (uint16_t)text);
    wire_put(&w, reason, text);
    if (fbuf_end(f, &w) == 0)
        return f;
    fbuf_unref(f);
    return NULL;
}

/* What comes from outside is shown to operators: one line, printable. */
static void hello_text(char *out_r, size_t cap, struct slice s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    for (size_t i = 0; i < n; i++)
        out_r[i] = s.p[i] >= 0x20 && s.p[i] < 0x7f ? (char)s.p[i] : '?';
    out_r[n] = 0;
}

static bool hello_name_ok(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7f)
            return false;
    return s.n > 0 && s.n < sizeof((struct peer_hello *)0)->name;
}

int hello_parse(struct slice payload, struct hello *h_r)
{
    struct wire_rd r = wire_rd(payload);
    struct peer_hello *who = &h_r->who;
    *h_r = (struct hello){0};
    struct slice cluster = wire_get(&r, sizeof who->cluster.b), storage = wire_get(&r, sizeof who->storage.b);
    who->proto = wire_u32(&r);
    who->proto_min = wire_u32(&r);
    who->boot = wire_u64(&r);
    who->wall_us = wire_u64(&r);
    struct slice name = wire_get(&r, wire_u8(&r)), reason = wire_get(&r, wire_u16(&r));
    if (r.bad || !hello_name_ok(name))
        return -SATCHEL_EINVAL;
    memcpy(who->cluster.b, cluster.p, cluster.n);
    memcpy(who->storage.b, storage.p, storage.n);
    hello_text(who->name, sizeof who->name, name);
    hello_text(h_r->reason, sizeof h_r->reason, reason);
    return 0;
}

bool hello_agrees(const struct peer_hello *us, const struct peer_hello *they, char *why_r)
{
    char a[STORAGE_ID_TEXT_MAX], b[STORAGE_ID_TEXT_MAX];
    if (storage_id_zero(&us->cluster) || storage_id_zero(&they->cluster)) {
        why_say(why_r,
                "%s has not read the cluster's map yet: if that lasts, look at its coordination (cluster status)",
                storage_id_zero(&us->cluster) ? us->name : they->name);
        return false;
    }
    if (!storage_id_eq(&us->cluster, &they->cluster)) {
        storage_id_format(&us->cluster, a);
        storage_id_format(&they->cluster, b);
        why_say(
            why_r,
            "%s belongs to cluster %s, %s to cluster %s: one of the two uses another cluster's coordination or disk",
            us->name, a, they->name, b);
        return false;
    }
    if (us->proto < they->proto_min || they->proto < us->proto_min) {
        why_say(why_r, "%s speaks protocol %u to %u, %s %u to %u: upgrade the older one first, one release at a time",
                us->name, us->proto_min, us->proto, they->name, they->proto_min, they->proto);
        return false;
    }
    if (storage_id_eq(&us->storage, &they->storage)) {
        storage_id_format(&us->storage, a);
        why_say(why_r,
                "%s and %s both have storage %s: an address that leads back to the node itself, or a copied disk",
                us->name, they->name, a);
        return false;
    }
    return true;
}
