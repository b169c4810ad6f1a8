/* stack.h - the userspace TCP/IP of one queue: ip.h, guard.h and tcp.h joined.  Sans-I/O: a port's loop, the simulator
 * and the packet scripts drive it alike.
 *
 * Thread: its queue's.  A turn: stack_input, stack_tick, events by tcp_event(stack_tcp(s)), stack_settle, stack_flush;
 * then the frames given to stack_input are the caller's to free. */
#pragma once
#include "dataplane/tcp/guard.h"
#include "dataplane/tcp/ip.h"
#include "dataplane/tcp/tcp.h"

struct stack;

struct stack_config {
    struct ip_config ip;
    struct guard_config guard;
    struct tcp_config tcp;
};
void stack_config_default(struct stack_config *cfg_r);

size_t stack_bytes(const struct stack_config *cfg);
/* mem: stack_bytes bytes, zeroed, aligned to 64. key: 64 secret random bytes. 0 or -SATCHEL_EINVAL with why_r (256
 * bytes). */
int stack_init(struct stack **s_r, void *mem, const struct stack_config *cfg, const struct frame_pool *pool,
               struct stats *stats, const uint8_t key[64], uint64_t now_us, char *why_r);
void stack_input(struct stack *s, struct frame *frames, uint32_t n, uint64_t now_us);
void stack_tick(struct stack *s, uint64_t now_us);
void stack_settle(struct stack *s);
void stack_flush(struct stack *s, uint64_t now_us);
/* When stack_tick has something to do; 0: at once. */
uint64_t stack_next_us(const struct stack *s);
struct tcp *stack_tcp(struct stack *s);
struct ip *stack_ip(struct stack *s);
struct guard *stack_guard(struct stack *s);
/* The sockaddr of our address i with port, and of a peer: IPv4 as AF_INET. */
struct sockaddr_storage;
void stack_sockaddr(const struct ip_addr *a, uint16_t port, struct sockaddr_storage *ss_r);
