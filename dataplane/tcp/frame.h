/* frame.h - an Ethernet frame in a buffer of its port, as ports hand it to the stack and get it back.
 *
 * Ownership.  Frames received belong to the caller of stack_input and stay valid for one turn: until stack_flush
 * returned.  Nothing in tcp/ keeps a pointer into one longer; what must be kept is copied.  Frames to send are taken
 * with frame_pool.alloc, filled from the back (payload, then each header before it with frame_push), and given away
 * with frame_pool.send; the port frees them.
 *
 * A frame is one contiguous piece: a port makes it so before it hands it over. */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* Received: what the port verified.  Neither GOOD nor BAD means: not looked at, verify in software. */
    FRAME_IP_GOOD = 1,
    FRAME_IP_BAD = 2,
    FRAME_L4_GOOD = 4,
    FRAME_L4_BAD = 8,
    FRAME_VLAN = 16, /* received: the tag was taken off by the port, it is in vlan. To send: put vlan in (offload) */
    /* To send: the port fills in.  l3 and l4 are set; the L4 checksum field holds the pseudo header's sum (unfolded
     * into 16 bits, not inverted), as DPDK wants it. */
    FRAME_TX_IP_SUM = 32,
    FRAME_TX_TCP_SUM = 64,
};

/* Room before the payload of a frame to send: Ethernet 14, VLAN 4, IPv6 40, TCP 60, and something for alignment. */
#define FRAME_HEADROOM 128u

struct frame {
    uint8_t *p;            /* received: the Ethernet header. To send: the first byte filled so far */
    uint32_t n;            /* bytes from p */
    uint16_t flags;        /* FRAME_* */
    uint16_t vlan;         /* tag, host order */
    uint32_t hash;         /* the port's receive hash; 0: none. Never used as a key of our tables */
    uint16_t l3, l4;       /* to send: offsets of the IP and the TCP header from p */
    uint32_t room;         /* to send: bytes that may be filled from p of a fresh frame (without the headroom) */
    void *buf;             /* the port's */
    struct frame *next;    /* TCP: the next frame of one connection in this turn */
    uint32_t data, data_n; /* TCP: where in p its bytes are that wait to be read */
};

/* Where frames to send come from and go to: the port's queue. */
struct frame_pool {
    /* An empty frame with FRAME_HEADROOM before p; false: none left. */
    bool (*alloc)(void *ctx, struct frame *f_r);
    /* Takes the frame. What the port cannot send it drops and counts. */
    void (*send)(void *ctx, struct frame *f);
    /* A frame that was taken and is not sent after all. */
    void (*drop)(void *ctx, struct frame *f);
    void *ctx;
};

/* Grows to the front; returns the new first byte. */
static inline uint8_t *frame_push(struct frame *f, uint32_t n)
{
    f->p -= n;
    f->n += n;
    return f->p;
}
