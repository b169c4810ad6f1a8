/* tls.h - TLS 1.3 over a non-blocking socket, mutual: both sides show a certificate of one CA.  The only place that
 * knows OpenSSL.
 *
 * Results: > 0 bytes; 0 the other side has closed; -SATCHEL_EAGAIN when the socket is ready again (register it
 * edge-triggered for both directions); -SATCHEL_EIO it failed, and tls_conn_why says how, with the remedy.
 * Thread: one owner. */
#pragma once
#include "cluster/link/why.h"
#include "spool/base/clock.h"
#include "spool/base/slice.h"

#include <sys/types.h>

#define TLS_RECORD_BYTES 16384 /* RFC 8446, 5.1: the most plaintext that one record carries */

/* Our certificate and the CA. */
struct tls;
/* PEM files; names are copied.  why_r: WHY_MAX bytes.  0 or -SATCHEL_ECONFIG. */
int tls_open(struct tls **t_r, const char *ca, const char *cert, const char *key, const struct clock *clock,
             char *why_r);
/* Reads the files again when they changed (looks at most every 10 s); files that are of no use leave what we have.
 * Connections that stand are not touched. */
void tls_refresh(struct tls *t);
void tls_close(struct tls **t);

struct tls_conn;
/* NULL: no memory.  The socket stays the caller's. */
struct tls_conn *tls_conn_new(struct tls *t, int fd, bool dialer);
/* 1: done. */
int tls_conn_handshake(struct tls_conn *c);
/* Its certificate says this name, as DNS name (no wildcards) or CN. */
bool tls_conn_names(const struct tls_conn *c, const char *name);
/* The name in its certificate, for messages: WHY_MAX bytes. */
void tls_conn_subject(const struct tls_conn *c, char *name_r);
ssize_t tls_conn_read(struct tls_conn *c, void *buf, size_t cap);
/* At most one record; after -SATCHEL_EAGAIN the next call must have the same length (the bytes were taken already). */
ssize_t tls_conn_write(struct tls_conn *c, struct slice s);
/* Says that nothing follows; does not wait. */
void tls_conn_end(struct tls_conn *c);
const char *tls_conn_why(const struct tls_conn *c);
void tls_conn_free(struct tls_conn **c);
