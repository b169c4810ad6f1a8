/* tls.c - OpenSSL 3.0.
 *
 * One context for both directions.  No session tickets: a link lives for weeks, and a resumed session would outlive the
 * certificate it was opened with.  Buffers are released when idle, so that a thousand links cost little.
 *
 * Diagnostics: "FILE: ... : remedy" from tls_open, and as log line tls.refused when files that changed are of no use.
 */
#include "cluster/link/tls.h"

#include "spool/base/err.h"
#include "spool/base/log.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    LOOK_US = 10 * 1000 * 1000,
    READ_AHEAD_BYTES = 64 * 1024, /* four records a system call; below what malloc would map anew each time */
};

enum tls_file { FILE_CA, FILE_CERT, FILE_KEY, FILES };

struct tls_stamp {
    struct timespec mtime;
    off_t size;
    ino_t inode;
};

struct tls {
    SSL_CTX *ctx;
    char *files[FILES];
    struct tls_stamp stamps[FILES];
    const struct clock *clock;
    uint64_t looked_us;
};

struct tls_conn {
    SSL *ssl;
    char why[WHY_MAX];
};

/* ---- what went wrong, and what to do */

#define TLS_REMEDIES(X)                                                                                                \
    X(SSL_R_TLSV1_ALERT_UNKNOWN_CA,                                                                                    \
      "the other side does not know the CA of our certificate: both need certificates of one CA")                      \
    X(SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED,                                                                           \
      "the other side finds our certificate expired: renew it, check the clocks")                                      \
    X(SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,                                                                           \
      "the other side refuses our certificate: both need certificates of one CA")                                      \
    X(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the other side refuses our certificate: make it with scripts/cluster-certs") \
    X(SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, "we showed no certificate, and the other side wants one")               \
    X(SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE,                                                                         \
      "no certificate was shown: only nodes of the cluster may use this port")                                         \
    X(SSL_R_WRONG_VERSION_NUMBER, "what came is not TLS: only nodes of the cluster may use this port")                 \
    X(SSL_R_HTTP_REQUEST, "what came is HTTP: only nodes of the cluster may use this port")                            \
    X(SSL_R_UNSUPPORTED_PROTOCOL, "the other side speaks no TLS 1.3")                                                  \
    X(SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, "the other side speaks no TLS 1.3")                                          \
    X(SSL_R_UNEXPECTED_EOF_WHILE_READING, "closed by the other side")

static const struct tls_remedy {
    int reason;
    const char *text;
} tls_remedies[] = {
#define X(reason, text) {reason, text},
    TLS_REMEDIES(X)
#undef X
};

static const char *tls_remedy(unsigned long e)
{
    for (size_t i = 0; i < sizeof tls_remedies / sizeof *tls_remedies; i++)
        if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == tls_remedies[i].reason)
            return tls_remedies[i].text;
    return NULL;
}

static const char *tls_error_text(unsigned long e)
{
    const char *text = tls_remedy(e);
    if (!text)
        text = ERR_SYSTEM_ERROR(e) ? satchel_strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);
    return text ? text : "failed";
}

static void tls_conn_explain(struct tls_conn *c, int ssl_error, int err)
{
    unsigned long e = ERR_peek_last_error();
    long verdict = SSL_get_verify_result(c->ssl);
    if (verdict != X509_V_OK)
        why_say(c->why, "its certificate is refused (%s): both nodes need valid certificates of one CA",
                X509_verify_cert_error_string(verdict));
    else if (e)
        why_say(c->why, "%s", tls_error_text(e));
    else if (ssl_error == SSL_ERROR_SYSCALL && err)
        why_say(c->why, "%s", satchel_strerror(err));
    else
        why_say(c->why, "closed by the other side");
    ERR_clear_error();
}

/* What a call of OpenSSL that returned n <= 0 means. */
static int tls_conn_result(struct tls_conn *c, int n)
{
    int err = errno, e = SSL_get_error(c->ssl, n);
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
        return -SATCHEL_EAGAIN;
    if (e == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (e == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING &&
        SSL_is_init_finished(c->ssl)) {
        ERR_clear_error();
        return 0;
    }
    tls_conn_explain(c, e, err);
    return -SATCHEL_EIO;
}

/* ---- the context */

static int tls_refuse(const char *file, const char *remedy, char *why_r)
{
    why_say(why_r, "%.120s: %s: %s", file, tls_error_text(ERR_peek_error()), remedy); /* the first is the cause */
    ERR_clear_error();
    return -SATCHEL_ECONFIG;
}

static int tls_ctx_load(SSL_CTX *ctx, char *const files[FILES], char *why_r)
{
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(ctx, files[FILE_CA]) != 1)
        return tls_refuse(files[FILE_CA], "must be the PEM file of the cluster's CA (cluster-certs makes one)", why_r);
    if (SSL_CTX_use_certificate_chain_file(ctx, files[FILE_CERT]) != 1)
        return tls_refuse(files[FILE_CERT], "must be the PEM file of this node's certificate", why_r);
    if (SSL_CTX_use_PrivateKey_file(ctx, files[FILE_KEY], SSL_FILETYPE_PEM) != 1)
        return tls_refuse(files[FILE_KEY], "must be the PEM file of the certificate's private key, readable to us",
                          why_r);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return tls_refuse(files[FILE_KEY], "must be the key of the certificate beside it", why_r);
    return 0;
}

static void tls_ctx_settle(SSL_CTX *ctx)
{
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(ctx, 4);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
    SSL_CTX_set_mode(ctx,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
}

static int tls_ctx_open(SSL_CTX **ctx_r, char *const files[FILES], char *why_r)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (!ctx)
        return tls_refuse("OpenSSL", "gives no context", why_r);
    tls_ctx_settle(ctx);
    int rc = tls_ctx_load(ctx, files, why_r);
    if (rc < 0) {
        SSL_CTX_free(ctx);
        return rc;
    }
    *ctx_r = ctx;
    return 0;
}

/* True: a file is not what it was when looked at last. */
static bool tls_changed(struct tls *t)
{
    bool changed = false;
    for (int i = 0; i < FILES; i++) {
        struct stat st;
        struct tls_stamp now = {0};
        if (stat(t->files[i], &st) == 0)
            now = (struct tls_stamp){st.st_mtim, st.st_size, st.st_ino};
        const struct tls_stamp *was = &t->stamps[i];
        changed |= now.mtime.tv_sec != was->mtime.tv_sec || now.mtime.tv_nsec != was->mtime.tv_nsec ||
                   now.size != was->size || now.inode != was->inode;
        t->stamps[i] = now;
    }
    return changed;
}

int tls_open(struct tls **t_r, const char *ca, const char *cert, const char *key, const struct clock *clock,
             char *why_r)
{
    struct tls *t = calloc(1, sizeof *t);
    if (!t)
        return -SATCHEL_ENOMEM;
    const char *files[FILES] = {ca, cert, key};
    for (int i = 0; i < FILES; i++)
        t->files[i] = strdup(files[i] ? files[i] : "");
    t->clock = clock;
    t->looked_us = clock_boot_us(clock);
    (void)tls_changed(t);
    int rc = tls_ctx_open(&t->ctx, t->files, why_r);
    if (rc < 0) {
        tls_close(&t);
        return rc;
    }
    *t_r = t;
    return 0;
}

void tls_refresh(struct tls *t)
{
    uint64_t now = clock_boot_us(t->clock);
    if (now - t->looked_us < LOOK_US)
        return;
    t->looked_us = now;
    if (!tls_changed(t))
        return;
    char why[WHY_MAX], quoted[2 * WHY_MAX];
    SSL_CTX *ctx;
    if (tls_ctx_open(&ctx, t->files, why) < 0) {
        log_error("tls.refused", "why=%s remedy=\"put the three files right; what was read before stays in use\"",
                  log_quote(slice_str(why), quoted, sizeof quoted));
        return;
    }
    SSL_CTX_free(t->ctx);
    t->ctx = ctx;
    log_info("tls.renewed", "cert=%s", t->files[FILE_CERT]);
}

void tls_close(struct tls **t)
{
    if (!*t)
        return;
    SSL_CTX_free((*t)->ctx);
    for (int i = 0; i < FILES; i++)
        free((*t)->files[i]);
    free(*t);
    *t = NULL;
}

/* ---- connections */

struct tls_conn *tls_conn_new(struct tls *t, int fd, bool dialer)
{
    struct tls_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->ssl = SSL_new(t->ctx);
    if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1) {
        tls_conn_free(&c);
        return NULL;
    }
    if (dialer)
        SSL_set_connect_state(c->ssl);
    else
        SSL_set_accept_state(c->ssl);
    return c;
}

int tls_conn_handshake(struct tls_conn *c)
{
    ERR_clear_error();
    int n = SSL_do_handshake(c->ssl);
    if (n == 1)
        return 1;
    int rc = tls_conn_result(c, n);
    if (rc != 0)
        return rc;
    why_say(c->why, "closed by the other side in the handshake");
    return -SATCHEL_EIO;
}

bool tls_conn_names(const struct tls_conn *c, const char *name)
{
    X509 *cert = SSL_get0_peer_certificate(c->ssl);
    return cert && *name && *name != '.' && /* which OpenSSL would take for any name below it */
           X509_check_host(cert, name, 0, X509_CHECK_FLAG_NO_WILDCARDS | X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT, NULL) ==
               1;
}

void tls_conn_subject(const struct tls_conn *c, char *name_r)
{
    X509 *cert = SSL_get0_peer_certificate(c->ssl);
    name_r[0] = 0;
    if (cert)
        X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name_r, WHY_MAX);
    for (char *p = name_r; *p; p++)
        if (*p < 0x20 || *p >= 0x7f)
            *p = '?';
}

ssize_t tls_conn_read(struct tls_conn *c, void *buf, size_t cap)
{
    ERR_clear_error();
    int n = SSL_read(c->ssl, buf, (int)cap);
    return n > 0 ? n : tls_conn_result(c, n);
}

ssize_t tls_conn_write(struct tls_conn *c, struct slice s)
{
    ERR_clear_error();
    int n = SSL_write(c->ssl, s.p, (int)s.n);
    return n > 0 ? n : tls_conn_result(c, n);
}

void tls_conn_end(struct tls_conn *c)
{
    ERR_clear_error();
    if (SSL_is_init_finished(c->ssl))
        (void)SSL_shutdown(c->ssl);
    ERR_clear_error();
}

const char *tls_conn_why(const struct tls_conn *c)
{
    return c->why;
}

void tls_conn_free(struct tls_conn **c)
{
    if (!*c)
        return;
    SSL_free((*c)->ssl);
    free(*c);
    *c = NULL;
}
