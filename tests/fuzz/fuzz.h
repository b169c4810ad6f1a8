/* fuzz.h - a stack under libFuzzer: its peers, the frames that they make.
 *
 *   fuzz_stack.c  the life of one stack: turns, time, owner, what must hold
 *   peers.c       four peers that know what the stack told them, and make frames relative to that */
#pragma once
#include "dataplane/tcp/stack.h"
#include "tests/fuzz/bytes.h"
#include "tests/tcpsim/tcpsim.h"

#define PEERS       4u
#define PORT_FIRST  30000u
#define FRAME_ROOM  2048u
#define BURST       32u
#define GREETINGS_N 8u

/* Mostly near zero, sometimes anything. */
uint32_t take_delta(struct bytes *b);

/* ---- peers.c */
void peers_open(bool v6, uint64_t *now_us);
struct ip_addr peers_addr_us(void);
extern const uint8_t peers_mac_us[6];
/* A frame that the stack sent: well formed, and within what it said before. */
void peers_hear(const uint8_t *p, uint32_t n);
/* Frames for the stack, from input; given to fuzz_give. */
void peers_segment(struct bytes *b);
/* SYN with every option; the turn; its ACK. */
void peers_handshake(struct bytes *b);
void peers_raw(struct bytes *b);
void peers_icmp(struct bytes *b);
void peers_link(struct bytes *b);

/* ---- fuzz_stack.c */
/* Copied to the very end of an allocation. */
void fuzz_give(const uint8_t *p, uint32_t n);
void fuzz_turn(void);
/* Room for one more frame in this burst? */
bool fuzz_room(void);
