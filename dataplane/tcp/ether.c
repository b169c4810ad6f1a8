/* ether.c - Ethernet II and one 802.1Q tag. */
#include "dataplane/tcp/ether.h"
#include "dataplane/tcp/be.h"

const uint8_t ether_broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* The tag and the type behind it: from the frame, or where the port put the tag. */
static int tag_parse(const struct frame *f, struct ether *e, uint16_t *vlan_r)
{
    bool taken_off = f->flags & FRAME_VLAN;
    *vlan_r = taken_off ? f->vlan & 0xfff : 0;
    if (e->type != ETHER_8021Q)
        return 0;
    if (taken_off)
        return STAT_DROP_VLAN; /* a tag within a tag */
    if (e->l3_n < ETHER_VLAN)
        return STAT_DROP_SHORT;
    *vlan_r = be16_get(e->l3) & 0xfff;
    e->type = be16_get(e->l3 + 2);
    e->l3 += ETHER_VLAN;
    e->l3_n -= ETHER_VLAN;
    return e->type == ETHER_8021Q ? STAT_DROP_VLAN : 0;
}

static bool is_for_us(const struct ip_config *cfg, const struct ether *e)
{
    bool ours = memcmp(e->dst, cfg->mac, 6) == 0;
    switch (e->type) {
    case ETHER_IP4: /* never in a broadcast (RFC 1122 3.3.6) */
        return ours;
    case ETHER_ARP:
        return ours || memcmp(e->dst, ether_broadcast, 6) == 0;
    case ETHER_IP6:
        return ours || (e->dst[0] == 0x33 && e->dst[1] == 0x33);
    default:
        return false;
    }
}

int ether_parse(const struct ip_config *cfg, const struct frame *f, struct ether *e_r)
{
    uint16_t vlan;
    if (f->n < ETHER_BYTES)
        return STAT_DROP_SHORT;
    *e_r = (struct ether){f->p, f->p + 6, f->p + ETHER_BYTES, f->n - ETHER_BYTES, be16_get(f->p + 12)};
    int drop = tag_parse(f, e_r, &vlan);
    if (drop)
        return drop;
    if (vlan != cfg->vlan)
        return STAT_DROP_VLAN;
    if ((e_r->src[0] & 1) || memcmp(e_r->src, cfg->mac, 6) == 0 || !is_for_us(cfg, e_r))
        return STAT_DROP_ETHER;
    return 0;
}

void ether_push(const struct ip_config *cfg, struct frame *f, const uint8_t dst[6], uint16_t type)
{
    bool inline_tag = cfg->vlan && !cfg->tx_vlan;
    uint32_t n = ETHER_BYTES + (inline_tag ? ETHER_VLAN : 0);
    uint8_t *p = frame_push(f, n);
    memcpy(p, dst, 6);
    memcpy(p + 6, cfg->mac, 6);
    if (inline_tag) {
        be16_put(p + 12, ETHER_8021Q);
        be16_put(p + 14, cfg->vlan);
    }
    be16_put(p + n - 2, type);
    if (cfg->vlan && cfg->tx_vlan) {
        f->flags |= FRAME_VLAN;
        f->vlan = cfg->vlan;
    }
    f->l3 = (uint16_t)(f->l3 + n);
    f->l4 = (uint16_t)(f->l4 + n);
}
