/* sock.h - the few socket calls that the bench programs share.  Errors end the program with a line on stderr where the
 * caller cannot go on, and are returned as -errno where it can. */
#pragma once
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

struct sock_addr {
    struct sockaddr_storage sa;
    socklen_t n;
};

/* "127.0.0.1:25", "[::1]:25", "localhost:25".  Ends the program when it names nothing. */
struct sock_addr sock_parse(const char *host_port);
/* Non-blocking listener with SO_REUSEADDR; ends the program when the address is taken. */
int sock_listen(const struct sock_addr *a, int backlog);
/* Non-blocking, TCP_NODELAY; the connection may still be under way.  fd or -errno. */
int sock_connect(const struct sock_addr *a);
/* CLOCK_MONOTONIC. */
uint64_t sock_now_us(void);
/* User and system time of this process. */
uint64_t sock_cpu_us(void);
/* Raises the limit of open files as far as the machine lets us; returns the limit. */
uint64_t sock_raise_files(void);
