/* sock.h - the sockets below the links: "host:port", listening, connecting.  Everything is non-blocking. */
#pragma once
#include "cluster/link/why.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define SOCK_HOST_MAX  256
#define SOCK_PORT_MAX  16
#define SOCK_TEXT_MAX  64
#define SOCK_ADDRS_MAX 8

struct sock_addr {
    struct sockaddr_storage ss;
    socklen_t n;
};

/* "host:port", "[v6]:port", "*:port".  0 or -SATCHEL_EINVAL. */
int sock_split(const char *address, char host_r[SOCK_HOST_MAX], char port_r[SOCK_PORT_MAX]);
/* The socket; "*" listens for both families.  Negative: error, with the remedy in why_r (WHY_MAX bytes). */
int link_sock_listen(const char *address, char *why_r);
/* A connection on its way (it is there when the socket is writable), or a negative error. */
int link_sock_connect(const struct sock_addr *a);
/* What became of it: 0 or a negative error. */
int sock_connected(int fd);
/* What every connection wants; accepted ones too. */
void link_sock_tune(int fd);
uint16_t link_sock_port(int fd);
/* "192.0.2.1:7400", "[2001:db8::1]:7400" */
void sock_format(const struct sock_addr *a, char text_r[SOCK_TEXT_MAX]);
