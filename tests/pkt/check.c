/* check.c - what holds of every frame that the stack sends. */
#include "tests/pkt/check.h"
#include "tests/pkt/build.h"
#include "tests/pkt/owner.h"

#include <stdlib.h>

/* ---- what the link answers by itself */

static bool is_host(const struct world *w, const struct ip_addr *a)
{
    for (int i = 0; i < 2; i++)
        if (ip_addr_eq(a, &w->cfg.ip.addrs[i].addr))
            return false;
    return true;
}

/* Who has it?  Everybody on the link from 2 to 254. */
static bool answer_neighbour(struct world *w, const struct pkt *k)
{
    struct spec a = {.kind = k->kind, .vlan = SPEC_DEFAULT};
    bool asks = k->kind == PKT_ARP ? k->type == 1 : k->kind == PKT_NDP && k->type == 135;
    if (!asks || w->neighbours_silent || !is_host(w, &k->target))
        return false;
    world_mac(k->target.b[15], a.mac);
    memcpy(a.dmac, k->smac, 6);
    memcpy(a.smac, a.mac, 6);
    a.has_dmac = a.has_smac = true;
    a.type = k->kind == PKT_ARP ? 2 : 136;
    a.src = a.target = a.sender = k->target;
    a.dst = k->kind == PKT_ARP ? k->sender : k->src;
    if (k->kind == PKT_ARP)
        a.target = k->sender;
    a.na_flags = 0x60000000;
    a.ttl = 255;
    build_send(w, &a);
    return true;
}

/* ---- TCP */

static struct peer *peer_of(struct world *w, const struct pkt *k)
{
    for (unsigned i = 0; k->kind == PKT_TCP && i < w->peers_n; i++) {
        struct peer *c = &w->peers[i];
        if (c->port == k->dport && ip_addr_eq(&c->addr, &k->dst))
            return c;
    }
    return NULL;
}

static bool has_blocks(const struct pkt *k)
{
    return k->sack_n > 0;
}

/* RFC 9293 3.2, RFC 7323 1.3, RFC 2018 2: an option is sent when both agreed to it. */
static void options_agreed(struct world *w, const struct peer *c, const struct pkt *k)
{
    bool syn = k->flags & F_SYN, answer = syn && k->flags & F_ACK, rst = k->flags & F_RST;
    if (!syn && (k->has_mss || k->has_ws || k->sackok))
        fail(w, "an option of SYN in a segment without it");
    if (answer && ((k->has_ws && !c->ws_asked) || (k->sackok && !c->sack_asked) || (k->has_ts && !c->ts_asked)))
        fail(w, "the SYN-ACK offers an option that the SYN did not");
    if (!syn && !rst && c->met && k->has_ts != c->ts_on)
        fail(w, c->ts_on ? "timestamps were agreed, the segment has none (RFC 7323 3.2)"
                         : "a timestamp that was not agreed");
    if (has_blocks(k) && !c->sack_on)
        fail(w, "SACK that was not agreed");
}

static void ecn_agreed(struct world *w, const struct peer *c, const struct pkt *k)
{
    if ((k->tos & 3) && (!c->ecn_on || k->n == 0))
        fail(w, "marked as ECN-capable: %s (RFC 3168 6.1)", k->n == 0 ? "a segment without data" : "ECN is not agreed");
    if (!(k->flags & F_SYN) && (k->flags & (F_ECE | F_CWR)) && !c->ecn_on)
        fail(w, "ECE or CWR and ECN is not agreed");
}

/* RFC 9293 3.8.6: a window once offered is not taken back. */
static void window_kept(struct world *w, struct peer *c, const struct pkt *k)
{
    if (!(k->flags & F_ACK) || k->flags & F_RST)
        return;
    uint32_t edge = k->ack + ((uint32_t)k->wnd << (c->ws_on && !(k->flags & F_SYN) ? c->ws_ours : 0));
    if (c->edge_known && (int32_t)(edge - c->edge_ours) < 0)
        fail(w, "the window shrinks: its right edge moves from %d to %d", (int32_t)(c->edge_ours - c->isn),
             (int32_t)(edge - c->isn));
    if (!c->edge_known || (int32_t)(edge - c->edge_ours) > 0)
        c->edge_ours = edge;
    c->edge_known = true;
}

static void payload_ours(struct world *w, const struct peer *c, const struct pkt *k)
{
    uint32_t rel = k->seq - c->our_isn, mtu = w->cfg.ip.mtu;
    if (k->n == 0)
        return;
    if (rel == 0 || rel - 1 + k->n > c->written)
        return fail(w, "sends bytes %d:%d of %u written", (int32_t)rel, (int32_t)(rel + k->n), c->written);
    for (uint32_t i = 0; i < k->n; i++)
        if (k->data[i] != our_byte(rel + i))
            return fail(w, "the byte at %u is '%c', written was '%c'", rel + i, k->data[i], our_byte(rel + i));
    uint32_t beyond = k->seq + k->n - c->edge_peers;
    if ((int32_t)beyond > (k->n == 1 ? 1 : 0))
        fail(w, "sends %u bytes beyond the peer's window", beyond);
    if (k->n + (c->ts_on ? 12 : 0) > (c->mss < 64 ? 536 : c->mss)) /* smaller ones are nobody's */
        fail(w, "%u bytes of payload, the peer takes segments of %u (options included)", k->n, c->mss);
    if (k->ip_n > mtu)
        fail(w, "a packet of %u bytes, the link takes %u", k->ip_n, mtu);
}

static void learn(struct world *w, struct peer *c, const struct pkt *k)
{
    if (k->flags & F_SYN && (!c->our_isn_known || !c->met)) {
        c->our_isn = k->seq;
        c->our_isn_us = w->now_us;
        c->our_isn_known = true;
        c->our_next = k->seq;
    }
    if (k->flags & F_SYN && k->flags & F_ACK) {
        c->syn = k->ack - 1;
        c->ts_on = c->ts_asked && k->has_ts;
        c->ws_on = c->ws_asked && k->has_ws;
        c->sack_on = c->sack_asked && k->sackok;
        c->ecn_on = c->ecn_asked && (k->flags & (F_ECE | F_CWR)) == F_ECE;
    }
    if ((k->flags & (F_SYN | F_ACK)) == F_SYN) {
        c->our_port = k->sport;
        c->offers_ts = k->has_ts;
        c->offers_ws = k->has_ws;
        c->offers_sack = k->sackok;
        c->offers_ecn = k->flags & F_ECE;
    }
    if (k->flags & F_SYN) {
        c->ws_ours = k->ws;
        c->met = true;
    }
    if (k->has_ts)
        c->ts_ours = k->ts_val;
    uint32_t end = k->seq + k->n + !!(k->flags & F_SYN) + !!(k->flags & F_FIN);
    if (!(k->flags & F_RST) && (int32_t)(end - c->our_next) > 0)
        c->our_next = end;
}

static void check_tcp(struct world *w, struct peer *c, const struct pkt *k)
{
    if (k->sport == 0 || k->dport == 0)
        fail(w, "port 0");
    if ((k->flags & F_RST) && k->n > 0)
        fail(w, "an RST with payload");
    if (!k->v6 && !k->df)
        fail(w, "IPv4 without DF: the path MTU is not discovered (RFC 1191)");
    if (!c)
        return;
    struct ip_addr us = world_host(w, HOST_US);
    if (!ip_addr_eq(&k->src, &us)) /* MUST-45 */
        fail(w, "sent from another address than the connection's");
    learn(w, c, k);
    options_agreed(w, c, k);
    ecn_agreed(w, c, k);
    if (k->flags & F_RST || !c->met)
        return;
    window_kept(w, c, k);
    payload_ours(w, c, k);
}

/* ---- addresses */

/* Whose MAC must the frame have?  Its host's on the link, else the gateway's. */
static void link_checked(struct world *w, const struct pkt *k)
{
    uint8_t us[6], want[6];
    const struct ip_addr *gateway = k->v6 ? &w->cfg.ip.gateway6 : &w->cfg.ip.gateway4;
    bool on_link = memcmp(k->dst.b, gateway->b, k->v6 ? 8 : 15) == 0;
    world_mac(HOST_US, us);
    if (memcmp(k->smac, us, 6) != 0)
        fail(w, "sent from a MAC that is not ours");
    if (k->vlan != w->vlan)
        fail(w, "VLAN %d, ours is %d", k->vlan, w->vlan);
    if (k->kind != PKT_TCP)
        return;
    world_mac(on_link ? k->dst.b[15] : HOST_GATEWAY, want);
    if (memcmp(k->dmac, want, 6) != 0)
        fail(w, "sent to MAC ..:%02x, its owner's is ..:%02x", k->dmac[5], want[5]);
    if (is_host(w, &k->src))
        fail(w, "sent from an address that is not ours");
}

static void remember_reply(struct world *w, const struct pkt *k)
{
    w->replies = realloc(w->replies, (w->replies_n + 1) * sizeof *w->replies);
    w->replies[w->replies_n] = *k;
    w->replies[w->replies_n++].data = NULL;
}

void check_sent(struct world *w, uint8_t *bytes, uint32_t n)
{
    struct sent s = {.at_us = w->now_us, .bytes = bytes};
    char why[256] = "", text[512];
    if (!pkt_decode(&s.k, bytes, n, why)) {
        fail(w, "sends what is malformed: %s", why);
        free(bytes);
        return;
    }
    bool before = w->failed;
    s.peer = peer_of(w, &s.k);
    link_checked(w, &s.k);
    if (s.k.kind == PKT_TCP)
        check_tcp(w, s.peer, &s.k);
    pkt_text(&s.k, s.peer, true, text, sizeof text);
    trace(w, w->failed && !before ? "<!" : "<", text);
    if (w->flooding && !s.peer && (s.k.kind == PKT_TCP || s.k.kind == PKT_ICMP)) {
        remember_reply(w, &s.k);
        free(bytes);
        return;
    }
    if (answer_neighbour(w, &s.k)) {
        free(bytes);
        return;
    }
    w->sent = realloc(w->sent, (w->sent_n + 1) * sizeof *w->sent);
    w->sent[w->sent_n++] = s;
}
