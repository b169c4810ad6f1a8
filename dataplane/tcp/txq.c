/* txq.c - bytes sent and to be sent: a chain of blocks from snd_una on.
 *
 * Blocks that were never used follow `touched`, so that their memory is the kernel's until then. */
#include "dataplane/tcp/tcp_send.h"
#include "spool/base/fetch.h"

struct txpool {
    uint32_t free, touched, used, max;
    uint32_t *next; /* of each block: the next of its chain, or of the free ones */
    uint8_t *bytes;
};

static size_t rounded(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

size_t txpool_bytes(const struct tcp_config *cfg)
{
    return rounded(sizeof(struct txpool)) + rounded(cfg->txblocks_max * sizeof(uint32_t)) +
           (size_t)cfg->txblocks_max * TCP_TXBLOCK_BYTES;
}

void txpool_init(struct tcp *t, void *mem)
{
    struct txpool *p = mem;
    uint8_t *next = (uint8_t *)mem + rounded(sizeof *p);
    *p = (struct txpool){.free = TCP_NONE, .max = t->cfg.txblocks_max};
    p->next = (uint32_t *)next;
    p->bytes = next + rounded(p->max * sizeof(uint32_t));
    t->tx = p;
}

/* ---- blocks */

static void count(struct tcp *t)
{
    stat_set(t->stats, STAT_TXBLOCKS_USED, t->tx->used);
}

/* The block after the next one: what was free for a while is in no cache when somebody writes to it. */
static void fetch_ahead(const struct txpool *p)
{
    uint32_t block = p->free == TCP_NONE ? TCP_NONE : p->next[p->free];
    if (block != TCP_NONE)
        cache_fetch(p->bytes + (size_t)block * TCP_TXBLOCK_BYTES);
}

uint32_t txblock_take(struct tcp *t)
{
    struct txpool *p = t->tx;
    uint32_t block = p->free;
    if (block != TCP_NONE)
        p->free = p->next[block];
    else if (p->touched < p->max)
        block = p->touched++;
    else
        return TCP_NONE;
    p->next[block] = TCP_NONE;
    fetch_ahead(p);
    p->used++;
    count(t);
    return block;
}

void txblock_give(struct tcp *t, uint32_t block)
{
    struct txpool *p = t->tx;
    assert(p->used > 0 && block < p->touched);
    p->next[block] = p->free;
    p->free = block;
    p->used--;
    count(t);
}

void *txblock_at(const struct tcp *t, uint32_t block)
{
    assert(block < t->tx->touched);
    return t->tx->bytes + (size_t)block * TCP_TXBLOCK_BYTES;
}

/* ---- a connection's chain */

static bool grow(struct tcp *t, struct tcp_conn *c)
{
    uint32_t block = txblock_take(t);
    if (block == TCP_NONE)
        return false;
    if (c->tx_head == TCP_NONE)
        c->tx_head = block;
    else
        t->tx->next[c->tx_tail] = block;
    c->tx_tail = block;
    return true;
}

/* At the end of the chain, as many as its last block takes; 0: no block. */
static uint32_t put_some(struct tcp *t, struct tcp_conn *c, const uint8_t *p, size_t n)
{
    uint32_t at = (c->tx_off + c->tx_bytes) % TCP_TXBLOCK_BYTES, room = TCP_TXBLOCK_BYTES - at;
    if (at == 0 && !grow(t, c))
        return 0;
    if (n < room)
        room = (uint32_t)n;
    memcpy((uint8_t *)txblock_at(t, c->tx_tail) + at, p, room);
    c->tx_bytes += room;
    return room;
}

size_t txq_put(struct tcp *t, struct tcp_conn *c, struct slice data)
{
    size_t room = t->cfg.send_bytes > c->tx_bytes ? t->cfg.send_bytes - c->tx_bytes : 0, done = 0;
    size_t n = data.n < room ? data.n : room;
    while (done < n) {
        uint32_t part = put_some(t, c, data.p + done, n - done);
        if (part == 0)
            break;
        done += part;
    }
    return done;
}

/* The block that holds seq; *off_r: where in it.  Segments are read one behind the other: the search goes on from the
 * block read last. */
static uint32_t find(struct tcp *t, struct tcp_conn *c, uint32_t seq, uint32_t *off_r)
{
    bool known = c->tx_at != TCP_NONE && seq_leq(c->tx_at_seq, seq);
    uint32_t block = known ? c->tx_at : c->tx_head, at = known ? c->tx_at_seq : c->snd_una - c->tx_off;
    for (; seq - at >= TCP_TXBLOCK_BYTES; at += TCP_TXBLOCK_BYTES)
        block = t->tx->next[block];
    c->tx_at = block;
    c->tx_at_seq = at;
    *off_r = seq - at;
    return block;
}

void txq_read(struct tcp *t, struct tcp_conn *c, uint32_t offset, uint8_t *out, uint32_t n)
{
    uint32_t off, done = 0;
    assert(offset <= c->tx_bytes && n <= c->tx_bytes - offset);
    if (n == 0)
        return;
    for (uint32_t block = find(t, c, c->snd_una + offset, &off); done < n; block = t->tx->next[block], off = 0) {
        uint32_t part = TCP_TXBLOCK_BYTES - off < n - done ? TCP_TXBLOCK_BYTES - off : n - done;
        memcpy(out + done, (const uint8_t *)txblock_at(t, block) + off, part);
        done += part;
    }
}

static void shrink(struct tcp *t, struct tcp_conn *c)
{
    uint32_t block = c->tx_head;
    c->tx_head = t->tx->next[block];
    if (c->tx_head == TCP_NONE)
        c->tx_tail = TCP_NONE;
    if (c->tx_at == block)
        c->tx_at = TCP_NONE;
    txblock_give(t, block);
}

void txq_acked(struct tcp *t, struct tcp_conn *c, uint32_t n)
{
    assert(n <= c->tx_bytes);
    uint32_t off = c->tx_off + n;
    c->tx_bytes -= n;
    if (c->tx_bytes == 0) {
        txq_drop(t, c);
        return;
    }
    for (; off >= TCP_TXBLOCK_BYTES; off -= TCP_TXBLOCK_BYTES)
        shrink(t, c);
    c->tx_off = (uint16_t)off;
}

void txq_drop(struct tcp *t, struct tcp_conn *c)
{
    while (c->tx_head != TCP_NONE)
        shrink(t, c);
    c->tx_bytes = c->tx_off = 0;
}

uint32_t txq_held(const struct tcp_conn *c)
{
    uint32_t blocks = (c->tx_off + c->tx_bytes + TCP_TXBLOCK_BYTES - 1) / TCP_TXBLOCK_BYTES;
    return (blocks + (c->sb != TCP_NONE)) * TCP_TXBLOCK_BYTES;
}
