/* tcp_send_rig.h - one connection that stands, for tests of the sending files; what leaves is kept by tcp_rig.h. */
#pragma once
#include "dataplane/tcp/tcp_send.h"
#include "tcp_rig.h"

#define UNA     0xfffff000u /* its stream runs over the wrap */
#define MSS     1000u
#define SEND_MS 8000u /* the clock: rig_open's and a second */

static struct tcp_conn *conn;
static void *rig_tx, *rig_conns;

/* Blocks for n connections' worth, and an empty connection. */
static inline void send_open(uint32_t blocks)
{
    rig_open();
    rig.t.cfg.txblocks_max = blocks;
    rig.t.cfg.send_bytes = 64 * 1024;
    rig.t.cfg.rto_min_ms = 200;
    rig.t.cfg.rto_max_ms = 60000;
    rig.t.cfg.r2_ms = 100000;
    rig.t.cfg.zero_window_ms = 600000;
    rig.t.cfg.fin_wait2_ms = 60000;
    rig_at(SEND_MS * 1000ull);
    rig_tx = rig_part(txpool_bytes(&rig.t.cfg));
    txpool_init(&rig.t, rig_tx);
    rig_conns = rig_part((size_t)rig.t.cfg.conns_max * rig.t.cfg.conn_bytes);
    rig.t.conns = rig_conns;
    conn = tcp_conn_at(&rig.t, 0);
    *conn = (struct tcp_conn){.state = TCP_ESTABLISHED, .mss = MSS, .mss_peer = MSS, .rto = 1000};
    conn->tx_head = conn->tx_tail = conn->tx_at = conn->sb = conn->rx = TCP_NONE;
    conn->snd_una = conn->snd_nxt = conn->snd_max = UNA;
    conn->snd_wnd = conn->snd_wnd_max = 60000;
    conn->recover = conn->ece_until = UNA - 1;
    conn->rtx_next = conn->rtt_seq = UNA;
    conn->cwnd = 10 * MSS;
    conn->ssthresh = 1u << 30;
}

static inline void send_close(void)
{
    free(rig_tx);
    free(rig_conns);
}

/* So many bytes are out. */
static inline void send_out(uint32_t n)
{
    conn->snd_nxt += n;
    conn->snd_max = seq_max(conn->snd_max, conn->snd_nxt);
}
